//! What was on disk for good, and is not there any more or not as it was.
//!
//! A crash may tear the end of a log off: what was being written then was never acknowledged. A process that dies
//! leaves it cut short; a machine that dies may also leave sectors empty that were never written. Everything else
//! that is missing or changed is damage. It is found when a log is opened, told to the owner, and kept in mind
//! in a file of the partition's directory until the owner says that the replica was filled again: a replica
//! that lacks what it has acknowledged must not pass for one that has it.

use crate::checkpoint::{self, OffsetCheckpoint};
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::place::{Kind, Place};
use crate::recovery::FoundSegment;
use crate::segment::Segment;
use crate::{Log, LogError};
use std::io;
use std::ops::Range;
use troupe_proto::batch::{BatchError, BatchHeader, OVERHEAD};
use troupe_proto::ids::{Offset, PartitionKey};

/// A disk writes a sector as a whole or not at all.
const SECTOR: u64 = 512;
/// A shorter run of zeros may stand in any batch.
const TELLING_ZEROS: usize = 16;
/// How far behind a bad batch a good one is looked for.
const SEARCHED: u64 = 4 << 20;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What was found, for people.
    pub cause: String,
    /// All records below are there. Behind, some may be missing.
    pub complete_below: Offset,
    /// The first offset behind that is known to be there; `None`: nobody has looked. The same as `complete_below`:
    /// the log's end is missing, and where it ends now it can go on.
    pub resumes_at: Option<Offset>,
    /// Offsets that were on disk for good, behind where the log ended when it was found damaged.
    pub missing_end: Option<Range<Offset>>,
}

impl Damage {
    /// Of which nobody knows how far it goes.
    pub fn from(complete_below: Offset, cause: impl Into<String>) -> Damage {
        Damage { cause: cause.into(), complete_below, resumes_at: None, missing_end: None }
    }

    /// In a log that ends at `end`.
    pub(crate) fn within(self, end: Offset) -> Damage {
        let lacks_end = self.complete_below >= end;
        let resumes_at = if lacks_end { Some(self.complete_below) } else { self.resumes_at };
        Damage { resumes_at, ..self }
    }
}

/// What opening a log finds out beside its content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) damage: Option<Damage>,
    /// What is below was deleted on request: nobody lacks it.
    pub(crate) log_start: Offset,
    /// What was set aside or has to be made again, without loss.
    pub(crate) notices: Vec<String>,
}

impl Evidence {
    /// Of several damages the first one found names the cause, the lowest one the offset.
    pub(crate) fn note(&mut self, complete_below: Offset, cause: impl Into<String>) {
        let complete_below = complete_below.max(self.log_start);
        match &mut self.damage {
            Some(known) if known.complete_below <= complete_below => {}
            Some(known) => (known.complete_below, known.resumes_at) = (complete_below, None),
            None => self.damage = Some(Damage::from(complete_below, cause)),
        }
    }

    /// The same of offsets of which none behind `lost` is concerned. What was deleted is no loss.
    pub(crate) fn note_lost(&mut self, lost: Range<Offset>, cause: impl Into<String>) {
        if lost.end > self.log_start {
            self.note(lost.start, cause);
        }
    }

    /// Within a file, what stands for `lost` is no good, and what stands behind it is.
    pub(crate) fn note_hole(&mut self, lost: Range<Offset>, cause: String) {
        if lost.end <= self.log_start {
            return;
        }
        let lost = lost.start.max(self.log_start)..lost.end;
        match &mut self.damage {
            Some(known) if known.complete_below <= lost.start => {}
            Some(known) => {
                (known.complete_below, known.resumes_at) = (lost.start, Some(lost.end));
            }
            None => {
                let resumes_at = Some(lost.end);
                self.damage = Some(Damage { resumes_at, ..Damage::from(lost.start, cause) });
            }
        }
    }

    /// What the last checkpoint vouched for has to be there. Segments may have been deleted since: of one from
    /// here to there, `was_deleted` says so.
    pub(crate) fn compare<D: Disk>(
        &mut self,
        place: &Place<D>,
        checkpoint: &OffsetCheckpoint,
        files: &[FoundSegment],
        was_deleted: impl Fn(Offset, Offset) -> bool,
    ) {
        for (offset, cause) in missing(place, checkpoint, files, was_deleted) {
            self.note(offset, cause);
        }
    }

