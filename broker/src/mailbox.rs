//! How many messages an actor has been sent and has not handled, and since when it has handled none of them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use troupe_machines::time::Time;

/// The count of a mailbox, kept by those who send and by the actor.
#[derive(Default)]
pub struct Mailbox {
    depth: AtomicI64,
    /// When the actor took the last message, or the first of those that wait was sent.
    moved: AtomicU64,
}

impl Mailbox {
    pub fn sent(&self, now: Time) {
        if self.depth.fetch_add(1, Ordering::Relaxed) <= 0 {
            self.moved.store(now.0, Ordering::Relaxed);
        }
    }

    /// Handled, or refused by the mailbox.
    pub fn taken(&self, now: Time) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
        self.moved.store(now.0, Ordering::Relaxed);
    }

    /// A new actor's is empty.
    pub fn emptied(&self) {
        self.depth.store(0, Ordering::Relaxed);
    }

    pub fn depth(&self) -> i64 {
        self.depth.load(Ordering::Relaxed).max(0)
    }

    /// For how many milliseconds some have waited, and none was handled.
    pub fn still_ms(&self, now: Time) -> u64 {
        match self.depth() {
            0 => 0,
            _ => now.0.saturating_sub(self.moved.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_stands_still_while_something_waits_and_nothing_is_taken() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.still_ms(Time(1000)), 0);
        mailbox.sent(Time(1000));
        mailbox.sent(Time(1400));
        assert_eq!((mailbox.still_ms(Time(1500)), mailbox.depth()), (500, 2));
        mailbox.taken(Time(1600));
        assert_eq!(mailbox.still_ms(Time(1700)), 100);
        mailbox.taken(Time(1700));
        assert_eq!((mailbox.still_ms(Time(9000)), mailbox.depth()), (0, 0));
    }
}
