//! One partition of a fake node: what it holds, and I3 to I6.

use bytes::Bytes;
use std::collections::HashMap;
use troupe_proto::batch::{BatchHeader, Limits, ProducedBatch, RecordSet};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey, ProducerEpoch, ProducerId};
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
}

impl FakeLog {
    pub fn append(&mut self, key: &PartitionKey, wire: Bytes) -> Result<u64, ErrorCode> {
        let mut rope = Rope::new();
        rope.push(wire);
        let batch = ProducedBatch::decode(rope).map_err(|error| error.code())?;
        let verified = batch.verify(Limits::default()).map_err(|error| error.code())?;
        let header = batch.header(Offset(self.end), LeaderEpoch(0), verified.payload_crc);
        if let Some(stamp) = header.producer {
            let (first, last) = (stamp.base_sequence.0, stamp.last_sequence(header.record_count).0);
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
            if known.last().is_some_and(|&(_, last, _)| last + 1 != first) {
                return Err(ErrorCode::OutOfOrderSequence);
            }
            known.push((first, last, self.end));
            let surplus = known.len().saturating_sub(5);
            known.drain(..surplus);
        }
        let mut frame = header.encode(key).to_vec();
        frame.extend_from_slice(&batch.payload.into_bytes());
        self.frames.push((header, frame.into()));
        let base = self.end;
        self.end = header.end_offset().0;
        Ok(base)
    }

    /// The batches from the one that holds `offset` on, up to about `limit` bytes, and where they end.
    pub fn read(&self, offset: u64, limit: usize) -> (Bytes, u64) {
        let (mut bytes, mut end) = (Vec::new(), offset);
        for (header, frame) in &self.frames {
            if header.end_offset().0 <= offset {
                continue;
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
