//! Moving what a group has committed, where it has no members (G29).

use super::coordination::Groups;
use crate::forward::{Call, Target, find_offset_now, hears};
use crate::group::check_partition;
use crate::operations::topic_lookup::unknown_topic;
use crate::partition::OffsetQuery;
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_machines::cluster::{ClusterImage, check_topic_names};
use troupe_machines::group::check_group_id;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::log::v1 as pb;

/// Partitions whose offsets are looked up at a time.
const LOOKUPS: usize = 64;

/// By topic and partition.
type Committed = BTreeMap<(String, i32), i64>;

/// Where offsets are moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    Earliest,
    Latest,
    TimestampMs(i64),
    Offset(i64),
    /// From what is committed.
    ShiftBy(i64),
}

pub struct ResetOffsets {
    pub group: String,
    /// All that the group has committed, if none is named; all of a topic, if none of its partitions is.
    pub partitions: Vec<pb::TopicPartitions>,
    pub to: Option<ResetTo>,
    /// Nothing is moved.
    pub validate_only: bool,
}

/// How a partition is moved, or why not.
pub struct OffsetReset {
    pub partition: pb::TopicPartition,
    pub old_offset: Option<i64>,
    pub new_offset: Option<i64>,
    pub error: Option<Error>,
}

impl Groups {
    /// Moves committed offsets, or tells how they would be moved. What cannot be moved is refused partition by
    /// partition, and the rest is moved.
    ///
    /// # Errors
    /// `INVALID_REQUEST`; `INVALID_TOPIC`; `GROUP_NOT_EMPTY`; `UNKNOWN_TOPIC` if all partitions of a topic are meant that
    /// there is not.
    pub async fn reset(
        &self,
        request: ResetOffsets,
        deadline: Instant,
    ) -> Result<Vec<OffsetReset>, Error> {
        check_group_id(&request.group)?;
        check_topic_names(request.partitions.iter().map(|named| &named.topic))?;
        let to = checked(request.to)?;
        self.check_empty(&request.group, deadline).await?;
        let committed = self.committed(&request.group, deadline).await?;
        let named = self.named(request.partitions, &committed).await?;
        let image = self.route.metadata.now();
        let found = named.into_iter().map(|(topic, partition)| {
            let old_offset = committed.get(&(topic.clone(), partition)).copied();
            let target = target(&image, &topic, partition);
            async move {
                let found = match &target {
                    Ok(target) => self.new_offset(target, to, old_offset, deadline).await,
                    Err(error) => Err(error.clone()),
                };
                let topic_id =
                    target.map(|target| target.key.topic_id.to_wire()).unwrap_or_default();
                let (new_offset, error) = match found {
                    Ok(offset) => (Some(offset), None),
                    Err(error) => (None, Some(error)),
                };
                let partition = pb::TopicPartition { topic, partition, topic_id };
                OffsetReset { partition, old_offset, new_offset, error }
            }
        });
        let mut resets: Vec<_> = stream::iter(found).buffered(LOOKUPS).collect().await;
        if !request.validate_only {
            self.commit_resets(request.group, &mut resets, deadline).await?;
        }
        Ok(resets)
    }

