//! What a session waits for beside its records: offsets to begin at, commits, settlements elsewhere.

use super::ack_id::AckId;
use super::ledger::Action;
use super::options::Start as StartAt;
use super::receipts::AnswerId;
use super::settle::{Terms, settle_all};
use crate::context::Context;
use crate::forward::{Start, Target, cut_below, find_offset};
use crate::groups;
use crate::partition::OffsetQuery;
use crate::service::delivery::Lost;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};
use troupe_proto::log::v1 as log;
use troupe_proto::v1 as pb;

const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);

/// What came of a job.
pub(super) enum Job {
    /// What is committed of these partitions, which were assigned at that time.
    Fetched {
        targets: Vec<Target>,
        assigned: u64,
        offsets: HashMap<PartitionKey, Committed>,
    },
    /// A partition that was assigned at that time can be read from `start` on. None: it is gone.
    Begun {
        target: Target,
        assigned: u64,
        begun: Option<Begun>,
    },
    /// A partition may be readable again.
    Rested(PartitionKey),
    /// What the member of that id and epoch asked to commit, and the answer.
    Committed {
        member: (String, u32),
        asked: Vec<(PartitionKey, Offset)>,
        outcome: Result<log::CommitOffsetsResponse, Error>,
    },
    Settled(Vec<pb::SettleResult>),
    /// The answer's connection broke, or nobody cares any more.
    ConnectionBroke(AnswerId),
}

pub(super) struct Begun {
    pub start: Start,
    pub committed: Option<Offset>,
    pub latest: Offset,
    /// The log was cut below what is committed.
    pub cut: Option<Lost>,
}

/// What a group has committed of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    pub offset: Offset,
    /// Of the last record before.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// As the group's protocol names them.
pub(super) fn named<'a>(
    targets: impl IntoIterator<Item = &'a Target>,
) -> Vec<log::TopicPartitions> {
    let mut topics: BTreeMap<(&str, _), Vec<i32>> = BTreeMap::new();
    for target in targets {
        topics.entry((&target.topic, target.key.topic_id)).or_default().push(target.number());
    }
    topics
        .into_iter()
        .map(|((topic, id), partitions)| log::TopicPartitions {
            topic: topic.to_owned(),
            topic_id: id.to_wire(),
            partitions,
        })
        .collect()
}

/// Asks until there is an answer.
pub(super) async fn fetch(
    context: Arc<Context>,
    group: String,
    targets: Vec<Target>,
    assigned: u64,
) -> Job {
    let request = log::FetchOffsetsRequest {
        group_id: group,
        partitions: named(&targets),
        ..Default::default()
    };
    let answer = loop {
        let deadline = Instant::now() + PATIENCE;
        match groups::fetch_offsets(&context, request.clone(), deadline).await {
            Ok(answer) => break answer,
            Err(error) => tracing::debug!(%error, "committed offsets could not be fetched yet"),
        }
        sleep(RETRY).await;
    };
    let known: HashMap<(&str, i32), PartitionKey> =
        targets.iter().map(|target| ((&*target.topic, target.number()), target.key)).collect();
    let offsets = answer.offsets.iter().filter_map(|committed| {
        let partition = committed.partition.as_ref()?;
        let key = known.get(&(partition.topic.as_str(), partition.partition))?;
        let known = committed.offset.as_ref()?;
        let leader_epoch = known.leader_epoch.map(LeaderEpoch);
        Some((*key, Committed { offset: Offset::from_wire(known.offset)?, leader_epoch }))
    });
    let offsets = offsets.collect();
    Job::Fetched { targets, assigned, offsets }
}

/// Where a partition is begun: at what is committed, or where the options say (C7).
pub(super) async fn begin(
    context: Arc<Context>,
    target: Target,
    assigned: u64,
    committed: Option<Committed>,
    otherwise: StartAt,
) -> Job {
    let begun = loop {
        match find_start(&context, &target, committed, otherwise).await {
            Ok(begun) => break Some(begun),
            Err(error) if error.code == ErrorCode::UnknownTopic => break None,
            Err(error) => tracing::debug!(%error, "a partition cannot be begun yet"),
        }
        sleep(RETRY).await;
    };
    Job::Begun { target, assigned, begun }
}

