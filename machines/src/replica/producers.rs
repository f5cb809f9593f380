//! What a partition knows of its producers: the last five batches of each (I2–I9), its open transaction, and who has
//! ended the last one (X5).
//!
//! Promise: what is decided depends only on the batches in the log, so every replica that replays the log knows the
//! same producers; only forgetting depends on time. Also of a log that has lost its end, or was cut, down to what is
//! settled: the last five below that are remembered as well, and cleaning keeps them.

use super::append_types::{AppendError, Duplicate};
use super::transactions::{Completed, Unstable};
use crate::time::Time;
use crate::txn::ClientVersion;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use troupe_proto::batch::{BatchHeader, Marker, ProducerStamp};
use troupe_proto::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use troupe_proto::log::v1::{ProducedBatch, ProducerEntry, ProducerSnapshot};

/// How many batches of a producer can be told from new ones (I3); also the most it may have in flight.
const REMEMBERED_BATCHES: usize = 5;
/// Of a producer that is far ahead of what is settled, no more than so many.
const MOST_KEPT: usize = 100;
/// How often producers are looked through for those to forget (I9).
const EXPIRY_CHECK_MS: u64 = 600_000;
/// Of a [`ProducerSnapshot`] that says nothing of transactions, as all did before there were any.
const WITHOUT_TRANSACTIONS: u32 = 0;
const WITH_TRANSACTIONS: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// Oldest first: those that are not settled, as many as count before them, and [`MOST_KEPT`] at most. None: a
    /// marker has moved the epoch, and the next begins at 0, unless `any_sequence`.
    batches: VecDeque<Remembered>,
    /// A marker is all that is known of it, and nobody can tell what came before (I6).
    any_sequence: bool,
    last_append: Time,
    /// Where the transaction began that is open, in this epoch.
    open_from: Option<Offset>,
    /// Of the partition of `__transaction_state`, as the last marker had it.
    coordinator_epoch: Option<LeaderEpoch>,
    /// Where that stands: by it epoch and coordinator are known when nothing else is left of the producer.
    last_marker: Option<Offset>,
}

/// What is told of a producer to whoever looks at the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Of its last batch; none in this epoch.
    pub last_sequence: Option<Sequence>,
    /// Of its last batch or marker; the time of a replay, if it was read back.
    pub last_append: Time,
    /// In which the last marker was written.
    pub coordinator_epoch: Option<LeaderEpoch>,
    /// Of the transaction that is open.
    pub transaction_first_offset: Option<Offset>,
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
    /// `open_in`: the epoch of the producer's transaction that is open.
    New {
        open_in: Option<ProducerEpoch>,
    },
    Duplicate(Duplicate),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    unstable: Unstable,
    next_expiry_check: Option<Time>,
}