    /// # Errors
    /// `GROUP_NOT_EMPTY`.
    async fn check_empty(&self, group: &str, deadline: Instant) -> Result<(), Error> {
        match self.describe(group, Call::until(deadline)).await {
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

    async fn committed(&self, group: &str, deadline: Instant) -> Result<Committed, Error> {
        let request = pb::FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
        let answer = self.fetch(&request, Call::until(deadline)).await?;
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
        &self,
        partitions: Vec<pb::TopicPartitions>,
        committed: &Committed,
    ) -> Result<Vec<(String, i32)>, Error> {
        if partitions.is_empty() {
            return Ok(committed.keys().cloned().collect());
        }
        let are_there = |image: &ClusterImage| {
            partitions.iter().all(|named| image.topic(&named.topic).is_some())
        };
        // If not, the check tells.
        let _ = hears(&self.route.metadata, are_there).await;
        let image = self.route.metadata.now();
        let mut all = Vec::new();
        for pb::TopicPartitions { topic, partitions, .. } in partitions {
            if partitions.is_empty() {
                let known = image.topic(&topic).ok_or_else(|| unknown_topic(&topic))?;
                let numbers = (0..).take(known.partitions.len());
                all.extend(numbers.map(|number| (topic.clone(), number)));
            } else {
                all.extend(partitions.into_iter().map(|number| (topic.clone(), number)));
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Where a partition is moved to: within what it holds.
    async fn new_offset(
        &self,
        target: &Target,
        to: ResetTo,
        old: Option<i64>,
        deadline: Instant,
    ) -> Result<i64, Error> {
        let find = async |at| {
            let found = find_offset_now(&self.leaders, target, at, deadline).await?;
            Ok::<_, Error>(found.offset.map(Offset::to_wire))
        };
        let wanted = match to {
            ResetTo::Earliest => return Ok(find(OffsetQuery::Earliest).await?.unwrap_or(0)),
            ResetTo::Latest => i64::MAX,
            ResetTo::TimestampMs(time) => {
                find(OffsetQuery::Timestamp(time)).await?.unwrap_or(i64::MAX)
            }
            ResetTo::Offset(offset) => offset,
            ResetTo::ShiftBy(distance) => match old {
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
    async fn commit_resets(
        &self,
        group_id: String,
        resets: &mut [OffsetReset],
        deadline: Instant,
    ) -> Result<(), Error> {
        let (mut found, mut commits) = (Vec::new(), Vec::new());
        for reset in resets {
            let Some(offset) = reset.new_offset else { continue };
            commits.push(pb::PartitionCommit {
                partition: Some(reset.partition.clone()),
                offset: Some(pb::OffsetAndMetadata { offset, ..Default::default() }),
            });
            found.push(reset);
        }
        if found.is_empty() {
            return Ok(());
        }
        let request = pb::CommitOffsetsRequest { group_id, commits, ..Default::default() };
        let answer = self.commit(request, Call::until(deadline)).await?;
        for (reset, result) in found.into_iter().zip(answer.results) {
            reset.error = result.error.map(Error::from);
            // A member that joined meanwhile keeps the whole from being done.
            if let Some(error) = &reset.error
                && error.code == ErrorCode::GroupNotEmpty
            {
                return Err(error.clone());
            }
        }
        Ok(())
    }
}

/// # Errors
/// `INVALID_REQUEST`.
fn checked(to: Option<ResetTo>) -> Result<ResetTo, Error> {
    let refuse = |message: String| Err(Error::new(ErrorCode::InvalidRequest, message));
    match to {
        None => refuse(
            "the request says neither earliest, latest, timestamp_ms, offset nor shift_by"
                .to_owned(),
        ),
        Some(ResetTo::Offset(offset)) if offset < 0 => {
            refuse(format!("offset {offset} is negative"))
        }
        Some(ResetTo::TimestampMs(time)) if time < 0 => {
            refuse(format!("timestamp_ms {time} is negative: it counts from 1970"))
        }
        Some(to) => Ok(to),
    }
}

/// # Errors
/// `UNKNOWN_TOPIC`, `UNKNOWN_PARTITION`.
fn target(image: &ClusterImage, topic: &str, partition: i32) -> Result<Target, Error> {
    let known = image.topic(topic).ok_or_else(|| unknown_topic(topic))?;
    let key = known.key(check_partition(known, partition)?);
    Ok(Target { topic: Arc::clone(&known.name), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_to_nowhere_is_refused() {
        for to in [None, Some(ResetTo::Offset(-1)), Some(ResetTo::TimestampMs(-5))] {
            assert_eq!(checked(to).unwrap_err().code, ErrorCode::InvalidRequest);
        }
        let somewhere =
            [ResetTo::Earliest, ResetTo::Offset(0), ResetTo::TimestampMs(0), ResetTo::ShiftBy(-3)];
        for to in somewhere {
            assert_eq!(checked(Some(to)), Ok(to));
        }
    }
}
