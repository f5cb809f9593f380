//! Everything that was ever visible or promised in a partition, as nobody in the simulation can see it.

use crate::clients::Outcome;
use crate::compaction::{Compaction, Written};
use crate::invariants;
use crate::violation::Checked;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use troupe_proto::batch::{BatchHeader, ProducerStamp};
use troupe_proto::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

#[derive(Debug, Default)]
pub struct Ledger {
    /// Batches below some replica's high watermark, by base offset, and when they were first.
    pub committed: BTreeMap<Offset, Committed>,
    /// Where each value that was acknowledged with acks all stands.
    pub acknowledged: BTreeMap<u64, Offset>,
    /// Which replica appended in an epoch.
    pub leaders: BTreeMap<LeaderEpoch, u64>,
    /// Where each producer is, and where its last batch ends.
    next_sequences: BTreeMap<(ProducerId, ProducerEpoch), (Sequence, Offset)>,
    /// By what tells batches apart: checksum and length of the payload.
    values: BTreeMap<(u32, u32), u64>,
    placed: BTreeMap<u64, Offset>,
    outcomes: BTreeMap<u64, Outcome>,
    /// Of a topic that is compacted: what stands at each offset that is committed, and where each key was written last.
    pub compaction: Option<Compaction>,
    pub records: BTreeMap<Offset, Written>,
    pub newest: BTreeMap<u64, Offset>,
    /// Which of the records are of a transaction that is open, or was aborted.
    pub without_commit: BTreeSet<Offset>,
    /// Records below were deleted, by request or by age.
    pub deleted_before: Offset,
    /// Whoever asked for a deletion has been told that nothing below is there.
    pub answered_start: Offset,
    /// Any copy of it may have gone bad, also the last.
    pub may_lose_any: bool,
    /// Who leads first from that epoch on may lack what is committed.
    pub may_lose_from: Option<LeaderEpoch>,
    /// What was given up, as nobody had it.
    pub given_up: Vec<Range<Offset>>,
    /// Something was lost for good.
    pub has_lost: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Committed {
    pub header: BatchHeader,
    pub since: u64,
    pub value: Option<u64>,
}

impl Ledger {
    pub fn new(compaction: Option<Compaction>) -> Ledger {
        Ledger { compaction, ..Ledger::default() }
    }

    pub fn end(&self) -> Offset {
        self.committed.last_key_value().map_or(Offset::ZERO, |(_, last)| last.header.end_offset())
    }

    pub fn produced(&mut self, value: u64, header: &BatchHeader) {
        self.values.insert((header.payload_crc, header.payload_len), value);
        self.outcomes.insert(value, Outcome::Open);
    }

    pub fn concluded(&mut self, value: u64, outcome: Outcome) {
        self.outcomes.insert(value, outcome);
    }

    pub fn value_of(&self, header: &BatchHeader) -> Option<u64> {
        let by_payload = self.values.get(&(header.payload_crc, header.payload_len)).copied();
        let cleaned = by_payload.is_none() && self.compaction.is_some();
        let committed = self.committed.get(&header.base_offset).filter(|_| cleaned);
        by_payload.or_else(|| committed?.value)
    }

    /// When what stands there was visible for the first time.
    pub fn committed_since(&self, offset: Offset) -> Option<u64> {
        let (_, committed) = self.committed.range(..=offset).next_back()?;
        (offset < committed.header.end_offset()).then_some(committed.since)
    }

    /// Of what is committed, the first that its producer has not heard of, or that is younger than this.
    pub fn first_unsettled(&self, since: u64) -> Offset {
        let unsettled = |committed: &&Committed| {
            let outcome = committed.value.and_then(|value| self.outcomes.get(&value));
            committed.since > since || outcome == Some(&Outcome::Open)
        };
        let first = self.committed.values().find(unsettled);
        first.map_or(self.end(), |committed| committed.header.base_offset)
    }

