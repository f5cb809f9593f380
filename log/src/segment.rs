//! One segment: a file of batches from its base offset on, and what is known about it.
//!
//! Nothing is open until it is needed: neither file nor mapping nor index. A closed segment keeps its
//! mapping and no descriptor; the one that takes appends keeps its descriptor.
//!
//! ```text
//! base <= first batch … last batch < end        offsets
//! 0 ------------------------------- size ~~~~~~~ mapping      bytes; nothing beyond `size` is ever touched
//! ```

mod truth;

use crate::LogError;
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::index::{Indexes, Mark};
use crate::place::{Kind, Place, is_unreadable, map_file, read_or_empty};
use crate::scan::{Check, Found, Scanner};
use bytes::Bytes;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use troupe_proto::batch::{BatchError, BatchHeader, OVERHEAD};
use troupe_proto::ids::Offset;

/// The timestamps of a segment, or of its first part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Largest timestamp of the first batch: by it the segment's age counts.
    pub(crate) first: Option<i64>,
    /// Largest timestamp of a record, and the last offset of the first batch that has it. Batches without records
    /// count as [`NO_RECORD`].
    pub(crate) largest: Option<(i64, Offset)>,
}

/// In place of a timestamp, of a batch that compaction has left without records: a time index has an entry all the
/// same.
const NO_RECORD: i64 = i64::MIN;

/// The timestamp under which a batch stands in the time index.
pub(crate) fn indexed_timestamp(header: &BatchHeader) -> i64 {
    if header.record_count == 0 { NO_RECORD } else { header.max_timestamp }
}

impl Summary {
    pub(crate) fn note(&mut self, header: &BatchHeader) {
        self.first.get_or_insert(header.max_timestamp);
        let timestamp = indexed_timestamp(header);
        if self.largest.is_none_or(|(largest, _)| timestamp > largest) {
            self.largest = Some((timestamp, header.last_offset()));
        }
    }

    /// Of any record; `None` if there is none.
    pub(crate) fn largest_timestamp(&self) -> Option<i64> {
        self.largest.map(|(timestamp, _)| timestamp).filter(|timestamp| *timestamp != NO_RECORD)
    }
}

pub(crate) struct Segment<D: Disk> {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) size: u64,
    /// As far as a mapping reaches; beyond `size` for the segment that takes appends.
    map_len: u64,
    /// What a checkpoint vouched for, until the indexes are loaded.
    mark: Option<Mark>,
    summary: OnceLock<Summary>,
    file: OnceLock<Arc<D::File>>,
    map: OnceLock<Bytes>,
    indexes: OnceLock<Indexes>,
    /// An entry of theirs says what is not so: they are to be made again. Until then nobody goes by a wrong one.
    wrong_index: AtomicBool,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Located {
    pub(crate) fn end_position(&self) -> u64 {
        self.position + self.header.encoded_len() as u64
    }
}

impl<D: Disk> Segment<D> {
    /// A segment whose file stands there with `size` good bytes, up to `end`.
    pub(crate) fn closed(base: Offset, end: Offset, size: u64) -> Self {
        Segment {
            base,
            end,
            size,
            map_len: size,
            mark: None,
            summary: OnceLock::new(),
            file: OnceLock::new(),
            map: OnceLock::new(),
            indexes: OnceLock::new(),
            wrong_index: AtomicBool::new(false),
        }
    }

    /// A segment of which nothing is known to be good yet.
    pub(crate) fn begun(base: Offset) -> Self {
        Segment {
            indexes: OnceLock::from(Indexes::empty(base)),
            summary: OnceLock::from(Summary::default()),
            ..Segment::closed(base, base, 0)
        }
    }

    /// A new segment, whose file was just made.
    pub(crate) fn fresh(base: Offset, file: D::File, map_len: u64) -> Self {
        Segment { map_len, file: OnceLock::from(Arc::new(file)), ..Segment::begun(base) }
    }

