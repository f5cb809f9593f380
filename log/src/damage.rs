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
}

impl Damage {
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
    /// What was set aside or has to be made again, without loss.
    pub(crate) notices: Vec<String>,
}

impl Evidence {
    /// Of several damages the first one found names the cause, the lowest one the offset.
    pub(crate) fn note(&mut self, complete_below: Offset, cause: impl Into<String>) {
        match &mut self.damage {
            Some(known) if known.complete_below <= complete_below => {}
            Some(known) => (known.complete_below, known.resumes_at) = (complete_below, None),
            None => {
                let cause = cause.into();
                self.damage = Some(Damage { cause, complete_below, resumes_at: None });
            }
        }
    }

    /// Within a file, what stands for `lost` is no good, and what stands behind it is.
    pub(crate) fn note_hole(&mut self, lost: std::ops::Range<Offset>, cause: String) {
        match &mut self.damage {
            Some(known) if known.complete_below <= lost.start => {}
            Some(known) => {
                (known.complete_below, known.resumes_at) = (lost.start, Some(lost.end));
            }
            None => {
                let (complete_below, resumes_at) = (lost.start, Some(lost.end));
                self.damage = Some(Damage { cause, complete_below, resumes_at });
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

    /// The log ends at `end`, after what is no good was cut off, and starts at `log_start` at the least: a start
    /// behind the end is of a log that was to be dropped.
    pub(crate) fn compare_end<D: Disk>(
        &mut self,
        place: &Place<D>,
        checkpoint: &OffsetCheckpoint,
        (end, log_start): (Offset, Offset),
        flushed_end: Option<Offset>,
    ) {
        let dir = place.dir.display();
        let vouched_for = checkpoint.recovery_point.map(|point| point.offset);
        let flushed_end = flushed_end.filter(|_| log_start <= end);
        if let Some(flushed) = vouched_for.max(flushed_end)
            && flushed > end
        {
            self.note(
                end,
                format!("the log in {dir} ends at {end} and was flushed up to {flushed}"),
            );
        }
        if let Some(committed) = checkpoint.high_watermark.filter(|offset| *offset > end)
            && log_start <= end
        {
            self.note(
                end,
                format!("the log in {dir} ends at {end} and was committed up to {committed}"),
            );
        }
    }

    /// A damage of earlier, which nothing has mended since.
    pub(crate) fn recall<D: Disk>(&mut self, place: &Place<D>, content: Option<Vec<u8>>) {
        let Some(content) = content else { return };
        match checkpoint::decode_damage(&content) {
            Some(damage) if self.damage.is_none() => self.damage = Some(damage),
            Some(Damage { cause, complete_below, resumes_at: Some(to) }) if to > complete_below => {
                self.note_hole(complete_below..to, cause);
            }
            Some(damage) => self.note(damage.complete_below, damage.cause),
            // how much is not known any more: any of it may be missing
            None => {
                self.note(Offset::ZERO, format!("{} was damaged before", place.dir.display()));
            }
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
                self.note(next, format!("{path} does not reach up to the next segment, {next}"));
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
        Evidence { damage: self.damage.clone(), notices: Vec::new() }.keep(&self.place)
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
            Some(file) if file.size < flushed => {
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
