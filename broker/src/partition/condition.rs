//! How a partition's actor is, as seen from outside: also when it cannot be asked.

use super::board::ActorState;
use super::chaos::FaultKind;
use super::handle::PartitionHandle;
use super::opening::now;

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
    /// That it suffers now.
    pub fault: Option<FaultKind>,
}

impl PartitionHandle {
    pub fn condition(&self) -> Condition {
        let (board, now) = (&self.board, now());
        let oldest = board.waits.oldest();
        let oldest_wait_ms = oldest.map_or(0, |since| now.0.saturating_sub(since.0));
        let fault = board.faults.current(now);
        let paused_ms = fault.filter(|(kind, _)| kind.stands_still());
        let paused_ms = paused_ms.map(|(_, since)| now.0.saturating_sub(since.0));
        let still_ms = board.mailbox.still_ms(now);
        let how = match board.state() {
            ActorState::Offline | ActorState::Retired => How::Offline,
            ActorState::Running if paused_ms.is_some() => How::Paused,
            // It can be sent to a moment before the board says that it runs.
            ActorState::Restarting if !self.has_actor() => How::Restarting,
            ActorState::Running | ActorState::Restarting if still_ms >= LONG_MS => How::Stalled,
            ActorState::Running | ActorState::Restarting if board.is_damaged() => How::Damaged,
            ActorState::Running | ActorState::Restarting if oldest_wait_ms >= LONG_MS => {
                How::Waiting
            }
            ActorState::Running | ActorState::Restarting => How::Running,
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
            fault: fault.map(|(kind, _)| kind),
        }
    }
}
