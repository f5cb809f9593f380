//! The log directories of this node (`log.dirs`): how each is, what is in it, and moving replicas between them.
//!
//! Promise: a disk that hangs keeps nobody from hearing of the others.

mod deletion;
mod mover;
mod moves;

pub use deletion::delete;
pub use moves::{Move, MoveRequest, MoveState};

use crate::metadata_cache::MetadataCache;
use mover::Mover;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use troupe_log::LogDirectory;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{DirectoryId, NodeId, PartitionId};

pub use mover::Parts;

/// How long a disk may take to tell what is on it.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct LogDirs {
    mover: Arc<Mover>,
    /// Of each directory, the one look at it that may go on.
    looks: Vec<Arc<Semaphore>>,
}

/// Which partitions are of interest: those of a topic, or of these numbers. None named: all.
pub type Wanted = BTreeMap<String, Vec<PartitionId>>;

/// How the directories of a node are.
pub struct DescribedLogDirs {
    pub node_id: NodeId,
    /// As `log.dirs` names them.
    pub directories: Vec<DescribedLogDir>,
    /// Moves that wait, that go on, and the last of each partition that failed.
    pub moves: Vec<Move>,
}

pub struct DescribedLogDir {
    pub path: PathBuf,
    pub id: Option<DirectoryId>,
    /// Why it does not serve.
    pub failure: Option<String>,
    pub total_bytes: Option<u64>,
    pub usable_bytes: Option<u64>,
    pub replicas: Vec<DescribedReplica>,
    /// Why it could not be looked at.
    pub error: Option<Error>,
}

/// The segments of a partition in a directory.
pub struct DescribedReplica {
    pub topic: String,
    pub partition: PartitionId,
    pub size_bytes: u64,
    /// A copy that does not serve yet.
    pub is_future: bool,
}

impl LogDirs {
    pub fn new(parts: Parts) -> Self {
        let looks = parts.directories.all().iter().map(|_| Arc::new(Semaphore::new(1)));
        Self { looks: looks.collect(), mover: Arc::new(Mover::new(parts)) }
    }

    fn metadata(&self) -> &MetadataCache {
        &self.mover.parts.metadata
    }

    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `UNKNOWN_PARTITION` of what is named and is not there.
    pub async fn describe(&self, wanted: Wanted) -> Result<DescribedLogDirs, Error> {
        for (topic, partitions) in &wanted {
            let entry = self.metadata().registry.topic(topic)?;
            for partition in partitions {
                entry.partition(i32::try_from(partition.0).unwrap_or(i32::MAX))?;
            }
        }
        // First: what has ended by then is seen where it is.
        let is_wanted = |one: &Move| is_wanted(&wanted, &one.topic, one.partition);
        let moves = self.mover.moves().into_iter().filter(is_wanted).collect();
        let each = self.mover.parts.directories.all().iter().zip(&self.looks);
        let each = each.map(|(directory, turn)| describe_one(directory, turn, &wanted));
        let directories = futures::future::join_all(each).await;
        Ok(DescribedLogDirs { node_id: self.metadata().node_id, directories, moves })
    }

    /// Has a replica moved; it is done when the directories say so.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `UNKNOWN_PARTITION`; `INVALID_REQUEST` of a directory that is not one of
    /// `log.dirs`, or where the replica is already, or of another move of it that has begun; `STORAGE_FAILURE` if either
    /// directory is offline.
    pub fn move_replica(&self, request: &MoveRequest) -> Result<(), Error> {
        self.mover.request(request)
    }
}

async fn describe_one(
    directory: &Arc<LogDirectory>,
    turn: &Arc<Semaphore>,
    wanted: &Wanted,
) -> DescribedLogDir {
    let looked_at = Arc::clone(directory);
    let looked = look(turn, PATIENCE, move || (looked_at.volume(), looked_at.sizes())).await;
    let (volume, sizes, error) = match looked {
        Ok((volume, Ok(sizes))) => (volume, sizes, None),
        Ok((volume, Err(error))) => {
            let error = Error::new(ErrorCode::StorageFailure, error.to_string());
            (volume, Vec::new(), Some(error))
        }
        Err(error) => (None, Vec::new(), Some(error)),
    };
    let replicas = sizes.into_iter().filter_map(|size| {
        let (topic, partition) = size.name.rsplit_once('-')?;
        let partition = PartitionId(partition.parse().ok()?);
        let replica = || DescribedReplica {
            topic: topic.to_owned(),
            partition,
            size_bytes: size.bytes,
            is_future: size.is_future,
        };
        is_wanted(wanted, topic, partition).then(replica)
    });
    let mut replicas: Vec<_> = replicas.collect();
    let order = |one: &DescribedReplica| (one.topic.clone(), one.partition, one.is_future);
    replicas.sort_by_key(order);
    DescribedLogDir {
        path: directory.path().to_owned(),
        id: directory.id(),
        failure: directory.failure().map(str::to_owned),
        total_bytes: volume.map(|volume| volume.total_bytes),
        usable_bytes: volume.map(|volume| volume.usable_bytes),
        replicas,
        error,
    }
}

/// Work that waits for a disk, which may hang: then it keeps one thread, however often it is asked for, and whoever asks
/// is told.
async fn look<T: Send + 'static>(
    turn: &Arc<Semaphore>,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let stopping = || Error::new(ErrorCode::ShuttingDown, "this node is stopping");
    let looked = async {
        let turn = Arc::clone(turn).acquire_owned().await.map_err(|_| stopping())?;
        let work = move || {
            let found = work();
            drop(turn);
            found
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| stopping())
    };
    tokio::time::timeout(patience, looked).await.unwrap_or_else(|_| {
        let message = format!("its disk has not answered for {} s", patience.as_secs());
        Err(Error::new(ErrorCode::RequestTimedOut, message))
    })
}

fn is_wanted(wanted: &Wanted, topic: &str, partition: PartitionId) -> bool {
    let named = |numbers: &Vec<PartitionId>| numbers.is_empty() || numbers.contains(&partition);
    wanted.is_empty() || wanted.get(topic).is_some_and(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nobody_up_and_is_not_asked_again_before_it_answers() {
        let turn = Arc::new(Semaphore::new(1));
        let (answer, disk) = mpsc::channel();
        let hangs = look(&turn, Duration::ZERO, move || disk.recv()).await.unwrap_err();
        assert_eq!(hangs.code, ErrorCode::RequestTimedOut, "{hangs}");
        let (asked, was_asked) = mpsc::channel();
        let again = look(&turn, Duration::ZERO, move || asked.send(())).await.unwrap_err();
        assert_eq!(again.code, ErrorCode::RequestTimedOut, "{again}");
        assert!(was_asked.try_recv().is_err());
        let next = look(&turn, Duration::from_secs(3600), || 7);
        answer.send(()).unwrap();
        assert_eq!(next.await.unwrap(), 7);
    }
}
