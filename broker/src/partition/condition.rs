//! How a partition's actor is, as seen from outside: also when it cannot be asked.

use super::handle::PartitionHandle;
use std::time::{Duration, Instant};
use troupe_actor::{ActorState, FaultKind};

/// Who handles nothing for so long, though something waits, stands still; and an append that waits for so long is
/// worth telling of. In milliseconds.
pub const LONG_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Running,
    Restarting,
    Offline,
    /// An injected fault keeps it from handling messages.
    Paused,
    /// It has handled no message for long, though some wait.
    Stalled,
    /// It runs, but its log lacks something that it had acknowledged.
    Damaged,
    /// It runs, but an append has waited for long.
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub how: How,
    /// For how long it has handled nothing though it should have.
    pub still_ms: u64,
    /// For how long the oldest append has waited.
    pub oldest_wait_ms: u64,
    pub queued_bytes: u64,
    /// The injected one that lasts now, and for how long still.
    pub fault: Option<(FaultKind, u64)>,
}

impl PartitionHandle {
    pub fn condition(&self) -> Condition {
        let (board, now) = (&self.board, Instant::now());
        let since_ms = |since| millis(now.saturating_duration_since(since));
        let oldest_wait_ms = board.waits.oldest().map_or(0, since_ms);
        let fault = board.faults.current(now);
        let paused_ms = fault.filter(|(kind, ..)| kind.stands_still());
        let paused_ms = paused_ms.map(|(_, since, _)| since_ms(since));
        let still_ms = millis(board.mailbox.still(now));
        let how = match board.state() {
            ActorState::Offline | ActorState::Retired => How::Offline,
            ActorState::Running if paused_ms.is_some() => How::Paused,
            ActorState::Restarting => How::Restarting,
            ActorState::Running if still_ms >= LONG_MS => How::Stalled,
            ActorState::Running if board.is_damaged() => How::Damaged,
            ActorState::Running if oldest_wait_ms >= LONG_MS => How::Waiting,
            ActorState::Running => How::Running,
        };
        Condition {
            how,
            still_ms: match how {
                How::Paused => paused_ms.unwrap_or_default().max(still_ms),
                How::Stalled => still_ms,
                How::Running | How::Restarting | How::Offline | How::Damaged | How::Waiting => 0,
            },
            oldest_wait_ms,
            queued_bytes: board.waits.bytes(),
            fault: fault
                .map(|(kind, _, until)| (kind, millis(until.saturating_duration_since(now)))),
        }
    }
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
