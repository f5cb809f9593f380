//! Commits at a coordinator of this node, once it is known that their partitions are there.

use super::aliases::GroupHandle;
use crate::coordinator::{RequestTime, outcome_unknown};
use crate::forward::hears;
use crate::metadata_cache::MetadataCache;
use troupe_machines::cluster::{ClusterImage, Topic};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// What came together at a coordinator of this node: the answers, in their order.
pub async fn commit_here(
    metadata: &MetadataCache,
    handle: &GroupHandle,
    asked: Vec<(pb::CommitOffsetsRequest, RequestTime)>,
) -> Vec<Result<pb::CommitOffsetsResponse, Error>> {
    // Topics that are new to the cluster may be newer to this node. If not, the check tells.
    let _ = hears(metadata, |image| {
        let commits = asked.iter().flat_map(|(request, _)| &request.commits);
        let mut named = commits.filter_map(|commit| commit.partition.as_ref());
        named.all(|named| image.topic(&named.topic).is_some())
    })
    .await;
    let image = metadata.now();
    let (mut checked, mut taken) = (Vec::with_capacity(asked.len()), Vec::new());
    for (mut request, time) in asked {
        let results = check(&image, &mut request);
        let is_empty = request.commits.is_empty();
        if !is_empty {
            taken.push((request, time));
        }
        checked.push((results, is_empty));
    }
    let answers = if taken.is_empty() { Vec::new() } else { handle.commit(taken).await };
    let mut answers = answers.into_iter();
    let answer = |(mut results, is_empty): (Vec<pb::PartitionCommitResult>, bool)| {
        if !is_empty {
            let committed = answers.next().unwrap_or_else(|| Err(outcome_unknown()))?;
            let mut committed = committed.results.into_iter();
            for result in results.iter_mut().filter(|result| result.error.is_none()) {
                result.error = committed.next().and_then(|committed| committed.error);
            }
        }
        Ok(pb::CommitOffsetsResponse { results })
    };
    checked.into_iter().map(answer).collect()
}

/// Leaves what is of partitions that there are; the rest is refused, each for itself.
fn check(
    image: &ClusterImage,
    request: &mut pb::CommitOffsetsRequest,
) -> Vec<pb::PartitionCommitResult> {
    let commits = std::mem::take(&mut request.commits);
    let mut results = Vec::with_capacity(commits.len());
    for commit in commits {
        let partition = commit.partition.clone();
        let error = match stamped(image, commit) {
            Ok(commit) => {
                request.commits.push(commit);
                None
            }
            Err(error) => Some(error.into()),
        };
        results.push(pb::PartitionCommitResult { partition, error });
    }
    results
}

/// A commit with the id of its topic.
///
/// # Errors
/// `UNKNOWN_TOPIC`, also for one that was deleted and made again; `UNKNOWN_PARTITION`.
fn stamped(
    image: &ClusterImage,
    mut commit: pb::PartitionCommit,
) -> Result<pb::PartitionCommit, Error> {
    let named = commit
        .partition
        .as_mut()
        .ok_or_else(|| Error::new(ErrorCode::InvalidRequest, "the commit names no partition"))?;
    let unknown = |message: String| Error::new(ErrorCode::UnknownTopic, message);
    let topic = image
        .topic(&named.topic)
        .ok_or_else(|| unknown(format!("topic `{}` does not exist", named.topic)))?;
    if !named.topic_id.is_empty() && named.topic_id != topic.id.as_bytes()[..] {
        let message = format!("topic `{}` was deleted and made again", named.topic);
        return Err(unknown(message));
    }
    check_partition(topic, named.partition)?;
    named.topic_id = topic.id.to_wire();
    Ok(commit)
}

/// # Errors
/// `UNKNOWN_PARTITION`.
pub fn check_partition(topic: &Topic, partition: i32) -> Result<PartitionId, Error> {
    let count = topic.partitions.len();
    match u32::try_from(partition) {
        Ok(number) if (number as usize) < count => Ok(number.into()),
        _ => {
            let message = format!(
                "topic `{}` has no partition {partition}; it has {count}, numbered from 0",
                topic.name
            );
            Err(Error::new(ErrorCode::UnknownPartition, message).with("partitions", count))
        }
    }
}
