//! What stands in the directories and belongs to no replica of now: of deleted topics, of partitions that others have
//! now, of moves that were interrupted. Renamed first, removed after a while.
//!
//! Promise: what cannot be read or renamed stays where it is, and keeps nobody from starting; of a partition that is
//! there twice, the one that is remembered counts, and where nobody remembers, none is touched.

use crate::log_directories;
use crate::partition::PartitionHandle;
use crate::registry::TopicEntry;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use troupe_log::{LogDirectories, LogDirectory, PartitionDirectory};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::{NodeId, PartitionKey, TopicId};

/// What earlier runs left is removed after this time.
const DELAY: Duration = Duration::from_secs(60);

/// Something to be removed, and from where.
type Retired = (Arc<LogDirectory>, PathBuf);
type Found = (Arc<LogDirectory>, PartitionDirectory, TopicId);

/// Takes the directories of replicas out of the way that are this node's no more.
pub(super) fn retire(
    directories: &LogDirectories,
    entry: &TopicEntry,
    replicas: &[Arc<PartitionHandle>],
) -> Vec<Retired> {
    let mut retired = Vec::new();
    for handle in replicas {
        let partition = handle.key().partition;
        let location = directories.locate(&entry.name, partition, entry.id);
        directories.inventory.remove(&handle.board.to_string());
        // One that is out of reach is found when it is back: its topic is gone.
        let Ok(location) = location else { continue };
        let Some(data) = location.directory.data() else { continue };
        match data.retire(&entry.name, partition, entry.id) {
            Ok(path) => retired.extend(path.map(|path| (Arc::clone(&location.directory), path))),
            // The next start finds a directory whose topic is gone, and tries again.
            Err(error) => tracing::warn!(partition = %handle.board, %error, "not renamed"),
        }
    }
    retired
}

/// At the start, by an image in which this life of the node is registered: what was reassigned while it was away shows in
/// it, and nothing is assigned to a node anew that is away. Says how much was left alone.
pub(super) fn clear(directories: &LogDirectories, image: &ClusterImage, node_id: NodeId) -> u64 {
    let is_here = |found: &PartitionDirectory, topic_id| {
        let key = PartitionKey { topic_id, partition: found.partition };
        image.partition(&key).is_some_and(|partition| partition.replicas.contains(&node_id))
    };
    let (mut alone, mut copies) = (0, BTreeMap::<String, Vec<Found>>::new());
    for (directory, found) in directories.partitions() {
        let name = format!("{}-{}", found.topic, found.partition);
        match found.topic_id() {
            Ok(Some(id)) if is_here(&found, id) => {
                copies.entry(name).or_default().push((directory, found, id));
            }
            Ok(Some(id)) => {
                directories.inventory.remove(&name);
                tracing::warn!(
                    path = %found.path.display(),
                    "its topic was deleted, or other nodes have the partition now"
                );
                alone += u64::from(!set_off(&directory, &found, id));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(path = %found.path.display(), %error, "left alone; the node starts without it");
                alone += 1;
            }
        }
    }
    for (name, copies) in copies {
        alone += settle(directories, &name, &copies);
    }
    directories.inventory.retain(|topic_id| image.topic_by_id(topic_id).is_some());
    let (futures, retired): (Vec<_>, Vec<_>) =
        retired(directories).into_iter().partition(|(directory, path)| {
            let futures = directory.data().and_then(|data| data.futures().ok());
            futures.is_some_and(|futures| futures.iter().any(|future| future.path == *path))
        });
    // Nobody has anything of those in hand.
    tokio::spawn(delete_later(futures, Duration::ZERO));
    tokio::spawn(delete_later(retired, DELAY));
    alone
}

/// Of the directories that a partition has, the one where it belongs counts.
fn settle(directories: &LogDirectories, name: &str, copies: &[Found]) -> u64 {
    let [(_, _, topic_id), ..] = copies else { return 0 };
    let known = directories.inventory.directory_of(name, *topic_id);
    let remembers = |(directory, ..): &Found| known.is_some() && directory.id() == known;
    if copies.len() > 1 && !copies.iter().any(remembers) {
        let paths: Vec<_> = copies.iter().map(|(_, found, _)| found.path.clone()).collect();
        tracing::error!(
            ?paths,
            "a partition is there twice, and which one counts is not remembered; it stays offline"
        );
        directories.note_ambiguous(name, paths);
        return copies.len() as u64;
    }
    let mut alone = 0;
    for (directory, found, topic_id) in copies {
        if directories.found(directory, name, *topic_id) {
            continue;
        }
        if copies.len() == 1 {
            let path = found.path.display();
            tracing::warn!(%path, "the partition belongs into a directory that is offline; left alone");
            alone += 1;
        } else {
            tracing::info!(path = %found.path.display(), "left over from a move");
            alone += u64::from(!set_off(directory, found, *topic_id));
        }
    }
    alone
}

/// Whether it is out of the way.
fn set_off(directory: &LogDirectory, found: &PartitionDirectory, topic_id: TopicId) -> bool {
    let Some(data) = directory.data() else { return false };
    let retired = data.retire(&found.topic, found.partition, topic_id);
    if let Err(error) = &retired {
        tracing::error!(path = %found.path.display(), %error, "left alone; the node starts without it");
    }
    retired.is_ok()
}

/// All that is to be removed, moves that never came to their end included.
fn retired(directories: &LogDirectories) -> Vec<Retired> {
    let mut all = Vec::new();
    for directory in directories.online() {
        let Some(data) = directory.data() else { continue };
        match data.retired() {
            Ok(paths) => all.extend(paths.into_iter().map(|path| (Arc::clone(directory), path))),
            Err(error) => tracing::warn!(%error, "what is left over there stays"),
        }
    }
    all
}

pub(super) async fn delete_later(retired: Vec<Retired>, delay: Duration) {
    if retired.is_empty() {
        return;
    }
    tokio::time::sleep(delay).await;
    let delete = move || {
        for (directory, path) in retired {
            log_directories::delete(&directory, &path);
        }
    };
    // Fails only if the runtime is stopping; the next start deletes them.
    let _ = tokio::task::spawn_blocking(delete).await;
}
