//! The entries of an index, each with what the log beside it says otherwise.
//!
//! Where the log is damaged itself, or is not there, nothing is said of the entries.

use super::segment::{DumpError, LogFile, is_missing};
use super::{base_offset, beside};
use crate::LogError;
use crate::index::{OffsetIndex, TimeIndex};
use crate::place::Kind;
use crate::scan::{Check, Found, Scanner};
use crate::segment::indexed_timestamp;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;

/// An entry of a `.index` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of a batch.
    pub offset: Offset,
    /// Where that batch begins.
    pub position: u32,
    pub mismatch: Option<Mismatch>,
}

/// An entry of a `.timeindex` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// The largest so far.
    pub timestamp: i64,
    /// Last offset of the batch that brought it.
    pub offset: Offset,
    pub mismatch: Option<Mismatch>,
}

/// How an entry and the log disagree, or an entry and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The batch at the entry's position ends with another offset, or none begins there.
    #[error("the batch at its position {}", match log {
        Some(offset) => format!("ends with offset {offset}"),
        None => "is none".to_owned(),
    })]
    OtherBatch { log: Option<Offset> },
    /// No batch ends with the entry's offset. The one that holds it ends with another, or there is none.
    #[error("no batch ends with it")]
    NoBatch { log: Option<Offset> },
    /// Of an aborted transaction.
    #[error("no marker there aborts a transaction of this producer")]
    NoMarker,
    #[error("the largest timestamp of its batch is {log}")]
    OtherTimestamp { log: i64 },
    #[error("it is not behind the entry before it, of {before}")]
    OutOfOrder { before: i64 },
}

/// # Errors
/// The file or the log beside it cannot be read.
pub fn offset_entries(
    path: &Path,
) -> Result<impl Iterator<Item = Result<OffsetEntry, DumpError>> + use<>, LogError> {
    let mut entries = Entries::<{ OffsetIndex::ENTRY }>::open(path)?;
    let base = base_offset(path).unwrap_or_default();
    let log = match beside(path, Kind::Log).map(|log| LogFile::open(&log)).transpose() {
        Err(error) if is_missing(&error) => None,
        log => log?,
    };
    let mut before: Option<(Offset, u32)> = None;
    Ok(std::iter::from_fn(move || {
        let entry = match entries.next()? {
            Ok(entry) => OffsetIndex::parse(base, &entry),
            Err(error) => return Some(Err(error)),
        };
        let (offset, position) = entry;
        let unordered = before.filter(|(last, at)| offset <= *last || position <= *at);
        before = Some(entry);
        if let Some((last, _)) = unordered {
            let mismatch = Some(Mismatch::OutOfOrder { before: last.0 as i64 });
            return Some(Ok(OffsetEntry { offset, position, mismatch }));
        }
        let found = log.as_ref().map(|log| log.header_at(u64::from(position))).transpose();
        Some(found.map_err(DumpError::from).map(|found| {
            let last = found.map(|header| header.map(|header| header.last_offset()));
            let other = last.filter(|last| *last != Some(offset));
            let mismatch = other.map(|log| Mismatch::OtherBatch { log });
            OffsetEntry { offset, position, mismatch }
        }))
    }))
}

/// # Errors
/// The file or the log beside it cannot be read.
pub fn time_entries(
    path: &Path,
) -> Result<impl Iterator<Item = Result<TimeEntry, DumpError>> + use<>, LogError> {
    let mut entries = Entries::<{ TimeIndex::ENTRY }>::open(path)?;
    let base = base_offset(path).unwrap_or_default();
    let mut headers = beside(path, Kind::Log).map(|log| Headers::open(&log)).transpose()?.flatten();
    let mut before: Option<i64> = None;
    Ok(std::iter::from_fn(move || {
        let (timestamp, offset) = match entries.next()? {
            Ok(entry) => TimeIndex::parse(base, &entry),
            Err(error) => return Some(Err(error)),
        };
        let unordered = before.filter(|last| timestamp <= *last);
        before = Some(timestamp);
        if let Some(before) = unordered {
            let mismatch = Some(Mismatch::OutOfOrder { before });
            return Some(Ok(TimeEntry { timestamp, offset, mismatch }));
        }
        let mismatch = match headers.as_mut().map(|headers| headers.mismatch(timestamp, offset)) {
            Some(Err(error)) => return Some(Err(error.into())),
            Some(Ok(mismatch)) => mismatch,
            None => None,
        };
        Some(Ok(TimeEntry { timestamp, offset, mismatch }))
    }))
}

