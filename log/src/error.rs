//! Why a log refuses. Every operation has the same causes, so one enum serves them all.

use crate::disk::is_shortage;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use troupe_proto::batch::BatchError;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, TopicId};

/// See the module. Clones are cheap: one failure may answer many requests.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was appended.
    #[error("no space left on the disk of {path}; free some or lower the topic's retention", path = path.display())]
    DiskFull { path: PathBuf },
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },
    /// An earlier write or fsync failed such that nobody knows what the disk holds. Never retried: only a
    /// new [`crate::Log::open`] reads what is really there.
    #[error("the log {path} is offline since an earlier disk error; restart the replica", path = path.display())]
    Poisoned { path: PathBuf },
    /// An earlier change was interrupted for want of something: what is in memory is not what is on disk. No
    /// fsync has failed; a new [`crate::Log::open`] finishes it as soon as there is enough again.
    #[error("a change of the log {path} was interrupted for want of something; it goes on when the log is opened anew", path = path.display())]
    Interrupted { path: PathBuf },
    /// The disk that the log is on has failed as a whole, or is not there.
    #[error("the log directory {path} is offline: {cause}; the node serves its partitions again when it is started with the directory in order", path = path.display())]
    DirectoryOffline { path: PathBuf, cause: Arc<str> },
    /// A partition with two logs, of which nobody knows which is the newer one.
    #[error(
        "the partition is in several directories of log.dirs ({}), and which one counts is not remembered; move all but the right one away",
        list(paths)
    )]
    FoundTwice { paths: Arc<[PathBuf]> },
    #[error("offset {requested} is outside of the log, which holds {earliest} to {latest}")]
    OffsetOutOfRange { requested: Offset, earliest: Offset, latest: Offset },
    /// What was promised to be there is not.
    #[error("{path} is corrupt at byte {position}: {cause}", path = path.display())]
    CorruptLog { path: PathBuf, position: u64, cause: String },
    /// What is asked for lies behind what is known to be damaged, which no other replica has filled again.
    #[error("the log {dir} is damaged from offset {from} on, up to {to}; what is below can be read. Another replica in sync fills it again by itself; if there is none, `troupe partition recover` gives up what is damaged and serves the rest", dir = dir.display())]
    Damaged { dir: PathBuf, from: Offset, to: Offset },
    /// Batches from a leader that are not what a leader sends.
    #[error("the batch at byte {position} is not acceptable: {cause}")]
    BadFrames { position: usize, cause: BatchError },
    /// The caller's arithmetic is wrong: offsets of a log have no overlap.
    #[error("a batch for offset {given} cannot stand at the log's end {expected}")]
    NotNext { expected: Offset, given: Offset },
    #[error("a batch of leader epoch {given} cannot follow one of epoch {latest}")]
    EpochWentBack { latest: LeaderEpoch, given: LeaderEpoch },
    #[error("a batch whose header declares {declared} payload bytes came with {actual}")]
    PayloadLength { declared: usize, actual: usize },
    #[error("{path} belongs to topic {found}, not to {expected}; move it away or delete it", path = path.display())]
    OtherTopic { path: PathBuf, expected: TopicId, found: TopicId },
}

impl LogError {
    /// The machine lacks something for the moment: space, descriptors, memory. What was asked for was not
    /// done, no byte is in doubt, and the same can be asked for again: of this log, or, if it is poisoned, of
    /// the next that is opened. An fsync that failed never counts.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Interrupted { .. } => true,
            Self::Io { source, .. } => is_shortage(source),
            _ => false,
        }
    }

    /// The reason that the caller is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::DiskFull { .. } => ErrorCode::DiskFull,
            Self::Io { source, .. } if is_shortage(source) => ErrorCode::StorageUnavailable,
            Self::Interrupted { .. } => ErrorCode::StorageUnavailable,
            Self::Io { .. }
            | Self::Poisoned { .. }
            | Self::DirectoryOffline { .. }
            | Self::FoundTwice { .. } => ErrorCode::StorageFailure,
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::CorruptLog { .. } | Self::Damaged { .. } => ErrorCode::CorruptLog,
            Self::BadFrames { .. } => ErrorCode::CorruptBatch,
            Self::NotNext { .. } | Self::EpochWentBack { .. } | Self::PayloadLength { .. } => {
                ErrorCode::Internal
            }
            Self::OtherTopic { .. } => ErrorCode::StaleTopicId,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> LogError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LogError::DiskFull { path }
            }
            _ => LogError::Io { action, path, source: Arc::new(source) },
        }
    }

    /// Of an fsync: whatever its reason, what was written since the last one may be lost.
    pub(crate) fn failed_sync(action: &'static str, path: &Path, source: io::Error) -> LogError {
        let source = Arc::new(io::Error::other(source));
        LogError::Io { action, path: path.to_owned(), source }
    }

    /// Of a directory's fsync, for which it has to be opened first: if that alone failed, nothing is lost.
    pub(crate) fn sync_dir(dir: &Path, source: io::Error) -> LogError {
        const ACTION: &str = "sync directory";
        match is_shortage(&source) {
            true => LogError::io(ACTION, dir, source),
            false => LogError::failed_sync(ACTION, dir, source),
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        let wire = Error::new(error.code(), error.to_string());
        match error {
            LogError::OffsetOutOfRange { requested, earliest, latest } => {
                wire.with("requested", requested).with("earliest", earliest).with("latest", latest)
            }
            LogError::CorruptLog { position, .. } => wire.with("position", position),
            LogError::Damaged { from, to, .. } => wire.with("lost_from", from).with("lost_to", to),
            LogError::DiskFull { .. }
            | LogError::Io { .. }
            | LogError::Poisoned { .. }
            | LogError::Interrupted { .. }
            | LogError::DirectoryOffline { .. }
            | LogError::FoundTwice { .. }
            | LogError::BadFrames { .. }
            | LogError::NotNext { .. }
            | LogError::EpochWentBack { .. }
            | LogError::PayloadLength { .. }
            | LogError::OtherTopic { .. } => wire,
        }
    }
}
