//! Cutting the log's end off, and starting it elsewhere.
//!
//! Both are durable when they return, step by step in an order that leaves a valid log wherever a crash
//! interrupts. Mapped slices stay valid: above the high watermark nobody has any, below it the file is not
//! cut but replaced, and a removed file lives on in its mappings.

use crate::checkpoint;
use crate::disk::{Disk, DiskFile};
use crate::flush::FlushPoint;
use crate::place::Kind;
use crate::segment::{Located, Segment, Summary};
use crate::soundness::Walk;
use crate::{Log, LogError};
use std::sync::Arc;
use troupe_proto::ids::Offset;

impl<D: Disk> Log<D> {
    /// Cuts the batch that holds `offset`, and all behind it; returns the new end of the log, which is
    /// `offset` if a batch starts there and ends there, and never more. Slices handed out lie below `high_watermark`.
    /// What was deleted stays deleted: where the log starts within that batch it starts there as before, and is empty.
    ///
    /// # Errors
    /// Errors of the disk. The log is poisoned then: how much was cut, only opening it anew can tell. Was it for
    /// want of something ([`LogError::is_temporary`]), opening it anew is all that it takes.
    pub fn truncate_to(
        &mut self,
        offset: Offset,
        high_watermark: Offset,
    ) -> Result<Offset, LogError> {
        self.check_writable()?;
        if offset >= self.end {
            return Ok(self.end);
        }
        self.truncations += 1;
        let at = self.segment_of(offset).unwrap_or(0);
        let cut = match self.walk(&self.segments[at], offset)? {
            Walk::At(batch) if batch.header.base_offset < offset => {
                (batch.header.base_offset, batch.position)
            }
            // compaction may have left a gap before the batch
            Walk::At(batch) => {
                let end = match self.end_before(at, batch.position) {
                    // what is damaged there was deleted, and nothing of the log stays
                    Err(LogError::CorruptLog { .. }) if batch.header.base_offset <= self.start => {
                        batch.header.base_offset
                    }
                    end => end?,
                };
                (end.max(self.start.min(offset)), batch.position)
            }
            Walk::Bad { position, expected, .. } => (expected, position),
            // within a gap behind the segment, if the segment does not end there
            Walk::Behind => (self.segments[at].end.min(offset), self.segments[at].size),
        };
        if cut.0 <= self.start {
            self.truncate_fully_and_start_at(offset.min(cut.0.max(self.start)))?;
            return Ok(self.end);
        }
        let result = self.truncate_within(at, cut, high_watermark);
        if let Err(error) = &result {
            self.flushing.poison(error);
            self.flushing.cut_short(cut.0);
        }
        result
    }

    fn truncate_within(
        &mut self,
        at: usize,
        cut: (Offset, u64),
        high_watermark: Offset,
    ) -> Result<Offset, LogError> {
        self.overtake_cleaning(cut.0)?;
        self.lower_cleaned_below(cut.0)?;
        self.prepare_within(at, cut.1)?;
        let summary = self.summary_up_to(&self.segments[at], cut.1)?;
        // first of all, nothing may claim that the tail is known to be good
        self.lower_recovery_point(cut, at, high_watermark)?;
        self.remove_snapshots_above(cut.0)?;
        while self.segments.len() > at + 1 {
            let last = self.segments.pop_back().expect("there are more than `at + 1`");
            self.remove_files(last.base)?;
        }
        self.cut_aborted(self.segments[at].base, cut.0)?;
        self.place.sync_dir()?;
        self.cut_file(at, cut, summary, cut.0 < high_watermark)?;
        let flushing = &mut self.flushing;
        self.segments[at].persist_indexes(&self.place, false, |path, file| {
            flushing.owe_file(path, Arc::new(file));
        })?;
        self.end = cut.0;
        self.cut_tombstones_gone(self.end);
        self.note_cut()?;
        self.epochs_changed |= self.epochs.truncate_from_end(self.end);
        self.write_epochs()?;
        self.sync_owed()?;
        let point = self.end_point();
        self.flushing.restart_at(point);
        // not synced, nor needed: without it, the next open looks through one segment
        let _without = self.write_down(high_watermark.min(self.end), false);
        Ok(self.end)
    }

    /// Where the segment is damaged behind `size`, or among what was deleted, its indexes cannot be made again from all of
    /// it.
    pub(crate) fn prepare_within(&mut self, at: usize, size: u64) -> Result<(), LogError> {
        let (interval, map_len) = (self.config.index_interval_bytes, self.config.segment_bytes());
        let from = self.needed_from(&self.segments[at]).1;
        let segment = &mut self.segments[at];
        match segment.prepare(&self.place, interval, map_len) {
            Err(LogError::CorruptLog { .. }) => {
                segment.rebuild_within(&self.place, interval, from.min(size)..size)?;
                segment.prepare(&self.place, interval, map_len)
            }
            prepared => prepared,
        }
    }

    /// A checkpoint, durable, that vouches for nothing from `cut` on.
    fn lower_recovery_point(
        &mut self,
        cut: (Offset, u64),
        at: usize,
        high_watermark: Offset,
    ) -> Result<(), LogError> {
        self.flushing.flushed_end.lower(&self.place, cut.0)?;
        let mut point = self.flushing.point;
        if point.offset >= cut.0 {
            // the beginning of what is cut, so that an interruption leaves something to look through: a log
            // that seems to end where it should may end so in the page cache only
            let looked_through = if cut.1 > 0 { at } else { at.saturating_sub(1) };
            let base = self.segments[looked_through].base;
            point = FlushPoint { offset: base, segment: base, ..FlushPoint::default() };
        }
        let recovery_point = self.recovery_point_at(point)?;
        self.write_checkpoint(high_watermark.min(cut.0), recovery_point, true)?;
        self.presence.checkpoint = None;
        self.place.sync_dir()
    }

