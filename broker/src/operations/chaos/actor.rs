//! An actor, as the tree shows it.

use troupe_actor::{Address, FaultKind};

pub struct Actor {
    pub address: Address,
    pub kind: &'static str,
    pub state: ActorState,
    pub mailbox_depth: i64,
    pub restarts: u32,
    pub detail: String,
    /// For how long it has handled nothing though it should have.
    pub still_ms: u64,
    /// For how long the oldest of what it was asked has waited.
    pub oldest_wait_ms: u64,
    pub queued_bytes: u64,
    /// The injected one that lasts now, and for how many milliseconds still.
    pub fault: Option<(FaultKind, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorState {
    Running,
    Restarting,
    Offline,
    Paused,
    Stalled,
    Waiting,
    Damaged,
}

impl Actor {
    /// One that runs, and waits for nothing.
    pub(super) fn running(address: Address, kind: &'static str) -> Self {
        Self {
            address,
            kind,
            state: ActorState::Running,
            mailbox_depth: 0,
            restarts: 0,
            detail: String::new(),
            still_ms: 0,
            oldest_wait_ms: 0,
            queued_bytes: 0,
            fault: None,
        }
    }
}
