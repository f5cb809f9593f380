//! The log of one partition: what it knows, and the small questions. Each larger task is a module of its
//! own with its part of `impl Log`.

use crate::cleaning::{Tombstones, UnderWay};
use crate::damage::Damage;
use crate::disk::Disk;
use crate::epochs::Epochs;
use crate::flush::Flushing;
use crate::place::Place;
use crate::retention::Deleted;
use crate::segment::Segment;
use crate::txn_index::TxnIndex;
use crate::{LogConfig, LogError};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// See the crate. Owned by one thread at a time; tickets, removals and slices go to others.
pub struct Log<D: Disk> {
    pub(crate) place: Place<D>,
    pub(crate) key: PartitionKey,
    pub(crate) config: LogConfig,
    /// Nothing below is readable.
    pub(crate) start: Offset,
    /// Where the next batch goes.
    pub(crate) end: Offset,
    /// By base offset; the last one takes appends. Empty until something is written.
    pub(crate) segments: VecDeque<Segment<D>>,
    /// Of the segments that hold markers of aborted transactions, by their base offsets.
    pub(crate) aborted: BTreeMap<Offset, TxnIndex<D>>,
    /// Wall clock when the last segment was made or found.
    pub(crate) active_since_ms: i64,
    pub(crate) epochs: Epochs,
    /// The epochs' file lags behind.
    pub(crate) epochs_changed: bool,
    /// Offsets of the producer-state snapshots, ascending.
    pub(crate) snapshots: Vec<Offset>,
    /// The newest of them that is known to be on disk for good.
    pub(crate) durable_snapshot: Option<Offset>,
    pub(crate) flushing: Flushing<D>,
    pub(crate) presence: Presence,
    /// Compaction has looked at all below. On disk it stands no higher.
    pub(crate) cleaned_below: Offset,
    /// Tombstones that the last pass has left there; None: an earlier program was it, and did not tell.
    pub(crate) tombstones: Option<Tombstones>,
    /// As its file says, or will before the next batch is written.
    pub(crate) tombstones_gone_below: Offset,
    pub(crate) tombstones_gone_changed: bool,
    /// The last pass of compaction that was begun.
    pub(crate) cleaning: Option<Arc<UnderWay<D>>>,
    /// How often its end was cut off since it was opened.
    pub(crate) truncations: u64,
    /// What this replica lacks.
    pub(crate) damage: Option<Damage>,
    /// Segments that are not in the log any more, and that the last checkpoint may name.
    pub(crate) deleted: Vec<Arc<Deleted>>,
}

/// What of the partition stands in the file system.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Presence {
    /// The directory and the file with its identity.
    pub(crate) directory: bool,
    pub(crate) checkpoint: Option<Checkpointed>,
    /// The offset in the file of the log's start.
    pub(crate) log_start: Option<Offset>,
}

/// The last checkpoint: high watermark, recovery point and its segment, and the first segment of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpointed {
    pub(crate) high_watermark: Offset,
    pub(crate) offset: Offset,
    pub(crate) segment: Offset,
    pub(crate) first: Offset,
}

impl<D: Disk> Log<D> {
    /// First readable offset; the end of the log if there is none.
    pub fn log_start(&self) -> Offset {
        self.start
    }

    /// Offset of the next record.
    pub fn log_end(&self) -> Offset {
        self.end
    }

    /// All below is on disk for good.
    pub fn flushed_end(&self) -> Offset {
        self.flushing.point.offset
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Of the segment that takes the appends.
    pub fn active_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.size)
    }

    /// How often its end was cut off since it was opened: what was read before may be of another log.
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// Whether anything stands on disk.
    pub fn has_directory(&self) -> bool {
        self.presence.directory
    }

    /// Whether the last checkpoint says what is so no longer, or there is none: it could not be written.
    pub fn owes_checkpoint(&self) -> bool {
        self.presence.directory && self.presence.checkpoint.is_none() || !self.deleted.is_empty()
    }

    /// The partition's directory.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Applies from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Whether a disk error has put this log offline, for good or until it is opened anew.
    pub fn is_poisoned(&self) -> bool {
        self.flushing.is_poisoned()
    }

    /// Largest timestamp of any record.
    ///
    /// # Errors
    /// An index that has to be read for this cannot be.
    pub fn largest_timestamp(&self) -> Result<Option<i64>, LogError> {
        let mut found = None;
        for segment in &self.segments {
            let summary = self.summary(segment)?;
            found = found.max(summary.largest_timestamp());
        }
        Ok(found)
    }

    /// From `start` on, where the log ends, batches are of this epoch (R2). It reaches the file with the first such
    /// batch.
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        self.epochs_changed |= self.epochs.assign(epoch, start);
        self.cut_tombstones_gone(start);
    }

    /// The epoch of the last batch, or the one that the next batch will have if that is assigned.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// R21: the largest epoch not above `epoch` and where it ends; `None` if all are above.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset(epoch, self.end)
    }

    /// The same, for a follower whose log ends at `follower_end`, behind a batch of `epoch`. Where that is within a batch
    /// here, which stands for several that were given up, the two part before it: nobody takes over half a batch.
    pub fn end_offset_for_follower(
        &self,
        epoch: LeaderEpoch,
        follower_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let (epoch, end) = self.end_offset_for_epoch(epoch)?;
        let segment = self.segment_of(follower_end).and_then(|at| self.segments.get(at));
        let segment = segment.filter(|_| self.start < follower_end && follower_end < self.end);
        // what cannot be read is found when it is to be pushed
        let batch = segment.and_then(|segment| self.locate(segment, follower_end).ok().flatten());
        let base = batch.map(|batch| batch.header.base_offset);
        let parts_at = base.filter(|base| *base < follower_end).unwrap_or(end);
        Some((epoch, end.min(parts_at)))
    }

    /// The epoch in which `offset` was written.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.at(offset)
    }

    /// Where the owner begins to replay headers on top of a producer snapshot that it has found usable, or
    /// without one: with all that is there, what was deleted within the first segment included.
    pub fn replay_from(&self, snapshot: Option<Offset>) -> Offset {
        snapshot.unwrap_or_else(|| self.oldest())
    }

    /// The first offset of which something is in the files.
    pub(crate) fn oldest(&self) -> Offset {
        self.segments.front().map_or(self.start, |segment| segment.base)
    }

    /// Feeds the header of every batch from the one that holds `from` to the end of the log, each checked. Passes over
    /// what is known to be damaged.
    ///
    /// # Errors
    /// The files cannot be read, or are not what they were.
    pub fn replay(&self, from: Offset, mut each: impl FnMut(&BatchHeader)) -> Result<(), LogError> {
        for segment in self.segments.iter().filter(|segment| segment.end > from) {
            self.each_sound_header(segment, from, &mut each)?;
        }
        Ok(())
    }

    /// Gives back the descriptors and mappings of a log that nobody uses; they come back when needed.
    /// Does nothing while something is unsynced.
    pub fn release_files(&mut self) {
        if self.flushed_end() < self.end {
            return;
        }
        let count = self.segments.len();
        for (i, segment) in self.segments.iter_mut().enumerate() {
            segment.release(i + 1 == count);
        }
        self.aborted.values_mut().for_each(TxnIndex::release);
    }

    pub(crate) fn check_writable(&self) -> Result<(), LogError> {
        self.flushing.check_writable(&self.place.dir)
    }

    /// The segment that holds `offset`, or would.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base <= offset).checked_sub(1)
    }
}
