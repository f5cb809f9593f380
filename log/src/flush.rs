//! Making what was appended durable, off the owner's thread, and the checkpoint that says how far that is.
//!
//! One ticket covers all that was appended when it was made: the files' content, and the entries of files
//! and directories that are new. Only its completion moves `flushed_end`. A failed fsync poisons the log:
//! the kernel may have dropped the pages, so a later success would mean nothing. That a directory cannot be
//! opened for its fsync is no failed fsync: the next ticket tries again.

use crate::checkpoint::{self, OffsetCheckpoint, RecoveryPoint};
use crate::disk::{Disk, DiskFile};
use crate::flushed_end::FlushedEnd;
use crate::log::Checkpointed;
use crate::place::Place;
use crate::segment::Summary;
use crate::{Log, LogError};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use troupe_proto::ids::Offset;

/// A lost checkpoint costs a scan of the whole log: it is worth an fsync only if that would take a while.
const WORTH_SYNCING_BYTES: u64 = 64 << 20;
/// So much at a time of what nobody waits for: what a disk has taken in a queue holds up every other flush behind it.
const PIECE: u64 = 128 << 10;

/// Why a log takes no more changes. Shared with its tickets.
#[derive(Debug, Default)]
pub(crate) struct Poison(AtomicU8);

impl Poison {
    /// Something was left half done, and no byte is in doubt.
    const INTERRUPTED: u8 = 1;
    /// Nobody knows what the disk holds. Stays, whatever else happens.
    const FAILED: u8 = 2;

    pub(crate) fn add(&self, cause: &LogError) {
        let kind = if cause.is_temporary() { Self::INTERRUPTED } else { Self::FAILED };
        self.0.fetch_max(kind, Ordering::AcqRel);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    fn check(&self, path: impl FnOnce() -> PathBuf) -> Result<(), LogError> {
        match self.0.load(Ordering::Acquire) {
            0 => Ok(()),
            Self::INTERRUPTED => Err(LogError::Interrupted { path: path() }),
            _ => Err(LogError::Poisoned { path: path() }),
        }
    }
}

/// How far the log is durable, and what is still to be synced to get further.
pub(crate) struct Flushing<D: Disk> {
    pub(crate) point: FlushPoint,
    /// Closed segments, indexes and checkpoints that no ticket has covered, numbered.
    files: Vec<(u64, PathBuf, Arc<D::File>)>,
    dirs: Vec<(u64, PathBuf)>,
    /// The number under which the newest segment's name is owed.
    name_owed: Option<u64>,
    /// Producer snapshots among the files.
    snapshots: Vec<(u64, Offset)>,
    next_number: u64,
    /// A ticket from before a truncation proves nothing afterwards, nor does one from before a move.
    pub(crate) generation: u64,
    pub(crate) flushed_end: Arc<FlushedEnd>,
    poison: Arc<Poison>,
}

/// An end of the log, and where that is in the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlushPoint {
    pub(crate) offset: Offset,
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    pub(crate) summary: Summary,
}

impl FlushPoint {
    fn is_at(&self, other: &FlushPoint) -> bool {
        (self.offset, self.segment) == (other.offset, other.segment)
    }
}

