//! What was meant by each transaction, what was decided of it, and what stands of it in the partitions, up to their high
//! watermarks: as nobody in the run can see it.

use crate::invariants;
use crate::violation::{Checked, Violation};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use troupe_log::Aborted;
use troupe_machines::txn::{Change, Outcome, Producer};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey, ProducerEpoch, ProducerId};

/// A transaction as its client means it, numbered over the run.
pub type Number = u64;

#[derive(Debug, Default)]
pub struct Meant {
    pub wrote: BTreeMap<PartitionKey, BTreeSet<u64>>,
    pub decided: Option<Outcome>,
    /// By markers, where.
    closed: BTreeMap<PartitionKey, Outcome>,
}

/// From the first record of a transaction to its marker.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub id: ProducerId,
    pub first: Offset,
    pub marker: Option<Offset>,
    pub is_aborted: bool,
}

/// Of one partition, up to its high watermark.
#[derive(Debug, Default)]
pub struct Written {
    pub spans: Vec<Span>,
    /// Whose transaction is open, which, and where in `spans` it stands.
    open: BTreeMap<ProducerId, (Number, usize)>,
    /// Of each batch of a transaction that has ended.
    pub ended: BTreeMap<Offset, Outcome>,
    /// What has not.
    batches: BTreeMap<ProducerId, Vec<BatchHeader>>,
    coordinators: BTreeMap<ProducerId, LeaderEpoch>,
}

#[derive(Debug, Default)]
pub struct TxnTruth {
    last: Number,
    meant: BTreeMap<Number, Meant>,
    /// Of which transaction each value is.
    parts: BTreeMap<u64, Number>,
    /// What each producer has begun last.
    begun: BTreeMap<Producer, Number>,
    /// Which client was told that it is this producer.
    given: BTreeMap<Producer, usize>,
    pub partitions: BTreeMap<PartitionKey, Written>,
}

impl TxnTruth {
    pub fn add_partition(&mut self, key: PartitionKey) {
        self.partitions.insert(key, Written::default());
    }

    pub fn begin(&mut self, producer: Producer) -> Number {
        self.last += 1;
        self.meant.insert(self.last, Meant::default());
        self.begun.insert(producer, self.last);
        self.last
    }

    pub fn wrote(&mut self, number: Number, key: PartitionKey, value: u64) {
        self.parts.insert(value, number);
        let meant = self.meant.entry(number).or_default();
        meant.wrote.entry(key).or_default().insert(value);
    }

    /// I10: no two clients are the same producer.
    pub fn given(&mut self, client: usize, producer: Producer) -> Checked {
        let owner = *self.given.entry(producer).or_insert(client);
        invariants::one_client_per_epoch(producer, owner, client)
    }

    pub fn told(&mut self, number: Number, outcome: Outcome) -> Checked {
        let decided = self.meant.get(&number).and_then(|meant| meant.decided);
        invariants::told_is_decided(number, outcome, decided)
    }

    /// What was asked to be ended is this one; or a producer of it was fenced.
    fn decided(&mut self, producer: Producer, ends: Option<Number>, outcome: Outcome) -> Checked {
        let epoch = ProducerEpoch(producer.epoch.0.saturating_sub(1));
        let fenced = Producer { epoch, ..producer };
        let number = ends.or_else(|| self.begun.get(&fenced).copied());
        let Some(number) = number else { return Ok(()) };
        let meant = self.meant.entry(number).or_default();
        let before = *meant.decided.get_or_insert(outcome);
        invariants::decided_once(number, before, outcome)
    }

    pub fn is_committed(&self, key: &PartitionKey, base: Offset) -> Option<Outcome> {
        self.partitions.get(key)?.ended.get(&base).copied()
    }

    /// Transactions that are open, of all partitions.
    pub fn open(&self) -> Vec<(PartitionKey, ProducerId)> {
        let open = self
            .partitions
            .iter()
            .flat_map(|(key, written)| written.open.keys().map(move |id| (*key, *id)));
        open.collect()
    }

    /// In the end: what was committed is whole.
    pub fn check_whole(&self, is_deleted: impl Fn(&PartitionKey, u64) -> bool) -> Checked {
        for (number, meant) in &self.meant {
            if meant.decided != Some(Outcome::Commit) {
                continue;
            }
            for (key, values) in &meant.wrote {
                let all_deleted = values.iter().all(|value| is_deleted(key, *value));
                let closed = meant.closed.get(key).copied();
                invariants::committed_is_whole(*number, key, closed, all_deleted)?;
            }
        }
        Ok(())
    }
}

impl Written {
    /// Those that were aborted below.
    pub fn aborted(&self, high_watermark: Offset) -> impl Iterator<Item = Aborted> + '_ {
        let below = move |span: &&Span| span.is_aborted && span.marker < Some(high_watermark);
        self.spans.iter().filter(below).filter_map(|span| {
            let (producer_id, first_offset) = (span.id, span.first);
            Some(Aborted { producer_id, first_offset, last_offset: span.marker? })
        })
    }

    /// Up to where a replica with that high watermark, whose log starts there, may hand out what is committed: at least, and
    /// at most. A marker that is below some high watermark is not lost, whoever has forgotten that.
    pub fn stable(&self, start: Offset, high_watermark: Offset) -> (Offset, Offset) {
        let (mut least, mut most) = (high_watermark, high_watermark);
        for span in &self.spans {
            if span.first >= high_watermark {
                continue;
            }
            if span.marker.is_none_or(|marker| marker >= high_watermark) {
                least = least.min(span.first);
            }
            if span.marker.is_none() && span.first >= start {
                most = most.min(span.first);
            }
        }
        (least, most)
    }
}

