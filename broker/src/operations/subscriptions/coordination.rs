//! The way to the coordinator of a session's group: the membership, and the offsets that are committed.

use crate::forward::{Call, Target};
use crate::operations::groups::Groups;
use crate::partition::Isolation;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::producer::Producer;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};
use troupe_proto::log::v1::{self as log, MemberStart, TopicPartitions};

#[derive(Clone)]
pub struct Coordination {
    groups: Arc<Groups>,
}

/// What a member says to its coordinator.
pub enum Said {
    Start(MemberStart),
    /// It holds exactly what the assignment of that number said.
    Applied(u64),
    Leave,
}

/// What a member is told.
pub struct Told {
    pub member_id: String,
    pub member_epoch: u32,
    /// What it shall hold, and the number of that.
    pub assignment: Option<(u64, Vec<TopicPartitions>)>,
}

/// What a group has committed of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    pub offset: Offset,
    /// Of the last record before.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// What a member of a group commits: its id and epoch, and offsets with the leader epochs of the last records before.
#[derive(Clone)]
pub struct Commit {
    pub group: String,
    pub member: (String, u32),
    pub offsets: Vec<(Target, Offset, Option<LeaderEpoch>)>,
}

impl Commit {
    fn on_the_wire(&self) -> Vec<log::PartitionCommit> {
        let commits = self.offsets.iter().map(|(target, offset, epoch)| log::PartitionCommit {
            partition: Some(log::TopicPartition {
                topic: target.topic.to_string(),
                partition: target.number(),
                topic_id: target.key.topic_id.to_wire(),
            }),
            offset: Some(log::OffsetAndMetadata {
                offset: offset.to_wire(),
                leader_epoch: epoch.map(|epoch| epoch.0),
                metadata: String::new(),
            }),
        });
        commits.collect()
    }
}

impl Coordination {
    pub fn new(groups: Arc<Groups>) -> Self {
        Self { groups }
    }

    /// A membership, which ends with either stream. `host`: the address that the member came from.
    ///
    /// # Errors
    /// What the member was refused with.
    pub async fn run_member(
        &self,
        host: String,
        said: BoxStream<'static, Said>,
    ) -> Result<BoxStream<'static, Result<Told, Error>>, Error> {
        let requests = said.map(request).boxed();
        let answers = self.groups.run_member(host, requests, false).await?;
        Ok(answers.map(|answer| answer.map(told)).boxed())
    }

    /// What is committed of these partitions.
    ///
    /// # Errors
    /// Why no coordinator has answered in time.
    pub async fn fetch(
        &self,
        group: String,
        targets: &[Target],
        isolation: Isolation,
        deadline: Instant,
    ) -> Result<HashMap<PartitionKey, Committed>, Error> {
        let request = log::FetchOffsetsRequest {
            group_id: group,
            partitions: named(targets),
            require_stable: isolation == Isolation::Committed,
            ..Default::default()
        };
        let answer = self.groups.fetch(&request, Call::until(deadline)).await?;
        let known: HashMap<(&str, i32), PartitionKey> =
            targets.iter().map(|target| ((&*target.topic, target.number()), target.key)).collect();
        let offsets = answer.offsets.iter().filter_map(|committed| {
            let partition = committed.partition.as_ref()?;
            let key = known.get(&(partition.topic.as_str(), partition.partition))?;
            let known = committed.offset.as_ref()?;
            let leader_epoch = known.leader_epoch.map(LeaderEpoch);
            Some((*key, Committed { offset: Offset::from_wire(known.offset)?, leader_epoch }))
        });
        Ok(offsets.collect())
    }

    /// Commits, in one call with what other members of this node commit, for whom it waits so long at most. Of each
    /// offset, why it was refused, if it was.
    ///
    /// # Errors
    /// Why none of them is known to be committed.
    pub async fn commit(
        &self,
        commit: &Commit,
        deadline: Instant,
        gathering: Duration,
    ) -> Result<Vec<Option<Error>>, Error> {
        let request = log::CommitOffsetsRequest {
            group_id: commit.group.clone(),
            member_id: commit.member.0.clone(),
            member_epoch: commit.member.1,
            commits: commit.on_the_wire(),
            ..Default::default()
        };
        let answer = self.groups.commit_of_member(request, deadline, gathering).await?;
        Ok(answer.results.into_iter().map(|result| result.error.map(Error::from)).collect())
    }

    /// Commits all of it in a transaction that the group is part of.
    ///
    /// # Errors
    /// `LEASE_LOST`: the group has gone on without the member; others, also if the offsets may be pending.
    pub async fn commit_in_transaction(
        &self,
        commit: &Commit,
        (transactional_id, producer): (&str, Producer),
        deadline: Instant,
    ) -> Result<(), Error> {
        let request = log::CommitTransactionOffsetsRequest {
            transactional_id: transactional_id.to_owned(),
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            group_id: commit.group.clone(),
            member_id: commit.member.0.clone(),
            member_epoch: commit.member.1,
            commits: commit.on_the_wire(),
            ..Default::default()
        };
        let answer = self.groups.route.commit_in_transaction(&request, Call::until(deadline)).await;
        let refused = answer.map(|it| it.results.into_iter().find_map(|result| result.error));
        match refused {
            Ok(None) => Ok(()),
            Ok(Some(refused)) => Err(refused.into()),
            Err(error) if is_gone_on(error.code) => {
                let message =
                    format!("the group has given the partitions to others: {}", error.message);
                Err(Error::new(ErrorCode::LeaseLost, message))
            }
            Err(error) => Err(error),
        }
    }
}

fn is_gone_on(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownMember | ErrorCode::StaleMemberEpoch | ErrorCode::FencedMemberEpoch
    )
}

fn request(said: Said) -> log::RunMemberRequest {
    match said {
        Said::Start(start) => log::RunMemberRequest { start: Some(start), ..Default::default() },
        Said::Applied(number) => {
            log::RunMemberRequest { applied: Some(number), ..Default::default() }
        }
        Said::Leave => log::RunMemberRequest { leave: true, ..Default::default() },
    }
}

fn told(answer: log::RunMemberResponse) -> Told {
    Told {
        member_id: answer.member_id,
        member_epoch: answer.member_epoch,
        assignment: answer.assignment.map(|told| (told.number, told.partitions)),
    }
}

/// As the group's protocol names them.
pub fn named<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<(&str, _), Vec<i32>> = BTreeMap::new();
    for target in targets {
        topics.entry((&target.topic, target.key.topic_id)).or_default().push(target.number());
    }
    topics
        .into_iter()
        .map(|((topic, id), partitions)| TopicPartitions {
            topic: topic.to_owned(),
            topic_id: id.to_wire(),
            partitions,
        })
        .collect()
}
