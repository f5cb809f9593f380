//! What a pass knows of transactions: whose data counts for nothing, and how long their markers stay.
//!
//! Data of an aborted transaction goes, whatever its keys. A marker stays until nothing of its transaction is left below
//! it, and from then on for as long as a tombstone does (S23): who has read some of the data has to hear how it ended. A
//! batch of which only the header is left counts as something: whoever replays it would take the transaction for open.

use crate::Aborted;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::ProducerId;

/// As the pass goes through the log, from its first batch on.
pub(super) struct Transactions {
    /// Of each producer, in their order.
    aborted: BTreeMap<ProducerId, VecDeque<Aborted>>,
    /// Producers of which something stays behind their last marker.
    left: BTreeSet<ProducerId>,
}

/// A marker, as the pass comes to it.
pub(super) struct Ended {
    /// Something of the transaction stays below.
    pub(super) has_data: bool,
    /// What it has aborted.
    pub(super) aborted: Option<Aborted>,
}

impl Transactions {
    /// `aborted`: in the order of their markers.
    pub(super) fn new(aborted: &[Aborted]) -> Transactions {
        let mut by_producer: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
        for it in aborted {
            by_producer.entry(it.producer_id).or_default().push_back(*it);
        }
        Transactions { aborted: by_producer, left: BTreeSet::new() }
    }

    /// Whether the next batch is data that counts for nothing.
    pub(super) fn is_aborted(&mut self, header: &BatchHeader) -> bool {
        let Some(id) = transaction_of(header) else { return false };
        let Some(aborted) = self.aborted.get_mut(&id) else { return false };
        while aborted.pop_front_if(|it| it.last_offset < header.base_offset).is_some() {}
        aborted.front().is_some_and(|it| it.first_offset <= header.base_offset)
    }

    /// The batch stays, or its header does.
    pub(super) fn stays(&mut self, header: &BatchHeader) {
        self.left.extend(transaction_of(header));
    }

    /// The next batch is a marker.
    pub(super) fn end(&mut self, header: &BatchHeader) -> Ended {
        let id = header.producer.map(|stamp| stamp.id);
        let has_data = id.is_some_and(|id| self.left.remove(&id));
        let aborted = id.and_then(|id| self.aborted.get_mut(&id)).and_then(|aborted| {
            while aborted.pop_front_if(|it| it.last_offset < header.last_offset()).is_some() {}
            aborted.pop_front_if(|it| it.last_offset == header.last_offset())
        });
        Ended { has_data, aborted }
    }
}

/// Of a batch of data.
fn transaction_of(header: &BatchHeader) -> Option<ProducerId> {
    let attributes = header.attributes;
    let is_data = attributes.is_transactional() && !attributes.is_control();
    header.producer.filter(|_| is_data).map(|stamp| stamp.id)
}
