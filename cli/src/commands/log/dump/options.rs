//! What is printed of a file.

use crate::decoder::Decoder;
use troupe_log::dump::FileKind;

/// What is printed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub detail: Detail,
    /// Of each segment, batches that begin behind so many bytes are not shown.
    pub max_bytes: u64,
    pub skip_record_metadata: bool,
}

/// What is printed of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Batches,
    BatchesAndRecords,
    /// The records, and only their meaning; other files than segments have none.
    Decoded(Decoder),
    /// The records of the metadata log, and only their meaning.
    Metadata,
}

impl Detail {
    pub fn is_meaning_only(self) -> bool {
        matches!(self, Detail::Decoded(_) | Detail::Metadata)
    }

    pub fn shows(self, kind: FileKind) -> bool {
        match self {
            Detail::Batches | Detail::BatchesAndRecords => true,
            Detail::Decoded(_) => kind == FileKind::Log,
            Detail::Metadata => false,
        }
    }
}