    /// The log ends at `end`, after what is no good was cut off. Where it starts behind that, it was to be dropped, or
    /// what was deleted is all that is left of it: before a log is dropped, nothing of it is vouched for any more.
    pub(crate) fn compare_end<D: Disk>(
        &mut self,
        place: &Place<D>,
        checkpoint: &OffsetCheckpoint,
        end: Offset,
        flushed_end: Option<Offset>,
    ) {
        let dir = place.dir.display();
        let vouched_for = checkpoint.recovery_point.map(|point| point.offset);
        let flushed = vouched_for.max(flushed_end);
        let committed = checkpoint.high_watermark.filter(|_| self.log_start <= end);
        let needed = end.max(self.log_start);
        for (up_to, what) in [(flushed, "flushed"), (committed, "committed")] {
            let Some(up_to) = up_to.filter(|up_to| *up_to > needed) else { continue };
            let cause = format!("the log in {dir} ends at {end} and was {what} up to {up_to}");
            self.note(end, cause);
            self.note_missing_end(needed..up_to);
        }
    }

    /// A damage was noted.
    fn note_missing_end(&mut self, missing: Range<Offset>) {
        let Some(damage) = &mut self.damage else { return };
        let known = damage.missing_end.take().unwrap_or_else(|| missing.clone());
        let (start, end) = (known.start.min(missing.start), known.end.max(missing.end));
        damage.missing_end = Some(start..end);
    }

    /// A damage of earlier, which nothing has mended since.
    pub(crate) fn recall<D: Disk>(&mut self, place: &Place<D>, content: Option<Vec<u8>>) {
        let Some(content) = content else { return };
        let Some(damage) = checkpoint::decode_damage(&content) else {
            // how much is not known any more: any of it may be missing
            return self.note(Offset::ZERO, format!("{} was damaged before", place.dir.display()));
        };
        let Damage { cause, complete_below, resumes_at, missing_end } = damage;
        match resumes_at {
            Some(to) if to > complete_below => self.note_hole(complete_below..to, cause),
            // its end was missing: what has come since may not be all
            Some(to) if self.damage.is_none() => {
                let resumes_at = Some(to);
                self.damage = Some(Damage { resumes_at, ..Damage::from(complete_below, cause) });
            }
            _ => self.note(complete_below, cause),
        }
        if let Some(missing) = missing_end.filter(|missing| missing.end > self.log_start) {
            self.note(missing.start, "the log's end was missing before");
            self.note_missing_end(missing);
        }
    }

    /// Keeps the damage in mind, before what proves it is changed. Where there is no room to describe it, the
    /// file's name has to do.
    pub(crate) fn keep<D: Disk>(&self, place: &Place<D>) -> Result<(), LogError> {
        let Some(damage) = &self.damage else { return Ok(()) };
        let content = checkpoint::encode_damage(damage);
        let kept = match place.replace(checkpoint::DAMAGE, &content, true) {
            Err(LogError::DiskFull { .. }) => place.replace(checkpoint::DAMAGE, &[], true),
            kept => kept,
        };
        kept.and_then(|_| place.sync_dir())
    }

    /// A checkpoint from before segments were listed in it vouches for those before its own all the same: each
    /// ends where the next one begins.
    pub(crate) fn compare_unlisted<D: Disk>(
        &mut self,
        place: &Place<D>,
        interval: u32,
        checkpoint: &OffsetCheckpoint,
        files: &[FoundSegment],
    ) -> Result<(), LogError> {
        let Some(point) = checkpoint.recovery_point.filter(|_| checkpoint.closed.is_empty()) else {
            return Ok(());
        };
        let vouched_for = files.iter().filter(|file| file.base <= point.segment);
        for (file, next) in vouched_for.clone().zip(vouched_for.skip(1)) {
            let segment = Segment::<D>::closed(file.base, next.base, file.size);
            let last = Offset(next.base.0 - 1);
            let is_whole = match segment.locate(place, interval, last) {
                Ok(Some(batch)) => {
                    batch.header.end_offset() == next.base && batch.end_position() == file.size
                }
                Ok(None) | Err(LogError::CorruptLog { .. }) => false,
                Err(error) => return Err(error),
            };
            if !is_whole {
                let path = segment.log_path(place);
                let (path, next) = (path.display(), next.base);
                let cause = format!("{path} does not reach up to the next segment, {next}");
                self.note_lost(next..next, cause);
            }
        }
        Ok(())
    }
}

impl<D: Disk> Log<D> {
    /// What this replica lacks, until [`Log::forget_damage`].
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The owner knows of a damage that opening did not show: that there is no directory any more, or what was found
    /// since. Of two that are still in the log the one that begins first is kept.
    ///
    /// # Errors
    /// It cannot be kept in mind on the disk.
    pub fn note_damage(&mut self, damage: Damage) -> Result<(), LogError> {
        match (&self.damage, self.damaged_from()) {
            (Some(known), Some(_)) if known.complete_below <= damage.complete_below => {
                return Ok(());
            }
            _ => self.damage = Some(damage.within(self.end)),
        }
        if self.presence.directory { self.keep_damage() } else { Ok(()) }
    }

