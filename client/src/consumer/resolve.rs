//! Where to begin: what is committed, or what the policy says (C7). Runs beside the reading.

use super::Consumer;
use super::assigned::{OffsetAndMetadata, Offsets, Position};
use super::config::{AutoOffsetReset, IsolationLevel};
use super::coordinator::Coordinator;
use crate::admin::groups::groups;
use crate::client::{Inner, Missing};
use crate::error::ClientError;
use crate::offsets::OffsetSpec;
use crate::topic_partition::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionId, TopicId};
use troupe_proto::log::v1 as wire;

/// How long a partition without a leader keeps the others waiting; then it is looked for again.
const LEADER_PATIENCE: Duration = Duration::from_secs(1);

/// What was asked about a partition, and what came out.
pub(super) struct Resolved {
    pub at: TopicPartition,
    pub asked: Position,
    pub outcome: Result<Found, ClientError>,
}

#[derive(Clone, Debug)]
pub(super) struct Found {
    pub topic_id: TopicId,
    /// None: nothing is committed, and the policy is none.
    pub offset: Option<Offset>,
    pub committed: Option<OffsetAndMetadata>,
    /// The log parts from what was read below what is committed: here (C13).
    pub cut: Option<Offset>,
}

/// What it takes to look.
#[derive(Clone)]
pub(super) struct Resolver {
    pub client: Arc<Inner>,
    /// None: without a group nothing is committed.
    pub coordinator: Option<Arc<Coordinator>>,
    pub policy: AutoOffsetReset,
    pub patience: Duration,
    pub isolation: IsolationLevel,
    /// Of topics that the application names, not of those that the group gives.
    pub missing: Missing,
}

impl Consumer {
    pub(super) fn resolver(&self) -> Resolver {
        Resolver {
            client: self.client.clone(),
            coordinator: self.group.as_ref().map(|group| group.coordinator.clone()),
            policy: self.config.auto_offset_reset,
            patience: self.config.default_api_timeout,
            isolation: self.config.isolation_level,
            missing: Missing::created_if(self.config.allow_auto_create_topics),
        }
    }
}

impl Resolver {
    /// Finds the positions of these partitions, each for itself.
    pub(super) async fn resolve(
        self,
        asked: Vec<(TopicPartition, Position, Option<TopicId>)>,
    ) -> Vec<Resolved> {
        let deadline = Instant::now() + self.patience;
        let at_committed = asked.iter().filter(|(_, position, _)| *position == Position::Committed);
        let names: Vec<_> = at_committed.map(|(at, ..)| at.clone()).collect();
        let committed = self.committed(&names, deadline).await;
        let mut open: BTreeMap<(Arc<str>, Spec), Vec<usize>> = BTreeMap::new();
        let mut resolved = Vec::with_capacity(asked.len());
        for (at, position, topic_id) in asked {
            let outcome = match self.topic_id(&at, topic_id).await {
                Ok(topic_id) => self.known(&at, position, topic_id, &committed),
                Err(error) => Err(error),
            };
            if matches!(&outcome, Ok(found) if found.offset.is_none())
                && let Some(spec) = Spec::of(position, self.policy)
            {
                open.entry((at.topic.clone(), spec)).or_default().push(resolved.len());
            }
            resolved.push(Resolved { at, asked: position, outcome });
        }
        self.compare_epochs(&mut resolved).await;
        for ((topic, spec), places) in open {
            let partitions: Vec<_> =
                places.iter().map(|&place| resolved[place].at.partition).collect();
            let listed = self.list(&topic, spec, &partitions).await;
            for (number, place) in places.into_iter().enumerate() {
                let offset = match &listed {
                    Ok(each) => each.get(number).cloned().transpose(),
                    Err(error) => Err(error.clone()),
                };
                let outcome = &mut resolved[place].outcome;
                match (offset, &mut *outcome) {
                    (Ok(offset), Ok(found)) => found.offset = offset,
                    (Err(error), _) => *outcome = Err(error),
                    (Ok(_), Err(_)) => {}
                }
            }
        }
        resolved
    }

