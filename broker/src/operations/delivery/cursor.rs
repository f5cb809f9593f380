//! Walks the records of a slice that were asked for, in order. Markers of transactions are no records, and what an aborted
//! transaction wrote is passed over for readers of committed records.
//!
//! A packed batch is walked in memory that all readers share ([`crate::unpacker::Unpacker`]): the cursor says when it needs it,
//! and holds it only as long as it is walked. Where it stands it remembers without.
//! Damage is next for as long as the cursor lives: it is not passed, and neither is what is behind it.

use crate::forward::Slice;
use crate::unpacker::Packed;
use bytes::Bytes;
use troupe_proto::batch::{
    BatchError, BatchHeader, Batches, CommittedFilter, Compression, Limits, RecordRef, RecordSet,
    RecordWalk,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};

pub struct SliceCursor {
    key: PartitionKey,
    batches: Batches,
    filter: CommittedFilter,
    batch: Option<Batch>,
    from: Offset,
    end: Option<Offset>,
    damage: Option<Error>,
    /// Of the record that is next, if it has been looked at and left.
    size: Option<usize>,
}

struct Batch {
    header: BatchHeader,
    /// As it is stored.
    payload: Bytes,
    walk: RecordWalk,
    /// The record set, as long as it is at hand.
    records: Option<Bytes>,
}

/// The record that is next.
pub struct Found<'a> {
    pub record: RecordRef<'a>,
    /// What it is a part of.
    pub records: &'a Bytes,
    /// That is memory for unpacked batches, which is short: nobody keeps a part of it.
    pub is_unpacked: bool,
}

/// What becomes of the record that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Take,
    Leave,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step<R> {
    Seen(R),
    /// The next record is in a batch that has to be unpacked: see [`SliceCursor::packed`].
    Packed,
    /// There are no more.
    End,
    /// As [`SliceCursor::damage`] says.
    Damaged,
}

impl Found<'_> {
    /// What it counts in a window.
    pub fn size(&self) -> usize {
        let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.record.headers().map(|(key, value)| key.len() + len(value));
        len(self.record.key) + len(self.record.value) + headers.sum::<usize>()
    }
}

impl SliceCursor {
    pub fn new(slice: Slice) -> Self {
        let key = slice.target.key;
        let batches = Batches::verified(slice.bytes, key);
        let (from, end, filter) = (slice.from, slice.end, slice.filter);
        Self { key, batches, filter, batch: None, from, end, damage: None, size: None }
    }