    /// Where the batch before the one at `position` ends: a log ends with a batch.
    fn end_before(&self, at: usize, position: u64) -> Result<Offset, LogError> {
        let segment = &self.segments[at];
        let (mut end, mut next) = (segment.base, 0);
        while next < position {
            let batch = self.needed_batch_at(segment, next, end)?;
            (end, next) = (batch.header.end_offset(), batch.end_position());
        }
        Ok(end)
    }

    /// Timestamps of the segment's batches before `size`, which are sound.
    fn summary_up_to(&self, segment: &Segment<D>, size: u64) -> Result<Summary, LogError> {
        let (mut summary, mut position, mut end) = (Summary::default(), 0, segment.base);
        while position < size {
            let batch = self.needed_batch_at(segment, position, end)?;
            summary.note(&batch.header);
            (end, position) = (batch.header.end_offset(), batch.end_position());
        }
        Ok(summary)
    }

    /// The batch at `position`, behind which all offsets from `expected` on stand; where it is damaged, but deleted, the
    /// next one.
    fn needed_batch_at(
        &self,
        segment: &Segment<D>,
        position: u64,
        expected: Offset,
    ) -> Result<Located, LogError> {
        match segment.batch_at(&self.place, position) {
            Err(error @ LogError::CorruptLog { .. }) => {
                self.behind_deleted(segment, position, expected)?.ok_or(error)
            }
            batch => batch,
        }
    }

    fn cut_file(
        &mut self,
        at: usize,
        (end, size): (Offset, u64),
        summary: Summary,
        is_mapped: bool,
    ) -> Result<(), LogError> {
        let path = self.segments[at].log_path(&self.place);
        if is_mapped {
            let kept = self.segments[at].copy(&self.place, 0, size)?;
            self.place.replace(&Kind::Log.name(self.segments[at].base), &kept, true)?;
            self.place.sync_dir()?;
            self.segments[at].forget_file();
        } else {
            let file = self.segments[at].file(&self.place)?;
            file.truncate(size).map_err(|e| LogError::io("truncate", &path, e))?;
            file.sync().map_err(|e| LogError::failed_sync("truncate", &path, e))?;
        }
        self.segments[at].truncate(end, size, summary);
        Ok(())
    }

    fn remove_files(&mut self, base: Offset) -> Result<(), LogError> {
        for kind in [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex] {
            self.place.remove(&kind.name(base))?;
        }
        self.remove_aborted(base)
    }

    /// Drops everything: the log is empty and its next offset is this one.
    ///
    /// # Errors
    /// Errors of the disk. The log is poisoned then.
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), LogError> {
        self.truncations += 1;
        self.restart_at(offset, offset)
    }

    /// Nothing can be read: the log is begun anew with a segment from `base` on, for a batch that reaches over the
    /// log's start. Interrupted, it starts where it did, and is empty.
    pub(crate) fn begin_below_start(&mut self, base: Offset) -> Result<(), LogError> {
        self.restart_at(base, self.start)
    }

    fn restart_at(&mut self, base: Offset, start: Offset) -> Result<(), LogError> {
        self.check_writable()?;
        let result = self.restart_files_at(base, start);
        if let Err(error) = &result {
            self.flushing.poison(error);
            self.flushing.cut_short(Offset::ZERO);
        }
        result
    }

    fn restart_files_at(&mut self, base: Offset, start: Offset) -> Result<(), LogError> {
        self.overtake_cleaning(Offset::ZERO)?;
        if self.presence.directory || !self.segments.is_empty() {
            self.lower_cleaned_below(base)?;
            self.flushing.flushed_end.lower(&self.place, Offset::ZERO)?;
            // nothing is vouched for, nor committed beyond what is there; a start above the log's end makes an
            // interruption end the same way
            self.write_checkpoint(start.min(self.end), None, true)?;
            self.presence.checkpoint = None;
            self.write_log_start(start)?;
            self.snapshots_gone()?;
            while let Some(last) = self.segments.pop_back() {
                self.remove_files(last.base)?;
            }
            self.place.sync_dir()?;
        }
        self.start = start;
        self.end = start;
        self.cut_tombstones_gone(self.end);
        self.epochs = Default::default();
        self.epochs_changed = true;
        if start > Offset::ZERO {
            self.begin_segment(base, self.active_since_ms)?;
        }
        self.write_epochs()?;
        self.sync_owed()?;
        self.flushing.restart_at(self.end_point());
        self.note_cut()
    }

    fn snapshots_gone(&mut self) -> Result<(), LogError> {
        self.durable_snapshot = None;
        for offset in std::mem::take(&mut self.snapshots) {
            self.place.remove(&Kind::Snapshot.name(offset))?;
        }
        Ok(())
    }

    /// Where the log starts, durably.
    pub(crate) fn write_log_start(&mut self, offset: Offset) -> Result<(), LogError> {
        self.place.replace(checkpoint::LOG_START, &checkpoint::encode_log_start(offset), true)?;
        self.place.sync_dir()?;
        self.presence.log_start = Some(offset);
        Ok(())
    }
}
