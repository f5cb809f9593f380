//! Partitions, as far as transactions go: producers with their epochs and sequences, what is open, and markers.

use super::*;
use std::collections::BTreeSet;
use truth::{Number, Truth};

/// What a partition knows of one producer id.
#[derive(Debug, Default)]
struct Known {
    epoch: ProducerEpoch,
    next_sequence: u32,
    open: BTreeSet<Number>,
}

#[derive(Debug, Default)]
pub struct Partition {
    producers: BTreeMap<ProducerId, Known>,
    /// The newest coordinator that was heard of.
    coordinator: u64,
}

/// A batch of one record.
#[derive(Clone, Debug)]
pub struct Batch {
    pub producer: Producer,
    pub sequence: u32,
    pub number: Number,
}

/// What there is to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is there already.
    Duplicate,
    /// It opens a transaction: only if the coordinator knows that it may.
    Opens,
    Follows,
}

impl Partition {
    pub fn judge(&self, batch: &Batch) -> Result<Verdict, ErrorCode> {
        let Some(known) = self.producers.get(&batch.producer.id) else {
            return match batch.sequence {
                0 => Ok(Verdict::Opens),
                _ => Err(ErrorCode::OutOfOrderSequence),
            };
        };
        if batch.producer.epoch < known.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        let is_new = batch.producer.epoch > known.epoch;
        if is_new && !known.open.is_empty() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let expected = if is_new { 0 } else { known.next_sequence };
        match batch.sequence.cmp(&expected) {
            std::cmp::Ordering::Less => Ok(Verdict::Duplicate),
            std::cmp::Ordering::Greater => Err(ErrorCode::OutOfOrderSequence),
            std::cmp::Ordering::Equal if known.open.is_empty() => Ok(Verdict::Opens),
            std::cmp::Ordering::Equal => Ok(Verdict::Follows),
        }
    }

    pub fn write(&mut self, batch: &Batch) {
        let known = self.producers.entry(batch.producer.id).or_default();
        known.epoch = batch.producer.epoch;
        known.next_sequence = batch.sequence + 1;
        known.open.insert(batch.number);
    }

    /// Whether the marker is there now, as far as its coordinator needs to know.
    pub fn mark(&mut self, coordinator: u64, marker: &Marker, truth: &mut Truth) -> bool {
        if coordinator < self.coordinator {
            return false;
        }
        self.coordinator = coordinator;
        let Producer { id, epoch } = marker.producer;
        let known = self.producers.entry(id).or_default();
        let is_late = epoch == known.epoch && marker.version == ClientVersion::Second;
        if epoch < known.epoch || (is_late && !known.open.is_empty()) {
            truth.seen.note("a late marker refused");
            return false;
        }
        let closed: Vec<_> = std::mem::take(&mut known.open).into_iter().collect();
        if epoch > known.epoch {
            (known.epoch, known.next_sequence) = (epoch, 0);
        }
        truth.is_closed(&closed, marker.outcome);
        true
    }

    pub fn is_open(&self) -> bool {
        self.producers.values().any(|known| !known.open.is_empty())
    }
}