    /// Looks at the record that is next, once, and takes it or leaves it.
    pub fn visit<R>(&mut self, visit: &mut impl FnMut(&Found<'_>) -> (Choice, R)) -> Step<R> {
        loop {
            if self.damage.is_some() {
                return Step::Damaged;
            }
            let Some(batch) = &mut self.batch else {
                match self.next_batch() {
                    Ok(true) => continue,
                    Ok(false) => return Step::End,
                    Err(error) => return self.fail(&error),
                }
            };
            let Some(records) = &batch.records else { return Step::Packed };
            let mut walk = batch.walk.clone();
            match walk.next(records) {
                None => self.batch = None,
                Some(Err(error)) => return self.fail(&error),
                Some(Ok(record)) if !is_between(record.offset, self.from, self.end) => {
                    batch.walk = walk;
                }
                Some(Ok(record)) => {
                    let is_unpacked = batch.header.attributes.compression() != Compression::None;
                    let found = Found { record, records, is_unpacked };
                    let (choice, seen) = visit(&found);
                    self.size = match choice {
                        Choice::Take => None,
                        Choice::Leave => Some(found.size()),
                    };
                    if choice == Choice::Take {
                        batch.walk = walk;
                    }
                    return Step::Seen(seen);
                }
            }
        }
    }

    /// Goes on to the next batch of which anything was asked for.
    fn next_batch(&mut self) -> Result<bool, BatchError> {
        for batch in &mut self.batches {
            let (header, payload) = batch?;
            // It goes by all batches, in order.
            if !self.filter.keep(&header) || header.end_offset() <= self.from {
                continue;
            }
            if self.end.is_some_and(|end| header.base_offset >= end) {
                return Ok(false);
            }
            let records = match header.attributes.compression() {
                Compression::None => {
                    let set = RecordSet::decode(&header, payload.clone(), Limits::default())?;
                    Some(set.payload().clone())
                }
                _ => None,
            };
            let walk = RecordWalk::new(&header);
            self.batch = Some(Batch { header, payload, walk, records });
            return Ok(true);
        }
        Ok(false)
    }

    fn fail<R>(&mut self, error: &BatchError) -> Step<R> {
        self.damage = Some(match error {
            // It is as it was written, when a node took more than it unpacks for a consumer.
            BatchError::Bomb { limit } => {
                let message = format!(
                    "a stored batch unpacks to more than the {limit} bytes that a node unpacks for a \
                     consumer; LogService.Fetch gives it as it is stored"
                );
                Error::new(ErrorCode::MessageTooLarge, message).with("limit", limit)
            }
            error => Error::new(ErrorCode::CorruptLog, format!("stored data is damaged: {error}")),
        });
        Step::Damaged
    }

    pub fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// Of the record that is next, what it counts in a window; none: nobody has looked at it yet.
    pub fn size(&self) -> Option<usize> {
        self.size
    }

    /// The batch that has to be unpacked before the next record can be looked at.
    pub fn packed(&self) -> Option<Packed> {
        let batch = self.batch.as_ref().filter(|batch| batch.records.is_none())?;
        Some(Packed { key: self.key, header: batch.header, payload: batch.payload.clone() })
    }

    /// Here it is.
    pub fn unpacked(&mut self, records: Result<Bytes, BatchError>) {
        match (records, &mut self.batch) {
            (Ok(records), Some(batch)) => batch.records = Some(records),
            (Ok(_), None) => {}
            (Err(error), _) => drop(self.fail::<()>(&error)),
        }
    }

    /// Lets go of what others may want the memory for.
    pub fn release(&mut self) {
        if let Some(batch) = &mut self.batch
            && batch.header.attributes.compression() != Compression::None
        {
            batch.records = None;
        }
    }
}

fn is_between(offset: Offset, from: Offset, end: Option<Offset>) -> bool {
    offset >= from && end.is_none_or(|end| offset < end)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::forward::Target;
    use troupe_proto::batch::{Compactor, Marker, ProducerStamp, RecordSetBuilder};
    use troupe_proto::ids::{
        LeaderEpoch, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId,
    };

    type Given = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>, i64);

    pub fn target() -> Target {
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        let key = PartitionKey { topic_id, partition: PartitionId(0) };
        Target { topic: "t".into(), key }
    }

    /// One batch behind the other, from offset 0 on.
    pub fn slice_of(batches: &[&[Given]], compression: Compression) -> Slice {
        let (mut bytes, mut next) = (Vec::new(), 0);
        for records in batches {
            let mut builder = RecordSetBuilder::new();
            for (key, value, headers, timestamp) in *records {
                let headers: Vec<_> =
                    headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
            }
            let mut built = builder.finish(compression, None).unwrap();
            built.header.base_offset = Offset(next);
            bytes.extend_from_slice(&built.header.encode(&target().key));
            bytes.extend_from_slice(&built.payload);
            next += records.len() as u64;
        }
        let (next, bytes) = (Offset(next), bytes.into());
        let (target, from, end) = (target(), Offset(0), None);
        let filter = CommittedFilter::default();
        Slice { target, from, end, bytes, next, readable_end: next, filter }
    }

    pub fn cursor_of(records: &[Given]) -> SliceCursor {
        SliceCursor::new(slice_of(&[records], Compression::None))
    }

