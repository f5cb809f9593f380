//! The directories of a node's partitions: where a new one goes, and one that fails while the node runs.
//!
//! Promises: what is in a directory that has failed goes offline, and nothing else; the node stops when it has none
//! left, or loses that of its metadata. A disk that hangs delays no other.

use super::handles::Handles;
use crate::partition::DirectoryFailed;
use std::sync::Arc;
use std::time::Duration;
use troupe_log::{LogDirectories, LogDirectory, Placed};
use troupe_machines::cluster::Topic;
use troupe_machines::log_directory::{Candidate, choose};
use troupe_proto::ids::{NodeId, PartitionId};

/// How soon it is asked whether a failure was the directory's.
const ASK: Duration = Duration::from_millis(100);
/// In so many of those it is looked at anyway, and in so many it is written to.
const LOOK_EVERY: u32 = 10;
const WRITE_EVERY: u32 = 50;

/// Chooses directories for the partitions of these topics that have none, and remembers them before they are used.
pub(super) fn place<'a>(
    directories: &LogDirectories,
    node_id: NodeId,
    topics: impl Iterator<Item = &'a Arc<Topic>>,
) {
    if directories.all().len() < 2 {
        return;
    }
    let online: Vec<&Arc<LogDirectory>> =
        directories.online().filter(|directory| directory.id().is_some()).collect();
    let counts = directories.inventory.counts();
    let count = |directory: &LogDirectory| directory.id().and_then(|id| counts.get(&id).copied());
    let candidate = |directory: &&Arc<LogDirectory>| Candidate {
        partitions: count(directory).unwrap_or_default(),
        usable_bytes: directory.volume().map(|volume| volume.usable_bytes),
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut placed = Vec::new();
    for topic in topics {
        for (partition, number) in topic.partitions.iter().zip(0..) {
            let name = format!("{}-{}", topic.name, PartitionId(number));
            if !partition.replicas.contains(&node_id) || !directories.wants_place(&name, topic.id) {
                continue;
            }
            if candidates.is_empty() {
                candidates = online.iter().map(candidate).collect();
            }
            let Some(chosen) = choose(&candidates) else { return };
            candidates[chosen].partitions += 1;
            let Some(directory) = online[chosen].id() else { continue };
            placed.push(Placed { name, topic_id: topic.id, directory });
        }
    }
    if !placed.is_empty()
        && let Err(error) = directories.inventory.place(&placed)
    {
        // Without it, a directory that is away at the next start could not be told from one that never had them.
        tracing::warn!(%error, count = placed.len(), "where partitions belong could not be written down");
        directories.inventory.assume(&placed);
    }
}

/// Looks after each directory until the node is gone, and says which are offline at the start.
pub(super) fn watch(directories: &Arc<LogDirectories>, handles: &Arc<Handles>) {
    for directory in directories.all() {
        match directory.failure() {
            Some(reason) => tell(directory, reason),
            None => drop(tokio::spawn(watch_one(Arc::clone(directory), Arc::clone(handles)))),
        }
    }
}

async fn watch_one(directory: Arc<LogDirectory>, handles: Arc<Handles>) {
    for round in 1u32.. {
        tokio::select! {
            () = tokio::time::sleep(ASK) => {}
            () = handles.gone.cancelled() => return,
        }
        if directory.is_offline() {
            // Somebody else has noticed.
            break;
        }
        let suspected = directory.take_suspicion();
        if !suspected && !round.is_multiple_of(LOOK_EVERY) {
            continue;
        }
        let looked_at = Arc::clone(&directory);
        let look = move || match suspected {
            true => looked_at.probe(true),
            false if round.is_multiple_of(WRITE_EVERY) => looked_at.probe(false),
            false => looked_at.look(),
        };
        // Fails only if the runtime is stopping.
        if let Ok(Err(reason)) = tokio::task::spawn_blocking(look).await {
            directory.fail(reason);
            break;
        }
    }
    tell(&directory, directory.failure().unwrap_or_default());
    for supervisor in &handles.supervisors {
        supervisor.do_send(DirectoryFailed);
    }
}

/// Once, with what to do.
fn tell(directory: &LogDirectory, reason: &str) {
    tracing::error!(
        path = %directory.path().display(),
        reason,
        "a log directory is offline, and with it the replicas in it: others lead. Mount it, repair or replace its disk, \
         and start the node again"
    );
}

/// Returns when the node cannot go on without what has failed: why.
pub(super) async fn lost(directories: Arc<LogDirectories>) -> String {
    loop {
        tokio::time::sleep(ASK).await;
        if let Some(reason) = directories.lost() {
            return reason;
        }
    }
}
