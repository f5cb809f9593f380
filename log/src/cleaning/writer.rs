//! The segments that a pass writes: small neighbours become one, and what would be as it is stays where it is.
//!
//! ```text
//! <base>.log.<pass>.cleaned   <base>.index.<pass>.cleaned   <base>.timeindex.<pass>.cleaned
//! <base>.txnindex.<pass>.cleaned                           where markers of aborted transactions stay
//! ```
//!
//! Nothing is written for a segment before something of it goes or another one joins it; then what came before is
//! copied first.

use super::source::{Failure, Source, SourceBatch, Throttle, each_batch};
use super::swap::Unfinished;
use super::{CLEANED, CleaningError};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::index::Indexes;
use crate::place::{Kind, Place};
use crate::segment::Summary;
use crate::txn_index::List;
use crate::{Aborted, LogConfig, LogError};
use std::io::IoSlice;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, PartitionKey};

/// What is smaller is gathered before it is written.
const BUFFER: usize = 64 << 10;
/// So much is sent to the disk at a time, and no more than twice that waits for it: what a disk has taken in a queue
/// holds up every flush of a producer's records behind it.
const PIECE: u64 = 128 << 10;

/// What takes the place of one or several segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) size: u64,
    /// Which of the pass's sources.
    pub(crate) sources: Range<usize>,
    /// False: the source is as it was.
    pub(crate) is_new: bool,
    /// Of markers that stay.
    pub(crate) aborted: Vec<Aborted>,
}

/// The name of a file of this pass.
pub(super) fn cleaned_name(name: &str, pass: u64) -> String {
    format!("{name}.{pass}{CLEANED}")
}

/// Whose segments, and how they may look.
pub(super) struct Shelf<'a, 't, D: Disk> {
    pub(super) place: &'a Place<D>,
    pub(super) key: &'a PartitionKey,
    pub(super) config: &'a LogConfig,
    pub(super) pass: u64,
    pub(super) throttle: &'a Throttle<'t, D>,
}

impl<D: Disk> Clone for Shelf<'_, '_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Disk> Copy for Shelf<'_, '_, D> {}

/// One segment that is being made.
pub(super) struct SegmentWriter<'a, 't, D: Disk> {
    shelf: Shelf<'a, 't, D>,
    first: Source,
    output: Output,
    indexes: Indexes,
    summary: Summary,
    /// Where the last batch of the first source ends that was kept. Among what was deleted in it something may be damaged,
    /// and left out.
    kept_to: u64,
    /// None as long as all is as it stands in the first source.
    file: Option<(PathBuf, D::File)>,
    buffer: Vec<u8>,
    /// Bytes that are in the file, and those of them that are on their way to the disk.
    written: u64,
    written_back: u64,
}

impl<'a, 't, D: Disk> SegmentWriter<'a, 't, D> {
    pub(super) fn begin(shelf: Shelf<'a, 't, D>, at: usize, first: Source) -> Self {
        SegmentWriter {
            shelf,
            first,
            output: Output {
                base: first.base,
                end: first.end,
                size: 0,
                sources: at..at + 1,
                is_new: false,
                aborted: Vec::new(),
            },
            indexes: Indexes::empty(first.base),
            summary: Summary::default(),
            kept_to: 0,
            file: None,
            buffer: Vec::new(),
            written: 0,
            written_back: 0,
        }
    }

    /// Whether another segment fits behind: by its size, its offsets and the entries of the indexes.
    pub(super) fn has_room_for(&self, next: &Source) -> bool {
        let config = self.shelf.config;
        let entries = next.size / u64::from(config.index_interval_bytes.max(1)) + 2;
        self.output.size + next.size <= config.segment_bytes()
            && next.end.0 - self.output.base.0 <= i32::MAX as u64
            && self.indexes.has_room_for(entries, config.segment_index_bytes)
    }

    /// Whether it differs from the first source already.
    pub(super) fn is_new(&self) -> bool {
        self.output.is_new
    }

    /// The next source's batches follow.
    pub(super) fn join(
        &mut self,
        next: &Source,
        files: &mut Unfinished<D>,
    ) -> Result<(), CleaningError> {
        self.make(files)?;
        self.output.end = next.end;
        self.output.sources.end += 1;
        Ok(())
    }

