//! The rates at which new replicas are filled (A13): one for all that this node sends to others, one for all that it
//! takes from others, whichever shard it is on.
//!
//! Promise: a rate that is set while the node runs holds for the next bytes.
//! Never here: for which replicas they are.

use crate::NodeConfig;
use crate::node_settings::NodeSettings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use troupe_machines::throttle::Throttle;

/// A timer is not worth less.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

pub struct ReplicationThrottles {
    /// `leader.replication.throttled.rate`
    pub leader: SharedThrottle,
    /// `follower.replication.throttled.rate`
    pub follower: SharedThrottle,
}

impl ReplicationThrottles {
    pub fn new(settings: &Arc<NodeSettings>) -> Arc<Self> {
        Arc::new(Self {
            leader: SharedThrottle::new(settings, |config| config.leader_throttled_rate.0),
            follower: SharedThrottle::new(settings, |config| config.follower_throttled_rate.0),
        })
    }
}

/// One rate, for all threads.
pub struct SharedThrottle {
    settings: Arc<NodeSettings>,
    rate: fn(&NodeConfig) -> u64,
    begun: Instant,
    throttle: Mutex<Throttle>,
}

impl SharedThrottle {
    fn new(settings: &Arc<NodeSettings>, rate: fn(&NodeConfig) -> u64) -> Self {
        let (settings, begun) = (Arc::clone(settings), Instant::now());
        Self { settings, rate, begun, throttle: Mutex::default() }
    }

    /// How long nothing more may be sent; zero: something may.
    pub fn wait(&self) -> Duration {
        let (now, throttle) = self.lock();
        throttle.wait(now)
    }

    /// How long to sleep before it is looked again whether something may be sent.
    pub fn pause(&self) -> Duration {
        self.wait().max(SHORTEST_PAUSE)
    }

    /// How much is sent at once, at most so much.
    pub fn push_bytes(&self, most: usize) -> usize {
        let (_, throttle) = self.lock();
        throttle.push_bytes(most)
    }

    /// So much was sent.
    pub fn sent(&self, bytes: usize) {
        let (now, mut throttle) = self.lock();
        throttle.sent(now, bytes);
    }

    /// With the rate of now.
    fn lock(&self) -> (Duration, MutexGuard<'_, Throttle>) {
        let rate = (self.rate)(&self.settings.now());
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.begun.elapsed();
        throttle.set_rate(now, rate);
        (now, throttle)
    }
}
