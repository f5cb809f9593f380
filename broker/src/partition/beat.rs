//! Whether a shard's thread runs: somebody on it says so now and then.

use super::opening::now;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use troupe_machines::time::Time;

/// How often; a silence of twice that is none.
pub const INTERVAL: Duration = Duration::from_millis(250);

pub struct Beat(AtomicU64);

impl Default for Beat {
    fn default() -> Self {
        Beat(AtomicU64::new(now().0))
    }
}

impl Beat {
    pub fn beat(&self) {
        self.0.store(now().0, Ordering::Relaxed);
    }

    /// For how many milliseconds nobody has said so.
    pub fn silence_ms(&self, now: Time) -> u64 {
        now.0.saturating_sub(self.0.load(Ordering::Relaxed))
    }
}
