//! The last word of the active controller: when it came, and so as of when all is true that this node says of the
//! cluster.

use crate::context::Context;
use crate::partition::now;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use troupe_machines::cluster::ClusterImage;
use troupe_machines::time::Time;
use troupe_proto::v1::MetadataAsOf;

/// What this broker has heard in its session, or when it registered.
#[derive(Default)]
pub struct Word {
    /// When an active controller said something last. 0: never.
    heard: AtomicU64,
    /// When all that it knew then was known here. 0: never.
    current: AtomicU64,
}

impl Word {
    /// An active controller has answered. `current`: what it knows is known here.
    pub fn note(&self, current: bool) {
        let now = now().0;
        self.heard.store(now, Ordering::Relaxed);
        if current {
            self.current.store(now, Ordering::Relaxed);
        }
    }

    fn at(time: &AtomicU64) -> Option<Time> {
        Some(Time(time.load(Ordering::Relaxed))).filter(|time| time.0 > 0)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Context {
    /// How long ago this node has heard an active controller; `None`: never since it started.
    pub fn controller_silence_ms(&self) -> Option<u64> {
        self.heard().map(|heard| now().0.saturating_sub(heard.0))
    }

    /// Whether a controller is active, as far as this node knows. Who is not heard for the time of a session is not
    /// there: brokers are held to the same.
    pub fn hears_controller(&self) -> bool {
        let limit = self.config.session_timeout.0;
        self.controller_silence_ms().is_some_and(|silence| silence <= limit)
    }

    /// As of when what this image says of the cluster is true.
    pub fn as_of(&self, image: &ClusterImage) -> MetadataAsOf {
        let silence = self.controller_silence_ms();
        let current = match self.decides() {
            true => Some(now()),
            // Without a session, the quorum's own log is all there is.
            false => Word::at(&self.control.word.current).or_else(|| self.followed()),
        };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        MetadataAsOf {
            node_id: self.node_id.0,
            time_ms: signed(current.unwrap_or_default().0),
            metadata_offset: signed(image.next_offset().0),
            controller_active: self.hears_controller(),
            controller_silence_ms: silence.map_or(-1, signed),
        }
    }

    fn heard(&self) -> Option<Time> {
        if self.decides() {
            return Some(now());
        }
        Word::at(&self.control.word.heard).max(self.followed())
    }

    /// This node's own controller is the active one, and its quorum has lately said so.
    fn decides(&self) -> bool {
        self.control.local().is_some_and(|local| local.leadership().borrow().here)
    }

    /// When this node's controller has heard the one that it follows.
    fn followed(&self) -> Option<Time> {
        let heard = self.control.local()?.leader_heard()?;
        Some(Time(now().0.saturating_sub(millis(heard.elapsed()))))
    }
}
