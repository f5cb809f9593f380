//! The transactions of a partition, as its log says: which are open, and which have ended by a marker that may still be
//! lost.
//!
//! ```text
//!     first record of a transaction          its marker
//!  ---------|--------------------------------------|-----------
//!           |<---------- open ----------->|<- ended, until the high watermark has passed the marker
//! ```
//!
//! Promise: what is known depends on the batches in the log alone, so every replica that replays it knows the same.

use std::collections::{BTreeSet, VecDeque};
use troupe_proto::ids::{Offset, ProducerId};
use troupe_proto::log::v1::EndedTransaction;

/// A transaction that has ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    pub producer_id: ProducerId,
    /// Where its first batch begins.
    pub first_offset: Offset,
    /// The marker's.
    pub last_offset: Offset,
    pub committed: bool,
}

/// What keeps readers of committed records from going on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unstable {
    /// By their first offset.
    open: BTreeSet<(Offset, ProducerId)>,
    /// In the order of their markers.
    ended: VecDeque<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    first_offset: Offset,
    /// The marker's.
    last_offset: Offset,
}

impl Unstable {
    pub fn open(&mut self, id: ProducerId, first_offset: Offset) {
        self.open.insert((first_offset, id));
    }

    pub fn end(&mut self, id: ProducerId, first_offset: Offset, last_offset: Offset) {
        self.open.remove(&(first_offset, id));
        self.ended.push_back(Ended { first_offset, last_offset });
    }

    /// A marker below the high watermark is not lost any more.
    pub fn commit(&mut self, high_watermark: Offset) {
        while self.ended.pop_front_if(|ended| ended.last_offset < high_watermark).is_some() {}
    }

    /// Where the earliest of them began.
    pub fn first(&self) -> Option<Offset> {
        let open = self.open.first().map(|(first_offset, _)| *first_offset);
        let ended = self.ended.iter().map(|ended| ended.first_offset).min();
        open.into_iter().chain(ended).min()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty()
    }

    pub fn ended_to_wire(&self) -> Vec<EndedTransaction> {
        let to_wire = |ended: &Ended| EndedTransaction {
            first_offset: ended.first_offset.0,
            last_offset: ended.last_offset.0,
        };
        self.ended.iter().map(to_wire).collect()
    }

    pub fn restore_ended(&mut self, ended: &[EndedTransaction]) {
        let from_wire = |ended: &EndedTransaction| Ended {
            first_offset: Offset(ended.first_offset),
            last_offset: Offset(ended.last_offset),
        };
        self.ended = ended.iter().map(from_wire).collect();
    }
}
