//! Chance, what came of it, and what must not.

use super::super::AlterPartitionError;
use std::fmt;

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    invariant: &'static str,
    what: String,
}

impl Violation {
    pub fn new(invariant: &'static str, what: String) -> Violation {
        Violation { invariant, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Chance from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0xA24B_AED4_963E_E407))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

macro_rules! stats {
    ($($name:ident),* $(,)?) => {
        /// What has happened, so that it is known that it does.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Stats { $(pub $name: u64),* }

        impl Stats {
            pub fn add(&mut self, other: &Stats) { $(self.$name += other.$name;)* }

            pub fn assert_all_happened(&self) {
                $(assert!(self.$name > 0, "never: {}", stringify!($name));)*
            }
        }
    };
}

stats! {
    acknowledged, duplicates, duplicates_after_failover, unknown_outcomes, elections, expansions,
    shrinks, lost_alter_answers, stale_alters, fenced_alters, ineligible_alters, elections_needed,
    truncations, resets, deletions, power_losses, lost_batches, process_kills, actor_kills, fences,
    pauses, broken_streams, late_reports, confirmed, unconfirmed, transactions_committed,
    transactions_aborted, batches_abandoned, verifications_voided, coordinators, late_markers,
    markers_again, markers_fenced,
}

impl Stats {
    pub fn note_alter<T>(&mut self, result: &Result<T, AlterPartitionError>) {
        match result {
            Err(AlterPartitionError::StalePartitionEpoch) => self.stale_alters += 1,
            Err(AlterPartitionError::FencedLeaderEpoch) => self.fenced_alters += 1,
            Err(AlterPartitionError::IneligibleReplica) => self.ineligible_alters += 1,
            Err(AlterPartitionError::InvalidRequest | AlterPartitionError::Unavailable) | Ok(_) => {
            }
        }
    }
}
