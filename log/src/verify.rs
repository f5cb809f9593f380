//! Whether the files of a stopped node hold what they should, and mending what can be mended: for `troupe log verify`.
//!
//! - [`file()`] looks at a file by itself, [`partition()`] at a partition's directory, where the files vouch for each
//!   other too.
//! - [`mend()`] makes again what follows from the batches and clears away what a change has left, as opening the log
//!   does. Records go only where the caller has said that they may, and the replica then remembers that it lacks some.
//!
//! Promises: looking changes nothing. Never here: which copy of a partition is the better one.

mod mend;
mod partition;
mod segment;
mod single;

pub use mend::{MendError, Mended, mend};
pub use partition::partition;
pub use segment::{SegmentReport, verify_segment};
pub use single::file;

use crate::dump::FileKind;
use std::path::{Path, PathBuf};
use troupe_proto::ids::Offset;

/// What was found out about a file.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub path: PathBuf,
    pub kind: FileKind,
    /// Batches of a segment, entries of an index, lines of a text.
    pub entries: u64,
    pub segment: Option<SegmentReport>,
    /// A change that was interrupted has left it, or its segment is gone: opening the log clears it away.
    pub is_leftover: bool,
    pub faults: Vec<Fault>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In words, without the file's name.
    pub text: String,
    pub remedy: Remedy,
}

/// What there is to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The file follows from the batches: it is made again.
    MakeAgain,
    /// What is there is of no use, and nothing needs it.
    Remove,
    /// What a crash leaves of a write that was under way, from this byte on: it was never acknowledged, and is cut
    /// off.
    CutTail { position: u64 },
    /// Records are gone, from the first offset up to the second, as far as that is known. From `position` on the file
    /// is no good.
    Loss { position: Option<u64>, from: Offset, to: Option<Offset> },
    /// Nothing that a single node could do.
    None,
}

impl FileReport {
    fn new(path: &Path, kind: FileKind) -> FileReport {
        FileReport {
            path: path.to_owned(),
            kind,
            entries: 0,
            segment: None,
            is_leftover: false,
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, remedy: Remedy, text: impl Into<String>) {
        self.faults.push(Fault { text: text.into(), remedy });
    }
}
