//! Commits at a coordinator of this node, once it is known that their partitions are there.

use super::aliases::GroupHandle;
use crate::coordinator::{RequestTime, outcome_unknown};
use crate::forward::hears;
use crate::metadata_cache::MetadataCache;
use std::sync::Arc;
use troupe_machines::cluster::{ClusterImage, Topic};
use troupe_machines::producer::Producer;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// What came together at a coordinator of this node: the answers, in their order.
pub async fn commit_here(
    metadata: &MetadataCache,
    handle: &GroupHandle,
    asked: Vec<(pb::CommitOffsetsRequest, RequestTime)>,
) -> Vec<Result<pb::CommitOffsetsResponse, Error>> {
    let commits = || asked.iter().flat_map(|(request, _)| &request.commits);
    let image = image_with(metadata, commits).await;
    let (mut checked, mut taken) = (Vec::with_capacity(asked.len()), Vec::new());
    for (mut request, time) in asked {
        let results = check(&image, &mut request.commits);
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
            fill_in(&mut results, committed.results);
        }
        Ok(pb::CommitOffsetsResponse { results })
    };
    checked.into_iter().map(answer).collect()
}

/// The same in a transaction that the group is part of.
pub async fn commit_in_transaction_here(
    metadata: &MetadataCache,
    handle: &GroupHandle,
    producer: Producer,
    mut request: pb::CommitTransactionOffsetsRequest,
    time: RequestTime,
) -> Result<pb::CommitTransactionOffsetsResponse, Error> {
    let image = image_with(metadata, || request.commits.iter()).await;
    let mut results = check(&image, &mut request.commits);
    // Asked also if nothing is left: whether the member is one, and the producer not fenced.
    let committed = handle.commit_in_transaction(producer, request, time).await?;
    fill_in(&mut results, committed.results);
    Ok(pb::CommitTransactionOffsetsResponse { results })
}

/// What there is, as of now. Topics that are new to the cluster may be newer to this node; if not, the check tells.
async fn image_with<'a, I>(metadata: &MetadataCache, commits: impl Fn() -> I) -> Arc<ClusterImage>
where
    I: Iterator<Item = &'a pb::PartitionCommit>,
{
    let _ = hears(metadata, |image| {
        let mut named = commits().filter_map(|commit| commit.partition.as_ref());
        named.all(|named| image.topic(&named.topic).is_some())
    })
    .await;
    metadata.now()
}

/// The answers of those that were not refused, in their places.
fn fill_in(results: &mut [pb::PartitionCommitResult], answers: Vec<pb::PartitionCommitResult>) {
    let mut answers = answers.into_iter();
    for result in results.iter_mut().filter(|result| result.error.is_none()) {
        result.error = answers.next().and_then(|answer| answer.error);
    }
}

/// Leaves what is of partitions that there are; the rest is refused, each for itself.
fn check(
    image: &ClusterImage,
    asked: &mut Vec<pb::PartitionCommit>,
) -> Vec<pb::PartitionCommitResult> {
    let commits = std::mem::take(asked);
    let mut results = Vec::with_capacity(commits.len());
    for commit in commits {
        let partition = commit.partition.clone();
        let error = match stamped(image, commit) {
            Ok(commit) => {
                asked.push(commit);
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
