//! What is known of a session's commits: which is under way, when the next one is due.

use super::confirmations::Confirmations;
use super::epochs::Epochs;
use tokio::time::Instant;
use troupe_machines::time::Time;

#[derive(Default)]
pub struct Commits {
    pub under_way: bool,
    /// When the last one began.
    pub began: Option<Time>,
    /// When what has moved is committed, if nobody wants it sooner.
    pub due: Option<Instant>,
    /// The same, where somebody waits for it.
    pub awaited: Option<Instant>,
    /// The last one failed: not before then.
    pub retry_at: Option<Instant>,
    /// The client asks for it.
    pub asked_for: bool,
    /// Nothing comes after.
    pub closing: bool,
    pub epochs: Epochs,
    pub confirmations: Confirmations,
}

impl Commits {
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    pub fn confirming(&self) -> usize {
        self.confirmations.len()
    }

    pub fn ask(&mut self) {
        self.asked_for = true;
    }
}
