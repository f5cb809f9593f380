//! Moving what a group has committed, where it has no members (G29).

use super::admin::describe;
use super::offsets::{check_partition, commit_offsets, fetch_offsets};
use super::route::check_group_id;
use crate::context::Context;
use crate::forward::{Call, Target, find_offset_now, hears};
use crate::partition::OffsetQuery;
use futures::{StreamExt, stream};
use pb::reset_group_offsets_request::To;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_machines::cluster::{ClusterImage, check_topic_names};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::log::v1 as pb;

/// Partitions whose offsets are looked up at a time.
const LOOKUPS: usize = 64;

/// By topic and partition.
type Committed = BTreeMap<(String, i32), i64>;

/// Moves committed offsets, or tells how they would be moved. What cannot be moved is refused partition by
/// partition, and the rest is moved.
///
/// # Errors
/// `INVALID_REQUEST`; `INVALID_TOPIC`; `GROUP_NOT_EMPTY`; `UNKNOWN_TOPIC` if all partitions of a topic are meant that there is
/// not.
pub async fn reset(
    context: &Arc<Context>,
    request: pb::ResetGroupOffsetsRequest,
    deadline: Instant,
) -> Result<pb::ResetGroupOffsetsResponse, Error> {
    check_group_id(&request.group_id)?;
    check_topic_names(request.partitions.iter().map(|named| &named.topic))?;
    let to = checked(request.to)?;
    check_empty(context, &request.group_id, deadline).await?;
    let committed = committed(context, &request.group_id, deadline).await?;
    let named = named(context, request.partitions, &committed).await?;
    let image = context.metadata.now();
    let found = named.into_iter().map(|(topic, partition)| {
        let old = committed.get(&(topic.clone(), partition)).copied();
        let target = target(&image, &topic, partition);
        async move {
            let found = match &target {
                Ok(target) => new_offset(context, target, to, old, deadline).await,
                Err(error) => Err(error.clone()),
            };
            let topic_id = target.map(|target| target.key.topic_id.to_wire()).unwrap_or_default();
            let (new_offset, error) = match found {
                Ok(offset) => (offset, None),
                Err(error) => (-1, Some(error.into())),
            };
            pb::OffsetReset {
                partition: Some(pb::TopicPartition { topic, partition, topic_id }),
                old_offset: old.unwrap_or(-1),
                new_offset,
                error,
            }
        }
    });
    let mut resets: Vec<_> = stream::iter(found).buffered(LOOKUPS).collect().await;
    if !request.validate_only {
        commit(context, request.group_id, &mut resets, deadline).await?;
    }
    Ok(pb::ResetGroupOffsetsResponse { resets })
}

/// # Errors
/// `INVALID_REQUEST`.
fn checked(to: Option<To>) -> Result<To, Error> {
    let refuse = |message: String| Err(Error::new(ErrorCode::InvalidRequest, message));
    match to {
        None => refuse(
            "the request says neither earliest, latest, timestamp_ms, offset nor shift_by"
                .to_owned(),
        ),
        Some(To::Offset(offset)) if offset < 0 => refuse(format!("offset {offset} is negative")),
        Some(To::TimestampMs(time)) if time < 0 => {
            refuse(format!("timestamp_ms {time} is negative: it counts from 1970"))
        }
        Some(to) => Ok(to),
    }
}

