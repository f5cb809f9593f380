//! Whether what stands in the files is what was written.
//!
//! Promises: of what passes [`check_batches`] each batch is, bit for bit, one that was written to this partition: a changed
//! bit of a header, a payload or a length never passes (CRC-32C finds every burst of 32 bits, and any other change
//! with a probability of all but 2^-32). It says nothing of batches that are missing between others. Reads from a
//! mapping see the page cache: rot on the disk below it shows when the page is read anew.
//! Never here: nothing is changed.

use crate::damage::Damage;
use crate::disk::Disk;
use crate::segment::{Located, Segment};
use crate::{Log, LogError};
use bytes::Bytes;
use troupe_proto::batch::{BatchError, BatchHeader, OVERHEAD};
use troupe_proto::ids::{Offset, PartitionKey};

/// Looked through at a time for the next good batch.
const CHUNK: u64 = 1 << 20;

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

impl<D: Disk> Log<D> {
    /// Looks at the batch that holds `at`, as it stands in the file now: whoever reads has found it changed.
    /// `None`: it is sound.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn examine(&self, at: Offset) -> Result<Option<Damage>, LogError> {
        let Some(segment) = self.segment_of(at).and_then(|n| self.segments.get(n)) else {
            return Ok(None);
        };
        let (position, below, cause) = match self.walk(segment, at)? {
            Walk::Behind => return Ok(None),
            Walk::Bad { position, expected, cause } => (position, expected, cause),
            Walk::At(batch) => {
                let bytes = segment.copy(&self.place, batch.position, batch.end_position())?;
                match check_batch(&bytes, &self.key) {
                    Ok(_) => return Ok(None),
                    Err(cause) => (batch.position, batch.header.base_offset, cause),
                }
            }
        };
        let behind = self.sound_behind(segment, position, below.plus(1))?;
        let path = segment.log_path(&self.place);
        Ok(Some(Damage {
            cause: format!("{} is damaged at byte {position}: {cause}", path.display()),
            complete_below: below.max(self.start),
            resumes_at: Some(behind.map_or(segment.end, |batch| batch.header.base_offset)),
        }))
    }

    /// A damage that was noted and of which nobody knows how far it goes: is there still something wrong in the log? A
    /// log that was cut there and written to since lacks nothing within.
    pub(crate) fn look_again_at_damage(&mut self) -> Result<(), LogError> {
        let Some(at) = self.damaged_from() else { return Ok(()) };
        let Some(known) = self.damage.take_if(|damage| damage.resumes_at.is_none()) else {
            return Ok(());
        };
        let mut whole = true;
        for segment in self.segments.iter().filter(|segment| segment.end > at) {
            whole &= whole && self.is_whole_from(segment, at)?;
        }
        let resumes_at = whole.then_some(known.complete_below);
        self.damage = Some(Damage { resumes_at, ..known });
        Ok(())
    }

    /// Whether the batches that stand for `at` and what is behind it in the segment are all there, and what was written.
    fn is_whole_from(&self, segment: &Segment<D>, at: Offset) -> Result<bool, LogError> {
        let (mut position, mut end) = (0, segment.base);
        let mut begins = segment.base > at;
        while position < segment.size {
            let Ok(header) = self.sound_header(segment, position)? else { return Ok(false) };
            let to = position + header.encoded_len() as u64;
            if header.end_offset() > at {
                let bytes = segment.copy(&self.place, position, to)?;
                begins |= header.base_offset <= at;
                if !begins || check_batch(&bytes, &self.key).is_err() {
                    return Ok(false);
                }
            }
            (position, end) = (to, header.end_offset());
        }
        Ok(end == segment.end)
    }

    /// What this error of a read is about: the first batch that is damaged in the file that it names.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn examine_error(&self, error: &LogError) -> Result<Option<Damage>, LogError> {
        let LogError::CorruptLog { path, position, .. } = error else { return Ok(None) };
        let segment = self.segments.iter().find(|segment| segment.log_path(&self.place) == *path);
        let Some(segment) = segment else { return Ok(None) };
        let mut at = segment.base;
        loop {
            match self.walk(segment, at)? {
                Walk::At(batch) if batch.position < *position => at = batch.header.end_offset(),
                _ => return self.examine(at),
            }
        }
    }

    /// Goes from sound header to sound header.
    pub(crate) fn walk(&self, segment: &Segment<D>, target: Offset) -> Result<Walk, LogError> {
        let (mut position, mut expected) = self.sound_start(segment, target);
        while position < segment.size {
            let header = match self.sound_header(segment, position)? {
                Ok(header) => header,
                Err(cause) => return Ok(Walk::Bad { position, expected, cause }),
            };
            if header.last_offset() >= target {
                return Ok(Walk::At(Located { position, header }));
            }
            position += header.encoded_len() as u64;
            expected = header.end_offset();
        }
        Ok(Walk::Behind)
    }

    /// Where the index leads, if that is true.
    fn sound_start(&self, segment: &Segment<D>, target: Offset) -> (u64, Offset) {
        let start = || {
            let indexes = segment.indexes(&self.place, self.config.index_interval_bytes).ok()?;
            let (last, position) = indexes.offsets.floor(target)?;
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
        let head = segment.view(&self.place, position, position + OVERHEAD as u64)?;
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
        next_sound(&self.key, position, segment.size, at_least, |from, to| {
            segment.view(&self.place, from, to)
        })
    }

    /// The headers of a segment from the batch that holds `from` on. In a log that is known to be damaged what is no
    /// header is passed over; in any other it is an error.
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
                Err(cause) if self.damage.is_none() => {
                    let (path, cause) = (segment.log_path(&self.place), cause.to_string());
                    return Err(LogError::CorruptLog { path, position, cause });
                }
                Err(_) => match self.sound_behind(segment, position, expected)? {
                    Some(batch) => {
                        position = batch.position;
                        batch.header
                    }
                    None => return Ok(()),
                },
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