    /// A batch is below a high watermark for the first time. Without `strict` committed records may have been
    /// lost before.
    pub fn commit(&mut self, header: &BatchHeader, now: u64, strict: bool) -> Checked {
        let (base, value) = (header.base_offset, self.value_of(header));
        if strict {
            invariants::no_gap(self.end(), header)?;
            self.check_sequence(header)?;
        }
        self.note_sequence(header);
        if let Some(value) = value {
            let before = self.placed.insert(value, base);
            if strict {
                invariants::value_stands_once(value, before, base)?;
            }
            invariants::failed_is_not_there(value, self.has_failed(value), true)?;
        }
        self.committed.insert(base, Committed { header: *header, since: now, value });
        if let (Some(compaction), Some(value)) = (&self.compaction, value) {
            for number in 0..u64::from(header.record_count) {
                let (offset, record) = (base.plus(number), compaction.record(value, number));
                self.records.insert(offset, record);
                if header.attributes.is_transactional() {
                    self.without_commit.insert(offset);
                } else {
                    self.newest.insert(record.key, offset);
                }
            }
        }
        Ok(())
    }

    /// These batches' transaction has ended. Of one that was committed, records are written from there on.
    pub fn transaction_ended(&mut self, batches: &[BatchHeader], committed: bool) {
        if !committed {
            return;
        }
        for batch in batches {
            for offset in (batch.base_offset.0..batch.end_offset().0).map(Offset) {
                self.without_commit.remove(&offset);
                if let Some(record) = self.records.get(&offset) {
                    let newest = self.newest.entry(record.key).or_insert(offset);
                    *newest = offset.max(*newest);
                }
            }
        }
    }

    /// Where a value stands.
    pub fn placed(&self, value: u64) -> Option<Offset> {
        self.placed.get(&value).copied()
    }

    /// A producer is told so: also of what was given up, if it sends that again.
    pub fn acknowledge(&mut self, value: u64, base: Offset) {
        if !self.given_up.iter().any(|range| range.contains(&base)) {
            self.acknowledged.insert(value, base);
        }
    }

    /// The log goes on at `end`; what was behind is gone.
    pub fn lose_from(&mut self, end: Offset) {
        self.has_lost = true;
        self.committed.split_off(&end);
        self.records.split_off(&end);
        self.acknowledged.retain(|_, base| *base < end);
    }

    /// Whole batches, which no replica had that was in sync.
    pub fn give_up(&mut self, lost: Vec<Range<Offset>>) {
        self.has_lost = true;
        let is_gone = |offset: &Offset| lost.iter().any(|range| range.contains(offset));
        self.committed.retain(|base, _| !is_gone(base));
        self.records.retain(|offset, _| !is_gone(offset));
        self.acknowledged.retain(|_, base| !is_gone(base));
        self.given_up.extend(lost);
    }

    /// Whether some of it was given up.
    pub fn is_given_up(&self, batch: &BatchHeader) -> bool {
        let (base, end) = (batch.base_offset, batch.end_offset());
        self.given_up.iter().any(|range| base < range.end && range.start < end)
    }

    fn has_failed(&self, value: u64) -> bool {
        self.outcomes.get(&value) == Some(&Outcome::Failed)
    }

    fn check_sequence(&self, header: &BatchHeader) -> Checked {
        let Some(stamp) = header.producer.filter(|_| !header.attributes.is_control()) else {
            return Ok(());
        };
        let known = self.next_sequences.get(&(stamp.id, stamp.epoch)).copied();
        let (next, _) = known.unwrap_or_default();
        invariants::sequence_goes_on(next, stamp.base_sequence, header)
    }

    /// Also while something may be lost, which perhaps is not; what is shown once more then changes nothing.
    fn note_sequence(&mut self, header: &BatchHeader) {
        let Some(stamp) = header.producer.filter(|_| !header.attributes.is_control()) else {
            return;
        };
        let (next, end) = self.next_sequences.entry((stamp.id, stamp.epoch)).or_default();
        if header.end_offset() > *end {
            // cleaning may have left fewer
            let records = header.last_offset_delta + 1;
            (*next, *end) = (stamp.base_sequence.plus(records), header.end_offset());
        }
    }

    /// I6: all that the producer has sent is deleted, and a replica that begins behind it never hears of it.
    pub fn may_be_forgotten(&self, stamp: &ProducerStamp) -> bool {
        let known = self.next_sequences.get(&(stamp.id, stamp.epoch));
        known.is_some_and(|(_, end)| *end <= self.deleted_before)
    }

    /// What producers were told is true to the end.
    pub fn check_outcomes(&self) -> Checked {
        for value in self.outcomes.keys() {
            let is_there = self.placed.contains_key(value);
            invariants::failed_is_not_there(*value, self.has_failed(*value), is_there)?;
        }
        Ok(())
    }
}