/// # Errors
/// `GROUP_NOT_EMPTY`.
async fn check_empty(context: &Context, group: &str, deadline: Instant) -> Result<(), Error> {
    match describe(context, group, Call::until(deadline)).await {
        Ok(described) if described.members.is_empty() => Ok(()),
        Ok(described) => {
            let count = described.members.len();
            let message = format!(
                "group `{group}` is not empty (members: {count}); its offsets can be moved when they have left"
            );
            Err(Error::new(ErrorCode::GroupNotEmpty, message).with("members", count))
        }
        Err(error) if error.code == ErrorCode::GroupNotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn committed(
    context: &Arc<Context>,
    group: &str,
    deadline: Instant,
) -> Result<Committed, Error> {
    let request = pb::FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
    let answer = fetch_offsets(context, request, deadline).await?;
    let known = answer.offsets.into_iter().filter_map(|committed| {
        let (named, offset) = (committed.partition?, committed.offset?);
        Some(((named.topic, named.partition), offset.offset))
    });
    Ok(known.collect())
}

/// Every partition that is meant, each once.
///
/// # Errors
/// `UNKNOWN_TOPIC` for one whose partitions are all meant.
async fn named(
    context: &Context,
    partitions: Vec<pb::TopicPartitions>,
    committed: &Committed,
) -> Result<Vec<(String, i32)>, Error> {
    if partitions.is_empty() {
        return Ok(committed.keys().cloned().collect());
    }
    let are_there =
        |image: &ClusterImage| partitions.iter().all(|named| image.topic(&named.topic).is_some());
    // If not, the check tells.
    let _ = hears(&context.metadata, are_there).await;
    let image = context.metadata.now();
    let mut all = Vec::new();
    for topic in partitions {
        if topic.partitions.is_empty() {
            let known = image.topic(&topic.topic).ok_or_else(|| unknown_topic(&topic.topic))?;
            all.extend(
                (0..).take(known.partitions.len()).map(|number| (topic.topic.clone(), number)),
            );
        } else {
            all.extend(topic.partitions.into_iter().map(|number| (topic.topic.clone(), number)));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn unknown_topic(topic: &str) -> Error {
    let message = format!("topic `{topic}` does not exist; `troupe topic list` shows all");
    Error::new(ErrorCode::UnknownTopic, message).with("topic", topic)
}

/// # Errors
/// `UNKNOWN_TOPIC`, `UNKNOWN_PARTITION`.
fn target(image: &ClusterImage, topic: &str, partition: i32) -> Result<Target, Error> {
    let known = image.topic(topic).ok_or_else(|| unknown_topic(topic))?;
    let key = known.key(check_partition(known, partition)?);
    Ok(Target { topic: Arc::clone(&known.name), key })
}

/// Where a partition is moved to: within what it holds.
async fn new_offset(
    context: &Context,
    target: &Target,
    to: To,
    old: Option<i64>,
    deadline: Instant,
) -> Result<i64, Error> {
    let find = async |at| {
        let found = find_offset_now(&context.leaders, target, at, deadline).await?;
        Ok::<_, Error>(found.offset.map(Offset::to_wire))
    };
    let wanted = match to {
        To::Earliest(_) => return Ok(find(OffsetQuery::Earliest).await?.unwrap_or(0)),
        To::Latest(_) => i64::MAX,
        To::TimestampMs(time) => find(OffsetQuery::Timestamp(time)).await?.unwrap_or(i64::MAX),
        To::Offset(offset) => offset,
        To::ShiftBy(distance) => match old {
            Some(old) => old.saturating_add(distance),
            None => {
                let message = "the group has committed no offset that could be shifted";
                return Err(Error::new(ErrorCode::NoCommittedOffset, message));
            }
        },
    };
    let earliest = find(OffsetQuery::Earliest).await?.unwrap_or(0);
    let latest = find(OffsetQuery::Latest).await?.unwrap_or(earliest);
    // The end may have been read before the beginning moved.
    Ok(wanted.min(latest).max(earliest))
}

/// Commits what was found, as somebody who is no member.
async fn commit(
    context: &Arc<Context>,
    group_id: String,
    resets: &mut [pb::OffsetReset],
    deadline: Instant,
) -> Result<(), Error> {
    let mut found: Vec<_> = resets.iter_mut().filter(|reset| reset.error.is_none()).collect();
    if found.is_empty() {
        return Ok(());
    }
    let commits = found.iter().map(|reset| pb::PartitionCommit {
        partition: reset.partition.clone(),
        offset: Some(pb::OffsetAndMetadata { offset: reset.new_offset, ..Default::default() }),
    });
    let request =
        pb::CommitOffsetsRequest { group_id, commits: commits.collect(), ..Default::default() };
    let answer = commit_offsets(context, request, deadline).await?;
    // A member that joined meanwhile keeps the whole from being done.
    let refused = answer.results.iter().filter_map(|result| result.error.as_ref());
    if let Some(joined) = refused.clone().find(|error| error.reason() == ErrorCode::GroupNotEmpty) {
        return Err(joined.clone().into());
    }
    for (reset, result) in found.iter_mut().zip(answer.results) {
        reset.error = result.error;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_to_nowhere_is_refused() {
        for to in [None, Some(To::Offset(-1)), Some(To::TimestampMs(-5))] {
            assert_eq!(checked(to).unwrap_err().code, ErrorCode::InvalidRequest);
        }
        for to in [To::Earliest(true), To::Offset(0), To::TimestampMs(0), To::ShiftBy(-3)] {
            assert_eq!(checked(Some(to)), Ok(to));
        }
    }
}
