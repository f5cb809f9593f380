//! What a session waits for beside its records: offsets to begin at, commits, settlements elsewhere.

use super::ack_id::AckId;
use super::coordination::{Commit, Committed, Coordination};
use super::options::Start as StartAt;
use super::pledged::Pledged;
use super::receipts::AnswerId;
use super::response::SettleResult;
use super::settle::{Settle, Terms};
use crate::forward::{Leaders, SettleAction, Start, Target, find_divergence, find_offset_for};
use crate::operations::delivery::Lost;
use crate::partition::{Isolation, OffsetQuery};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};

const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);

/// What came of a job.
pub enum Job {
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
        outcome: Result<Vec<Option<Error>>, Error>,
    },
    Settled(Vec<SettleResult>),
    /// A transaction that was to acknowledge this has ended. None: nobody says how.
    Redeemed(Vec<Pledged>, Option<bool>),
    /// The answer's connection broke, or nobody cares any more.
    ConnectionBroke(AnswerId),
}

pub struct Begun {
    pub start: Start,
    pub committed: Option<Offset>,
    pub latest: Offset,
    /// The log was truncated below what is committed.
    pub lost: Option<Lost>,
}

/// Asks until there is an answer. A reader of committed records does not begin at an offset that a transaction may be
/// about to change: it would read again what that one has read.
pub async fn fetch(
    coordination: Coordination,
    group: String,
    targets: Vec<Target>,
    assigned: u64,
    isolation: Isolation,
) -> Job {
    let offsets = loop {
        let deadline = Instant::now() + PATIENCE;
        match coordination.fetch(group.clone(), &targets, isolation, deadline).await {
            Ok(offsets) => break offsets,
            Err(error) => tracing::debug!(%error, "committed offsets could not be fetched yet"),
        }
        sleep(RETRY).await;
    };
    Job::Fetched { targets, assigned, offsets }
}

/// Where a partition is begun: at what is committed, or where the options say (C7).
pub async fn begin(
    leaders: Arc<Leaders>,
    target: Target,
    assigned: u64,
    committed: Option<Committed>,
    otherwise: (StartAt, Isolation),
) -> Job {
    let begun = loop {
        match find_start(&leaders, &target, committed, otherwise).await {
            Ok(begun) => break Some(begun),
            Err(error) if error.code == ErrorCode::UnknownTopic => break None,
            Err(error) => tracing::debug!(%error, "a partition cannot be begun yet"),
        }
        sleep(RETRY).await;
    };
    Job::Begun { target, assigned, begun }
}

async fn find_start(
    leaders: &Leaders,
    target: &Target,
    committed: Option<Committed>,
    (otherwise, isolation): (StartAt, Isolation),
) -> Result<Begun, Error> {
    let deadline = Instant::now() + PATIENCE;
    let find = async |at| find_offset_for(leaders, target, at, isolation, deadline).await;
    let at = async |at| Ok::<_, Error>(find(at).await?.offset);
    let end = find(OffsetQuery::Latest).await?;
    let latest = end.offset.unwrap_or_default();
    let cut_at = match committed {
        // C13
        Some(Committed { offset, leader_epoch: Some(epoch) }) => {
            find_divergence(leaders, target, (offset, epoch), deadline).await?
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
    let lost = match (committed, cut_at) {
        (Some(Committed { offset, .. }), Some(_)) => {
            let earliest = at(OffsetQuery::Earliest).await?.unwrap_or_default();
            Some(Lost { position: offset, earliest, latest, cut_at })
        }
        _ => None,
    };
    let committed = committed.map(|committed| committed.offset);
    Ok(Begun { start: Start { next, after }, committed, latest, lost })
}

pub async fn rest(key: PartitionKey) -> Job {
    sleep(RETRY * 5).await;
    Job::Rested(key)
}

pub async fn commit(coordination: Coordination, commit: Commit, gathering: Duration) -> Job {
    let outcome = coordination.commit(&commit, Instant::now() + PATIENCE, gathering).await;
    let Commit { member, offsets, .. } = commit;
    let asked = offsets.into_iter().map(|(target, offset, _)| (target.key, offset)).collect();
    Job::Committed { member, asked, outcome }
}

/// Waits until the connection breaks that an answer went out on, as long as the answer is open.
pub async fn connection_broke(
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

/// Waits for the end of a transaction.
pub async fn redeem(pledged: Vec<Pledged>, committed: oneshot::Receiver<bool>) -> Job {
    Job::Redeemed(pledged, committed.await.ok())
}

/// Ids that other sessions gave out.
pub async fn settle_elsewhere(
    settle: Arc<Settle>,
    settlements: Vec<(AckId, SettleAction)>,
    confirm: bool,
) -> Job {
    let texts: Vec<String> = settlements.iter().map(|(id, _)| id.to_text()).collect();
    let outcomes = settle.settle_all(settlements, Terms::of_stream(confirm)).await;
    let results = texts.into_iter().zip(outcomes);
    Job::Settled(results.map(|(ack_id, outcome)| SettleResult { ack_id, outcome }).collect())
}