impl Producers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The base offsets of the batches by which producers are known, or will be if later ones are truncated; and of their
    /// last markers.
    pub fn remembered(&self) -> BTreeSet<Offset> {
        let batches = self.by_id.values().flat_map(|producer| &producer.batches);
        let markers = self.by_id.values().filter_map(|producer| producer.last_marker);
        batches.map(|batch| batch.base_offset).chain(markers).collect()
    }

    pub fn next_expiry_check(&self) -> Option<Time> {
        self.next_expiry_check
    }

    /// I4–I6. Where nothing is known of a producer any sequence may come, but in a transaction of the second version: that
    /// has an epoch of its own and begins at 0 in each partition (KIP-890), so that what comes first with another
    /// sequence is not its first batch.
    pub fn judge(
        &self,
        stamp: &ProducerStamp,
        record_count: u32,
        transaction: Option<ClientVersion>,
    ) -> Result<Verdict, AppendError> {
        let begins_at_0 = transaction == Some(ClientVersion::Second);
        let out_of_order = |expected| AppendError::OutOfOrderSequence {
            producer: stamp.id,
            expected,
            actual: stamp.base_sequence,
        };
        let first = |new| match stamp.base_sequence == Sequence(0) {
            true => Ok(new),
            false => Err(out_of_order(Sequence(0))),
        };
        let Some(producer) = self.by_id.get(&stamp.id) else {
            let new = Verdict::New { open_in: None };
            return if begins_at_0 { first(new) } else { Ok(new) };
        };
        let new = Verdict::New { open_in: producer.open_from.map(|_| producer.epoch) };
        if stamp.epoch < producer.epoch {
            return Err(AppendError::ProducerFenced {
                producer: stamp.id,
                current: producer.epoch,
                actual: stamp.epoch,
            });
        }
        if stamp.epoch > producer.epoch {
            return first(new);
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
        if producer.any_sequence && !begins_at_0 {
            return Ok(new);
        }
        let last = producer.batches.back().map(|last| last.last_sequence);
        let expected = last.map_or(Sequence(0), |last| last.plus(1));
        if expected == stamp.base_sequence { Ok(new) } else { Err(out_of_order(expected)) }
    }

    /// A batch that stands in the log now, appended or read back. Whatever comes, the log ends at `settled` at least.
    /// Given out: the transaction that it ends.
    pub fn record(
        &mut self,
        now: Time,
        header: &BatchHeader,
        settled: Offset,
    ) -> Option<Completed> {
        let stamp = header.producer?;
        self.next_expiry_check.get_or_insert(now.plus(EXPIRY_CHECK_MS));
        let producer = self.by_id.entry(stamp.id).or_insert_with(|| Producer {
            epoch: stamp.epoch,
            batches: VecDeque::new(),
            any_sequence: header.attributes.is_control(),
            last_append: now,
            open_from: None,
            coordinator_epoch: None,
            last_marker: None,
        });
        producer.last_append = now;
        if let Some(marker) = header.marker() {
            producer.last_marker = Some(header.base_offset);
            let open_from = producer.end(stamp.epoch, marker)?;
            let last_offset = header.last_offset();
            self.unstable.end(stamp.id, open_from, last_offset);
            return Some(Completed {
                producer_id: stamp.id,
                first_offset: open_from,
                last_offset,
                committed: marker.committed,
            });
        }
        if producer.epoch != stamp.epoch {
            producer.epoch = stamp.epoch;
            producer.batches.clear();
        }
        producer.any_sequence = false;
        // Cleaning takes records of transactions that have ended, and then their markers.
        let has_records = header.record_count > 0;
        if header.attributes.is_transactional() && has_records && producer.open_from.is_none() {
            producer.open_from = Some(header.base_offset);
            self.unstable.open(stamp.id, header.base_offset);
        }
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
        None
    }

    /// The epoch of a producer, and that of the coordinator that ended its last transaction.
    pub fn epochs_of(&self, id: ProducerId) -> Option<(ProducerEpoch, Option<LeaderEpoch>)> {
        self.by_id.get(&id).map(|producer| (producer.epoch, producer.coordinator_epoch))
    }

    /// Where the earliest transaction began that is open, or whose marker may still be lost.
    pub fn first_unstable(&self) -> Option<Offset> {
        self.unstable.first()
    }

    pub fn on_committed(&mut self, high_watermark: Offset) {
        self.unstable.commit(high_watermark);
    }

    /// By id.
    pub fn states(&self) -> impl Iterator<Item = ProducerState> {
        self.by_id.iter().map(|(id, producer)| ProducerState {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map(|batch| batch.last_sequence),
            last_append: producer.last_append,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_first_offset: producer.open_from,
        })
    }

    /// For a planted bug.
    pub fn forget_transactions(&mut self) {
        self.unstable = Unstable::default();
        self.by_id.values_mut().for_each(|producer| producer.open_from = None);
    }

    /// I9: forgets producers that have been silent for `expiration_ms`, but none whose transaction is open.
    pub fn expire(&mut self, now: Time, expiration_ms: u64) {
        if self.next_expiry_check.is_none_or(|check| now < check) {
            return;
        }
        self.by_id.retain(|_, producer| {
            producer.open_from.is_some() || now < producer.last_append.plus(expiration_ms)
        });
        self.next_expiry_check = (!self.by_id.is_empty()).then(|| now.plus(EXPIRY_CHECK_MS));
    }

    pub fn snapshot(&self) -> ProducerSnapshot {
        let entry = |(id, producer): (&ProducerId, &Producer)| ProducerEntry {
            coordinator_epoch: producer.coordinator_epoch.map(|epoch| epoch.0),
            last_marker_offset: producer.last_marker.map(|offset| offset.0),
            transaction_first_offset: producer.open_from.map(|offset| offset.0),
            any_sequence: producer.any_sequence,
            producer_id: id.0,
            producer_epoch: producer.epoch.0,
            batches: producer.batches.iter().copied().map(Remembered::to_wire).collect(),
            last_append_ms: producer.last_append.as_timestamp(),
        };
        let marked = |producer: &Producer| producer.coordinator_epoch.is_some();
        let with = !self.unstable.is_empty() || self.by_id.values().any(marked);
        ProducerSnapshot {
            version: if with { WITH_TRANSACTIONS } else { WITHOUT_TRANSACTIONS },
            producers: self.by_id.iter().map(entry).collect(),
            ended_transactions: self.unstable.ended_to_wire(),
        }
    }

    /// Whether this version knows what all of it means.
    pub fn knows(snapshot: &ProducerSnapshot) -> bool {
        snapshot.version <= WITH_TRANSACTIONS
    }

    pub fn from_snapshot(snapshot: &ProducerSnapshot) -> Producers {
        let mut producers = Producers::default();
        producers.unstable.restore_ended(&snapshot.ended_transactions);
        for entry in &snapshot.producers {
            let last_append = Time(u64::try_from(entry.last_append_ms).unwrap_or(0));
            let skip = entry.batches.len().saturating_sub(MOST_KEPT);
            let (id, open_from) =
                (ProducerId(entry.producer_id), entry.transaction_first_offset.map(Offset));
            if let Some(first_offset) = open_from {
                producers.unstable.open(id, first_offset);
            }
            producers.by_id.insert(
                id,
                Producer {
                    epoch: ProducerEpoch(entry.producer_epoch),
                    batches: entry.batches[skip..].iter().map(Remembered::from_wire).collect(),
                    any_sequence: entry.any_sequence,
                    last_append,
                    open_from,
                    coordinator_epoch: entry.coordinator_epoch.map(LeaderEpoch),
                    last_marker: entry.last_marker_offset.map(Offset),
                },
            );
            let check = last_append.plus(EXPIRY_CHECK_MS);
            let earliest = producers.next_expiry_check.map_or(check, |other| other.min(check));
            producers.next_expiry_check = Some(earliest);
        }
        producers
    }
}

impl Producer {
    /// A marker of that epoch was written. Given out: where the transaction began that it ends.
    fn end(&mut self, epoch: ProducerEpoch, marker: Marker) -> Option<Offset> {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.batches.clear();
            self.any_sequence = false;
        }
        self.coordinator_epoch = self.coordinator_epoch.max(Some(marker.coordinator_epoch));
        self.open_from.take()
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