    /// Where what is damaged begins, if it lies within the log: nothing from there on is handed out.
    pub fn damaged_from(&self) -> Option<Offset> {
        let damage = self.damage.as_ref()?;
        let at = damage.complete_below;
        let is_within = self.start <= at && at < self.end && damage.resumes_at != Some(at);
        is_within.then_some(at)
    }

    /// Up to where whoever begins at `from` may read.
    pub(crate) fn readable_end(&self, from: Offset) -> Result<Offset, LogError> {
        match self.damaged_from() {
            None => Ok(self.end),
            Some(at) if from < at => Ok(at),
            Some(at) => {
                let resumes_at = self.damage.as_ref().and_then(|damage| damage.resumes_at);
                let dir = self.place.dir.clone();
                Err(LogError::Damaged { dir, from: at, to: resumes_at.unwrap_or(self.end) })
            }
        }
    }

    /// What was damaged is not in the log any more, if it now ends where that began.
    pub(crate) fn note_cut(&mut self) -> Result<(), LogError> {
        let Some(known) = self.damage.take() else { return Ok(()) };
        let damage = known.clone().within(self.end);
        let changed = damage != known;
        self.damage = Some(damage);
        if changed && self.presence.directory { self.keep_damage() } else { Ok(()) }
    }

    /// In the directory, which is there.
    pub(crate) fn keep_damage(&self) -> Result<(), LogError> {
        Evidence { damage: self.damage.clone(), ..Evidence::default() }.keep(&self.place)
    }

    /// The replica has been filled again, or there is none that has more.
    ///
    /// # Errors
    /// The file that keeps it in mind cannot be removed.
    pub fn forget_damage(&mut self) -> Result<(), LogError> {
        if self.damage.take().is_some() && self.presence.directory {
            self.place.remove(checkpoint::DAMAGE)?;
            self.place.sync_dir()?;
        }
        Ok(())
    }
}

/// Segments that a checkpoint knows to be on disk, and that are not, or are shorter; from where on each, and what
/// is wrong.
pub(crate) fn missing<D: Disk>(
    place: &Place<D>,
    checkpoint: &OffsetCheckpoint,
    files: &[FoundSegment],
    was_deleted: impl Fn(Offset, Offset) -> bool,
) -> Vec<(Offset, String)> {
    let Some(point) = &checkpoint.recovery_point else { return Vec::new() };
    let active = (point.segment, point.position);
    let vouched_for: Vec<_> = checkpoint.closed.iter().copied().chain([active]).collect();
    let fault = |(at, (base, flushed)): (usize, (Offset, u64))| {
        let end = vouched_for.get(at + 1).map_or(point.offset, |(next, _)| *next);
        let path = place.file_of(base, Kind::Log);
        match files.iter().find(|file| file.base == base) {
            Some(file) if file.size < flushed && !was_deleted(base, end) => {
                let size = file.size;
                let path = path.display();
                Some((base, format!("{path} has {size} bytes of {flushed} that were flushed")))
            }
            Some(_) => None,
            None if flushed == 0 || was_deleted(base, end) => None,
            None => Some((base, format!("{} is gone", path.display()))),
        }
    };
    vouched_for.iter().copied().enumerate().filter_map(fault).collect()
}

/// Whether what stands at `position`, which is no good batch, is what a crash leaves of a write that was under
/// way: cut short, or, if all memory `was_lost` since, with sectors that were never written. A good batch behind it
/// says that it was not.
pub(crate) fn is_torn<F: DiskFile>(
    file: &F,
    key: &PartitionKey,
    bad: &BatchError,
    position: u64,
    size: u64,
    was_lost: bool,
) -> io::Result<bool> {
    let mut rest = vec![0; (size - position).min(SEARCHED) as usize];
    read_exact_at(file, position, &mut rest)?;
    let follows = rest
        .windows(OVERHEAD)
        .skip(1)
        .any(|bytes| BatchHeader::decode_verified(bytes, key).is_ok());
    let is_partial = *bad == BatchError::Truncated || was_lost && lacks_sectors(&rest, position);
    Ok(!follows && is_partial)
}

/// Whether a sector, or the part of one, is empty.
fn lacks_sectors(bytes: &[u8], position: u64) -> bool {
    let first = (SECTOR - position % SECTOR) as usize;
    let (head, tail) = bytes.split_at(first.min(bytes.len()));
    let mut pieces = std::iter::once(head).chain(tail.chunks(SECTOR as usize));
    pieces.any(|piece| piece.len() >= TELLING_ZEROS && piece.iter().all(|byte| *byte == 0))
}
