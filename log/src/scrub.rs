//! Looking for rot before a reader meets it: every batch of every segment, the indexes beside them, and the small files.
//!
//! Segments are read by [`Scrub`], on any thread, by descriptors of its own, while the log lives on: what it finds is a
//! suspicion, which [`Log::examine`] decides. The small files are checked by the owner itself ([`Log::check_files`]), and
//! written anew from what it knows.
//!
//! What was deleted and still lies in a file is not looked at: nobody needs it. A sector that cannot be read is as good as
//! one that has changed.
//!
//! Promises: of a segment that nobody reads meanwhile the disk's bytes are read, not those that the page cache kept
//! (`posix_fadvise(2)`, `DONTNEED`; pages that are mapped by a reader at the time stay). Changes nothing.

use crate::checkpoint::{self, OffsetCheckpoint};
use crate::disk::{Disk, DiskFile};
use crate::index::{OffsetIndex, TimeIndex};
use crate::place::{Kind, Place};
use crate::scan::{Check, Found, Scanner};
use crate::segment::{Segment, indexed_timestamp};
use crate::txn_index::{List, TxnIndex};
use crate::{Aborted, Log, LogError, snapshot};
use bytes::Bytes;
use std::io;
use std::iter::Peekable;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, PartitionKey};

/// Something that was read and cannot be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The first offset that it may concern.
    pub at: Offset,
    pub cause: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Scrubbed {
    pub segments: u64,
    pub batches: u64,
    pub bytes: u64,
    /// At most one of each segment, ascending.
    pub suspects: Vec<Suspect>,
    /// Base offsets of the segments beside which an index says what is not so.
    pub wrong_indexes: Vec<Offset>,
    /// It was told to stop.
    pub stopped: bool,
}

/// What came of looking at the small files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCheck {
    /// What was wrong, and is put right.
    pub mended: Vec<String>,
    /// A producer snapshot was removed: the owner had better write one of now.
    pub lacks_snapshot: bool,
}

#[derive(Clone, Copy)]
struct Target {
    base: Offset,
    /// Where what is to be looked at begins, in offsets and in the file.
    from: (Offset, u64),
    /// As far as it is to be looked at.
    size: u64,
    /// It takes no more appends: its indexes are whole.
    sealed: bool,
    /// Markers of aborted transactions.
    aborted: usize,
}

impl Target {
    /// Nothing of it was deleted.
    fn is_whole(&self) -> bool {
        self.from.1 == 0
    }
}

/// One pass over the segments of a log as they were when it was made.
pub struct Scrub<D: Disk> {
    place: Place<D>,
    key: PartitionKey,
    targets: Vec<Target>,
}

impl<D: Disk> Log<D> {
    /// A pass over all that is flushed, and was not deleted.
    pub fn begin_scrub(&self) -> Scrub<D> {
        let point = self.flushing.point;
        let flushed = self.segments.iter().filter(|segment| segment.base <= point.segment);
        let needed = flushed.filter(|segment| segment.end > self.start);
        let targets = needed.map(|segment| {
            let sealed = segment.base < point.segment;
            let size = if sealed { segment.size } else { point.position.min(segment.size) };
            let from = self.needed_from(segment);
            let aborted = self.aborted.get(&segment.base).map_or(0, TxnIndex::count);
            Target { base: segment.base, from, size: size.max(from.1), sealed, aborted }
        });
        Scrub { place: self.place.clone(), key: self.key, targets: targets.collect() }
    }

    /// The indexes of this segment are made again, from its batches.
    ///
    /// # Errors
    /// Those of the disk, or batches that are damaged themselves.
    pub fn rebuild_indexes(&mut self, base: Offset) -> Result<bool, LogError> {
        let interval = self.config.index_interval_bytes;
        let Some(n) = self.segments.iter().position(|it| it.base == base) else {
            return Ok(false);
        };
        let (count, from) = (self.segments.len(), self.needed_from(&self.segments[n]).1);
        let segment = &mut self.segments[n];
        if n + 1 == count {
            // in memory, and appended to
            let size = segment.size;
            segment.rebuild_within(&self.place, interval, from..size)?;
            segment.prepare(&self.place, interval, self.config.segment_bytes())?;
        } else {
            segment.drop_indexes(&self.place)?;
            segment.indexes(&self.place, interval)?;
        }
        self.presence.checkpoint = None;
        self.mend_aborted(base)?;
        Ok(true)
    }

    /// Makes the indexes again that a lookup has found wrong; how many.
    ///
    /// # Errors
    /// As [`Log::rebuild_indexes`].
    pub fn mend_indexes(&mut self) -> Result<u64, LogError> {
        let wrong = self.segments.iter().filter(|segment| segment.has_wrong_index());
        let wrong: Vec<_> = wrong.map(|segment| segment.base).collect();
        for base in &wrong {
            self.rebuild_indexes(*base)?;
        }
        let aborted: Vec<_> = self.wrong_aborted().collect();
        aborted.iter().try_for_each(|base| self.mend_aborted(*base))?;
        Ok((wrong.len() + aborted.len()) as u64)
    }