    /// What a checkpoint vouches for, for when the indexes are needed.
    pub(crate) fn with_mark(self, summary: Summary, mark: Mark) -> Self {
        Segment { mark: Some(mark), summary: OnceLock::from(summary), ..self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.size == 0
    }

    pub(crate) fn log_path(&self, place: &Place<D>) -> PathBuf {
        place.file_of(self.base, Kind::Log)
    }

    /// The file, opened on first use and kept open.
    pub(crate) fn file(&self, place: &Place<D>) -> Result<&Arc<D::File>, LogError> {
        if self.file.get().is_none() {
            let file = self.open(place)?;
            let _already_set = self.file.set(file);
        }
        Ok(self.file.get().expect("just set"))
    }

    /// The file if it is open: it is while something in it may be unsynced.
    pub(crate) fn open_file(&self) -> Option<&Arc<D::File>> {
        self.file.get()
    }

    fn open(&self, place: &Place<D>) -> Result<Arc<D::File>, LogError> {
        let path = self.log_path(place);
        place.disk.open(&path).map(Arc::new).map_err(|e| LogError::io("open", &path, e))
    }

    /// The mapping, if this disk makes any.
    fn map(&self, place: &Place<D>) -> Result<Option<&Bytes>, LogError> {
        if self.map.get().is_none() {
            let file = match self.file.get() {
                Some(file) => file.clone(),
                None => self.open(place)?,
            };
            let len = self.map_len.max(self.size);
            let map = file.map(len).map_err(|e| LogError::io("map", &self.log_path(place), e))?;
            match map {
                Some(map) => {
                    let _already_set = self.map.set(map);
                }
                None => {
                    let _already_set = self.file.set(file);
                }
            }
        }
        Ok(self.map.get().filter(|map| map.len() as u64 >= self.size))
    }

    /// Bytes of the segment; a slice of the mapping where there is one.
    pub(crate) fn view(&self, place: &Place<D>, from: u64, to: u64) -> Result<Bytes, LogError> {
        debug_assert!(from <= to && to <= self.size, "{from}..{to} of {} bytes", self.size);
        match self.map(place)? {
            Some(map) => Ok(map.slice(from as usize..to as usize)),
            None => self.copy(place, from, to),
        }
    }

    /// Bytes of the segment, read into memory of their own.
    pub(crate) fn copy(&self, place: &Place<D>, from: u64, to: u64) -> Result<Bytes, LogError> {
        let mut bytes = vec![0; (to - from) as usize];
        self.read_into(place, from, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    /// Of a file that is open by reading it; else through the mapping, which needs no descriptor.
    fn read_into(&self, place: &Place<D>, from: u64, into: &mut [u8]) -> Result<(), LogError> {
        if self.file.get().is_none()
            && let Some(map) = self.map(place)?
        {
            into.copy_from_slice(&map[from as usize..][..into.len()]);
            return Ok(());
        }
        let path = || self.log_path(place);
        read_exact_at(self.file(place)?.as_ref(), from, into).map_err(|error| match error.kind() {
            // somebody has made it shorter
            ErrorKind::UnexpectedEof => {
                let cause = BatchError::Truncated.to_string();
                LogError::CorruptLog { path: path(), position: from, cause }
            }
            _ => LogError::io("read", &path(), error),
        })
    }

    /// The batch that starts at `position`.
    pub(crate) fn batch_at(&self, place: &Place<D>, position: u64) -> Result<Located, LogError> {
        let corrupt =
            |cause: String| LogError::CorruptLog { path: self.log_path(place), position, cause };
        if position + OVERHEAD as u64 > self.size {
            return Err(corrupt("a batch ends too early".into()));
        }
        let decode = |head: &[u8]| match &place.key {
            Some(key) => BatchHeader::decode_verified(head, key),
            None => BatchHeader::decode(head).map(|(header, _)| header),
        };
        let decoded = match self.map(place)? {
            Some(map) => decode(&map[position as usize..][..OVERHEAD]),
            None => {
                let mut head = [0; OVERHEAD];
                self.read_into(place, position, &mut head)?;
                decode(&head)
            }
        };
        let header = decoded.map_err(|error| corrupt(error.to_string()))?;
        let located = Located { position, header };
        if located.end_position() > self.size {
            return Err(corrupt("a batch ends too early".into()));
        }
        Ok(located)
    }

    /// The first batch whose last offset is not below `target`; `None` if all lie below.
    pub(crate) fn locate(
        &self,
        place: &Place<D>,
        interval: u32,
        target: Offset,
    ) -> Result<Option<Located>, LogError> {
        let entry = self.indexes(place, interval)?.offsets.floor(target);
        match entry {
            Some((last, position)) if self.leads_to(place, last, position)? => {
                self.walk_to(place, position, target)
            }
            _ => self.walk_to(place, 0, target),
        }
    }

    fn walk_to(
        &self,
        place: &Place<D>,
        start: u64,
        target: Offset,
    ) -> Result<Option<Located>, LogError> {
        let mut position = start;
        while position < self.size {
            let batch = self.batch_at(place, position)?;
            if batch.header.last_offset() >= target {
                return Ok(Some(batch));
            }
            position = batch.end_position();
        }
        Ok(None)
    }

    /// Timestamps of the whole segment.
    pub(crate) fn summary(&self, place: &Place<D>, interval: u32) -> Result<Summary, LogError> {
        if let Some(summary) = self.summary.get() {
            return Ok(*summary);
        }
        let indexes = self.indexes(place, interval)?;
        let first = match self.is_empty() {
            true => None,
            false => Some(self.batch_at(place, 0)?.header.max_timestamp),
        };
        let found = match indexes.times.last() {
            Some(last) if !self.brings(place, interval, last)? => self.summarize(place)?,
            largest => Summary { first, largest },
        };
        Ok(*self.summary.get_or_init(|| found))
    }

    /// The timestamps, if they are at hand.
    pub(crate) fn known_summary(&self) -> Option<Summary> {
        self.summary.get().copied()
    }

    /// The indexes: from their files if those can be trusted, else from the log.
    pub(crate) fn indexes(&self, place: &Place<D>, interval: u32) -> Result<&Indexes, LogError> {
        if self.indexes.get().is_none() {
            let indexes = match self.load_indexes(place)? {
                Some(indexes) => indexes,
                None => self.rebuild_and_keep_indexes(place, interval)?,
            };
            let _already_set = self.indexes.set(indexes);
        }
        Ok(self.indexes.get().expect("just set"))
    }

    /// What cannot be read makes room for an index that can be made again.
    fn load_indexes(&self, place: &Place<D>) -> Result<Option<Indexes>, LogError> {
        match self.read_indexes(place) {
            Err(LogError::Io { source, path, .. }) if is_unreadable(&source) => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                place.set_aside(name, &source)?;
                self.load_indexes(place)
            }
            read => read,
        }
    }

    fn read_indexes(&self, place: &Place<D>) -> Result<Option<Indexes>, LogError> {
        let offsets = place.file_of(self.base, Kind::OffsetIndex);
        let times = place.file_of(self.base, Kind::TimeIndex);
        if let Some(mark) = &self.mark {
            let (offsets, times) = (read_or_empty(place, &offsets)?, read_or_empty(place, &times)?);
            return Ok(Indexes::from_marked(self.base, self.size, mark, &offsets, &times));
        }
        let (Some(offsets), Some(times)) = (map_file(place, &offsets)?, map_file(place, &times)?)
        else {
            return Ok(None);
        };
        // a closed segment with a batch has a time entry: without one the file is a leftover
        let is_complete = self.is_empty() || !times.is_empty();
        let indexes = Indexes::from_files(self.base, self.size, offsets, times);
        Ok(indexes.filter(|_| is_complete))
    }

    /// Those of a closed segment go back to their files: durably, as a part of an index would be believed.
    fn rebuild_and_keep_indexes(
        &self,
        place: &Place<D>,
        interval: u32,
    ) -> Result<Indexes, LogError> {
        let indexes = self.rebuild_indexes(place, interval, 0..self.size)?;
        if self.mark.is_none() {
            let files = [
                (Kind::OffsetIndex, indexes.offsets.bytes()),
                (Kind::TimeIndex, indexes.times.bytes()),
            ];
            for (kind, bytes) in files {
                match place.replace(&kind.name(self.base), bytes, true) {
                    // what is in memory serves as well, until it is released
                    Err(error) if error.is_temporary() => {}
                    written => drop(written?),
                }
            }
        }
        Ok(indexes)
    }

    fn rebuild_indexes(
        &self,
        place: &Place<D>,
        interval: u32,
        range: Range<u64>,
    ) -> Result<Indexes, LogError> {
        let path = self.log_path(place);
        let mut indexes = Indexes::empty(self.base);
        let mut summary = Summary::default();
        let file = match self.file.get() {
            Some(file) => file.clone(),
            None => self.open(place)?,
        };
        let mut scanner = Scanner::new(file.as_ref(), range.start, range.end);
        loop {
            let position = scanner.position();
            match scanner
                .next(place.key.map_or(Check::Form, Check::Headers))
                .map_err(|e| LogError::io("read", &path, e))?
            {
                Found::Batch(header) => {
                    summary.note(&header);
                    indexes.note(&header, position, &summary, interval);
                }
                Found::Bad(error) => {
                    return Err(LogError::CorruptLog { path, position, cause: error.to_string() });
                }
                Found::End => break,
            }
        }
        // without a mark this is a closed segment; with one, a later checkpoint vouches for less
        if self.mark.is_none() {
            indexes.note_largest(&summary);
        }
        let _already_set = self.summary.set(summary);
        Ok(indexes)
    }

    /// Opens what an append needs.
    pub(crate) fn prepare(
        &mut self,
        place: &Place<D>,
        interval: u32,
        map_len: u64,
    ) -> Result<(), LogError> {
        self.file(place)?;
        self.indexes(place, interval)?;
        self.summary(place, interval)?;
        if let Some(indexes) = self.indexes.get_mut() {
            indexes.grow();
        }
        self.mark = None;
        if self.map_len < map_len {
            self.map_len = map_len;
            self.map.take();
        }
        Ok(())
    }

    /// The writable parts, after [`Segment::prepare`].
    pub(crate) fn parts(&mut self) -> (&Arc<D::File>, &mut Indexes, &mut Summary) {
        const PREPARED: &str = "every write prepares the segment first";
        (
            self.file.get().expect(PREPARED),
            self.indexes.get_mut().expect(PREPARED),
            self.summary.get_mut().expect(PREPARED),
        )
    }

    /// A batch was written at the end.
    pub(crate) fn note(&mut self, header: &BatchHeader, interval: u32) {
        let position = self.size;
        let (_, indexes, summary) = self.parts();
        summary.note(header);
        let summary = *summary;
        indexes.note(header, position, &summary, interval);
        self.size += header.encoded_len() as u64;
        self.end = header.end_offset();
        if self.map.get().is_some_and(|map| self.size > map.len() as u64) {
            // an oversized batch: readers keep the old mapping, the next one makes a longer one
            self.map.take();
        }
    }

    /// Before the segment is closed: its last time entry is its largest timestamp (S6).
    pub(crate) fn note_largest(&mut self) {
        let (_, indexes, summary) = self.parts();
        let summary = *summary;
        indexes.note_largest(&summary);
    }

    /// Brings both index files up to date; not synced. What was written is handed to `wrote`.
    pub(crate) fn persist_indexes(
        &mut self,
        place: &Place<D>,
        closing: bool,
        mut wrote: impl FnMut(PathBuf, D::File),
    ) -> Result<(), LogError> {
        let Some(indexes) = self.indexes.get_mut() else { return Ok(()) };
        let path = place.file_of(self.base, Kind::OffsetIndex);
        let written = indexes.offsets.persist(&place.disk, &path, closing);
        if let Some(file) = written.map_err(|e| LogError::io("write", &path, e))? {
            wrote(path, file);
        }
        let path = place.file_of(self.base, Kind::TimeIndex);
        let written = indexes.times.persist(&place.disk, &path, closing);
        if let Some(file) = written.map_err(|e| LogError::io("write", &path, e))? {
            wrote(path, file);
        }
        Ok(())
    }

    /// No more appends: gives up the descriptor, which the next flush still needs.
    pub(crate) fn close(&mut self) -> Option<Arc<D::File>> {
        self.map_len = self.size;
        self.file.take()
    }

    /// The file was cut to `size` bytes, which end at `end`.
    pub(crate) fn truncate(&mut self, end: Offset, size: u64, summary: Summary) {
        self.end = end;
        self.size = size;
        self.summary = OnceLock::from(summary);
        if let Some(indexes) = self.indexes.get_mut() {
            indexes.truncate(end, size);
        }
    }

    /// Another file stands under the name: slices of the old one stay as they are.
    pub(crate) fn forget_file(&mut self) {
        self.file.take();
        self.map.take();
    }

    /// Gives back descriptor, mapping and closed indexes; all of them come back when needed.
    pub(crate) fn release(&mut self, keep_indexes: bool) {
        self.forget_file();
        if !keep_indexes {
            self.indexes.take();
        }
    }
}
