//! Committed offsets of a group, through any node.

use super::handle::{CoordinatorHandle, outcome_unknown};
use super::message::Order;
use super::route::{
    Question, are_there_groups, ask, ask_with, check_group_id, no_coordinator, order, partition_of,
};
use super::together::Way;
use crate::context::Context;
use crate::forward::{Call, hears};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::cluster::{ClusterImage, Topic, check_topic_name, check_topic_names};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// Commits offsets; answered when they are on every in-sync replica.
///
/// # Errors
/// `OUTCOME_UNKNOWN` if they may be committed: to commit the same again does no harm.
pub async fn commit_offsets(
    context: &Arc<Context>,
    request: pb::CommitOffsetsRequest,
    deadline: Instant,
) -> Result<pb::CommitOffsetsResponse, Error> {
    commit(context, request, Call::until(deadline)).await
}

/// What is committed. An unknown group has no offsets.
///
/// # Errors
/// `UNKNOWN_MEMBER`, `STALE_MEMBER_EPOCH`, `INVALID_TOPIC`.
pub async fn fetch_offsets(
    context: &Arc<Context>,
    request: pb::FetchOffsetsRequest,
    deadline: Instant,
) -> Result<pb::FetchOffsetsResponse, Error> {
    fetch(context, request, Call::until(deadline)).await
}

/// [`commit_offsets`], of this node or forwarded.
pub async fn commit(
    context: &Context,
    mut request: pb::CommitOffsetsRequest,
    call: Call,
) -> Result<pb::CommitOffsetsResponse, Error> {
    check_group_id(&request.group_id)?;
    let mut refused = take_impossible(&mut request.commits);
    if request.commits.is_empty() && !refused.is_empty() {
        return Ok(pb::CommitOffsetsResponse { results: refused.into_values().collect() });
    }
    let mut answer = commit_possible(context, request, call).await?;
    let mut possible = answer.results.into_iter();
    let count = possible.len() + refused.len();
    answer.results =
        (0..count).filter_map(|place| refused.remove(&place).or_else(|| possible.next())).collect();
    Ok(answer)
}

/// Takes out commits of topics that nothing can be, by their places, with their refusals: nobody is asked about them.
fn take_impossible(
    commits: &mut Vec<pb::PartitionCommit>,
) -> BTreeMap<usize, pb::PartitionCommitResult> {
    let mut refused = BTreeMap::new();
    for (place, commit) in std::mem::take(commits).into_iter().enumerate() {
        let named = commit.partition.as_ref();
        match named.map_or(Ok(()), |named| check_topic_name(&named.topic)) {
            Ok(()) => commits.push(commit),
            Err(error) => {
                let error = Some(Error::from(error).into());
                let result = pb::PartitionCommitResult { partition: commit.partition, error };
                refused.insert(place, result);
            }
        }
    }
    refused
}

fn committing(group: &str, call: Call) -> Question<'_> {
    Question { group, call, may_repeat: false, creates: true, changes: true }
}

async fn commit_possible(
    context: &Context,
    request: pb::CommitOffsetsRequest,
    call: Call,
) -> Result<pb::CommitOffsetsResponse, Error> {
    let question = committing(&request.group_id, call);
    let answer = ask_with(
        context,
        &question,
        &request,
        |handle, request| async move {
            let mut answers = commit_here(context, &handle, vec![(request, order(call))]).await;
            answers.pop().unwrap_or_else(|| Err(outcome_unknown()))
        },
        |mut client, request| async move { client.commit_offsets(request).await },
    );
    answer.await.map_err(harmless)
}

/// The same for a member of this node: it goes in one call with what others of them commit at the same coordinator,
/// for whom it waits so long at most.
///
/// # Errors
/// As of [`commit_offsets`].
pub async fn commit_of_member(
    context: &Arc<Context>,
    request: pb::CommitOffsetsRequest,
    deadline: Instant,
    gathering: Duration,
) -> Result<pb::CommitOffsetsResponse, Error> {
    let call = Call::until(deadline);
    let question = committing(&request.group_id, call);
    let request = &request;
    let together = |way: Way| async move {
        // The member has nothing else under way, so each try begins anew: whoever coordinates since the last one would
        // take that one for overtaken by what stands in its log.
        let order = Order { came: Instant::now(), until: deadline };
        context.groups.together.commit(context, way, (request.clone(), order), gathering).await
    };
    let answer = ask(
        context,
        &question,
        |handle| together(Way::Here(handle)),
        |leader| async move {
            let target = partition_of(context, question.group).ok_or_else(no_coordinator)?;
            together(Way::There(target.key.partition, leader)).await
        },
    );
    answer.await.map_err(harmless)
}

fn harmless(error: Error) -> Error {
    match error.code {
        ErrorCode::OutcomeUnknown | ErrorCode::RequestTimedOut => Error {
            code: ErrorCode::OutcomeUnknown,
            message: format!(
                "{}; the offsets may be committed, and to commit them again does no harm",
                error.message
            ),
            ..error
        },
        _ => error,
    }
}

/// [`fetch_offsets`], of this node or forwarded.
pub async fn fetch(
    context: &Context,
    request: pb::FetchOffsetsRequest,
    call: Call,
) -> Result<pb::FetchOffsetsResponse, Error> {
    check_group_id(&request.group_id)?;
    check_topic_names(request.partitions.iter().map(|named| &named.topic))?;
    if !call.forwarded && !are_there_groups(context).await {
        if request.member_id.is_empty() {
            return Ok(pb::FetchOffsetsResponse::default());
        }
        let message = format!("group `{}` has no members", request.group_id);
        return Err(Error::new(ErrorCode::UnknownMember, message));
    }
    let group = &request.group_id;
    let question = Question { group, call, may_repeat: true, creates: false, changes: false };
    ask_with(
        context,
        &question,
        &request,
        |handle, request| async move { handle.fetch(request).await },
        |mut client, request| async move { client.fetch_offsets(request).await },
    )
    .await
}

/// What came together at a coordinator of this node: the answers, in their order.
pub(super) async fn commit_here(
    context: &Context,
    handle: &CoordinatorHandle,
    asked: Vec<(pb::CommitOffsetsRequest, Order)>,
) -> Vec<Result<pb::CommitOffsetsResponse, Error>> {
    // Topics that are new to the cluster may be newer to this node. If not, the check tells.
    let _ = hears(&context.metadata, |image| {
        let commits = asked.iter().flat_map(|(request, _)| &request.commits);
        let mut named = commits.filter_map(|commit| commit.partition.as_ref());
        named.all(|named| image.topic(&named.topic).is_some())
    })
    .await;
    let image = context.metadata.now();
    let (mut checked, mut taken) = (Vec::with_capacity(asked.len()), Vec::new());
    for (mut request, order) in asked {
        let results = check(&image, &mut request);
        let is_empty = request.commits.is_empty();
        if !is_empty {
            taken.push((request, order));
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
pub(super) fn check_partition(topic: &Topic, partition: i32) -> Result<PartitionId, Error> {
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
