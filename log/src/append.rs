//! Appending, and rolling to a new segment.
//!
//! A batch is one vectored write of its header and the payload's pieces as they came. If it fails half-way,
//! what was written is cut off again; if that fails too, nobody knows what the file holds, and the log is
//! poisoned.

use crate::disk::{Disk, DiskFile, write_all_at};
use crate::place::Kind;
use crate::segment::Segment;
use crate::soundness::check_batch;
use crate::{Log, LogError, checkpoint};
use bytes::Bytes;
use std::io::IoSlice;
use std::sync::Arc;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;
use troupe_proto::rope::Rope;

/// An append that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// First offset appended.
    pub base: Offset,
    /// Offset behind the last.
    pub end: Offset,
    /// A new segment was begun at this offset: the time for a producer snapshot of the state before it.
    pub rolled: Option<Offset>,
}

impl<D: Disk> Log<D> {
    /// Appends one batch, whose header the caller has completed: offset, epoch, checksum and length of the
    /// payload. The payload is not looked at.
    ///
    /// # Errors
    /// [`LogError::DiskFull`] and other errors of the disk: the batch is not in the log, unless the log is
    /// poisoned. A header that does not fit the log's end or its epoch.
    pub fn append(
        &mut self,
        header: &BatchHeader,
        payload: &Rope,
        now_ms: i64,
    ) -> Result<Appended, LogError> {
        self.check_writable()?;
        self.check_next(header, self.end)?;
        if payload.len() != header.payload_len as usize {
            let declared = header.payload_len as usize;
            return Err(LogError::PayloadLength { declared, actual: payload.len() });
        }
        let rolled = self.make_room(header, now_ms)?;
        let head = header.encode(&self.key);
        let mut pieces = Vec::with_capacity(1 + payload.pieces().len());
        pieces.push(IoSlice::new(&head));
        pieces.extend(payload.io_slices());
        self.write(&mut pieces, std::slice::from_ref(header))?;
        Ok(Appended { base: header.base_offset, end: self.end, rolled })
    }

    /// Appends whole batches as a leader sent them, byte for byte, after checking both checksums of each. A log in
    /// which nothing can be read yet takes for its first batch the one that holds its start: the leader's log may
    /// begin within a batch. What lies below the start is as good as deleted.
    ///
    /// # Errors
    /// [`LogError::BadFrames`] before anything is written. On errors of the disk the log may have grown by
    /// some of the batches: [`Log::log_end`] tells.
    pub fn append_frames(&mut self, frames: Bytes, now_ms: i64) -> Result<Appended, LogError> {
        self.check_writable()?;
        let headers = self.check_frames(&frames)?;
        let base = headers.first().map_or(self.end, |header| header.base_offset);
        if base < self.end {
            self.begin_below_start(base)?;
        }
        let mut rolled = None;
        // the batches from `run` on, `run_len` bytes from `from` on, go out in one write
        let (mut run, mut from, mut run_len) = (0, 0, 0);
        for (i, header) in headers.iter().enumerate() {
            let begins_segment = self.segments.back().is_none_or(Segment::is_empty);
            let ends_run =
                run < i && (begins_segment || self.must_roll(header, run_len, now_ms)?);
            if ends_run {
                self.write(&mut [IoSlice::new(&frames[from..from + run_len])], &headers[run..i])?;
                (run, from, run_len) = (i, from + run_len, 0);
            }
            if run == i {
                rolled = self.make_room(header, now_ms)?.or(rolled);
            }
            run_len += header.encoded_len();
        }
        if run_len > 0 {
            self.write(&mut [IoSlice::new(&frames[from..from + run_len])], &headers[run..])?;
        }
        Ok(Appended { base, end: self.end, rolled })
    }

    fn check_frames(&self, frames: &[u8]) -> Result<Vec<BatchHeader>, LogError> {
        let (mut headers, mut position, mut end) = (Vec::new(), 0, self.end);
        while position < frames.len() {
            let rest = &frames[position..];
            let bad = |cause| LogError::BadFrames { position, cause };
            let header = check_batch(rest, &self.key).map_err(bad)?;
            let begins = headers.is_empty()
                && self.start == self.end
                && header.base_offset < self.end
                && header.end_offset() > self.end;
            if !begins {
                self.check_next(&header, end)?;
            }
            end = header.end_offset();
            position += header.encoded_len();
            headers.push(header);
        }
        Ok(headers)
    }

    /// Offsets never overlap; gaps are what compaction leaves. Epochs do not go back from batch to batch; one
    /// that was assigned and got none does not count, since another leader may never have heard of it.
    fn check_next(&self, header: &BatchHeader, end: Offset) -> Result<(), LogError> {
        if header.base_offset < end {
            return Err(LogError::NotNext { expected: end, given: header.base_offset });
        }
        let last = self.end.0.checked_sub(1).map(Offset);
        match last.and_then(|last| self.epochs.at(last)) {
            Some(latest) if header.leader_epoch < latest => {
                Err(LogError::EpochWentBack { latest, given: header.leader_epoch })
            }
            _ => Ok(()),
        }
    }

    /// Closes the segment that takes appends and begins another at the log's end; returns that offset.
    /// `None` if there is nothing to close.
    ///
    /// # Errors
    /// A file cannot be written; the log is as it was.
    pub fn roll(&mut self, now_ms: i64) -> Result<Option<Offset>, LogError> {
        self.check_writable()?;
        if self.segments.back().is_none_or(Segment::is_empty) {
            return Ok(None);
        }
        self.prepare_active()?;
        self.seal_active()?;
        self.begin_segment(self.end, now_ms)?;
        Ok(Some(self.end))
    }

