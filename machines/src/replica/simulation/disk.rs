//! A log that remembers what is flushed, and loses the rest when the power goes.

use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset};

#[derive(Clone, Debug, Default)]
pub struct DiskLog {
    pub start: Offset,
    pub batches: Vec<BatchHeader>,
    pub flushed: Offset,
    /// An epoch that has begun and has no batch yet.
    begun: Option<(LeaderEpoch, Offset)>,
}

impl DiskLog {
    pub fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, BatchHeader::end_offset)
    }

    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.batches.last().map(|batch| batch.leader_epoch)
    }

    pub fn append(&mut self, batch: BatchHeader) {
        assert_eq!(batch.base_offset, self.end());
        assert!(self.last_epoch() <= Some(batch.leader_epoch), "epochs go up");
        self.batches.push(batch);
    }

    pub fn assign_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        self.begun = Some((epoch, start));
    }

    /// R21.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let mut starts: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for batch in &self.batches {
            if starts.last().is_none_or(|(last, _)| *last < batch.leader_epoch) {
                starts.push((batch.leader_epoch, batch.base_offset));
            }
        }
        starts.extend(self.begun.filter(|(begun, _)| Some(*begun) > self.last_epoch()));
        let next = starts.partition_point(|(other, _)| *other <= epoch);
        let found = starts[next.checked_sub(1)?].0;
        Some((found, starts.get(next).map_or(self.end(), |(_, start)| *start)))
    }

    pub fn truncate(&mut self, to: Offset) {
        self.batches.retain(|batch| batch.end_offset() <= to);
        self.flushed = self.flushed.min(self.end());
        self.begun = None;
    }

    pub fn reset(&mut self, start: Offset) {
        *self = DiskLog { start, flushed: start, ..DiskLog::default() };
    }

    pub fn delete_before(&mut self, offset: Offset) {
        self.start = self.start.max(offset);
        self.flushed = self.flushed.max(self.start);
        self.batches.retain(|batch| batch.base_offset >= offset);
    }

    /// The power goes. Of what was not flushed, the first `lucky` batches got to the disk all the same.
    pub fn lose_unflushed(&mut self, lucky: usize) {
        let flushed =
            self.batches.iter().filter(|batch| batch.end_offset() <= self.flushed).count();
        self.batches.truncate(flushed + lucky);
        self.flushed = self.end();
        self.begun = None;
    }

    pub fn at(&self, base: Offset) -> Option<&BatchHeader> {
        let index = self.batches.binary_search_by_key(&base, |batch| batch.base_offset).ok()?;
        self.batches.get(index)
    }
}