    /// C13: a committed offset is a position in a log as it was in the leader epoch that stands beside it. If that
    /// epoch ends before it now, the log was cut, and what has come in its place would be skipped.
    async fn compare_epochs(&self, resolved: &mut [Resolved]) {
        let mut topics: BTreeMap<Arc<str>, Vec<(usize, PartitionId, OffsetSpec)>> = BTreeMap::new();
        for (number, one) in resolved.iter().enumerate() {
            let committed = one.outcome.as_ref().ok().and_then(|found| found.committed.as_ref());
            if let Some(epoch) = committed.and_then(|committed| committed.leader_epoch) {
                let query = (number, one.at.partition, OffsetSpec::EndOfEpoch(epoch));
                topics.entry(one.at.topic.clone()).or_default().push(query);
            }
        }
        for (topic, queries) in topics {
            let asked: Vec<_> = queries.iter().map(|(_, at, spec)| (*at, *spec)).collect();
            let ends = match self
                .client
                .list_each(&topic, &asked, self.isolation, LEADER_PATIENCE)
                .await
            {
                Ok(ends) => ends,
                Err(error) => asked.iter().map(|_| Err(error.clone())).collect(),
            };
            for ((number, ..), end) in queries.into_iter().zip(ends) {
                let outcome = &mut resolved[number].outcome;
                let Ok(found) = outcome else { continue };
                match end.map(|end| end.offset) {
                    Ok(Some(end)) if found.offset.is_some_and(|offset| end < offset) => {
                        (found.offset, found.cut) = (Some(end), Some(end));
                    }
                    Ok(_) => {}
                    // A node of an earlier version knows no such question.
                    Err(error) if error.reason() == ErrorCode::InvalidRequest => {}
                    Err(error) => *outcome = Err(error),
                }
            }
        }
    }