    /// The next batch of the source, as it is.
    pub(super) fn keep(&mut self, batch: &SourceBatch<'_>) -> Result<(), CleaningError> {
        if self.file.is_some() {
            self.write(batch.bytes)?;
        }
        self.note(&batch.header, batch.bytes.len());
        self.kept_to = batch.end;
        Ok(())
    }

    /// The next batch of the source is gone.
    pub(super) fn leave_out(&mut self, files: &mut Unfinished<D>) -> Result<(), CleaningError> {
        self.make(files)
    }

    /// The next batch of the source, which stays, is a marker, of this transaction.
    pub(super) fn note_aborted(&mut self, aborted: Option<Aborted>) {
        self.output.aborted.extend(aborted);
    }

    /// What is left of the next batch of the source.
    pub(super) fn put(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        files: &mut Unfinished<D>,
    ) -> Result<(), CleaningError> {
        self.make(files)?;
        self.write(&header.encode(self.shelf.key))?;
        self.write(payload)?;
        self.note(header, header.encoded_len());
        Ok(())
    }

    /// All is in files, and synced; their names are not.
    pub(super) fn end(mut self, files: &mut Unfinished<D>) -> Result<Output, CleaningError> {
        self.empty_buffer()?;
        let Some((path, file)) = self.file.take() else { return Ok(self.output) };
        self.shelf.throttle.will_write();
        file.sync().map_err(|e| LogError::failed_sync("sync", &path, e))?;
        self.indexes.note_largest(&self.summary);
        let base = self.output.base;
        let aborted = List::of(self.output.aborted.clone());
        let aborted = (!aborted.is_empty()).then(|| aborted.encode(base));
        let indexes = [
            (Kind::OffsetIndex, self.indexes.offsets.bytes()),
            (Kind::TimeIndex, self.indexes.times.bytes()),
        ];
        let aborted = aborted.iter().map(|bytes| (Kind::TxnIndex, &bytes[..]));
        for (kind, bytes) in indexes.into_iter().chain(aborted) {
            let name = cleaned_name(&kind.name(self.output.base), self.shelf.pass);
            files.add(&name);
            drop(self.shelf.place.replace(&name, bytes, true)?);
        }
        Ok(self.output)
    }

    fn note(&mut self, header: &BatchHeader, len: usize) {
        self.summary.note(header);
        let interval = self.shelf.config.index_interval_bytes;
        self.indexes.note(header, self.output.size, &self.summary, interval);
        self.output.size += len as u64;
    }

    /// From here on it is not the first source any more.
    fn make(&mut self, files: &mut Unfinished<D>) -> Result<(), CleaningError> {
        if self.file.is_some() {
            return Ok(());
        }
        let Shelf { place, key, pass, throttle, .. } = self.shelf;
        let name = cleaned_name(&Kind::Log.name(self.output.base), pass);
        let path = place.path(&name);
        files.add(&name);
        throttle.will_write();
        let file = place.disk.create(&path).map_err(|e| LogError::io("create", &path, e))?;
        self.file = Some((path, file));
        self.output.is_new = true;
        let (first, kept_to) = (self.first, self.kept_to);
        each_batch(place, key, &first, kept_to, throttle, |batch| {
            self.write(batch.bytes).map_err(Failure::Other)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CleaningError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.empty_buffer()?;
        }
        if bytes.len() >= BUFFER {
            return self.write_out(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn empty_buffer(&mut self) -> Result<(), CleaningError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.write_out(&buffer)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<(), CleaningError> {
        let Some((path, file)) = self.file.as_ref().filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        self.shelf.throttle.will_write();
        write_all_at(file, self.written, &mut [IoSlice::new(bytes)])
            .map_err(|e| LogError::io("write", path, e))?;
        self.written += bytes.len() as u64;
        if self.written - self.written_back >= PIECE {
            file.write_back(self.written_back..self.written, PIECE)
                .map_err(|e| LogError::failed_sync("write back", path, e))?;
            self.written_back = self.written;
        }
        self.shelf.throttle.moved(bytes.len() as u64)
    }
}
