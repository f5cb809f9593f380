//! The entries of an index of aborted transactions, each with what the log beside it says otherwise.

use super::indexes::{Headers, Mismatch};
use super::segment::DumpError;
use super::{base_offset, beside};
use crate::LogError;
use crate::place::Kind;
use crate::txn_index::{Aborted, ENTRY, HEADER, decode_entry};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use troupe_proto::ids::Offset;

/// An entry of a `.txnindex` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnEntry {
    pub aborted: Aborted,
    pub mismatch: Option<Mismatch>,
}

/// Ends behind the first entry that is damaged.
///
/// # Errors
/// The file or the log beside it cannot be read.
pub fn txn_entries(
    path: &Path,
) -> Result<impl Iterator<Item = Result<TxnEntry, DumpError>> + use<>, LogError> {
    let mut entries = Entries::open(path)?;
    let mut headers = beside(path, Kind::Log).map(|log| Headers::open(&log)).transpose()?.flatten();
    let mut before: Option<Offset> = None;
    Ok(std::iter::from_fn(move || {
        let aborted = match entries.next()? {
            Ok(aborted) => aborted,
            Err(error) => return Some(Err(error)),
        };
        let marker = aborted.last_offset;
        let unordered = before.filter(|last| marker <= *last);
        before = Some(marker);
        if let Some(before) = unordered {
            let mismatch = Some(Mismatch::OutOfOrder { before: before.0 as i64 });
            return Some(Ok(TxnEntry { aborted, mismatch }));
        }
        let found = headers.as_mut().map(|headers| headers.at(marker)).transpose();
        Some(found.map_err(DumpError::from).map(|found| {
            let is_marker = found.flatten().map(|header| {
                header.is_some_and(|header| {
                    header.last_offset() == marker
                        && header.producer.is_some_and(|stamp| stamp.id == aborted.producer_id)
                        && header.marker().is_some_and(|marker| !marker.committed)
                })
            });
            let mismatch = (is_marker == Some(false)).then_some(Mismatch::NoMarker);
            TxnEntry { aborted, mismatch }
        }))
    }))
}

/// The entries of a file that hold together.
struct Entries {
    path: PathBuf,
    file: BufReader<File>,
    base: Offset,
    position: u64,
    size: u64,
}

impl Entries {
    fn open(path: &Path) -> Result<Entries, LogError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|e| LogError::io("open", path, e))?;
        let base = base_offset(path).unwrap_or_default();
        let (path, file) = (path.to_owned(), BufReader::new(file));
        Ok(Entries { path, file, base, position: 0, size })
    }

    fn next(&mut self) -> Option<Result<Aborted, DumpError>> {
        if self.position > 0 && self.position >= self.size {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.position = self.size.max(1);
        }
        Some(taken)
    }

    fn take(&mut self) -> Result<Aborted, DumpError> {
        if self.position == 0 {
            let mut header = [0; HEADER.len()];
            self.read(&mut header)?;
            if header != HEADER {
                return Err(DumpError::BadEntry { position: 0 });
            }
        }
        let position = self.position;
        let mut entry = [0; ENTRY];
        self.read(&mut entry)?;
        decode_entry(self.base, &entry).ok_or(DumpError::BadEntry { position })
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), DumpError> {
        let position = self.position;
        let left = self.size.saturating_sub(position);
        if left < into.len() as u64 {
            return Err(DumpError::TornEntry { position, left });
        }
        self.position += into.len() as u64;
        self.file.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DumpError::TornEntry { position, left },
            _ => LogError::io("read", &self.path, error).into(),
        })
    }
}
