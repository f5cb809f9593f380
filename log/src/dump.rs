//! Single files of a log, read from outside: for `troupe log dump` and `troupe log verify` (S31, S32).
//!
//! - Which file is what, by its name: [`FileKind`]; also what a change that was interrupted has left.
//! - [`LogFile`]: the batches of a segment. [`offset_entries`], [`time_entries`], [`txn_entries`]: an index, beside its
//!   log.
//! - The small files: `texts`.
//!
//! Takes no part in the log's life: opens files to read, repairs nothing. Whatever its size, of a file only a batch
//! or some entries are in memory at a time. A damaged file is described as far as it can be.

mod aborted;
mod indexes;
mod segment;
mod texts;

pub use crate::txn_index::VERSION as TXN_INDEX_VERSION;
pub use aborted::{TxnEntry, txn_entries};
pub use indexes::{Mismatch, OffsetEntry, TimeEntry, offset_entries, time_entries};
pub use segment::{DumpError, DumpedBatch, LogFile};
pub use texts::{
    InventoryLine, checkpoint_lines, inventory_lines, leader_epochs, producer_snapshot,
};

use crate::cleaning::{REPLACED, SWAP};
use crate::listing::TRANSIENT;
use crate::place::{ASIDE, Kind};
use crate::{LogError, checkpoint, directories, directory, inventory};
use std::path::{Path, PathBuf};
use troupe_proto::ids::Offset;

/// What a file of a data directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    TxnIndex,
    Snapshot,
    /// `leader-epoch-checkpoint`.
    Epochs,
    /// One of the other small text files: checkpoints, `partition.metadata`, `damage`, `meta.properties`.
    Checkpoint,
    /// `partition-directories`.
    Inventory,
}

impl FileKind {
    /// `None` for names that no log gives. What a change was about to make or to remove is of the kind that it was to
    /// be, or was.
    pub fn of(path: &Path) -> Option<FileKind> {
        let (name, _) = split(path.file_name()?.to_str()?);
        match name {
            checkpoint::EPOCHS => Some(FileKind::Epochs),
            checkpoint::OFFSETS
            | checkpoint::LOG_START
            | checkpoint::CLEANER
            | checkpoint::TOMBSTONES_GONE
            | SWAP
            | checkpoint::METADATA
            | checkpoint::DAMAGE
            | checkpoint::FLUSHED_END
            | directory::META
            | directories::KNOWN => Some(FileKind::Checkpoint),
            inventory::FILE => Some(FileKind::Inventory),
            _ => Kind::parse(name).map(|(_, kind)| match kind {
                Kind::Log => FileKind::Log,
                Kind::OffsetIndex => FileKind::OffsetIndex,
                Kind::TimeIndex => FileKind::TimeIndex,
                Kind::TxnIndex => FileKind::TxnIndex,
                Kind::Snapshot => FileKind::Snapshot,
            }),
        }
    }
}

/// Whether a change that was interrupted has left the file: the next opening of the log finishes the change, or
/// removes it.
pub fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == SWAP || TRANSIENT.iter().any(|suffix| name.ends_with(suffix))
}

/// The offset in a file's name.
pub fn base_offset(path: &Path) -> Option<Offset> {
    let (name, _) = split(path.file_name()?.to_str()?);
    Kind::parse(name).map(|(base, _)| base)
}

/// A name, and what has been appended to it by a change, by a pass of the cleaner, which adds its number, or when it was
/// set aside.
fn split(name: &str) -> (&str, &str) {
    let numbered = |name: &str, before: &str| {
        let (plain, number) = name.rsplit_once(before)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        digits.then_some(plain.len())
    };
    let in_transit = TRANSIENT.iter().find_map(|suffix| name.strip_suffix(suffix));
    let end = match in_transit {
        Some(before) => match before.strip_suffix(REPLACED) {
            Some(replaced) => replaced.len(),
            None => numbered(before, ".").unwrap_or(before.len()),
        },
        None => numbered(name, ASIDE).unwrap_or(name.len()),
    };
    name.split_at(end)
}

/// The segment's other file of this kind, in the same state.
pub(crate) fn beside(path: &Path, kind: Kind) -> Option<PathBuf> {
    let (name, state) = split(path.file_name()?.to_str()?);
    let (base, _) = Kind::parse(name)?;
    Some(path.with_file_name(kind.name(base) + state))
}

fn corrupt(path: &Path, position: u64, cause: impl Into<String>) -> LogError {
    LogError::CorruptLog { path: path.to_owned(), position, cause: cause.into() }
}