    /// Takes every record; what is packed is unpacked where it is needed.
    pub fn walk<R>(cursor: &mut SliceCursor, mut each: impl FnMut(&Found<'_>) -> R) -> Vec<R> {
        let mut seen = Vec::new();
        loop {
            match cursor.visit(&mut |found| (Choice::Take, each(found))) {
                Step::Seen(one) => seen.push(one),
                Step::Packed => unpack(cursor),
                Step::End | Step::Damaged => return seen,
            }
        }
    }

    fn unpack(cursor: &mut SliceCursor) {
        let Packed { header, payload, .. } = cursor.packed().unwrap();
        let set = RecordSet::decode(&header, payload, Limits::default());
        cursor.unpacked(set.map(|set| set.payload().clone()));
    }

    fn seen<R>(step: Step<R>) -> Option<R> {
        match step {
            Step::Seen(seen) => Some(seen),
            Step::Packed | Step::End | Step::Damaged => None,
        }
    }

    fn numbered(count: usize) -> Vec<Given> {
        (0..count).map(|n| (None, Some(vec![b'v'; n]), Vec::new(), 1)).collect()
    }

    #[test]
    fn a_cursor_goes_on_where_it_stood_when_it_let_go() {
        for compression in Compression::ALL {
            let records = numbered(6);
            let mut cursor =
                SliceCursor::new(slice_of(&[&records[..4], &records[4..]], compression));
            let mut offsets = Vec::new();
            loop {
                match cursor.visit(&mut |found| (Choice::Leave, found.size())) {
                    Step::Seen(size) => assert_eq!(cursor.size(), Some(size)),
                    Step::Packed => {
                        unpack(&mut cursor);
                        continue;
                    }
                    Step::End | Step::Damaged => break,
                }
                offsets
                    .extend(seen(cursor.visit(&mut |found| (Choice::Take, found.record.offset.0))));
                cursor.release();
            }
            assert_eq!(offsets, [0, 1, 2, 3, 4, 5], "{compression}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_walked_and_only_that_is_unpacked() {
        let records = numbered(9);
        for compression in Compression::ALL {
            let batches = [&records[..3], &records[3..6], &records[6..]];
            let mut slice = slice_of(&batches, compression);
            (slice.from, slice.end) = (Offset(4), Some(Offset(6)));
            let mut cursor = SliceCursor::new(slice);
            if compression != Compression::None {
                assert_eq!(cursor.visit(&mut |_| (Choice::Take, ())), Step::Packed);
                assert_eq!(cursor.packed().unwrap().header.base_offset, Offset(3));
            }
            assert_eq!(walk(&mut cursor, |found| found.record.offset.0), [4, 5], "{compression}");
            assert_eq!(cursor.visit(&mut |_| (Choice::Take, ())), Step::End);
        }
    }

    /// What cleaning leaves: gaps between batches, batches without records, and records that are missing in one.
    #[test]
    fn a_cleaned_slice_is_walked_with_the_offsets_that_it_has() {
        let mut compactor = Compactor::default();
        for compression in Compression::ALL {
            let mut bytes = Vec::new();
            for (base, kept) in [(0, [1, 2].as_slice()), (7, &[]), (20, &[0]), (40, &[])] {
                let mut builder = RecordSetBuilder::new();
                (0..3).for_each(|n| builder.push(n, Some(b"k"), Some(b"v"), &[]));
                let built = builder.finish(Compression::None, None).unwrap();
                let attributes = built.header.attributes.with_compression(compression);
                let header = BatchHeader { base_offset: Offset(base), attributes, ..built.header };
                let stays = |record: &RecordRef<'_>| kept.contains(&(record.offset.0 - base));
                let selected = compactor.select(&header, &built.payload, stays).unwrap();
                let (left, payload) =
                    compactor.rewrite(&header, &built.payload, &selected, None).unwrap();
                bytes.extend_from_slice(&left.encode(&target().key));
                bytes.extend_from_slice(payload);
            }
            let (next, readable_end, bytes) = (Offset(43), Offset(43), bytes.into());
            let (from, end) = (Offset(1), None);
            let filter = CommittedFilter::default();
            let slice = Slice { target: target(), from, end, bytes, next, readable_end, filter };
            let mut cursor = SliceCursor::new(slice);
            assert_eq!(
                walk(&mut cursor, |found| found.record.offset.0),
                [1, 2, 20],
                "{compression}"
            );
            assert_eq!(cursor.visit(&mut |_| (Choice::Take, ())), Step::End);
        }
    }

    /// X13: two transactions of one producer, of which the first was aborted, and a batch of somebody else among it.
    #[test]
    fn markers_are_no_records_and_what_was_aborted_is_passed_over_for_who_asks() {
        let stamp = |id, sequence| {
            let base_sequence = Sequence(sequence);
            Some(ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence })
        };
        let data = |producer: Option<ProducerStamp>| {
            let mut builder = RecordSetBuilder::new();
            builder.push(1, None, Some(b"v"), &[]);
            let mut built = builder.finish(Compression::None, producer).unwrap();
            let attributes = built.header.attributes.with_transactional(producer.is_some());
            built.header.attributes = attributes;
            built
        };
        let marker = |committed| {
            let marker = Marker { committed, coordinator_epoch: LeaderEpoch(1) };
            marker.batch(ProducerId(1), ProducerEpoch(0), 1).unwrap()
        };
        let first = ProducerId(1);
        for (aborted, from, expected) in [
            (vec![], 0, [0, 1, 2, 4].as_slice()),
            (vec![(first, Offset(0))], 0, &[1, 4]),
            (vec![(first, Offset(0))], 2, &[4]),
            (vec![(first, Offset(0))], 3, &[4]),
        ] {
            let mut bytes = Vec::new();
            let batches = [
                data(stamp(1, 0)),
                data(None),
                data(stamp(1, 1)),
                marker(false),
                data(stamp(1, 2)),
                marker(true),
            ];
            for (offset, mut built) in (0..).zip(batches) {
                built.header.base_offset = Offset(offset);
                bytes.extend_from_slice(&built.header.encode(&target().key));
                bytes.extend_from_slice(&built.payload);
            }
            let mut slice = slice_of(&[], Compression::None);
            (slice.bytes, slice.from) = (bytes.into(), Offset(from));
            slice.filter = CommittedFilter::new(aborted);
            let mut cursor = SliceCursor::new(slice);
            assert_eq!(walk(&mut cursor, |found| found.record.offset.0), expected, "{from}");
            assert_eq!(cursor.visit(&mut |_| (Choice::Take, ())), Step::End);
        }
    }

    /// Batches of one record each; of one of them, one bit is another.
    fn damaged_slice(batches: usize, damaged: usize) -> Slice {
        let record: Given = (None, Some(b"value".to_vec()), Vec::new(), 1);
        let records = vec![record; batches];
        let batches: Vec<&[Given]> = records.chunks(1).collect();
        let mut slice = slice_of(&batches, Compression::None);
        let mut bytes = slice.bytes.to_vec();
        if damaged < batches.len() {
            let len = bytes.len() / batches.len();
            bytes[(damaged + 1) * len - 1] ^= 1;
        }
        slice.bytes = bytes.into();
        slice
    }

    #[test]
    fn damage_stays_next_and_nothing_behind_it_is_passed() {
        for damaged in 0..3 {
            let mut cursor = SliceCursor::new(damaged_slice(3, damaged));
            let before: Vec<u64> = (0..damaged as u64).collect();
            assert_eq!(walk(&mut cursor, |found| found.record.offset.0), before);
            for _ in 0..2 {
                assert_eq!(cursor.visit(&mut |_| (Choice::Take, ())), Step::Damaged);
                assert_eq!(cursor.damage().unwrap().code, ErrorCode::CorruptLog);
            }
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_damage_and_what_is_not_unpacked_is_too_large() {
        let truncated = BatchError::Truncated;
        for (error, code) in [
            (truncated, ErrorCode::CorruptLog),
            (BatchError::Bomb { limit: 1 }, ErrorCode::MessageTooLarge),
        ] {
            let mut cursor = SliceCursor::new(slice_of(&[&numbered(2)], Compression::Zstd));
            assert_eq!(cursor.visit(&mut |_| (Choice::Take, ())), Step::Packed);
            cursor.unpacked(Err(error));
            assert_eq!(cursor.visit(&mut |_| (Choice::Take, ())), Step::Damaged);
            assert_eq!(cursor.damage().unwrap().code, code);
        }
    }
}
