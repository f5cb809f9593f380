//! What stands behind the recovery point: each batch is looked at, and what is no good goes.

use super::{FoundSegment, Recovered};
use crate::checkpoint::RecoveryPoint;
use crate::damage::is_torn;
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::place::{Kind, Place};
use crate::scan::{Check, Found, Scanner};
use crate::segment::{Located, Segment};
use crate::soundness::next_sound;
use crate::{LogConfig, LogError};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, PartitionKey};

/// The scan behind the recovery point.
pub(super) struct Scan<'a, D: Disk> {
    pub(super) place: &'a Place<D>,
    pub(super) key: &'a PartitionKey,
    pub(super) config: &'a LogConfig,
    /// Up to here, everything was known to be on disk.
    pub(super) vouched_for: Offset,
    /// The machine may have lost what was not synced.
    pub(super) memory_was_lost: bool,
    pub(super) recovered: &'a mut Recovered<D>,
}

impl<D: Disk> Scan<'_, D> {
    /// Looks through `files`, from the recovery point on if there is one, which stands in the first.
    pub(super) fn run(
        &mut self,
        files: &[FoundSegment],
        point: Option<RecoveryPoint>,
    ) -> Result<(), LogError> {
        let Some(first) = files.first() else { return Ok(()) };
        let begin = point.map_or(first.base, |point| point.offset);
        self.recovered.end = begin;
        // also in the file, with the next batch: an older epoch may go on where a newer one got no batch
        self.recovered.epochs_changed = self.recovered.epochs.truncate_from_end(begin);
        for (i, file) in files.iter().enumerate() {
            let is_whole = match point.filter(|_| i == 0) {
                Some(point) => self.resume(file, point, &files[i + 1..])?,
                None if file.base > self.recovered.end && file.base > self.vouched_for => {
                    // what stood between is lost
                    self.remove(&files[i..])?;
                    return Ok(());
                }
                None if file.base < self.recovered.end => {
                    self.remove(&files[i..])?;
                    return Ok(());
                }
                None => {
                    // one between two that were flushed is missing, or shorter: what is left stays readable
                    self.note_gap(file.base);
                    self.recovered.end = file.base;
                    if let Some(before) = self.recovered.segments.back_mut() {
                        before.end = file.base;
                    }
                    let segment = Segment::begun(file.base);
                    self.look_through(segment, file, &files[i + 1..])?
                }
            };
            if !is_whole {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The segment with the recovery point: nothing is opened if nothing stands behind it.
    fn resume(
        &mut self,
        file: &FoundSegment,
        point: RecoveryPoint,
        later: &[FoundSegment],
    ) -> Result<bool, LogError> {
        let segment = Segment::closed(file.base, point.offset, point.position);
        let mut segment = segment.with_mark(point.summary, point.mark);
        if point.position == file.size && later.is_empty() {
            self.recovered.segments.push_back(segment);
            return Ok(true);
        }
        match segment.prepare(self.place, self.config.index_interval_bytes, 0) {
            // what was good once is not, and its indexes have to be made again from that: all of it is looked at
            Err(LogError::CorruptLog { .. }) => {
                self.recovered.end = file.base;
                self.recovered.epochs_changed |= self.recovered.epochs.truncate_from_end(file.base);
                segment = Segment::begun(file.base);
            }
            prepared => prepared?,
        }
        self.look_through(segment, file, later)
    }

    /// Takes over what is good behind the segment's end. False if something was not; then that and all
    /// that is `later` is gone.
    fn look_through(
        &mut self,
        mut segment: Segment<D>,
        file: &FoundSegment,
        later: &[FoundSegment],
    ) -> Result<bool, LogError> {
        let interval = self.config.index_interval_bytes;
        segment.prepare(self.place, interval, 0)?;
        let path = segment.log_path(self.place);
        let handle = segment.file(self.place)?.clone();
        let mut scanner = Scanner::new(handle.as_ref(), segment.size, file.size);
        self.recovered.scanned_bytes += file.size - segment.size;
        let failed = |e| LogError::io("read", &path, e);
        let is_whole = loop {
            let check = Check::Checksums(Some(*self.key));
            match scanner.next(check).map_err(failed)? {
                Found::Batch(header) if self.fits(&header, segment.end) => {
                    self.recovered.epochs.assign(header.leader_epoch, header.base_offset);
                    segment.note(&header, interval);
                    if header.marker().is_some_and(|marker| !marker.committed) {
                        self.recovered.aborted.markers.push(header.last_offset());
                    }
                }
                Found::Bad(bad) => {
                    let (at, size) = (segment.size, file.size);
                    let is_torn = segment.end >= self.vouched_for
                        && is_torn(handle.as_ref(), self.key, &bad, at, size, self.memory_was_lost)
                            .map_err(failed)?;
                    if is_torn {
                        break false;
                    }
                    let cause = format!("{} is damaged at byte {at}: {bad}", path.display());
                    let behind = match self.was_written(&segment) {
                        true => self.sound_behind(handle.as_ref(), &segment, size),
                        false => Ok(None),
                    };
                    let Some(behind) = behind.map_err(failed)? else {
                        self.note_cut_off(segment.end, later, cause)?;
                        break false;
                    };
                    // stays in the file: there may be no other copy of what stands behind it
                    let lost = segment.end..behind.header.base_offset;
                    self.recovered.evidence.note_hole(lost, cause);
                    self.recovered.evidence.keep(self.place)?;
                    segment.size = behind.position;
                    scanner.skip_to(behind.position);
                }
                Found::Batch(header) => {
                    if segment.end < self.vouched_for {
                        let (given, end) = (header.base_offset, segment.end);
                        let path = path.display();
                        let cause = format!("{path} goes on at {end} with what is of {given}");
                        self.note_cut_off(end, later, cause)?;
                    }
                    break false;
                }
                Found::End => break true,
            }
        };
        // what was flushed behind it is good for whoever reads, whatever is missing here
        let goes_on = self.goes_on_at(later).is_some();
        if !is_whole {
            // the later ones first: should this be interrupted, the bad batch is still there to be found
            if !goes_on {
                self.remove(later)?;
            }
            self.recovered.truncated_bytes += file.size - segment.size;
            handle.truncate(segment.size).map_err(|e| LogError::io("truncate", &path, e))?;
        }
        self.recovered.changed = true;
        self.recovered.end = segment.end;
        handle.sync().map_err(|e| LogError::failed_sync("sync", &path, e))?;
        let is_last = later.is_empty() || !(is_whole || goes_on);
        if !is_last {
            segment.note_largest();
            match self.sync_indexes(&mut segment) {
                // made again when they are needed
                Err(LogError::DiskFull { .. }) => {}
                synced => synced?,
            }
        }
        // all of it is in files again; only of the last one appends will want the indexes
        segment.release(is_last);
        self.recovered.segments.push_back(segment);
        Ok(!is_last)
    }

    /// Whether what comes next was in its file: it was flushed, or the machine has lost nothing since. Else what stands
    /// behind it may have come to the disk before it, and the log is to be a prefix of what was appended.
    fn was_written(&self, segment: &Segment<D>) -> bool {
        segment.end < self.vouched_for || !self.memory_was_lost
    }

    /// The next batch behind what is damaged at the segment's end.
    fn sound_behind(
        &self,
        file: &D::File,
        segment: &Segment<D>,
        size: u64,
    ) -> std::io::Result<Option<Located>> {
        next_sound(self.key, segment.size, size, segment.end, |from, to| {
            let mut bytes = vec![0; (to - from) as usize];
            read_exact_at(file, from, &mut bytes)?;
            Ok(bytes.into())
        })
    }

    /// Where the next segment begins that was flushed.
    fn goes_on_at(&self, later: &[FoundSegment]) -> Option<Offset> {
        later.first().map(|next| next.base).filter(|base| *base <= self.vouched_for)
    }

    /// All from `from` on in this segment goes. Kept in mind before what proves it is cut off; unless all that was promised
    /// of it was deleted.
    fn note_cut_off(
        &mut self,
        from: Offset,
        later: &[FoundSegment],
        cause: String,
    ) -> Result<(), LogError> {
        let was_flushed = (from < self.vouched_for).then_some(self.vouched_for);
        let to = self.goes_on_at(later).or(was_flushed).unwrap_or(Offset(u64::MAX));
        self.recovered.evidence.note_lost(from..to, cause);
        self.recovered.evidence.keep(self.place)
    }

    /// The next file begins at `base`. Nothing is removed on account of a gap, so that it can be found again.
    fn note_gap(&mut self, base: Offset) {
        let end = self.recovered.end;
        if base > end {
            let dir = self.place.dir.display();
            let cause = format!("the log in {dir} goes from {end} to {base} at once");
            self.recovered.evidence.note_lost(end..base, cause);
        }
    }

    fn fits(&self, header: &BatchHeader, end: Offset) -> bool {
        let latest = self.recovered.epochs.latest();
        header.base_offset >= end && latest.is_none_or(|latest| header.leader_epoch >= latest)
    }

    fn sync_indexes(&self, segment: &mut Segment<D>) -> Result<(), LogError> {
        let mut written = Vec::new();
        segment.persist_indexes(self.place, true, |path, file| written.push((path, file)))?;
        for (path, file) in written {
            file.sync().map_err(|e| LogError::failed_sync("sync", &path, e))?;
        }
        Ok(())
    }

    /// The newest first, so that an interruption leaves no gap.
    fn remove(&mut self, files: &[FoundSegment]) -> Result<(), LogError> {
        for file in files.iter().rev() {
            for kind in [Kind::Log].into_iter().chain(Kind::INDEXES) {
                self.place.remove(&kind.name(file.base))?;
            }
            self.recovered.truncated_bytes += file.size;
            self.recovered.changed = true;
        }
        if !files.is_empty() {
            self.place.sync_dir()?;
        }
        Ok(())
    }
}
