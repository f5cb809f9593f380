//! The aborted transactions of a partition, by which readers of committed records skip what they wrote.
//!
//! JOIN: kept here in memory until the log keeps them: `note` becomes `Log::note_aborted`, `between` `Log::aborted`, and
//! `cut` and this file go.

use troupe_machines::replica::Completed;
use troupe_proto::ids::{Offset, ProducerId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The marker's.
    pub last_offset: Offset,
}

impl AbortedTransaction {
    pub fn overlaps(&self, from: Offset, end: Offset) -> bool {
        self.first_offset < end && self.last_offset >= from
    }
}

#[derive(Default)]
pub struct AbortedTransactions {
    /// In the order of their markers.
    noted: Vec<AbortedTransaction>,
}

impl AbortedTransactions {
    pub fn note(&mut self, completed: &Completed) {
        let Completed { producer_id, first_offset, last_offset, committed } = *completed;
        let is_new = self.noted.last().is_none_or(|last| last.last_offset < last_offset);
        if !committed && is_new {
            self.noted.push(AbortedTransaction { producer_id, first_offset, last_offset });
        }
    }

    /// The log was cut there.
    pub fn cut(&mut self, log_end: Offset) {
        self.noted.retain(|aborted| aborted.last_offset < log_end);
    }

    /// By first offset.
    pub fn between(&self, from: Offset, end: Offset) -> Vec<AbortedTransaction> {
        let overlaps = |aborted: &&AbortedTransaction| aborted.overlaps(from, end);
        let mut found: Vec<_> = self.noted.iter().filter(overlaps).copied().collect();
        found.sort_by_key(|aborted| aborted.first_offset);
        found
    }
}
