//! Giving up what is damaged, on request: for when no other replica has it.
//!
//! Promise: each stretch of offsets that cannot be read becomes a batch without records, which readers and followers
//! pass; all good batches stay as they are, byte for byte, at their offsets. A crash at any step leaves the damage noted
//! and every good batch in its file.

use crate::disk::{Disk, DiskFile, write_all_at};
use crate::place::Kind;
use crate::segment::Segment;
use crate::soundness::{check_batch, is_of_content};
use crate::{Log, LogError};
use bytes::Bytes;
use std::io::IoSlice;
use std::ops::Range;
use troupe_proto::batch::{Attributes, BatchHeader};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// Copied at a time.
const CHUNK: u64 = 4 << 20;
/// What stands for a timestamp where there is none.
const NO_TIMESTAMP: i64 = -1;

/// What a segment's file is to consist of.
enum Piece {
    /// These bytes of the old one.
    Kept(Range<u64>),
    /// A batch without records for these offsets.
    Lost(Range<Offset>),
}

impl<D: Disk> Log<D> {
    /// Makes the log sound without what is damaged; says which offsets within it are lost. Afterwards it has to be opened
    /// anew, and all of it is looked at then. What was deleted is no loss. It looks at every batch from the damage on: not for a thread that others
    /// wait for.
    ///
    /// # Errors
    /// Those of the disk: the damage stays noted then.
    pub fn accept_loss(mut self, high_watermark: Offset) -> Result<Vec<Range<Offset>>, LogError> {
        self.flush()?;
        let Some(from) = self.damage.as_ref().map(|damage| damage.complete_below) else {
            return Ok(Vec::new());
        };
        // nothing is vouched for, so that what was interrupted is looked at again
        self.write_checkpoint(high_watermark, None, true)?;
        self.presence.checkpoint = None;
        self.place.sync_dir()?;
        let mut lost = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.end > from) {
            let pieces = self.survey(segment)?;
            let ranges = pieces.iter().filter_map(|piece| match piece {
                Piece::Lost(range) => Some(range.clone()),
                Piece::Kept(_) => None,
            });
            let before = lost.len();
            lost.extend(ranges);
            if lost.len() > before {
                self.rewrite(segment, &pieces)?;
            }
        }
        self.place.sync_dir()?;
        self.forget_damage()?;
        let needed = lost.into_iter().map(|range| range.start.max(self.start)..range.end);
        Ok(needed.filter(|range| !range.is_empty()).collect())
    }

    /// The good batches of a segment and what is missing between them, in order.
    fn survey(&self, segment: &Segment<D>) -> Result<Vec<Piece>, LogError> {
        let (mut pieces, mut position, mut expected) = (Vec::new(), 0, segment.base);
        while position < segment.size {
            let good = match self.sound_header(segment, position)? {
                Ok(header) => {
                    let to = position + header.encoded_len() as u64;
                    match segment.copy(&self.place, position, to) {
                        Ok(bytes) => check_batch(&bytes, &self.key).ok(),
                        Err(error) if is_of_content(&error) => None,
                        Err(error) => return Err(error),
                    }
                }
                Err(_) => None,
            };
            let Some(header) = good else {
                let behind = self.sound_behind(segment, position, expected)?;
                let to = behind.map_or(segment.end, |batch| batch.header.base_offset);
                add_lost(&mut pieces, expected..to);
                (position, expected) =
                    behind.map_or((segment.size, to), |batch| (batch.position, to));
                continue;
            };
            let end = position + header.encoded_len() as u64;
            match pieces.last_mut() {
                Some(Piece::Kept(kept)) => kept.end = end,
                _ => pieces.push(Piece::Kept(position..end)),
            }
            (position, expected) = (end, header.end_offset());
        }
        add_lost(&mut pieces, expected..segment.end);
        Ok(pieces)
    }

    /// The file under its name shows the old or the new content, never a part.
    fn rewrite(&self, segment: &Segment<D>, pieces: &[Piece]) -> Result<(), LogError> {
        let name = Kind::Log.name(segment.base);
        let (path, temporary) = (self.place.path(&name), self.place.path(&format!("{name}.tmp")));
        let failed = |error| LogError::io("write", &temporary, error);
        let file = self.place.disk.create(&temporary).map_err(failed)?;
        let mut position = 0;
        let mut write = |bytes: &[u8]| {
            write_all_at(&file, position, &mut [IoSlice::new(bytes)]).map_err(failed)?;
            position += bytes.len() as u64;
            Ok::<_, LogError>(())
        };
        let mut epoch = None;
        for piece in pieces {
            match piece {
                Piece::Kept(kept) => {
                    let mut from = kept.start;
                    while from < kept.end {
                        let to = (from + CHUNK).min(kept.end);
                        write(&segment.view(&self.place, from, to)?)?;
                        from = to;
                    }
                }
                Piece::Lost(range) => {
                    let known = self.epochs.at(range.start).or(epoch);
                    epoch = known;
                    for header in placeholders(range, known.unwrap_or_default()) {
                        write(&header.encode(&self.key))?;
                    }
                }
            }
        }
        file.sync().map_err(|e| LogError::failed_sync("sync", &temporary, e))?;
        for kind in [Kind::OffsetIndex, Kind::TimeIndex] {
            self.place.remove(&kind.name(segment.base))?;
        }
        let renamed = self.place.disk.rename(&temporary, &path);
        renamed.map_err(|e| LogError::io("rename", &temporary, e))
    }
}

/// A damaged batch whose successor is lost too is one stretch.
fn add_lost(pieces: &mut Vec<Piece>, range: Range<Offset>) {
    match pieces.last_mut() {
        _ if range.start >= range.end => {}
        Some(Piece::Lost(before)) if before.end == range.start => before.end = range.end,
        _ => pieces.push(Piece::Lost(range)),
    }
}

/// Batches without records that cover these offsets.
fn placeholders(range: &Range<Offset>, leader_epoch: LeaderEpoch) -> Vec<BatchHeader> {
    let (mut headers, mut base) = (Vec::new(), range.start);
    while base < range.end {
        let left = range.end.0 - base.0 - 1;
        let last_offset_delta = u32::try_from(left).unwrap_or(u32::MAX);
        let header = BatchHeader {
            base_offset: base,
            leader_epoch,
            last_offset_delta,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer: None,
            record_count: 0,
            attributes: Attributes::default(),
            payload_crc: crc_fast::crc32_iscsi(&Bytes::new()),
            payload_len: 0,
        };
        base = header.end_offset();
        headers.push(header);
    }
    headers
}
