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
            Some(known) => known.complete_below = known.complete_below.min(complete_below),
            None => self.damage = Some(Damage { cause: cause.into(), complete_below }),
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
        end: Offset,
        log_start: Offset,
    ) {
        let dir = place.dir.display();
        if let Some(point) = &checkpoint.recovery_point
            && point.offset > end
        {
            let flushed = point.offset;
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

    /// The owner knows of a damage that the directory does not show: that there is no directory any more.
    ///
    /// # Errors
    /// It cannot be kept in mind.
    pub fn note_damage(&mut self, damage: Damage) -> Result<(), LogError> {
        self.damage = Some(damage);
        if self.presence.directory { self.keep_damage() } else { Ok(()) }
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