/// The entries of a file as bytes; what is left at its end is an error.
struct Entries<const N: usize> {
    path: PathBuf,
    file: BufReader<File>,
    position: u64,
    size: u64,
}

impl<const N: usize> Entries<N> {
    fn open(path: &Path) -> Result<Self, LogError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|e| LogError::io("open", path, e))?;
        Ok(Entries { path: path.to_owned(), file: BufReader::new(file), position: 0, size })
    }

    fn next(&mut self) -> Option<Result<[u8; N], DumpError>> {
        let left = self.size.checked_sub(self.position).filter(|left| *left > 0)?;
        let position = self.position;
        if left < N as u64 {
            self.position = self.size;
            return Some(Err(DumpError::TornEntry { position, left }));
        }
        let mut entry = [0; N];
        self.position += N as u64;
        Some(match self.file.read_exact(&mut entry) {
            Ok(()) => Ok(entry),
            Err(error) => {
                self.position = self.size;
                Err(LogError::io("read", &self.path, error).into())
            }
        })
    }
}

/// The headers of a log, as far as they are needed.
pub(super) struct Headers {
    path: PathBuf,
    file: File,
    size: u64,
    position: u64,
    /// The last one that was read.
    current: Option<BatchHeader>,
    is_damaged: bool,
}

impl Headers {
    /// `None`: there is no such file.
    pub(super) fn open(path: &Path) -> Result<Option<Headers>, LogError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| LogError::io("open", path, e))?,
        };
        let path = path.to_owned();
        Ok(Some(Headers { path, file, size, position: 0, current: None, is_damaged: false }))
    }

    fn mismatch(&mut self, timestamp: i64, offset: Offset) -> Result<Option<Mismatch>, LogError> {
        self.go_to(offset)?;
        Ok(match self.current {
            _ if self.is_damaged => None,
            Some(header) if header.last_offset() == offset => {
                let log = indexed_timestamp(&header);
                (log != timestamp).then_some(Mismatch::OtherTimestamp { log })
            }
            Some(header) if header.last_offset() > offset => {
                Some(Mismatch::NoBatch { log: Some(header.last_offset()) })
            }
            _ => Some(Mismatch::NoBatch { log: None }),
        })
    }

    /// The first batch that does not end below `offset`, if there is one; `None`: the log is damaged before.
    pub(super) fn at(&mut self, offset: Offset) -> Result<Option<Option<BatchHeader>>, LogError> {
        self.go_to(offset)?;
        let found = self.current.filter(|header| header.last_offset() >= offset);
        Ok((!self.is_damaged).then_some(found))
    }

    /// To the first batch that does not end below `offset`.
    fn go_to(&mut self, offset: Offset) -> Result<(), LogError> {
        if self.current.is_some_and(|header| header.last_offset() >= offset) {
            return Ok(());
        }
        let mut scanner = Scanner::new(&self.file, self.position, self.size);
        loop {
            match scanner.next(Check::Form).map_err(|e| LogError::io("read", &self.path, e))? {
                Found::Batch(header) => {
                    self.current = Some(header);
                    if header.last_offset() >= offset {
                        break;
                    }
                }
                Found::Bad(_) => {
                    self.is_damaged = true;
                    break;
                }
                Found::End => break,
            }
        }
        self.position = scanner.position();
        Ok(())
    }
}
