//! Deleting old segments from the front (S15–S19).

use crate::disk::{Disk, DiskFile};
use crate::flush::FlushPoint;
use crate::place::{Kind, Place};
use crate::segment::Segment;
use crate::{Log, LogError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use troupe_proto::ids::Offset;

/// What `retention.ms` and `retention.bytes` say; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    pub retention_ms: Option<u64>,
    pub retention_bytes: Option<u64>,
}

/// One segment as others may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub base: Offset,
    /// Exclusive.
    pub end: Offset,
    pub size: u64,
    pub largest_timestamp: Option<i64>,
    /// Takes the appends.
    pub active: bool,
}

/// What became of a pass of retention. What was removed is removed, whatever failed afterwards.
#[must_use]
pub struct Retained<D: Disk> {
    pub removals: Vec<Removal<D>>,
    /// Why it ended early.
    pub failure: Option<LogError>,
    pub judged: Judged,
}

/// What is unusual about how segments were judged by age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// One by its file's time: its records have no timestamps, or impossible ones.
    pub by_file_time: bool,
    /// One was deleted that was written to within the time for which records are kept: they came with old dates.
    pub old_dates: bool,
}

/// The files of a segment that is no longer in the log; removing large ones takes a while. Should nobody
/// run it, the next open does.
#[must_use]
pub struct Removal<D: Disk> {
    place: Place<D>,
    segment: Arc<Deleted>,
    indexes: Vec<String>,
}

/// A segment that retention has taken out of the log, while the last checkpoint names it. Its file gives its
/// space back, and its name stays until a newer checkpoint is written: should there be no room for that, the name
/// tells the next open that the segment was deleted and has not vanished.
#[derive(Debug)]
pub(crate) struct Deleted {
    name: String,
    named: AtomicBool,
    emptied: AtomicBool,
}

impl Deleted {
    pub(crate) fn new(name: String, emptied: bool) -> Arc<Deleted> {
        let (named, emptied) = (AtomicBool::new(true), AtomicBool::new(emptied));
        Arc::new(Deleted { name, named, emptied })
    }

    /// A checkpoint that does not name the segment was written. What stays now goes with the next open.
    pub(crate) fn name_no_more<D: Disk>(&self, place: &Place<D>) {
        self.named.store(false, Ordering::SeqCst);
        if self.emptied.load(Ordering::SeqCst) {
            let _ = place.remove(&self.name);
        }
    }

    fn remove<D: Disk>(&self, place: &Place<D>) -> Result<(), LogError> {
        if self.named.load(Ordering::SeqCst) {
            place.empty(&self.name)?;
            self.emptied.store(true, Ordering::SeqCst);
            // asked again: the checkpoint may have come in between
            if self.named.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
        place.remove(&self.name)
    }
}

/// Whether a name is one of a segment that was deleted, and not of its indexes.
pub(crate) fn is_deleted_segment(name: &str) -> bool {
    let kind = name.strip_suffix(DELETED).and_then(Kind::parse);
    kind.is_some_and(|(_, kind)| kind == Kind::Log)
}

impl<D: Disk> Removal<D> {
    /// Of files that others have taken the place of: no checkpoint names them.
    pub(crate) fn replaced(place: Place<D>, name: String, indexes: Vec<String>) -> Removal<D> {
        let segment = Deleted::new(name, false);
        segment.named.store(false, Ordering::SeqCst);
        Removal { place, segment, indexes }
    }

    /// Removes the files, but for the name of one that the last checkpoint vouches for, which goes with the
    /// next checkpoint. Slices that readers hold stay valid.
    ///
    /// # Errors
    /// What could not be removed stays as a leftover for the next open.
    pub fn run(self) -> Result<(), LogError> {
        self.run_with_rests(|| {})
    }

