//! Copies the log of a replica into another directory of the node, no faster than the operator allows, and has it
//! exchanged there.
//!
//! Promises: whatever fails, the replica goes on from where it was, and what was copied is removed; a log that changes
//! under the copy is copied again. What a crash leaves is removed at the next start.

use super::deletion::delete;
use super::moves::{Move, MoveRequest, Moves, Taken};
use crate::clock::wall_clock;
use crate::metadata_cache::MetadataCache;
use crate::node_settings::NodeSettings;
use crate::partition::{Copied, EndMove, Original, PartitionHandle, Piece};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use troupe_log::disk::FileDisk;
use troupe_log::{Log, LogDirectories, LogDirectory, LogError};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;

/// What is read at once. When less than this is lacking, the partition stands still for the rest.
const PIECE: usize = 1 << 20;
/// After so many pieces what was copied is made durable, so that little is left for the end.
const PIECES_A_FLUSH: u32 = 32;
/// A log that is truncated again and again, or cannot be moved just now, is tried so often, with such pauses.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// What a mover stands on.
pub struct Parts {
    pub metadata: Arc<MetadataCache>,
    pub directories: Arc<LogDirectories>,
    /// `replica.alter.log.dirs.io.max.bytes.per.second` is what it says now.
    pub settings: Arc<NodeSettings>,
    /// Cancelled when the node has stopped.
    pub gone: CancellationToken,
}

pub struct Mover {
    pub parts: Parts,
    moves: Mutex<Moves>,
}

impl Mover {
    pub fn new(parts: Parts) -> Self {
        Self { parts, moves: Mutex::default() }
    }

    pub fn moves(&self) -> Vec<Move> {
        self.lock().all()
    }

