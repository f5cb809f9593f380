//! What the machine lacks for the moment, as far as the replica has noticed: space, descriptors, memory.

use std::time::Duration;
use troupe_machines::time::Time;
use troupe_proto::ids::LeaderEpoch;

/// Before work that was put off is tried again.
pub const SHORTAGE_RETRY: Duration = Duration::from_millis(100);
/// How often a replica with a full disk asks for another leader at most: the other's may be as full, and each
/// election is written to disks of which some are full.
const PASS_ON_EVERY_MS: u64 = 60_000;

#[derive(Default)]
pub struct Shortage {
    /// It was said, and is not over yet.
    told: bool,
    /// The disk is full, as far as is known.
    full: bool,
    /// The epoch in which another leader was asked for, and when.
    passed_on: Option<(LeaderEpoch, Time)>,
}

impl Shortage {
    /// Something worked again.
    pub fn over(&mut self) {
        (self.told, self.full) = (false, false);
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether that is to be said.
    pub fn note(&mut self, full: bool) -> bool {
        self.full |= full;
        !std::mem::replace(&mut self.told, true)
    }

    /// Whether another leader is to be asked for, who leads in this epoch being full. Once in an epoch, and not
    /// again and again when leadership comes back.
    pub fn passes_on(&mut self, leader_epoch: LeaderEpoch, now: Time) -> bool {
        let passes = self.passed_on.is_none_or(|(epoch, at)| {
            epoch < leader_epoch && now.0.saturating_sub(at.0) >= PASS_ON_EVERY_MS
        });
        if passes {
            self.passed_on = Some((leader_epoch, now));
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_leader_asks_for_another_once_in_an_epoch_and_once_in_a_while() {
        let mut shortage = Shortage::default();
        assert!(shortage.passes_on(LeaderEpoch(1), Time(0)));
        assert!(!shortage.passes_on(LeaderEpoch(1), Time(PASS_ON_EVERY_MS)));
        assert!(!shortage.passes_on(LeaderEpoch(3), Time(PASS_ON_EVERY_MS - 1)), "it came back");
        assert!(shortage.passes_on(LeaderEpoch(3), Time(PASS_ON_EVERY_MS)));
        assert!(!shortage.passes_on(LeaderEpoch(5), Time(PASS_ON_EVERY_MS + 1)));
    }
}
