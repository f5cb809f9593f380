//! One partition of a fake node: what it holds, and I3 to I6.

use crate::fake_transactions::Producer;
use bytes::Bytes;
use std::collections::HashMap;
use troupe_proto::batch::{BatchHeader, Limits, Marker, ProducedBatch, RecordSet};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey, ProducerEpoch, ProducerId};
use troupe_proto::log::v1::AbortedTransaction;
use troupe_proto::rope::Rope;

/// What is known of a producer: its epoch, and first and last sequence and base offset of its last five
/// batches.
type Known = (ProducerEpoch, Vec<(u32, u32, u64)>);

#[derive(Default)]
pub struct FakeLog {
    pub start: u64,
    pub end: u64,
    /// Canonical frames, oldest first.
    frames: Vec<(BatchHeader, Bytes)>,
    producers: HashMap<ProducerId, Known>,
    /// Where transactions began that are open.
    open: HashMap<ProducerId, u64>,
    /// Producer, first offset, and that of the marker.
    aborted: Vec<(ProducerId, u64, u64)>,
}

/// A batch as it came, without its place in the log.
pub fn produced(wire: Bytes) -> Result<(BatchHeader, Bytes), ErrorCode> {
    let mut rope = Rope::new();
    rope.push(wire);
    let batch = ProducedBatch::decode(rope).map_err(|error| error.code())?;
    let verified = batch.verify(Limits::default()).map_err(|error| error.code())?;
    let header = batch.header(Offset::ZERO, LeaderEpoch(0), verified.payload_crc);
    Ok((header, batch.payload.into_bytes()))
}

impl FakeLog {
    pub fn append(&mut self, key: &PartitionKey, wire: Bytes) -> Result<u64, ErrorCode> {
        let (header, payload) = produced(wire)?;
        if let Some(stamp) = header.producer {
            let (first, last) = (stamp.base_sequence.0, stamp.last_sequence(header.record_count).0);
            let is_known = self.producers.contains_key(&stamp.id);
            let entry = self.producers.entry(stamp.id);
            let (epoch, known) = entry.or_insert((stamp.epoch, Vec::new()));
            if stamp.epoch < *epoch {
                return Err(ErrorCode::ProducerFenced);
            }
            if stamp.epoch > *epoch {
                if first != 0 {
                    return Err(ErrorCode::OutOfOrderSequence);
                }
                *epoch = stamp.epoch;
                known.clear();
            }
            if let Some(&(.., base)) = known.iter().find(|&&(f, l, _)| (f, l) == (first, last)) {
                return Ok(base);
            }
            // After a marker the next sequence is 0, and of who was never heard of any is the first.
            let next = known.last().map_or(0, |&(_, last, _)| last + 1);
            if is_known && next != first {
                return Err(ErrorCode::OutOfOrderSequence);
            }
            known.push((first, last, self.end));
            let surplus = known.len().saturating_sub(5);
            known.drain(..surplus);
        }
        if let Some(stamp) = header.producer.filter(|_| header.attributes.is_transactional()) {
            self.open.entry(stamp.id).or_insert(self.end);
        }
        Ok(self.push(key, header, &payload))
    }

    fn push(&mut self, key: &PartitionKey, header: BatchHeader, payload: &[u8]) -> u64 {
        let base = self.end;
        let header = BatchHeader { base_offset: Offset(base), ..header };
        let mut frame = header.encode(key).to_vec();
        frame.extend_from_slice(payload);
        self.frames.push((header, frame.into()));
        self.end = header.end_offset().0;
        base
    }

    /// X5: how the producer's transaction has ended. It is in the next epoch from here on.
    pub fn mark(&mut self, key: &PartitionKey, producer: Producer, committed: bool) {
        let (id, epoch) = (ProducerId(producer.id), ProducerEpoch(producer.epoch));
        let marker = Marker { committed, coordinator_epoch: LeaderEpoch(0) };
        let built = marker.batch(id, epoch, 0).unwrap();
        let at = self.push(key, built.header, &built.payload);
        self.producers.insert(id, (epoch, Vec::new()));
        if let Some(first) = self.open.remove(&id).filter(|_| !committed) {
            self.aborted.push((id, first, at));
        }
    }

    /// X12.
    pub fn last_stable(&self) -> u64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// Of transactions that any batch from `from` to `to` is of.
    pub fn aborted(&self, from: u64, to: u64) -> Vec<AbortedTransaction> {
        let overlap = self.aborted.iter().filter(|(_, first, last)| *first < to && *last >= from);
        let named = overlap.map(|(id, first, _)| AbortedTransaction {
            producer_id: id.0,
            first_offset: *first as i64,
        });
        named.collect()
    }

    /// The batches from the one that holds `offset` on, up to about `limit` bytes and before `stop`, and where they end.
    pub fn read(&self, offset: u64, limit: usize, stop: u64) -> (Bytes, u64) {
        let (mut bytes, mut end) = (Vec::new(), offset);
        for (header, frame) in &self.frames {
            if header.end_offset().0 <= offset {
                continue;
            }
            if header.base_offset.0 >= stop {
                break;
            }
            if !bytes.is_empty() && bytes.len() + frame.len() > limit {
                break;
            }
            bytes.extend_from_slice(frame);
            end = header.end_offset().0;
        }
        (bytes.into(), end)
    }

    pub fn values(&self) -> Vec<Bytes> {
        let frames = self.frames.iter();
        let frames = frames.filter(|(header, _)| !header.attributes.is_control());
        frames
            .flat_map(|(header, frame)| {
                let payload = frame.slice(troupe_proto::batch::OVERHEAD..);
                let set = RecordSet::decode(header, payload, Limits::default()).unwrap();
                set.records().map(|record| record.unwrap().value.unwrap()).collect::<Vec<_>>()
            })
            .collect()
    }

    pub fn batches(&self) -> usize {
        self.frames.len()
    }

    pub fn producer_ids(&self) -> usize {
        self.producers.len()
    }

    /// Of the producer that has the highest.
    pub fn producer_epoch(&self) -> u32 {
        self.producers.values().map(|(epoch, _)| epoch.0).max().unwrap_or(0)
    }
}
