//! What the batches say of aborted transactions: as the indexes do, only slowly.

use super::Aborted;
use super::list::List;
use crate::disk::Disk;
use crate::place::{Kind, is_unreadable};
use crate::{Log, LogError, snapshot};
use prost::Message;
use std::collections::BTreeMap;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, ProducerId};
use troupe_proto::log::v1::ProducerSnapshot;

/// Snapshots up to this version tell which transactions are open.
const SNAPSHOT_VERSION: u32 = 1;

/// Where the first batch of each open transaction begins, or the first that is left of it.
#[derive(Debug, Default)]
pub(crate) struct OpenTransactions(BTreeMap<ProducerId, Offset>);

impl OpenTransactions {
    fn of(snapshot: &[u8]) -> Option<OpenTransactions> {
        let snapshot = ProducerSnapshot::decode(snapshot).ok()?;
        let open = snapshot.producers.iter().filter_map(|producer| {
            let first = producer.transaction_first_offset?;
            Some((ProducerId::from_wire(producer.producer_id)?, Offset(first)))
        });
        (snapshot.version <= SNAPSHOT_VERSION).then(|| OpenTransactions(open.collect()))
    }

    /// The next batch of the log; what it aborts.
    pub(crate) fn note(&mut self, header: &BatchHeader) -> Option<Aborted> {
        let producer_id = header.producer?.id;
        let Some(marker) = header.marker() else {
            if header.attributes.is_transactional() {
                self.0.entry(producer_id).or_insert(header.base_offset);
            }
            return None;
        };
        let first_offset = self.0.remove(&producer_id).filter(|_| !marker.committed)?;
        Some(Aborted { producer_id, first_offset, last_offset: header.last_offset() })
    }
}

impl<D: Disk> Log<D> {
    /// Those whose markers lie from `from` on and below `to`. Goes through the headers from the newest snapshot
    /// before on, or of the whole log.
    pub(super) fn aborted_in_batches(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<Aborted>, LogError> {
        let (start, mut open) = self.open_transactions_before(from)?;
        let mut found = Vec::new();
        let segments = self.segments.iter();
        for segment in segments.filter(|segment| segment.end > start && segment.base < to) {
            let sound = self.each_sound_header(segment, start, &mut |header| {
                let aborted = open.note(header);
                found.extend(aborted.filter(|it| (from..to).contains(&it.last_offset)));
            });
            match sound {
                // whoever needs what is behind it is told by others
                Err(LogError::CorruptLog { .. }) => break,
                sound => sound?,
            }
        }
        Ok(found)
    }

    /// The same of one segment.
    pub(super) fn list_from_batches(&self, base: Offset) -> Result<List, LogError> {
        let end = self.segments.iter().find(|segment| segment.base == base);
        let end = end.map_or(base, |segment| segment.end);
        self.aborted_in_batches(base, end).map(List::of)
    }

    fn open_transactions_before(
        &self,
        from: Offset,
    ) -> Result<(Offset, OpenTransactions), LogError> {
        let oldest = self.oldest();
        let usable = self.snapshots.iter().rev().filter(|at| (oldest..=from).contains(at));
        for at in usable {
            let content = match self.place.read(&Kind::Snapshot.name(*at)) {
                Err(LogError::Io { source, .. }) if is_unreadable(&source) => None,
                content => content?,
            };
            let content = content.and_then(snapshot::unseal);
            if let Some(open) = content.and_then(|content| OpenTransactions::of(&content)) {
                return Ok((*at, open));
            }
        }
        Ok((oldest, OpenTransactions::default()))
    }
}