    /// The same, with a `rest` after each piece of a large file, for those who wait for the same file system.
    ///
    /// # Errors
    /// As above.
    pub fn run_with_rests(self, rest: impl FnMut()) -> Result<(), LogError> {
        for name in &self.indexes {
            self.place.remove(name)?;
        }
        give_back(&self.place.disk, &self.place.path(&self.segment.name), rest);
        self.segment.remove(&self.place)
    }
}

/// What memory and disk hold of a large file is given back piece by piece, with a `rest` after each: all at once, as its
/// removal would, it holds up whoever waits for the same file system, for ten milliseconds where it has 64 MiB. Of a file
/// that a reader still has a slice of, only what is in memory.
pub(crate) fn give_back<D: Disk>(disk: &D, path: &Path, mut rest: impl FnMut()) {
    // where it cannot be opened, removing it says so
    let Ok(file) = disk.open(path) else { return };
    // nobody opens it under this name
    let ours_alone = file.is_used_by_nobody_else();
    let mut size = file.size().unwrap_or(0);
    while size > 0 {
        let rest_of_it = size.saturating_sub(PIECE);
        file.forget_pages(rest_of_it..size);
        if ours_alone && file.truncate(rest_of_it).is_err() {
            return;
        }
        size = rest_of_it;
        rest();
    }
}

/// So much of a file that is removed is given back at a time.
const PIECE: u64 = 2 << 20;

/// A record that is dated so far ahead of the clock says nothing of its segment's age
/// (`message.timestamp.after.max.ms`).
const FUTURE_MS: i64 = 60 * 60 * 1000;

/// A timestamp, unless it says nothing of when a record was written.
pub(crate) fn believable(timestamp: Option<i64>, now_ms: i64) -> Option<i64> {
    timestamp.filter(|timestamp| (0..=now_ms.saturating_add(FUTURE_MS)).contains(timestamp))
}

/// Renamed so until they are removed (S18).
pub(crate) const DELETED: &str = ".deleted";

impl<D: Disk> Log<D> {
    /// All segments, oldest first.
    ///
    /// # Errors
    /// An index that has to be read for the timestamp cannot be.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, LogError> {
        let count = self.segments.len();
        let describe = |(i, segment): (usize, &Segment<D>)| {
            let summary = segment.summary(&self.place, self.config.index_interval_bytes)?;
            Ok(SegmentInfo {
                base: segment.base,
                end: segment.end,
                size: segment.size,
                largest_timestamp: summary.largest_timestamp(),
                active: i + 1 == count,
            })
        };
        self.segments.iter().enumerate().map(describe).collect()
    }

