//! The batches of a segment, one after the other.

use crate::disk::{Disk, FileDisk, read_exact_at};
use crate::{LogError, checkpoint};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use troupe_proto::batch::{BatchError, BatchHeader, OVERHEAD};
use troupe_proto::ids::PartitionKey;

/// One batch of a `.log` file.
#[derive(Clone, Debug)]
pub struct DumpedBatch {
    pub position: u64,
    pub header: BatchHeader,
    pub header_crc: u32,
    /// As it is stored, that is compressed.
    pub payload: Bytes,
    /// A checksum that does not hold.
    pub fault: Option<BatchError>,
}

/// See the module. Ends behind the first place that is no batch.
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    position: u64,
    /// No batch from here on is read.
    until: u64,
    key: Option<PartitionKey>,
}

/// Why a file ends before its last byte.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DumpError {
    #[error("no batch at byte {position}, {left} bytes before the end: {cause}")]
    BadBatch { position: u64, left: u64, cause: BatchError },
    #[error("the last {left} bytes, from byte {position} on, are no whole entry")]
    TornEntry { position: u64, left: u64 },
    #[error("the entry at byte {position} is damaged")]
    BadEntry { position: u64 },
    #[error(transparent)]
    Log(#[from] LogError),
}

impl LogFile {
    /// The partition's identity, which the header checksums cover, is read from the file beside it; without
    /// that only payload checksums are checked.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path) -> Result<LogFile, LogError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|e| LogError::io("open", path, e))?;
        let beside = path.with_file_name(checkpoint::METADATA);
        let metadata = FileDisk.read(&beside).map_err(|e| LogError::io("read", &beside, e))?;
        let key = metadata.and_then(|content| checkpoint::decode_metadata(&content));
        Ok(LogFile { path: path.to_owned(), file, size, position: 0, until: u64::MAX, key })
    }

    /// Only batches that begin within the first `bytes`.
    #[must_use]
    pub fn up_to(self, bytes: u64) -> LogFile {
        LogFile { until: bytes, ..self }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The partition that the file's directory says it belongs to.
    pub fn key(&self) -> Option<PartitionKey> {
        self.key
    }

    /// The header at `position`, if one stands there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn header_at(&self, position: u64) -> Result<Option<BatchHeader>, LogError> {
        if self.size.saturating_sub(position) < OVERHEAD as u64 {
            return Ok(None);
        }
        let head = self.read(position, OVERHEAD)?;
        Ok(BatchHeader::decode(&head).ok().map(|(header, _)| header))
    }

    fn read(&self, position: u64, len: usize) -> Result<Bytes, LogError> {
        let mut bytes = vec![0; len];
        match read_exact_at(&self.file, position, &mut bytes) {
            Ok(()) => Ok(Bytes::from(bytes)),
            Err(error) => Err(LogError::io("read", &self.path, error)),
        }
    }

    fn take(&mut self, left: u64) -> Result<DumpedBatch, DumpError> {
        let position = self.position;
        let bad = |cause| DumpError::BadBatch { position, left, cause };
        if left < OVERHEAD as u64 {
            return Err(bad(BatchError::Truncated));
        }
        let head = self.read(position, OVERHEAD)?;
        let (header, header_crc) = BatchHeader::decode(&head).map_err(bad)?;
        if left < header.encoded_len() as u64 {
            return Err(bad(BatchError::Truncated));
        }
        let payload = self.read(position + OVERHEAD as u64, header.payload_len as usize)?;
        let identity = self.key.and_then(|key| BatchHeader::decode_verified(&head, &key).err());
        let (stored, computed) = (header.payload_crc, crc_fast::crc32_iscsi(&payload));
        let content =
            (stored != computed).then_some(BatchError::PayloadChecksum { stored, computed });
        self.position += header.encoded_len() as u64;
        Ok(DumpedBatch { position, header, header_crc, payload, fault: identity.or(content) })
    }
}

impl Iterator for LogFile {
    type Item = Result<DumpedBatch, DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.size.checked_sub(self.position).filter(|left| *left > 0)?;
        if self.position >= self.until {
            return None;
        }
        let taken = self.take(left);
        if taken.is_err() {
            self.position = self.size;
        }
        Some(taken)
    }
}

/// Whether a file is not there.
pub(super) fn is_missing(error: &LogError) -> bool {
    matches!(error, LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
