//! Whether what stands in the files is what was written.
//!
//! Promises: of what passes [`check_batches`] each batch is, bit for bit, one that was written to this partition: a changed
//! bit of a header, a payload or a length never passes (CRC-32C finds every burst of 32 bits, and any other change
//! with a probability of all but 2^-32). It says nothing of batches that are missing between others. Reads from a
//! mapping see the page cache: rot on the disk below it shows when the page is read anew.
//! Never here: nothing is changed.

use crate::damage::Damage;
use crate::disk::Disk;
use crate::index::Indexes;
use crate::segment::{Located, Segment, Summary};
use crate::{Log, LogError};
use bytes::Bytes;
use troupe_proto::batch::{BatchError, BatchHeader, OVERHEAD};
use troupe_proto::ids::{Offset, PartitionKey};

/// Looked through at a time for the next good batch.
const CHUNK: u64 = 1 << 20;

/// Whether an error is about what stands in the file, and not about reaching it: it is shorter, or a sector of it cannot
/// be read. What is not to be read is not there; what is wrong with the disk as a whole is found by writing.
pub(crate) fn is_of_content(error: &LogError) -> bool {
    match error {
        LogError::CorruptLog { .. } => true,
        LogError::Io { action: "read", source, .. } => source.raw_os_error() == Some(libc::EIO),
        _ => false,
    }
}

/// A batch that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBatch {
    /// Where it, or what is left of it, begins: all before is good.
    pub at: Offset,
    /// How many bytes come before it.
    pub position: usize,
    pub cause: BatchError,
}

/// Whole batches of a partition, both checksums of each. `from`: what the first one holds.
///
/// # Errors
/// The first one that is not what was written.
pub fn check_batches(bytes: &[u8], key: &PartitionKey, from: Offset) -> Result<(), BadBatch> {
    let (mut rest, mut at) = (bytes, from);
    while !rest.is_empty() {
        let position = bytes.len() - rest.len();
        let header = check_batch(rest, key).map_err(|cause| BadBatch { at, position, cause })?;
        at = header.end_offset();
        rest = &rest[header.encoded_len()..];
    }
    Ok(())
}

/// The batch at the start of `bytes`, which is all there.
pub(crate) fn check_batch(bytes: &[u8], key: &PartitionKey) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::decode_verified(bytes, key)?;
    let payload = bytes.get(OVERHEAD..header.encoded_len()).ok_or(BatchError::Truncated)?;
    let (stored, computed) = (header.payload_crc, crc_fast::crc32_iscsi(payload));
    match stored == computed {
        true => Ok(header),
        false => Err(BatchError::PayloadChecksum { stored, computed }),
    }
}

/// In a file of `size` bytes, the next batch behind `position` with a sound header, of offsets not below `at_least`.
pub(crate) fn next_sound<E>(
    key: &PartitionKey,
    position: u64,
    size: u64,
    at_least: Offset,
    mut read: impl FnMut(u64, u64) -> Result<Bytes, E>,
) -> Result<Option<Located>, E> {
    let mut from = position + 1;
    while from + OVERHEAD as u64 <= size {
        let to = (from + CHUNK).min(size);
        let bytes = read(from, to)?;
        for (n, window) in bytes.windows(OVERHEAD).enumerate() {
            let Ok(header) = BatchHeader::decode_verified(window, key) else { continue };
            let batch = Located { position: from + n as u64, header };
            if header.base_offset >= at_least && batch.end_position() <= size {
                return Ok(Some(batch));
            }
        }
        from = to - (OVERHEAD as u64 - 1);
    }
    Ok(None)
}

/// Where a walk over sound headers has come.
pub(crate) enum Walk {
    /// The first batch whose last offset is not below the target.
    At(Located),
    /// What stands here is no header that was written; all offsets below `expected` come before it.
    Bad { position: u64, expected: Offset, cause: BatchError },
    /// All batches lie below the target.
    Behind,
}

/// The first batch of a segment that is not what was written, at an offset or before.
struct Bad {
    position: u64,
    /// All offsets below come before it.
    below: Offset,
    cause: BatchError,
}