impl World {
    /// A batch is below a high watermark for the first time.
    pub fn txn_batch_committed(
        &mut self,
        key: PartitionKey,
        header: &BatchHeader,
        value: Option<u64>,
    ) -> Checked {
        if self.settings.txn.is_none() {
            return Ok(());
        }
        if self.is_of_coordinator(&key) {
            let batch = value.and_then(|value| self.txn.batches.remove(&value));
            let Some((changes, ends)) = batch else { return Ok(()) };
            return changes.iter().try_for_each(|change| self.txn_change_committed(change, ends));
        }
        let Some(stamp) = header.producer.filter(|_| header.attributes.is_transactional()) else {
            return Ok(());
        };
        match header.marker() {
            None => self.txn_data_committed(key, header, stamp.id, value),
            Some(_) => self.marker_committed(key, header, stamp.id),
        }
    }

    fn txn_change_committed(&mut self, change: &Change, ends: Option<Number>) -> Checked {
        let Some(outcome) = change.decides() else { return Ok(()) };
        let Some(value) = &change.value else { return Ok(()) };
        let id = ProducerId(value.producer_id);
        let producer = Producer { id, epoch: ProducerEpoch(value.producer_epoch) };
        let facts = [id.0, producer.epoch.0.into(), outcome as u64, ends.unwrap_or(0)];
        self.trace.note(self.now, "decided", facts);
        self.txn_counts.decided_commits += u64::from(outcome == Outcome::Commit);
        self.txn_counts.decided_aborts += u64::from(outcome == Outcome::Abort);
        self.txn.truth.decided(producer, ends, outcome)
    }

    fn txn_data_committed(
        &mut self,
        key: PartitionKey,
        header: &BatchHeader,
        id: ProducerId,
        value: Option<u64>,
    ) -> Checked {
        // Where something was lost for good, what was seen before may be seen again, from a replica that comes back.
        let is_strict = self.is_strict(&key);
        let truth = &mut self.txn.truth;
        let number = value.and_then(|value| truth.parts.get(&value).copied());
        let number = number.ok_or_else(|| {
            Violation::new("I11 what is of a transaction was written in it", format!("{header:?}"))
        })?;
        let Some(written) = truth.partitions.get_mut(&key) else { return Ok(()) };
        let closed = truth.meant.get(&number).and_then(|meant| meant.closed.get(&key).copied());
        let open = written.open.get(&id).map(|(number, _)| *number);
        if is_strict {
            invariants::transactions_stay_apart(number, open, closed, header)?;
        }
        if open.is_none() {
            written.open.insert(id, (number, written.spans.len()));
            let first = header.base_offset;
            written.spans.push(Span { id, first, marker: None, is_aborted: false });
        }
        written.batches.entry(id).or_default().push(*header);
        let facts = [key.partition.0.into(), header.base_offset.0, number, id.0];
        self.trace.note(self.now, "txn batch", facts);
        Ok(())
    }

    fn marker_committed(
        &mut self,
        key: PartitionKey,
        header: &BatchHeader,
        id: ProducerId,
    ) -> Checked {
        let Some(marker) = header.marker() else { return Ok(()) };
        let facts = [
            key.partition.0.into(),
            header.base_offset.0,
            id.0,
            u64::from(marker.committed) | u64::from(marker.coordinator_epoch.0) << 1,
        ];
        self.trace.note(self.now, "marker", facts);
        let is_strict = self.is_strict(&key);
        let truth = &mut self.txn.truth;
        let Some(written) = truth.partitions.get_mut(&key) else { return Ok(()) };
        let newest = written.coordinators.entry(id).or_default();
        if is_strict {
            invariants::coordinators_only_grow(id, *newest, marker.coordinator_epoch)?;
        }
        *newest = marker.coordinator_epoch.max(*newest);
        let outcome = if marker.committed { Outcome::Commit } else { Outcome::Abort };
        let Some((number, span)) = written.open.get(&id).copied() else {
            self.txn_counts.markers_of_nothing += 1;
            return Ok(());
        };
        let meant = truth.meant.entry(number).or_default();
        if is_strict {
            invariants::closed_as_decided(number, meant.decided, outcome)?;
        } else if meant.decided != Some(outcome) {
            // Of a transaction before it, seen again.
            self.txn_counts.markers_of_nothing += 1;
            return Ok(());
        }
        meant.closed.insert(key, outcome);
        written.open.remove(&id);
        written.spans[span].marker = Some(header.base_offset);
        written.spans[span].is_aborted = !marker.committed;
        let batches = written.batches.remove(&id).unwrap_or_default();
        written.ended.extend(batches.iter().map(|batch| (batch.base_offset, outcome)));
        if let Some(ledger) = self.ledgers.get_mut(&key) {
            if outcome == Outcome::Commit && is_strict {
                let there: BTreeSet<u64> =
                    batches.iter().filter_map(|batch| ledger.value_of(batch)).collect();
                let wrote = meant.wrote.get(&key).cloned().unwrap_or_default();
                invariants::all_of_it_is_there(number, &wrote, &there)?;
            }
            ledger.transaction_ended(&batches, outcome == Outcome::Commit);
        }
        Ok(())
    }
}
