//! The settings that the queues go by.

use std::time::Duration;
use troupe_proto::error::ErrorCode;

/// See [`super::ProducerConfig`].
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub batch_size: usize,
    pub linger: Duration,
    pub max_in_flight: usize,
    pub idempotent: bool,
    /// Batches are of transactions: who writes, and in which epoch, is told from outside.
    pub transactional: bool,
    pub retries: u32,
    pub delivery_timeout: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
}

/// Before the first retry after a leader refused or went: whoever leads instead is known within moments, and
/// whatever brings the news ends the waiting.
const LEADER_BACKOFF: Duration = Duration::from_millis(10);

/// Before the first retry while the transaction before is being completed: its markers are written within moments.
const COMPLETION_BACKOFF: Duration = Duration::from_millis(2);

impl Rules {
    /// Doubles with each failure, up to the maximum, with 20 % jitter either way (P18). `failures`: those
    /// before this one.
    pub(crate) fn backoff(&self, reason: ErrorCode, failures: u32, chance: u64) -> Duration {
        let first = match reason {
            ErrorCode::ConcurrentTransactions => COMPLETION_BACKOFF.min(self.retry_backoff),
            _ if is_about_the_leader(reason) => LEADER_BACKOFF.min(self.retry_backoff),
            _ => self.retry_backoff,
        };
        let doubled = first.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX));
        // A node that lags behind catches up within moments, and nothing tells when.
        let most = match reason {
            ErrorCode::UnknownLeaderEpoch | ErrorCode::ConcurrentTransactions => self.retry_backoff,
            _ => self.retry_backoff_max,
        };
        let jitter = 0.8 + 0.4 * (chance as f64 / u64::MAX as f64);
        doubled.min(most).mul_f64(jitter)
    }
}

fn is_about_the_leader(reason: ErrorCode) -> bool {
    matches!(
        reason,
        ErrorCode::NotLeader
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::ShuttingDown
            | ErrorCode::OutcomeUnknown
    )
}