    /// What the group has committed for these partitions; asked until the deadline.
    pub(super) async fn committed(
        &self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Offsets, ClientError> {
        let Some(coordinator) = self.coordinator.as_ref().filter(|_| !partitions.is_empty()) else {
            return Ok(Offsets::new());
        };
        let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
        for at in partitions {
            topics.entry(&at.topic).or_default().push(at.partition.0 as i32);
        }
        let partitions = topics.into_iter().map(|(topic, partitions)| wire::TopicPartitions {
            topic: topic.to_string(),
            partitions,
            ..Default::default()
        });
        let request = wire::FetchOffsetsRequest {
            group_id: coordinator.group_id.clone(),
            partitions: partitions.collect(),
            require_stable: self.isolation.is_committed(),
            ..Default::default()
        };
        let answer = coordinator
            .call(deadline, |channel| {
                let request = request.clone();
                async move { groups(channel).fetch_offsets(request).await }
            })
            .await?;
        Ok(answer.offsets.into_iter().filter_map(read).collect())
    }

    fn known(
        &self,
        at: &TopicPartition,
        position: Position,
        topic_id: TopicId,
        committed: &Result<Offsets, ClientError>,
    ) -> Result<Found, ClientError> {
        let mut found = Found { topic_id, offset: position.offset(), committed: None, cut: None };
        if position == Position::Committed {
            let committed = committed.as_ref().map_err(Clone::clone)?.get(at).cloned();
            found.offset = committed.as_ref().map(|committed| committed.offset);
            found.committed = committed;
        }
        Ok(found)
    }

    /// The topic has to be known here, whoever named its id.
    async fn topic_id(
        &self,
        at: &TopicPartition,
        given: Option<TopicId>,
    ) -> Result<TopicId, ClientError> {
        let known = self.client.metadata.topic_of_any_age(&at.topic);
        let fits = |topic: &crate::metadata::TopicMetadata| {
            given.is_none_or(|given| given == topic.topic_id)
                && topic.partitions.len() > at.partition.0 as usize
        };
        let topic = match known.filter(|topic| fits(topic)) {
            Some(topic) => topic,
            None => {
                let missing = if given.is_some() { Missing::StaysMissing } else { self.missing };
                self.client.find_topic(&at.topic, missing).await?
            }
        };
        if topic.partitions.len() <= at.partition.0 as usize {
            return Err(ClientError::UnknownPartition {
                topic: at.topic.to_string(),
                partition: at.partition,
                count: topic.partitions.len() as u32,
                waited: Duration::ZERO,
            });
        }
        Ok(given.unwrap_or(topic.topic_id))
    }

    async fn list(
        &self,
        topic: &str,
        spec: Spec,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Offset, ClientError>>, ClientError> {
        let list = async |spec| {
            let queries: Vec<_> = partitions.iter().map(|&partition| (partition, spec)).collect();
            let listed =
                self.client.list_each(topic, &queries, self.isolation, LEADER_PATIENCE).await?;
            let offsets = listed.into_iter().map(|listed| listed.map(|listed| listed.offset));
            Ok::<Vec<_>, ClientError>(offsets.collect())
        };
        let mut listed = match spec {
            Spec::Beginning => list(OffsetSpec::Earliest).await?,
            Spec::End => list(OffsetSpec::Latest).await?,
            Spec::Since(duration) => list(OffsetSpec::Timestamp(ago(duration))).await?,
        };
        if listed.contains(&Ok(None)) {
            // No record is that young.
            let ends = list(OffsetSpec::Latest).await?;
            let open = listed.iter_mut().zip(ends).filter(|(listed, _)| **listed == Ok(None));
            open.for_each(|(listed, end)| *listed = end);
        }
        let offsets = listed.into_iter();
        Ok(offsets.map(|offset| offset.map(|offset| offset.unwrap_or(Offset::ZERO))).collect())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spec {
    Beginning,
    End,
    Since(Duration),
}

impl Spec {
    /// None: nothing says where.
    fn of(position: Position, policy: AutoOffsetReset) -> Option<Spec> {
        match position {
            Position::Beginning => Some(Self::Beginning),
            Position::End => Some(Self::End),
            Position::At(_) => None,
            Position::Committed | Position::Reset => match policy {
                AutoOffsetReset::Latest => Some(Self::End),
                AutoOffsetReset::Earliest => Some(Self::Beginning),
                AutoOffsetReset::ByDuration(duration) => Some(Self::Since(duration)),
                AutoOffsetReset::None => None,
            },
        }
    }
}

/// Milliseconds since 1970 then.
fn ago(duration: Duration) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(duration).as_millis().try_into().unwrap_or(i64::MAX)
}

fn read(committed: wire::CommittedOffset) -> Option<(TopicPartition, OffsetAndMetadata)> {
    let (at, offset) = (committed.partition?, committed.offset?);
    let at = TopicPartition::new(at.topic, u32::try_from(at.partition).ok()?);
    let metadata = OffsetAndMetadata {
        offset: Offset::from_wire(offset.offset)?,
        leader_epoch: offset.leader_epoch.map(LeaderEpoch),
        metadata: offset.metadata,
    };
    Some((at, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C7.
    #[test]
    fn the_policy_says_where_only_if_nobody_else_does() {
        use AutoOffsetReset::{ByDuration, Earliest, Latest, None as Never};
        let hour = Duration::from_secs(3600);
        assert_eq!(Spec::of(Position::Committed, Latest), Some(Spec::End));
        assert_eq!(Spec::of(Position::Reset, Earliest), Some(Spec::Beginning));
        assert_eq!(Spec::of(Position::Committed, ByDuration(hour)), Some(Spec::Since(hour)));
        assert_eq!(Spec::of(Position::Committed, Never), None);
        assert_eq!(Spec::of(Position::End, Earliest), Some(Spec::End));
        assert_eq!(Spec::of(Position::Beginning, Never), Some(Spec::Beginning));
        assert_eq!(Spec::of(Position::At(Offset(3)), Earliest), None);
    }
}