    /// Whether a lookup of this offset has found an index to be wrong.
    pub fn has_wrong_index(&self, at: Offset) -> bool {
        let segment = self.segment_of(at).and_then(|n| self.segments.get(n));
        segment.is_some_and(Segment::has_wrong_index)
    }

    /// Looks at the checkpoints, the partition's identity and the producer snapshots, and writes anew what is damaged.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn check_files(&mut self, high_watermark: Offset) -> Result<FileCheck, LogError> {
        let mut check = FileCheck::default();
        if !self.presence.directory {
            return Ok(check);
        }
        let (place, key) = (self.place.clone(), self.key);
        // `missed`: it was written, and ought to be there
        let is_good = |name: &str, missed: bool, decodes: fn(&[u8]) -> bool| {
            let content = place.read(name)?;
            Ok::<_, LogError>(content.map_or(!missed, |content| decodes(&content)))
        };
        let mut mended = |name: &str| check.mended.push(place.path(name).display().to_string());
        let identity = place.read(checkpoint::METADATA)?;
        if identity.and_then(|content| checkpoint::decode_metadata(&content)) != Some(key) {
            mended(checkpoint::METADATA);
            let content = checkpoint::encode_metadata(&key, place.disk.boot().as_deref());
            place.replace(checkpoint::METADATA, &content, true)?;
        }
        let missed = !self.epochs.entries().is_empty() && !self.epochs_changed;
        if !is_good(checkpoint::EPOCHS, missed, |content| {
            checkpoint::decode_epochs(content).is_some()
        })? {
            mended(checkpoint::EPOCHS);
            self.epochs_changed = true;
            self.write_epochs()?;
        }
        if let Some(start) = self.presence.log_start
            && !is_good(checkpoint::LOG_START, true, |content| {
                checkpoint::decode_log_start(content).is_some()
            })?
        {
            mended(checkpoint::LOG_START);
            self.write_log_start(start)?;
        }
        let missed = self.presence.checkpoint.is_some();
        if !is_good(checkpoint::OFFSETS, missed, |content| {
            OffsetCheckpoint::decode(content).is_some()
        })? {
            mended(checkpoint::OFFSETS);
            self.presence.checkpoint = None;
            self.write_down(high_watermark, true)?;
        }
        if self.flushing.flushed_end.mend(&place)? {
            mended(checkpoint::FLUSHED_END);
        }
        for offset in self.snapshots.clone() {
            let name = Kind::Snapshot.name(offset);
            if place.read(&name)?.and_then(snapshot::unseal).is_none() {
                mended(&name);
                check.lacks_snapshot = true;
                place.remove(&name)?;
                self.snapshots.retain(|other| *other != offset);
                self.durable_snapshot = self.durable_snapshot.filter(|other| *other != offset);
            }
        }
        Ok(check)
    }
}

impl<D: Disk> Scrub<D> {
    /// Bytes that it has to read.
    pub fn bytes(&self) -> u64 {
        self.targets.iter().map(|target| target.size - target.from.1).sum()
    }

    /// Reads all of it. `go_on` is told how many bytes were read since it was last asked, and may wait; false ends the
    /// pass.
    ///
    /// # Errors
    /// A file cannot be read. What is not there any more was removed: that is none.
    pub fn run(self, mut go_on: impl FnMut(u64) -> bool) -> Result<Scrubbed, LogError> {
        let mut scrubbed = Scrubbed::default();
        for target in &self.targets {
            let path = self.place.file_of(target.base, Kind::Log);
            let file = match self.place.disk.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|e| LogError::io("open", &path, e))?,
            };
            file.read_nothing_ahead();
            if target.sealed {
                file.forget_pages(0..target.size);
            }
            let failed = |e| LogError::io("read", &path, e);
            if !self.look_at(*target, &file, &mut scrubbed, &mut go_on).map_err(failed)? {
                scrubbed.stopped = true;
                return Ok(scrubbed);
            }
            scrubbed.segments += 1;
        }
        Ok(scrubbed)
    }

    fn look_at(
        &self,
        target: Target,
        file: &D::File,
        scrubbed: &mut Scrubbed,
        go_on: &mut impl FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        let size = target.size.min(file.size()?);
        let ((mut expected, mut told), checks_indexes) =
            (target.from, target.sealed && target.is_whole());
        let mut scanner = Scanner::new(file, told, size);
        let mut indexes = checks_indexes.then(|| IndexCheck::of(&self.place, target));
        let suspect = |at, cause: String| Suspect { at, cause };
        loop {
            let position = scanner.position();
            let found = match scanner.next(Check::Checksums(Some(self.key))) {
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    let cause = format!("byte {position}: {error}");
                    scrubbed.suspects.push(suspect(expected, cause));
                    indexes = None;
                    break;
                }
                found => found?,
            };
            match found {
                Found::Batch(header) => {
                    scrubbed.batches += 1;
                    if header.base_offset < expected {
                        let cause = format!("offsets go back at byte {position}");
                        scrubbed.suspects.push(suspect(expected, cause));
                        break;
                    }
                    expected = header.end_offset();
                    if let Some(indexes) = &mut indexes {
                        indexes.note(&header, position);
                    }
                }
                Found::Bad(cause) => {
                    let cause = format!("byte {position}: {cause}");
                    scrubbed.suspects.push(suspect(expected, cause));
                    indexes = None;
                    break;
                }
                Found::End if size < target.size => {
                    let cause = format!("{size} bytes of {}", target.size);
                    scrubbed.suspects.push(suspect(expected, cause));
                    indexes = None;
                    break;
                }
                Found::End => break,
            }
            let read = scanner.position() - told;
            if read >= crate::scan::CHUNK as u64 {
                told = scanner.position();
                scrubbed.bytes += read;
                if !go_on(read) {
                    return Ok(false);
                }
            }
        }
        let read = scanner.position() - told;
        scrubbed.bytes += read;
        if indexes.is_some_and(IndexCheck::finds_wrong) {
            scrubbed.wrong_indexes.push(target.base);
        }
        Ok(go_on(read))
    }
}

