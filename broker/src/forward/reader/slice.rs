//! What a reader gives, and what it is asked for.

use crate::forward::route::Target;
use bytes::Bytes;
use troupe_proto::batch::CommittedFilter;
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, Offset};

/// Whole batches of one partition.
pub struct Slice {
    pub target: Target,
    /// Where the reader was: what comes before in the first batch was asked for by nobody.
    pub from: Offset,
    /// Where the reader stops, if it does: what comes after was asked for by nobody either.
    pub end: Option<Offset>,
    pub bytes: Bytes,
    pub next: Offset,
    /// Where what the reader may see ended: at the high watermark, or the last stable offset.
    pub readable_end: Offset,
    /// What of the batches is for the reader.
    pub filter: CommittedFilter,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub next: Offset,
    /// The leader epoch of the record before, if that was read, or a later one in which the log held it.
    pub after: Option<LeaderEpoch>,
}

impl From<Offset> for Start {
    fn from(next: Offset) -> Start {
        Start { next, after: None }
    }
}

/// Why reading ended.
pub struct Failed {
    /// What is not read any more; none: nothing is.
    pub target: Option<Target>,
    pub error: Box<Error>,
}
