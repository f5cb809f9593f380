//! What a partition knows of its idempotent producers: the last five batches of each (I2–I9).
//!
//! Promise: what is decided depends only on the batches in the log, so every replica that replays the log knows the
//! same producers; only forgetting depends on time. Also of a log that has lost its end, or was cut, down to what is
//! settled: the last five below that are remembered as well, and cleaning keeps them.

use super::append_types::{AppendError, Duplicate};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use troupe_proto::batch::{BatchHeader, ProducerStamp};
use troupe_proto::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use troupe_proto::log::v1::{ProducedBatch, ProducerEntry, ProducerSnapshot};

/// How many batches of a producer can be told from new ones (I3); also the most it may have in flight.
const REMEMBERED_BATCHES: usize = 5;
/// Of a producer that is far ahead of what is settled, no more than so many.
const MOST_KEPT: usize = 100;
/// How often producers are looked through for those to forget (I9).
const EXPIRY_CHECK_MS: u64 = 600_000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// Oldest first: those that are not settled, as many as count before them, and [`MOST_KEPT`] at most.
    batches: VecDeque<Remembered>,
    last_append: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    first_sequence: Sequence,
    last_sequence: Sequence,
    base_offset: Offset,
    last_offset: Offset,
    timestamp: i64,
}

/// Whether a stamped batch is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    New,
    Duplicate(Duplicate),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    next_expiry_check: Option<Time>,
}

impl Producers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The base offsets of the batches by which producers are known, or will be if later ones are truncated.
    pub fn remembered(&self) -> BTreeSet<Offset> {
        let batches = self.by_id.values().flat_map(|producer| &producer.batches);
        batches.map(|batch| batch.base_offset).collect()
    }

    pub fn next_expiry_check(&self) -> Option<Time> {
        self.next_expiry_check
    }

    /// I4–I6.
    pub fn judge(&self, stamp: &ProducerStamp, record_count: u32) -> Result<Verdict, AppendError> {
        let Some(producer) = self.by_id.get(&stamp.id) else {
            return Ok(Verdict::New);
        };
        let out_of_order = |expected| AppendError::OutOfOrderSequence {
            producer: stamp.id,
            expected,
            actual: stamp.base_sequence,
        };
        if stamp.epoch < producer.epoch {
            return Err(AppendError::ProducerFenced {
                producer: stamp.id,
                current: producer.epoch,
                actual: stamp.epoch,
            });
        }
        if stamp.epoch > producer.epoch {
            let first = stamp.base_sequence == Sequence(0);
            return if first { Ok(Verdict::New) } else { Err(out_of_order(Sequence(0))) };
        }
        let range = (stamp.base_sequence, stamp.last_sequence(record_count));
        let known = |batch: &&Remembered| (batch.first_sequence, batch.last_sequence) == range;
        if let Some(batch) = producer.batches.iter().rev().take(REMEMBERED_BATCHES).find(known) {
            return Ok(Verdict::Duplicate(Duplicate {
                base_offset: batch.base_offset,
                end_offset: batch.last_offset.plus(1),
                timestamp: batch.timestamp,
            }));
        }
        match producer.batches.back().map(|last| last.last_sequence.plus(1)) {
            Some(expected) if expected != stamp.base_sequence => Err(out_of_order(expected)),
            Some(_) | None => Ok(Verdict::New),
        }
    }

    /// A batch that stands in the log now, appended or read back. Whatever comes, the log ends at `settled` at least.
    pub fn record(&mut self, now: Time, header: &BatchHeader, settled: Offset) {
        let Some(stamp) = header.producer else { return };
        if header.attributes.is_control() {
            return;
        }
        self.next_expiry_check.get_or_insert(now.plus(EXPIRY_CHECK_MS));
        let producer = self.by_id.entry(stamp.id).or_insert_with(|| Producer {
            epoch: stamp.epoch,
            batches: VecDeque::new(),
            last_append: now,
        });
        if producer.epoch != stamp.epoch {
            producer.epoch = stamp.epoch;
            producer.batches.clear();
        }
        producer.last_append = now;
        producer.batches.push_back(Remembered {
            first_sequence: stamp.base_sequence,
            // Not from record_count: compaction removes records and keeps the range.
            last_sequence: stamp.base_sequence.plus(header.last_offset_delta),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        });
        let is_settled = |batch: &Remembered| batch.last_offset < settled;
        while producer.batches.len() > MOST_KEPT
            || producer.batches.get(REMEMBERED_BATCHES).is_some_and(is_settled)
        {
            producer.batches.pop_front();
        }
    }

    /// I9: forgets producers that have been silent for `expiration_ms`.
    pub fn expire(&mut self, now: Time, expiration_ms: u64) {
        if self.next_expiry_check.is_none_or(|check| now < check) {
            return;
        }
        self.by_id.retain(|_, producer| now < producer.last_append.plus(expiration_ms));
        self.next_expiry_check = (!self.by_id.is_empty()).then(|| now.plus(EXPIRY_CHECK_MS));
    }

    pub fn snapshot(&self) -> ProducerSnapshot {
        let entry = |(id, producer): (&ProducerId, &Producer)| ProducerEntry {
            coordinator_epoch: Default::default(),
            transaction_first_offset: Default::default(),
            producer_id: id.0,
            producer_epoch: producer.epoch.0,
            batches: producer.batches.iter().copied().map(Remembered::to_wire).collect(),
            last_append_ms: producer.last_append.as_timestamp(),
        };
        ProducerSnapshot {
            version: Default::default(),
            producers: self.by_id.iter().map(entry).collect(),
        }
    }

    pub fn from_snapshot(snapshot: &ProducerSnapshot) -> Producers {
        let mut producers = Producers::default();
        for entry in &snapshot.producers {
            let last_append = Time(u64::try_from(entry.last_append_ms).unwrap_or(0));
            let skip = entry.batches.len().saturating_sub(MOST_KEPT);
            producers.by_id.insert(
                ProducerId(entry.producer_id),
                Producer {
                    epoch: ProducerEpoch(entry.producer_epoch),
                    batches: entry.batches[skip..].iter().map(Remembered::from_wire).collect(),
                    last_append,
                },
            );
            let check = last_append.plus(EXPIRY_CHECK_MS);
            let earliest = producers.next_expiry_check.map_or(check, |other| other.min(check));
            producers.next_expiry_check = Some(earliest);
        }
        producers
    }
}

impl Remembered {
    fn to_wire(self) -> ProducedBatch {
        ProducedBatch {
            first_sequence: self.first_sequence.0,
            last_sequence: self.last_sequence.0,
            base_offset: self.base_offset.0,
            last_offset: self.last_offset.0,
            timestamp_ms: self.timestamp,
        }
    }

    fn from_wire(batch: &ProducedBatch) -> Remembered {
        Remembered {
            first_sequence: Sequence(batch.first_sequence),
            last_sequence: Sequence(batch.last_sequence),
            base_offset: Offset(batch.base_offset),
            last_offset: Offset(batch.last_offset),
            timestamp: batch.timestamp_ms,
        }
    }
}
