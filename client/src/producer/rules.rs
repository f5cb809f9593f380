//! The settings that the queues go by.

use std::time::Duration;

/// See [`super::ProducerConfig`].
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub batch_size: usize,
    pub linger: Duration,
    pub max_in_flight: usize,
    pub idempotent: bool,
    pub retries: u32,
    pub delivery_timeout: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
}

impl Rules {
    /// Doubles with each attempt, up to the maximum, with 20 % jitter either way (P18).
    pub(crate) fn backoff(&self, attempts: u32, chance: u64) -> Duration {
        let doubled =
            self.retry_backoff.saturating_mul(1u32.checked_shl(attempts).unwrap_or(u32::MAX));
        let jitter = 0.8 + 0.4 * (chance as f64 / u64::MAX as f64);
        doubled.min(self.retry_backoff_max).mul_f64(jitter)
    }
}
