//! What the mover asks of a partition whose log it copies into another directory of the node.

use actix::Message;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;
use troupe_log::disk::FileDisk;
use troupe_log::{Log, LogConfig, LogDirectory};
use troupe_proto::error::Error;
use troupe_proto::ids::Offset;

/// The log is about to be copied: nobody cleans it from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginMove {
    pub reply: oneshot::Sender<Result<Original, Error>>,
}

/// What a copy begins with.
#[derive(Clone, Debug)]
pub struct Original {
    pub directory: Arc<LogDirectory>,
    pub config: LogConfig,
    pub start: Offset,
    pub size_bytes: u64,
    /// How often the log was truncated; a copy of another state is of no use.
    pub truncations: u64,
}

/// Whole batches for the copy, committed or not.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadForMove {
    pub from: Offset,
    pub max_bytes: usize,
    pub truncations: u64,
    pub reply: oneshot::Sender<Result<Piece, Error>>,
}

#[derive(Clone, Debug)]
pub struct Piece {
    pub bytes: Bytes,
    /// There is nothing behind it, for the moment.
    pub is_last: bool,
}

/// The copy lacks next to nothing: it is completed, and is the log from then on. Meanwhile the partition stands still.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FinishMove {
    pub copy: Copied,
    pub truncations: u64,
    /// What is left of the original, to be removed.
    pub reply: oneshot::Sender<Result<Option<PathBuf>, Error>>,
}

/// A copy, and where it is.
pub struct Copied {
    pub log: Log<FileDisk>,
    pub path: PathBuf,
    pub directory: Arc<LogDirectory>,
}

/// The move has ended, one way or the other.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct EndMove;
