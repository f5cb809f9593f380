//! What a follower lets its leader push ahead on a stream, and how fast it gives back what it has taken.
//!
//! Promises: no more is granted than the pool holds. Of a stream that is throttled, over all of the node's, no more than
//! `follower.replication.throttled.rate` (A13); that one begins with nothing, and what may be saved up is little.
//! Never here: which replicas are held back. They have a stream of their own, so nobody else waits for them.

use crate::partition::ReplicationThrottles;
use std::sync::Arc;
use std::time::Duration;

/// What may be pushed ahead to those that are held back: what is saved up comes on top of the rate.
const THROTTLED_CREDIT: u64 = 2 << 20;

pub struct CreditPool {
    /// Bytes that the leader may push and has not been told of.
    held: u64,
    whole: u64,
    throttles: Option<Arc<ReplicationThrottles>>,
}

impl CreditPool {
    pub fn new(bytes: u64, throttles: Option<Arc<ReplicationThrottles>>) -> Self {
        let most = if throttles.is_some() { THROTTLED_CREDIT } else { u64::MAX };
        let whole = bytes.clamp(1, most);
        Self { held: whole, whole, throttles }
    }

    /// With the first message of the stream.
    pub fn take_at_first(&mut self) -> u64 {
        match self.throttles {
            Some(_) => 0,
            None => std::mem::take(&mut self.held),
        }
    }

    /// The follower has written so much.
    pub fn give_back(&mut self, bytes: u64) {
        self.held += bytes;
    }

    /// Small grants wait until they are worth a message; those that are throttled are small.
    pub fn is_worth_a_message(&self) -> bool {
        match &self.throttles {
            Some(throttles) => self.held > 0 && throttles.follower.wait().is_zero(),
            None => self.held >= (self.whole / 4).max(1),
        }
    }

    /// What is granted with the next message. Of a rate it is what there is room for, and counts as sent.
    pub fn take(&mut self) -> u64 {
        let Some(throttles) = &self.throttles else { return std::mem::take(&mut self.held) };
        if !self.is_worth_a_message() {
            return 0;
        }
        let most = usize::try_from(self.held).unwrap_or(usize::MAX);
        let grant = throttles.follower.push_bytes(most);
        throttles.follower.sent(grant);
        self.held -= grant as u64;
        grant as u64
    }

    /// How long what there is to grant is held back; `None`: until somebody gives something back.
    pub fn pause(&self) -> Option<Duration> {
        let throttles = self.throttles.as_ref().filter(|_| self.held > 0)?;
        Some(throttles.follower.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeConfig;
    use crate::node_settings::NodeSettings;

    fn throttled(rate: &str) -> CreditPool {
        let set = [format!("follower.replication.throttled.rate={rate}")];
        let settings = NodeSettings::new(NodeConfig::load(None, [], &set).unwrap());
        CreditPool::new(64 << 20, Some(ReplicationThrottles::new(&settings)))
    }

    #[test]
    fn credit_that_is_not_throttled_is_granted_at_once_and_small_grants_wait_for_a_message() {
        let mut pool = CreditPool::new(100, None);
        assert_eq!((pool.take_at_first(), pool.take()), (100, 0));
        pool.give_back(24);
        assert!(!pool.is_worth_a_message() && pool.pause().is_none());
        pool.give_back(1);
        assert!(pool.is_worth_a_message());
        assert_eq!((pool.take(), pool.take()), (25, 0));
    }

    /// What is saved up of a rate is a quarter of a second, and one grant is a two-hundredth of one.
    #[test]
    fn credit_of_a_stream_that_is_throttled_is_granted_no_faster_than_the_rate() {
        // So slow that no time in which a test runs brings another grant.
        let mut pool = throttled("1");
        assert_eq!(pool.take_at_first(), 0, "a stream that is opened anew is no way around it");
        assert_eq!(pool.take(), 1);
        assert!(!pool.is_worth_a_message() && pool.pause().is_some());
        assert_eq!(pool.take(), 0);
        pool.give_back(1_000_000);
        assert_eq!(pool.take(), 0, "though there is more to grant");
    }

    #[test]
    fn a_throttled_stream_without_a_rate_has_all_of_its_pool() {
        let mut pool = throttled(&i64::MAX.to_string());
        assert_eq!(pool.take(), THROTTLED_CREDIT);
        assert!(!pool.is_worth_a_message() && pool.pause().is_none());
        pool.give_back(7);
        assert_eq!(pool.take(), 7);
    }
}