    /// A segment that takes this batch; its base if it is a new one behind another.
    fn make_room(&mut self, header: &BatchHeader, now_ms: i64) -> Result<Option<Offset>, LogError> {
        if self.segments.is_empty() {
            self.begin_segment(self.end, now_ms)?;
            return Ok(None);
        }
        self.prepare_active()?;
        if self.must_roll(header, 0, now_ms)? {
            self.seal_active()?;
            self.begin_segment(self.end, now_ms)?;
            return Ok(Some(self.end));
        }
        Ok(None)
    }

    fn prepare_active(&mut self) -> Result<(), LogError> {
        let (interval, map_len) = (self.config.index_interval_bytes, self.config.segment_bytes());
        let Some(active) = self.segments.back_mut() else { return Ok(()) };
        match active.prepare(&self.place, interval, map_len) {
            // perhaps only among what was deleted
            Err(LogError::CorruptLog { .. }) if active.base < self.start => {
                let size = active.size;
                self.prepare_within(self.segments.len() - 1, size)
            }
            prepared => prepared,
        }
    }

    /// Section 5, "Roll": by size, by age, by a full index, by a relative offset that grows too large.
    /// `unwritten` bytes are about to be appended before this batch.
    fn must_roll(
        &self,
        header: &BatchHeader,
        unwritten: usize,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let Some(active) = self.segments.back() else { return Ok(false) };
        let size = active.size + unwritten as u64;
        if size == 0 {
            return Ok(false);
        }
        let interval = self.config.index_interval_bytes;
        let indexes = active.indexes(&self.place, interval)?;
        let first = active.summary(&self.place, interval)?.first;
        let age = match first.filter(|first| *first >= 0) {
            Some(first) if header.max_timestamp >= 0 => header.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.active_since_ms),
        };
        Ok(size + header.encoded_len() as u64 > self.config.segment_bytes()
            || u64::try_from(age).is_ok_and(|age| age > self.config.segment_age_ms())
            || indexes.is_full(self.config.segment_index_bytes)
            || header.last_offset().0 - active.base.0 > i32::MAX as u64)
    }

    /// Completes the index files of the segment that is to take no more appends.
    fn seal_active(&mut self) -> Result<(), LogError> {
        let Some(active) = self.segments.back_mut() else { return Ok(()) };
        active.note_largest();
        let (base, flushing) = (active.base, &mut self.flushing);
        active.persist_indexes(&self.place, true, |path, file| {
            flushing.owe_file(path, Arc::new(file));
        })?;
        self.seal_aborted(base);
        Ok(())
    }

    /// Everything that can fail comes first: until the last line the log is as it was.
    pub(crate) fn begin_segment(&mut self, base: Offset, now_ms: i64) -> Result<(), LogError> {
        self.make_directory()?;
        let path = self.place.file_of(base, Kind::Log);
        let file = self.place.disk.create(&path).map_err(|e| LogError::io("create", &path, e))?;
        self.flushing.owe_name(&self.place.dir);
        if let Some(active) = self.segments.back_mut() {
            let path = active.log_path(&self.place);
            if let Some(file) = active.close() {
                self.flushing.owe_file(path, file);
            }
        }
        self.segments.push_back(Segment::fresh(base, file, self.config.segment_bytes()));
        self.active_since_ms = now_ms;
        Ok(())
    }

    /// A partition has no directory until something is written to it.
    pub(crate) fn make_directory(&mut self) -> Result<(), LogError> {
        if self.presence.directory {
            return Ok(());
        }
        let dir = &self.place.dir;
        self.place.disk.create_dir(dir).map_err(|e| LogError::io("create directory", dir, e))?;
        if let Some(parent) = dir.parent() {
            self.flushing.owe_dir(parent);
        }
        let content = checkpoint::encode_metadata(&self.key, self.place.disk.boot().as_deref());
        let file = self.place.replace(checkpoint::METADATA, &content, false)?;
        self.flushing.owe_file(self.place.path(checkpoint::METADATA), Arc::new(file));
        self.keep_damage()?;
        self.presence.directory = true;
        Ok(())
    }

    /// Writes whole batches at the end of the last segment, which [`Log::make_room`] has prepared.
    fn write(
        &mut self,
        pieces: &mut [IoSlice<'_>],
        headers: &[BatchHeader],
    ) -> Result<(), LogError> {
        for header in headers {
            self.epochs_changed |= self.epochs.assign(header.leader_epoch, header.base_offset);
        }
        self.write_epochs()?;
        self.settle_tombstones_gone()?;
        let interval = self.config.index_interval_bytes;
        let active = self.segments.back_mut().expect("make_room has seen to it");
        let size = active.size;
        let path = active.log_path(&self.place);
        let file = active.parts().0;
        if let Err(error) = write_all_at(file.as_ref(), size, pieces) {
            // synced, so that no part of it can come back behind what is written here next
            if file.truncate(size).and_then(|()| file.sync()).is_err() {
                let error = LogError::failed_sync("append to", &path, error);
                self.flushing.poison(&error);
                return Err(error);
            }
            return Err(LogError::io("append to", &path, error));
        }
        for header in headers {
            active.note(header, interval);
            self.end = header.end_offset();
        }
        Ok(())
    }
}
