//! The first batch of a transaction in a partition: the coordinator is asked before it is appended (X19).
//!
//! ```text
//!   batch ──► Verify ──► begin_verifying: a ticket ──► the coordinator adds the partition ──► the batch, with its ticket
//! ```
//!
//! Between the coordinator's word and the append the transaction may end, and its marker be written. A batch appended
//! behind it would open a transaction that nobody ends, or join the producer's next one. So a marker voids the tickets
//! of the transactions that it may end, and so does the end of leading: who leads next may write one.

use super::Replica;
use super::planted::Bug;
use crate::txn::{ClientVersion, Producer};
use std::collections::BTreeMap;
use troupe_proto::ids::{ProducerEpoch, ProducerId};

/// For one verification. The next of that producer takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification(u64);

#[derive(Clone, Debug, Default)]
pub(super) struct Verifying {
    last: u64,
    under_way: BTreeMap<ProducerId, (ProducerEpoch, Verification)>,
}

impl Verifying {
    fn begin(&mut self, producer: Producer) -> Verification {
        self.last += 1;
        let verification = Verification(self.last);
        self.under_way.insert(producer.id, (producer.epoch, verification));
        verification
    }

    pub fn is_valid(&self, producer: Producer, verification: Verification) -> bool {
        self.under_way.get(&producer.id) == Some(&(producer.epoch, verification))
    }

    /// The last ticket keeps its number: none is ever given out twice.
    pub fn clear(&mut self) {
        self.under_way.clear();
    }

    pub fn end(&mut self, id: ProducerId) {
        self.under_way.remove(&id);
    }

    /// With the second version, whatever has the marker's epoch is the next transaction already.
    pub fn void(&mut self, marker: Producer, version: ClientVersion) {
        let ends = |epoch: ProducerEpoch| match version {
            ClientVersion::First => epoch <= marker.epoch,
            ClientVersion::Second => epoch < marker.epoch,
        };
        if self.under_way.get(&marker.id).is_some_and(|(epoch, _)| ends(*epoch)) {
            self.under_way.remove(&marker.id);
        }
    }
}

impl Replica {
    /// The coordinator is about to be asked whether this producer's transaction may open here. What it says counts for
    /// the batch that comes with this ticket, once.
    pub fn begin_verifying(&mut self, producer: Producer) -> Verification {
        self.verifying.begin(producer)
    }

    /// The coordinator has refused, or nobody waits any more.
    pub fn end_verifying(&mut self, producer: Producer, verification: Verification) {
        if self.verifying.is_valid(producer, verification) {
            self.verifying.end(producer.id);
        }
    }

    pub(super) fn is_verified(&self, producer: Producer, verification: Verification) -> bool {
        self.verifying.is_valid(producer, verification)
            || self.bugs.has(Bug::JoinTheNextTransaction)
    }
}