/// The index files of a sealed segment beside its batches, which come in order.
struct IndexCheck {
    offsets: Peekable<std::vec::IntoIter<(Offset, u32)>>,
    times: Peekable<std::vec::IntoIter<(i64, Offset)>>,
    largest: Option<i64>,
    last_time: Option<i64>,
    aborted: Peekable<std::vec::IntoIter<Aborted>>,
    wrong: bool,
}

impl IndexCheck {
    fn of<D: Disk>(place: &Place<D>, target: Target) -> IndexCheck {
        let read = |kind| place.disk.read(&place.file_of(target.base, kind)).ok().flatten();
        let offsets = read(Kind::OffsetIndex).map(Bytes::from);
        let offsets =
            offsets.and_then(|bytes| OffsetIndex::from_bytes(target.base, target.size, bytes));
        let times = read(Kind::TimeIndex).map(Bytes::from);
        let times = times.and_then(|bytes| TimeIndex::from_bytes(target.base, bytes));
        let aborted = match target.aborted {
            0 => List::default(),
            _ => {
                read(Kind::TxnIndex).map(|it| List::decode(target.base, &it).0).unwrap_or_default()
            }
        };
        let is_whole = aborted.len() == target.aborted;
        let wrong = offsets.is_none() || times.is_none() || !is_whole;
        let last_time = times.as_ref().and_then(|times| times.last()).map(|(time, _)| time);
        let base = target.base;
        let offsets = offsets.iter().flat_map(|index| index.all());
        let offsets: Vec<_> = offsets.map(|entry| OffsetIndex::parse(base, entry)).collect();
        let times = times.iter().flat_map(|index| index.all());
        let times: Vec<_> = times.map(|entry| TimeIndex::parse(base, entry)).collect();
        IndexCheck {
            offsets: offsets.into_iter().peekable(),
            times: times.into_iter().peekable(),
            largest: None,
            last_time,
            aborted: aborted.entries().to_vec().into_iter().peekable(),
            wrong,
        }
    }

    fn note(&mut self, header: &BatchHeader, position: u64) {
        let last = header.last_offset();
        let timestamp = indexed_timestamp(header);
        let is_new = self.largest.is_none_or(|largest| timestamp > largest);
        if let Some((offset, at)) = self.offsets.next_if(|(_, at)| u64::from(*at) <= position) {
            self.wrong |= offset != last || u64::from(at) != position;
        }
        self.wrong |= self.offsets.peek().is_some_and(|(_, at)| u64::from(*at) <= position);
        if let Some((time, offset)) = self.times.next_if(|(_, offset)| *offset <= last) {
            self.wrong |= offset != last || time != timestamp || !is_new;
        }
        self.wrong |= self.times.peek().is_some_and(|(_, offset)| *offset <= last);
        self.largest = self.largest.max(Some(timestamp));
        if let Some(aborted) = self.aborted.next_if(|aborted| aborted.last_offset <= last) {
            let is_marker = header.marker().is_some_and(|marker| !marker.committed)
                && header.producer.is_some_and(|stamp| stamp.id == aborted.producer_id);
            self.wrong |= aborted.last_offset != last || !is_marker;
        }
    }

    fn finds_wrong(mut self) -> bool {
        let left = self.offsets.next().is_some()
            || self.times.next().is_some()
            || self.aborted.next().is_some();
        self.wrong || left || self.last_time != self.largest
    }
}