    /// Deletes what the policy no longer wants kept: the oldest first, up to the first that stays, only
    /// what lies wholly below the high watermark. The active segment too, after rolling an empty one (S17).
    /// Nothing is written before something is removed: on a full disk, this is what makes room.
    pub fn apply_retention(
        &mut self,
        policy: &RetentionPolicy,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Retained<D> {
        let judged = Judged::default();
        let mut retained = Retained { removals: Vec::new(), failure: None, judged };
        loop {
            match self.retain_one(policy, now_ms, high_watermark, &mut retained.judged) {
                Ok(Some(removal)) => retained.removals.push(removal),
                Ok(None) => break,
                Err(error) => {
                    retained.failure = Some(error);
                    break;
                }
            }
        }
        if !retained.removals.is_empty() {
            // What the last one vouched for is not there any more. Without room, a later one says so, and the
            // names of the files stay until then.
            let _ = self.checkpoint(high_watermark);
        }
        retained
    }

    fn retain_one(
        &mut self,
        policy: &RetentionPolicy,
        now_ms: i64,
        high_watermark: Offset,
        judged: &mut Judged,
    ) -> Result<Option<Removal<D>>, LogError> {
        self.check_writable()?;
        let Some(first) = self.segments.front() else { return Ok(None) };
        if first.is_empty()
            || first.end > high_watermark
            || !self.expired(policy, now_ms, judged)?
        {
            return Ok(None);
        }
        if self.segments.len() == 1 {
            // Rolled without its indexes: it goes at once, and on a full disk there is no room for them.
            self.begin_segment(self.end, now_ms)?;
        }
        self.remove_oldest()
    }

    /// Whether the oldest segment may go.
    fn expired(
        &self,
        policy: &RetentionPolicy,
        now_ms: i64,
        judged: &mut Judged,
    ) -> Result<bool, LogError> {
        let Some(first) = self.segments.front() else { return Ok(false) };
        if first.end <= self.start {
            return Ok(true);
        }
        let left = self.size_bytes() - first.size;
        if policy.retention_bytes.is_some_and(|limit| left >= limit) {
            return Ok(true);
        }
        let Some(retention_ms) = policy.retention_ms else { return Ok(false) };
        let limit = i64::try_from(retention_ms).unwrap_or(i64::MAX);
        let is_old = |written: i64| now_ms.saturating_sub(written) > limit;
        let largest = match self.summary(first) {
            // what is known to be damaged ages all the same
            Err(LogError::CorruptLog { .. })
                if self.damaged_from().is_some_and(|at| at < first.end) =>
            {
                None
            }
            summary => summary?.largest_timestamp(),
        };
        match believable(largest, now_ms) {
            Some(timestamp) => {
                let expired = is_old(timestamp);
                if expired && !self.file_time(first)?.is_some_and(is_old) {
                    judged.old_dates = true;
                }
                Ok(expired)
            }
            None => {
                judged.by_file_time = true;
                Ok(self.file_time(first)?.is_some_and(is_old))
            }
        }
    }

    /// When the segment's file was written to last.
    pub(crate) fn file_time(&self, segment: &Segment<D>) -> Result<Option<i64>, LogError> {
        let path = segment.log_path(&self.place);
        let modified = self.place.disk.modified_ms(&path);
        modified.map_err(|e| LogError::io("look at", &path, e))
    }

    /// Takes the oldest segment out of the log, unless it takes the appends. The log then starts with the
    /// next one.
    ///
    /// # Errors
    /// Errors of the disk; the log is as it was, unless it is poisoned.
    pub fn remove_oldest(&mut self) -> Result<Option<Removal<D>>, LogError> {
        self.check_writable()?;
        if self.segments.len() < 2 {
            return Ok(None);
        }
        self.shorten_cleaning(self.segments[0].end)?;
        let base = self.segments[0].base;
        // the log itself first: indexes without one are leftovers
        let segment = Deleted::new(Kind::Log.name(base) + DELETED, false);
        self.rename_deleted(&Kind::Log.name(base))?;
        let mut indexes = Vec::new();
        let aborted = self.aborted.remove(&base).map(|_| Kind::TxnIndex);
        for kind in [Kind::OffsetIndex, Kind::TimeIndex].into_iter().chain(aborted) {
            let name = kind.name(base);
            // where that fails, it is a leftover
            if self.rename_deleted(&name).unwrap_or_default() {
                indexes.push(name + DELETED);
            }
        }
        self.deleted.push(Arc::clone(&segment));
        self.segments.pop_front();
        let next = self.segments[0].base;
        self.start = self.start.max(next);
        // Written down with the next checkpoint or batch: there may be no room for it before this is removed.
        self.epochs_changed |= self.epochs.truncate_from_start(self.start);
        if self.flushing.point.segment == base {
            // What was not flushed of it is gone too, and the log counts as flushed up to the next one: that
            // must be found after a power cut, and not this one again, which ends too early.
            if let Err(error) = self.sync_entries() {
                self.flushing.poison(&error);
                return Err(error);
            }
            self.flushing.point =
                FlushPoint { offset: next, segment: next, ..FlushPoint::default() };
        }
        Ok(Some(Removal { place: self.place.clone(), segment, indexes }))
    }

    /// False if there is no such file.
    fn rename_deleted(&self, name: &str) -> Result<bool, LogError> {
        let (from, to) = (self.place.path(name), self.place.path(&(name.to_owned() + DELETED)));
        match self.place.disk.rename(&from, &to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(LogError::io("rename", &from, error)),
        }
    }

    /// S19: nothing below `offset` is readable from now on, durably; segments wholly below it go, but for the one that
    /// takes the appends.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] beyond the log's end; errors of the disk.
    pub fn set_log_start(&mut self, offset: Offset) -> Result<Vec<Removal<D>>, LogError> {
        self.check_writable()?;
        if offset > self.end {
            let (earliest, latest) = (self.start, self.end);
            return Err(LogError::OffsetOutOfRange { requested: offset, earliest, latest });
        }
        if offset <= self.start {
            return Ok(Vec::new());
        }
        // a start that outlives a power cut must not lie in a log that does not
        if offset > self.flushed_end() {
            self.flush()?;
        }
        self.write_log_start(offset)?;
        self.start = offset;
        // From here on the start has moved, whatever fails: this is written down with the next checkpoint or batch, and
        // what lies below is removed by retention.
        self.epochs_changed |= self.epochs.truncate_from_start(offset);
        let mut removals = Vec::new();
        while self.segments.len() > 1 && self.segments[0].end <= offset {
            match self.remove_oldest() {
                Ok(removal) => removals.extend(removal),
                Err(error) if self.is_poisoned() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(removals)
    }
}