impl<D: Disk> Flushing<D> {
    pub(crate) fn new(point: FlushPoint) -> Self {
        Flushing {
            point,
            files: Vec::new(),
            dirs: Vec::new(),
            name_owed: None,
            snapshots: Vec::new(),
            next_number: 0,
            generation: 0,
            flushed_end: Arc::default(),
            poison: Arc::default(),
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Nothing is changed any more: this error has left memory and disk apart.
    pub(crate) fn poison(&self, cause: &LogError) {
        self.poison.add(cause);
    }

    /// For whoever works for the log on another thread.
    pub(crate) fn shared_poison(&self) -> Arc<Poison> {
        Arc::clone(&self.poison)
    }

    pub(crate) fn check_writable(&self, dir: &Path) -> Result<(), LogError> {
        self.poison.check(|| dir.to_owned())
    }

    pub(crate) fn owe_file(&mut self, path: PathBuf, file: Arc<D::File>) {
        self.files.push((self.next_number, path, file));
        self.next_number += 1;
    }

    /// The same file as before has more content.
    pub(crate) fn owe_again(&mut self, path: &Path, file: Arc<D::File>) {
        self.files.retain(|(_, owed, _)| owed != path);
        self.owe_file(path.to_owned(), file);
    }

    pub(crate) fn owe_snapshot(&mut self, offset: Offset, path: PathBuf, file: Arc<D::File>) {
        self.snapshots.push((self.next_number, offset));
        self.owe_file(path, file);
    }

    /// The newest snapshot of those that a ticket has made durable that covers files below this number.
    fn take_durable_snapshot(&mut self, covers: u64) -> Option<Offset> {
        let newest = self.snapshots.iter().filter(|(number, _)| *number < covers).map(|it| it.1);
        let newest = newest.max();
        self.snapshots.retain(|(number, _)| *number >= covers);
        newest
    }

    pub(crate) fn owe_dir(&mut self, dir: &Path) {
        self.dirs.retain(|(_, owed)| owed != dir);
        self.dirs.push((self.next_number, dir.to_owned()));
        self.next_number += 1;
    }

    /// A segment's file was made: its name is owed.
    pub(crate) fn owe_name(&mut self, dir: &Path) {
        self.name_owed = Some(self.next_number);
        self.owe_dir(dir);
    }

    /// A truncation to `end` stopped half way. What lies above may be gone: tickets on their way, though they
    /// synced it, count no more.
    pub(crate) fn cut_short(&mut self, end: Offset) {
        self.generation += 1;
        self.point.offset = self.point.offset.min(end);
    }

    /// All is synced up to `point`; tickets on their way count no more.
    pub(crate) fn restart_at(&mut self, point: FlushPoint) {
        self.point = point;
        self.generation += 1;
        self.files.clear();
        self.dirs.clear();
        self.name_owed = None;
        self.snapshots.clear();
    }
}

/// Work for another thread: syncs what was appended before it was made.
pub struct FlushTicket<D: Disk> {
    place: Place<D>,
    files: Vec<(PathBuf, Arc<D::File>)>,
    /// Bytes that were appended to the last of them since it was synced; none if it is not what takes the appends.
    appended: Range<u64>,
    /// Nobody waits for it.
    gently: bool,
    dirs: Vec<PathBuf>,
    done: FlushDone,
    flushed_end: Arc<FlushedEnd>,
    /// See [`FlushedEnd::lowered`].
    lowered: u64,
    poison: Arc<Poison>,
}

/// Proof of a ticket that was run.
#[derive(Clone, Copy, Debug)]
pub struct FlushDone {
    point: FlushPoint,
    generation: u64,
    covers: u64,
}

impl<D: Disk> FlushTicket<D> {
    /// The end of the log when the ticket was made.
    pub fn end(&self) -> Offset {
        self.done.point.offset
    }

    /// Nobody waits for it: it goes to the disk piece by piece, so that the flushes of others do not wait for all of it.
    pub fn gently(mut self) -> Self {
        self.gently = true;
        self
    }

    /// Blocks until all is on disk.
    ///
    /// # Errors
    /// If the disk refuses: the log is poisoned then, whatever becomes of this error. Or if a directory could
    /// not be opened for want of descriptors, or the log has to be opened anew ([`LogError::is_temporary`]):
    /// nothing is lost, and another ticket may have more luck.
    pub fn run(self) -> Result<FlushDone, LogError> {
        let result = self.sync_all();
        if let Err(error) = &result
            && !error.is_temporary()
        {
            self.poison.add(error);
        }
        result.map(|()| {
            let FlushPoint { offset, segment, .. } = self.done.point;
            self.flushed_end.note(&self.place, offset, segment, self.lowered);
            self.done
        })
    }

    fn sync_all(&self) -> Result<(), LogError> {
        self.poison
            .check(|| self.files.first().map_or_else(PathBuf::new, |(path, _)| path.clone()))?;
        if self.gently {
            self.write_back()?;
        }
        for (path, file) in &self.files {
            file.sync().map_err(|e| LogError::failed_sync("sync", path, e))?;
        }
        for dir in &self.dirs {
            self.place.disk.sync_dir(dir).map_err(|e| LogError::sync_dir(dir, e))?;
        }
        Ok(())
    }
}

impl<D: Disk> FlushTicket<D> {
    /// What was appended, piece by piece; the sync has little left to do then.
    fn write_back(&self) -> Result<(), LogError> {
        let Some((path, file)) = self.files.last() else { return Ok(()) };
        pieces(self.appended.clone()).try_for_each(|piece| {
            file.write_back(piece, PIECE).map_err(|e| LogError::failed_sync("write back", path, e))
        })
    }
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    let length = usize::try_from(PIECE).unwrap_or(usize::MAX);
    range.step_by(length).map(move |from| from..end.min(from + PIECE))
}

impl FlushDone {
    /// All below is durable.
    pub fn end(&self) -> Offset {
        self.point.offset
    }
}

impl<D: Disk> Log<D> {
    /// Work that makes all that was appended so far durable; `None` if it already is.
    pub fn begin_flush(&self) -> Option<FlushTicket<D>> {
        let active = self.segments.back()?;
        let point = self.end_point();
        if point.is_at(&self.flushing.point) {
            return None;
        }
        let flushing = &self.flushing;
        let owed = flushing.files.iter().map(|(_, path, file)| (path.clone(), file.clone()));
        let mut files: Vec<_> = owed.collect();
        let mut appended = 0..0;
        if let Some(file) = active.open_file() {
            files.push((active.log_path(&self.place), file.clone()));
            let is_same = flushing.point.segment == point.segment;
            appended = if is_same { flushing.point.position } else { 0 }..point.position;
        }
        Some(FlushTicket {
            place: self.place.clone(),
            files,
            appended,
            gently: false,
            dirs: flushing.dirs.iter().map(|(_, dir)| dir.clone()).collect(),
            done: FlushDone {
                point,
                generation: flushing.generation,
                covers: flushing.next_number,
            },
            flushed_end: flushing.flushed_end.clone(),
            lowered: flushing.flushed_end.lowered(),
            poison: flushing.poison.clone(),
        })
    }

    /// Takes note of a ticket that was run; returns `flushed_end`. One that a truncation overtook counts
    /// for nothing.
    pub fn complete_flush(&mut self, done: FlushDone) -> Offset {
        let flushing = &mut self.flushing;
        let is_current = done.generation == flushing.generation;
        if is_current && done.point.offset >= flushing.point.offset {
            flushing.point = done.point;
            flushing.files.retain(|(number, ..)| *number >= done.covers);
            flushing.dirs.retain(|(number, _)| *number >= done.covers);
            flushing.name_owed = flushing.name_owed.filter(|number| *number >= done.covers);
            let snapshot = flushing.take_durable_snapshot(done.covers);
            self.durable_snapshot = snapshot.max(self.durable_snapshot);
        }
        debug_assert!(self.flushed_end() <= self.end, "flushed what was not appended");
        self.flushed_end()
    }

    /// Makes all durable here and now; returns `flushed_end`.
    ///
    /// # Errors
    /// As [`FlushTicket::run`]; the log is poisoned then.
    pub fn flush(&mut self) -> Result<Offset, LogError> {
        self.check_writable()?;
        if let Some(ticket) = self.begin_flush() {
            let done = ticket.run()?;
            self.complete_flush(done);
        }
        Ok(self.flushed_end())
    }

    /// Writes high watermark and recovery point down, if they have moved. Does not wait for the disk; for a
    /// large log, where a lost checkpoint would mean a long scan, the next ticket does.
    ///
    /// # Errors
    /// A file cannot be written; the log is as it was.
    pub fn checkpoint(&mut self, high_watermark: Offset) -> Result<(), LogError> {
        let file = self.write_down(high_watermark, false)?;
        if let Some(file) = file.filter(|_| self.size_bytes() > WORTH_SYNCING_BYTES) {
            self.flushing.owe_file(self.place.path(checkpoint::OFFSETS), Arc::new(file));
            self.flushing.owe_dir(&self.place.dir);
        }
        Ok(())
    }

    /// By what a checkpoint is told from the one before.
    pub(crate) fn checkpointed_at(
        &self,
        high_watermark: Offset,
        point: FlushPoint,
    ) -> Option<Checkpointed> {
        let first = self.segments.front().map_or(self.end, |segment| segment.base);
        Some(Checkpointed { high_watermark, offset: point.offset, segment: point.segment, first })
    }

    /// The checkpoint's file, if it was written.
    pub(crate) fn write_down(
        &mut self,
        high_watermark: Offset,
        durably: bool,
    ) -> Result<Option<D::File>, LogError> {
        self.check_writable()?;
        let point = self.flushing.point;
        let moved = self.checkpointed_at(high_watermark, point);
        if !self.presence.directory || self.presence.checkpoint == moved {
            return Ok(None);
        }
        self.write_epochs()?;
        let recovery_point = self.vouched_for()?;
        let file = self.write_checkpoint(high_watermark, recovery_point, durably)?;
        self.presence.checkpoint = moved;
        Ok(Some(file))
    }

    /// Makes all durable, brings every file up to date, and ends. The next [`Log::open`] scans nothing.
    ///
    /// # Errors
    /// What could not be written: the next open recovers then.
    pub fn close_clean(mut self, high_watermark: Offset) -> Result<(), LogError> {
        self.flush()?;
        let durably = self.size_bytes() > WORTH_SYNCING_BYTES;
        self.write_down(high_watermark, durably).map(drop)
    }

    /// Syncs what is owed beside the segments' content, which is synced already.
    pub(crate) fn sync_owed(&mut self) -> Result<(), LogError> {
        for (_, path, file) in &self.flushing.files {
            file.sync().map_err(|e| LogError::failed_sync("sync", path, e))?;
        }
        for (_, dir) in &self.flushing.dirs {
            let synced = self.place.disk.sync_dir(dir);
            synced.map_err(|e| LogError::sync_dir(dir, e))?;
        }
        self.flushing.restart_at(self.flushing.point);
        Ok(())
    }

    /// Syncs the directory's entries, and its own if that is owed; not what stands in the files.
    pub(crate) fn sync_entries(&mut self) -> Result<(), LogError> {
        self.flushing.owe_dir(&self.place.dir);
        for (_, dir) in std::mem::take(&mut self.flushing.dirs) {
            let synced = self.place.disk.sync_dir(&dir);
            synced.map_err(|e| LogError::sync_dir(&dir, e))?;
        }
        self.flushing.name_owed = None;
        Ok(())
    }

    /// The end of the log and its place in the files.
    pub(crate) fn end_point(&self) -> FlushPoint {
        let Some(active) = self.segments.back() else {
            return FlushPoint { offset: self.end, segment: self.end, ..FlushPoint::default() };
        };
        FlushPoint {
            offset: self.end,
            segment: active.base,
            position: active.size,
            summary: active.known_summary().unwrap_or_default(),
        }
    }

    /// Up to where a checkpoint may vouch for the files now.
    pub(crate) fn vouched_for(&mut self) -> Result<Option<RecoveryPoint>, LogError> {
        let point = self.flushing.point;
        // who vouches for a segment of which nothing was flushed yet vouches for its name: nothing would make
        // that durable after a restart
        let is_nameless = point.position == 0 && self.flushing.name_owed.is_some();
        if is_nameless { Ok(None) } else { self.recovery_point_at(point) }
    }

    /// What a checkpoint may say about `point`; the indexes up to there are in their files afterwards.
    pub(crate) fn recovery_point_at(
        &mut self,
        point: FlushPoint,
    ) -> Result<Option<RecoveryPoint>, LogError> {
        let interval = self.config.index_interval_bytes;
        let mut segments = self.segments.iter_mut();
        let Some(segment) = segments.find(|segment| segment.base == point.segment) else {
            return Ok(None);
        };
        let mark = match segment.indexes(&self.place, interval) {
            Ok(indexes) => indexes.mark(point.offset, point.position),
            // They have to be made again from what is damaged: nothing is vouched for, and the next opening looks at it.
            Err(LogError::CorruptLog { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        segment.persist_indexes(&self.place, false, |_, _| {})?;
        Ok(Some(RecoveryPoint {
            offset: point.offset,
            segment: point.segment,
            position: point.position,
            summary: point.summary,
            mark,
        }))
    }

    pub(crate) fn write_checkpoint(
        &mut self,
        high_watermark: Offset,
        recovery_point: Option<RecoveryPoint>,
        durably: bool,
    ) -> Result<D::File, LogError> {
        let closed = recovery_point.map_or_else(Vec::new, |point| {
            let closed = self.segments.iter().filter(|segment| segment.base < point.segment);
            closed.map(|segment| (segment.base, segment.size)).collect()
        });
        let aborted = recovery_point
            .map_or_else(Vec::new, |point| self.count_aborted(point.segment, point.offset));
        let checkpoint = OffsetCheckpoint {
            high_watermark: Some(high_watermark),
            recovery_point,
            closed,
            aborted,
            boot: self.place.disk.boot(),
            keeps_flushed_end: true,
        };
        let file = self.place.replace(checkpoint::OFFSETS, &checkpoint.encode(), durably)?;
        for removed in self.deleted.drain(..) {
            removed.name_no_more(&self.place);
        }
        Ok(file)
    }

    /// Brings the epochs' file up to date; the next ticket syncs it. Should a crash tear it before that,
    /// recovery reads the epochs from the batches.
    pub(crate) fn write_epochs(&mut self) -> Result<(), LogError> {
        if !self.epochs_changed || !self.presence.directory {
            return Ok(());
        }
        let content = checkpoint::encode_epochs(self.epochs.entries());
        let file = self.place.replace(checkpoint::EPOCHS, &content, false)?;
        self.flushing.owe_file(self.place.path(checkpoint::EPOCHS), Arc::new(file));
        self.flushing.owe_dir(&self.place.dir);
        self.epochs_changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_of_a_range_one_behind_the_other_and_none_is_large() {
        for range in [0..0, 7..8, 7..7 + PIECE, 7..8 + PIECE, 1..10 * PIECE] {
            let mut end = range.start;
            for piece in pieces(range.clone()) {
                assert_eq!(piece.start, end);
                assert!(piece.end > end && piece.end <= end + PIECE);
                end = piece.end;
            }
            assert_eq!(end, range.end);
        }
    }
}