    fn lock(&self) -> MutexGuard<'_, Moves> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn request(self: &Arc<Self>, request: &MoveRequest) -> Result<(), Error> {
        let MoveRequest { topic, partition, directory } = request;
        let invalid = |message: String| Error::new(ErrorCode::InvalidRequest, message);
        let (topic, partition) = (topic.as_str(), *partition);
        let handle = self.handle(topic, partition)?;
        let key = handle.key();
        let Some(to) = self.parts.directories.at(directory) else {
            let all = self.parts.directories.all().iter();
            let all: Vec<_> = all.map(|one| one.path().display().to_string()).collect();
            return Err(invalid(format!(
                "{} is not in log.dirs of node {}, which are {}",
                directory.display(),
                self.parts.metadata.node_id,
                all.join(", ")
            )));
        };
        to.check()?;
        let now = self.parts.directories.locate(topic, key.partition, key.topic_id)?;
        let path = to.path().to_owned();
        if Arc::ptr_eq(&now.directory, to) {
            return Err(invalid(format!("{topic}:{partition} is in {} already", path.display())));
        }
        match self.lock().take(topic, key.partition, path) {
            Taken::Queued => Ok(()),
            Taken::First => {
                tokio::spawn(Arc::clone(self).run());
                Ok(())
            }
            Taken::Busy(other) => Err(invalid(format!(
                "{topic}:{partition} is being moved to {}; ask again when it is there",
                other.display()
            ))),
        }
    }

    fn handle(&self, topic: &str, partition: i32) -> Result<Arc<PartitionHandle>, Error> {
        let (_, handle) = self.parts.metadata.registry.partition(topic, &[], partition)?;
        handle.ok_or_else(|| {
            let node = self.parts.metadata.node_id;
            let message = format!("node {node} has no replica of {topic}:{partition}");
            Error::new(ErrorCode::UnknownPartition, message)
        })
    }

    /// Until none is left, or the node stops.
    async fn run(self: Arc<Self>) {
        while let Some(next) = { self.lock().next() } {
            let ended = tokio::select! {
                ended = self.carry_out(&next) => ended,
                () = self.parts.gone.cancelled() => return,
            };
            let (topic, partition, to) = (&next.topic, next.partition, next.to.display());
            match &ended {
                Ok(()) => tracing::info!(topic, %partition, %to, "moved to another log directory"),
                Err(error) => tracing::warn!(topic, %partition, %to, %error, "not moved"),
            }
            self.lock().ended(ended);
        }
    }

    async fn carry_out(&self, wanted: &Move) -> Result<(), Error> {
        let Move { topic, partition, to, .. } = wanted;
        let number = i32::try_from(partition.0).unwrap_or(i32::MAX);
        let mut attempt = 1;
        loop {
            let handle = self.handle(topic, number)?;
            let directory = self.parts.directories.at(to);
            let directory = directory.ok_or_else(|| stopped("the directory is gone"))?;
            // A pass of compaction has begun before, and may take long.
            handle.board.cleaning.idle().await;
            let moved = self.move_once(&handle, directory, *partition).await;
            handle.command(EndMove);
            match moved {
                Err(error) if begins_anew(error.code) && attempt < ATTEMPTS => {
                    tracing::debug!(topic, %partition, %error, attempt, "the move begins anew");
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                moved => return moved,
            }
        }
    }

    async fn move_once(
        &self,
        handle: &PartitionHandle,
        directory: &Arc<LogDirectory>,
        partition: PartitionId,
    ) -> Result<(), Error> {
        directory.check()?;
        let original = handle.begin_move().await?;
        if original.directory.id() == directory.id() {
            // An attempt before this one has done it, and nobody heard.
            return Ok(());
        }
        let data = directory.data().ok_or_else(|| stopped("the directory is offline"))?;
        let path = data.future_dir(handle.topic(), partition);
        let moved = self.copy(handle, directory, &original, path.clone()).await;
        let moved = match moved {
            Ok(log) => {
                let copy = Copied { log, path: path.clone(), directory: Arc::clone(directory) };
                handle.finish_move(copy, original.truncations).await
            }
            Err(error) => Err(error),
        };
        match moved {
            Ok(left) => {
                if let Some(left) = left {
                    remove(&original.directory, left).await;
                }
                Ok(())
            }
            Err(error) => {
                remove(directory, path).await;
                Err(error)
            }
        }
    }

    /// A copy that lacks next to nothing.
    async fn copy(
        &self,
        handle: &PartitionHandle,
        directory: &Arc<LogDirectory>,
        original: &Original,
        path: PathBuf,
    ) -> Result<Log<FileDisk>, Error> {
        let (key, config, truncations) = (handle.key(), original.config, original.truncations);
        let began = (original.start, wall_clock().as_timestamp());
        let (needed, there) = (original.size_bytes, Arc::clone(directory));
        let begin = move || {
            if there.volume().is_some_and(|volume| volume.usable_bytes < needed) {
                return Err(LogError::DiskFull { path });
            }
            Log::begin_copy(FileDisk::new(), path, key, config, began)
        };
        let mut copy = self.on_disk(directory, begin).await?;
        let (mut copied, mut pieces) = (0, 0u32);
        loop {
            self.lock().progress(copied, original.size_bytes.max(copied));
            let from = copy.log_end();
            let Piece { bytes, is_last } = handle.read_for_move(from, PIECE, truncations).await?;
            if bytes.is_empty() {
                return Ok(copy);
            }
            let len = bytes.len() as u64;
            pieces += 1;
            let flushes = is_last || pieces.is_multiple_of(PIECES_A_FLUSH);
            let append = move || {
                copy.append_frames(bytes, wall_clock().as_timestamp())?;
                if flushes {
                    copy.flush()?;
                }
                Ok(copy)
            };
            copy = self.on_disk(directory, append).await?;
            copied += len;
            if is_last {
                return Ok(copy);
            }
            let bytes_per_second = self.parts.settings.now().alter_log_dirs_rate.0;
            let pause = Duration::from_secs_f64(len as f64 / bytes_per_second as f64);
            tokio::time::sleep(pause).await;
        }
    }

    /// Work that may wait for the disk of that directory.
    async fn on_disk<T: Send + 'static>(
        &self,
        directory: &Arc<LogDirectory>,
        work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|_| stopped("copying failed"))?;
        done.map_err(|error| {
            if matches!(error, LogError::Io { .. }) && !error.is_temporary() {
                directory.suspect();
            }
            Error::from(error)
        })
    }
}

/// The log changed under the copy, or its actor died; not what another copy would meet again.
fn begins_anew(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::StorageUnavailable | ErrorCode::LeaderNotAvailable | ErrorCode::OffsetOutOfRange
    )
}

fn stopped(message: &str) -> Error {
    Error::new(ErrorCode::Internal, message)
}

/// What is left there of one or the other.
async fn remove(directory: &Arc<LogDirectory>, path: PathBuf) {
    let directory = Arc::clone(directory);
    // Fails only if the runtime is stopping; the next start removes it.
    let _ = tokio::task::spawn_blocking(move || delete(&directory, &path)).await;
}