async fn find_start(
    context: &Context,
    target: &Target,
    committed: Option<Committed>,
    otherwise: StartAt,
) -> Result<Begun, Error> {
    let deadline = Instant::now() + PATIENCE;
    let find = async |at| find_offset(&context.leaders, target, at, deadline).await;
    let at = async |at| Ok::<_, Error>(find(at).await?.offset);
    let end = find(OffsetQuery::Latest).await?;
    let latest = end.offset.unwrap_or_default();
    let cut_at = match committed {
        // C13
        Some(Committed { offset, leader_epoch: Some(epoch) }) => {
            cut_below(&context.leaders, target, (offset, epoch), deadline).await?
        }
        _ => None,
    };
    let next = match (committed, otherwise) {
        (Some(committed), _) => cut_at.unwrap_or(committed.offset),
        (None, StartAt::Latest) => latest,
        (None, StartAt::Earliest) => at(OffsetQuery::Earliest).await?.unwrap_or_default(),
        (None, StartAt::TimestampMs(time)) => {
            at(OffsetQuery::Timestamp(time)).await?.unwrap_or(latest)
        }
    };
    let after = match committed {
        Some(committed) if cut_at.is_none() => committed.leader_epoch,
        // Nobody has read anything before it; the log ended there in that epoch.
        None if next == latest => Some(end.leader_epoch),
        _ => None,
    };
    let cut = match (committed, cut_at) {
        (Some(Committed { offset, .. }), Some(_)) => {
            let earliest = at(OffsetQuery::Earliest).await?.unwrap_or_default();
            Some(Lost { position: offset, earliest, latest, cut_at })
        }
        _ => None,
    };
    let committed = committed.map(|committed| committed.offset);
    Ok(Begun { start: Start { next, after }, committed, latest, cut })
}

pub(super) async fn rest(key: PartitionKey) -> Job {
    sleep(RETRY * 5).await;
    Job::Rested(key)
}

pub(super) async fn commit(
    context: Arc<Context>,
    group: String,
    member: (String, u32),
    offsets: Vec<(Target, Offset, Option<LeaderEpoch>)>,
    gathering: Duration,
) -> Job {
    let commits = offsets.iter().map(|(target, offset, epoch)| log::PartitionCommit {
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
    let request = log::CommitOffsetsRequest {
        group_id: group,
        member_id: member.0.clone(),
        member_epoch: member.1,
        commits: commits.collect(),
        ..Default::default()
    };
    let deadline = Instant::now() + PATIENCE;
    let outcome = groups::commit_of_member(&context, request, deadline, gathering).await;
    let asked = offsets.into_iter().map(|(target, offset, _)| (target.key, offset)).collect();
    Job::Committed { member, asked, outcome }
}

/// Waits until the connection breaks that an answer went out on, as long as the answer is open.
pub(super) async fn connection_broke(
    connection: CancellationToken,
    closed: oneshot::Receiver<()>,
    answer: AnswerId,
) -> Job {
    tokio::select! {
        () = connection.cancelled() => {}
        _ = closed => {}
    }
    Job::ConnectionBroke(answer)
}

/// Ids that other sessions gave out.
pub(super) async fn settle_elsewhere(
    context: Arc<Context>,
    settlements: Vec<(AckId, Action)>,
    confirm: bool,
) -> Job {
    let texts: Vec<String> = settlements.iter().map(|(id, _)| id.to_text()).collect();
    let outcomes = settle_all(&context, settlements, Terms::of_stream(confirm)).await;
    let results = texts.into_iter().zip(outcomes);
    let results =
        results.map(|(ack_id, outcome)| pb::SettleResult { ack_id, outcome: outcome.into() });
    Job::Settled(results.collect())
}