impl<D: Disk> Log<D> {
    /// Looks at the batch that holds `at`, as it stands in the file now: whoever reads has found it changed. `None`: it is
    /// sound, or nobody needs it: below the log's start, the first that somebody does is looked at instead. How far the damage goes is for [`Log::survey_damage`], which may take long; this takes as long as a read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn examine(&self, at: Offset) -> Result<Option<Damage>, LogError> {
        let at = at.max(self.start);
        let Some(segment) = self.segment_of(at).and_then(|n| self.segments.get(n)) else {
            return Ok(None);
        };
        let bad = self.bad_at(segment, at)?;
        Ok(bad.map(|Bad { position, below, cause }| {
            let path = segment.log_path(&self.place);
            let cause = format!("{} is damaged at byte {position}: {cause}", path.display());
            Damage::from(below.max(self.start), cause)
        }))
    }

    fn bad_at(&self, segment: &Segment<D>, at: Offset) -> Result<Option<Bad>, LogError> {
        let batch = match self.walk(segment, at)? {
            Walk::Behind => return Ok(None),
            Walk::Bad { position, expected: below, cause } => {
                return Ok(Some(Bad { position, below, cause }));
            }
            Walk::At(batch) => batch,
        };
        let cause = match segment.copy(&self.place, batch.position, batch.end_position()) {
            Ok(bytes) => check_batch(&bytes, &self.key).err(),
            Err(error) if is_of_content(&error) => Some(BatchError::Truncated),
            Err(error) => return Err(error),
        };
        let (position, below) = (batch.position, batch.header.base_offset);
        Ok(cause.map(|cause| Bad { position, below, cause }))
    }

    /// A damage that was noted and of which nobody knows how far it goes: where does the log go on, and is there still
    /// something wrong in it? One that was cut there and written to since lacks nothing within. Looks through segments:
    /// not for a thread that others wait for.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn survey_damage(&mut self) -> Result<(), LogError> {
        let Some(at) = self.damaged_from() else { return Ok(()) };
        let Some(known) = self.damage.take_if(|damage| damage.resumes_at.is_none()) else {
            return Ok(());
        };
        let resumes_at = self.resumes_behind(at);
        self.damage = Some(Damage { resumes_at: resumes_at.clone().unwrap_or_default(), ..known });
        resumes_at.map(drop)
    }

    fn resumes_behind(&self, at: Offset) -> Result<Option<Offset>, LogError> {
        let damaged = self.segment_of(at).and_then(|n| self.segments.get(n));
        let bad = damaged.map(|segment| self.bad_at(segment, at)).transpose()?.flatten();
        if let (Some(segment), Some(bad)) = (damaged, bad) {
            let behind = self.sound_behind(segment, bad.position, bad.below.plus(1))?;
            return Ok(Some(behind.map_or(segment.end, |batch| batch.header.base_offset)));
        }
        let mut whole = true;
        for segment in self.segments.iter().filter(|segment| segment.end > at) {
            whole &= whole && self.is_whole_from(segment, at)?;
        }
        Ok(whole.then_some(at))
    }

    /// Whether the batches that stand for `at` and what is behind it in the segment are all there, and what was written.
    fn is_whole_from(&self, segment: &Segment<D>, at: Offset) -> Result<bool, LogError> {
        let (mut position, mut end) = (0, segment.base);
        let mut begins = segment.base > at;
        while position < segment.size {
            let Ok(header) = self.sound_header(segment, position)? else { return Ok(false) };
            let to = position + header.encoded_len() as u64;
            if header.end_offset() > at {
                let is_sound = match segment.copy(&self.place, position, to) {
                    Ok(bytes) => check_batch(&bytes, &self.key).is_ok(),
                    Err(error) if is_of_content(&error) => false,
                    Err(error) => return Err(error),
                };
                begins |= header.base_offset <= at;
                if !begins || !is_sound {
                    return Ok(false);
                }
            }
            (position, end) = (to, header.end_offset());
        }
        Ok(end == segment.end)
    }

    /// What this error of a read is about: the batch at the place that it names, or the first damaged one before.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn examine_error(&self, error: &LogError) -> Result<Option<Damage>, LogError> {
        let LogError::CorruptLog { path, position, .. } = error else { return Ok(None) };
        let segment = self.segments.iter().find(|segment| segment.log_path(&self.place) == *path);
        let Some(segment) = segment else { return Ok(None) };
        let (mut at, mut expected) =
            self.sound_start(segment, |indexes| indexes.offsets.furthest(*position, segment.end));
        while at < *position {
            let Ok(header) = self.sound_header(segment, at)? else { break };
            at += header.encoded_len() as u64;
            expected = header.end_offset();
        }
        self.examine(expected)
    }

    /// Goes from sound header to sound header, and over what is damaged among what was deleted.
    pub(crate) fn walk(&self, segment: &Segment<D>, target: Offset) -> Result<Walk, LogError> {
        let (mut position, mut expected) =
            self.sound_start(segment, |indexes| indexes.offsets.floor(target));
        while position < segment.size {
            let header = match self.sound_header(segment, position)? {
                Ok(header) => header,
                Err(cause) => match self.behind_deleted(segment, position, expected)? {
                    Some(batch) => {
                        (position, expected) = (batch.position, batch.header.base_offset);
                        continue;
                    }
                    None if segment.end <= self.start => return Ok(Walk::Behind),
                    None => return Ok(Walk::Bad { position, expected, cause }),
                },
            };
            if header.last_offset() >= target {
                return Ok(Walk::At(Located { position, header }));
            }
            position += header.encoded_len() as u64;
            expected = header.end_offset();
        }
        Ok(Walk::Behind)
    }

    /// The next batch behind what is damaged at `position`, if all that is lost there lies below the log's start: nobody
    /// needs it, and its file goes when nothing above is in it.
    pub(crate) fn behind_deleted(
        &self,
        segment: &Segment<D>,
        position: u64,
        expected: Offset,
    ) -> Result<Option<Located>, LogError> {
        if expected >= self.start {
            return Ok(None);
        }
        let behind = self.sound_behind(segment, position, expected)?;
        Ok(behind.filter(|batch| batch.header.base_offset <= self.start))
    }

    /// Timestamps of a segment; if what was deleted is damaged, of the rest.
    pub(crate) fn summary(&self, segment: &Segment<D>) -> Result<Summary, LogError> {
        match segment.summary(&self.place, self.config.index_interval_bytes) {
            Err(LogError::CorruptLog { .. }) if segment.base < self.start => {
                let (mut summary, mut position) = (Summary::default(), self.needed_from(segment).1);
                while position < segment.size {
                    let batch = segment.batch_at(&self.place, position)?;
                    summary.note(&batch.header);
                    position = batch.end_position();
                }
                Ok(summary)
            }
            summary => summary,
        }
    }

    /// Where the first batch of a segment stands that holds something that was not deleted. If that cannot be told, all of
    /// it counts.
    pub(crate) fn needed_from(&self, segment: &Segment<D>) -> (Offset, u64) {
        if segment.end <= self.start {
            return (segment.end, segment.size);
        }
        let begins_within = segment.base < self.start;
        match begins_within.then(|| self.locate(segment, self.start)) {
            Some(Ok(Some(batch))) => (batch.header.base_offset, batch.position),
            _ => (segment.base, 0),
        }
    }

    /// Where this entry of the index leads, if that is true.
    fn sound_start(
        &self,
        segment: &Segment<D>,
        entry: impl FnOnce(&Indexes) -> Option<(Offset, u64)>,
    ) -> (u64, Offset) {
        let start = || {
            let indexes = segment.indexes(&self.place, self.config.index_interval_bytes).ok()?;
            let (last, position) = entry(indexes)?;
            let header = self.sound_header(segment, position).ok()?.ok()?;
            (header.last_offset() == last).then_some((position, header.base_offset))
        };
        start().unwrap_or((0, segment.base))
    }

    /// The header at `position`, if it is one that was written and its batch ends within the segment.
    pub(crate) fn sound_header(
        &self,
        segment: &Segment<D>,
        position: u64,
    ) -> Result<Result<BatchHeader, BatchError>, LogError> {
        if position + OVERHEAD as u64 > segment.size {
            return Ok(Err(BatchError::Truncated));
        }
        let head = match segment.view(&self.place, position, position + OVERHEAD as u64) {
            Err(error) if is_of_content(&error) => return Ok(Err(BatchError::Truncated)),
            head => head?,
        };
        let header = BatchHeader::decode_verified(&head, &self.key);
        Ok(header.and_then(|header| {
            let fits = position + header.encoded_len() as u64 <= segment.size;
            fits.then_some(header).ok_or(BatchError::Truncated)
        }))
    }

    /// The next batch behind `position` with a sound header, of offsets not below `at_least`.
    pub(crate) fn sound_behind(
        &self,
        segment: &Segment<D>,
        position: u64,
        at_least: Offset,
    ) -> Result<Option<Located>, LogError> {
        let behind = next_sound(&self.key, position, segment.size, at_least, |from, to| {
            segment.view(&self.place, from, to)
        });
        match behind {
            Err(error) if is_of_content(&error) => Ok(None),
            behind => behind,
        }
    }

    /// The headers of a segment from the batch that holds `from` on. What is no header is passed over in a log that is
    /// known to be damaged, and among what was deleted; else it is an error.
    pub(crate) fn each_sound_header(
        &self,
        segment: &Segment<D>,
        from: Offset,
        each: &mut impl FnMut(&BatchHeader),
    ) -> Result<(), LogError> {
        let mut position = 0;
        let mut expected = segment.base;
        if let Walk::At(batch) = self.walk(segment, from)? {
            (position, expected) = (batch.position, batch.header.base_offset);
        }
        while position < segment.size {
            let header = match self.sound_header(segment, position)? {
                Ok(header) => header,
                Err(cause) => {
                    let behind = self.sound_behind(segment, position, expected)?;
                    let resumes_at = behind.map_or(segment.end, |batch| batch.header.base_offset);
                    if self.damage.is_none() && resumes_at > self.start {
                        let (path, cause) = (segment.log_path(&self.place), cause.to_string());
                        return Err(LogError::CorruptLog { path, position, cause });
                    }
                    let Some(batch) = behind else { return Ok(()) };
                    position = batch.position;
                    batch.header
                }
            };
            if header.end_offset() > from {
                each(&header);
            }
            position += header.encoded_len() as u64;
            expected = header.end_offset();
        }
        Ok(())
    }
}
