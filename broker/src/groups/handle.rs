//! How everything outside the actor speaks to a coordinator, for longer than any one actor lives.

use super::actor::CoordinatorActor;
use super::member::{self, MemberStream};
use super::message::{
    Commit, CommitAll, Delete, DeleteOffsets, Describe, Fetch, Join, List, MAILBOX_CAPACITY, Order,
    Reply,
};
use crate::metrics::NodeMetrics;
use crate::partition::PartitionHandle;
use actix::{Addr, Handler, Message};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use troupe_actor::{Die, Mailbox, Refused, StallDetector, State, StateBoard};
use troupe_machines::group::SessionId;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionId};
use troupe_proto::log::v1 as pb;

/// What a coordinator takes from its node.
pub struct Home {
    pub node_id: NodeId,
    /// host:port that clients are told.
    pub endpoint: String,
    pub metrics: Arc<NodeMetrics>,
    pub stall_detector: Arc<StallDetector>,
    /// Cancelled when the node begins to stop.
    pub shutdown: CancellationToken,
    /// Ticked at every change of state.
    pub changes: watch::Sender<u64>,
}

/// The coordinator of the groups of one partition of `__consumer_offsets`, in one leader epoch.
pub struct CoordinatorHandle {
    /// The partition that the groups are remembered in.
    pub(super) log: Arc<PartitionHandle>,
    pub(super) leader_epoch: LeaderEpoch,
    home: Home,
    /// Where the actor is found. Retired: this node does not lead the partition in that epoch any more.
    pub board: StateBoard<CoordinatorActor, Error>,
    pub mailbox: Mailbox,
    next_session: AtomicU64,
    groups: AtomicU64,
    members: AtomicU64,
}

impl std::ops::Deref for CoordinatorHandle {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl CoordinatorHandle {
    pub(super) fn new(log: Arc<PartitionHandle>, leader_epoch: LeaderEpoch, home: Home) -> Self {
        Self {
            log,
            leader_epoch,
            home,
            board: StateBoard::default(),
            mailbox: Mailbox::default(),
            next_session: AtomicU64::new(1),
            groups: AtomicU64::new(0),
            members: AtomicU64::new(0),
        }
    }

    /// Of `__consumer_offsets`.
    pub fn partition(&self) -> PartitionId {
        self.log.key().partition
    }

    /// A membership: answered when the member is in the group, or refused. The first request is a start.
    /// `host`: the address that the member came from. The member goes when either stream is dropped.
    ///
    /// # Errors
    /// Those of `GroupService.RunMember`.
    pub async fn run_member(
        self: &Arc<Self>,
        host: String,
        mut requests: BoxStream<'static, pb::RunMemberRequest>,
    ) -> Result<BoxStream<'static, Result<pb::RunMemberResponse, Error>>, Error> {
        let start = requests.next().await.and_then(|request| request.start).ok_or_else(|| {
            Error::new(ErrorCode::InvalidRequest, "a membership begins with a request with `start`")
        })?;
        let session = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let name = match start.client_id.as_str() {
            "" => "consumer",
            name => name,
        };
        let new_member_id = format!("{name}-{}", uuid::Uuid::new_v4());
        self.check_serves()?;
        let (stream, sink) = MemberStream::open();
        let join = Join { session, new_member_id, host, start, sink };
        // On a task of its own: whoever asked may go at any time, and the coordinator has to hear of it.
        tokio::spawn(member::run(Arc::clone(self), join, requests, stream.slot()));
        stream.begin().await
    }

    /// Commits what several have brought together, each judged by itself. The answers, in their order, come when
    /// all that were taken are on every in-sync replica: `OUTCOME_UNKNOWN` for those that may be committed, or may
    /// be later.
    pub async fn commit(
        &self,
        asked: Vec<(pb::CommitOffsetsRequest, Order)>,
    ) -> Vec<Result<pb::CommitOffsetsResponse, Error>> {
        let count = asked.len();
        let (commits, answers): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .map(|(request, order)| {
                let (reply, answer) = oneshot::channel();
                (Commit { request, order, reply }, answer)
            })
            .unzip();
        if let Err(error) = self.send(CommitAll(commits)) {
            return vec![Err(error); count];
        }
        let answers = futures::future::join_all(answers).await;
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|_| Err(outcome_unknown())))
            .collect()
    }

    /// What is committed.
    pub async fn fetch(
        &self,
        request: pb::FetchOffsetsRequest,
    ) -> Result<pb::FetchOffsetsResponse, Error> {
        self.of_now(self.ask(|reply| Fetch { request, reply })).await
    }

    /// The groups of this coordinator, by name.
    pub async fn list(&self) -> Result<Vec<pb::GroupListing>, Error> {
        self.of_now(self.ask(|reply| List { reply })).await
    }

    /// # Errors
    /// Among others `GROUP_NOT_FOUND`.
    pub async fn describe(&self, group: String) -> Result<pb::DescribeGroupResponse, Error> {
        self.of_now(self.ask(|reply| Describe { group, reply })).await
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    /// Among others `GROUP_NOT_FOUND`, `GROUP_NOT_EMPTY`; `OUTCOME_UNKNOWN` as for commits.
    pub async fn delete(&self, group: String, order: Order) -> Result<(), Error> {
        let answer = self.ask(|reply| Delete { group, order, reply }).await?;
        answer.unwrap_or_else(|| Err(outcome_unknown()))
    }

    /// Deletes committed offsets.
    ///
    /// # Errors
    /// Among others `GROUP_NOT_FOUND`; `OUTCOME_UNKNOWN` as for commits.
    pub async fn delete_offsets(
        &self,
        request: pb::DeleteGroupOffsetsRequest,
        order: Order,
    ) -> Result<pb::DeleteGroupOffsetsResponse, Error> {
        let answer = self.ask(|reply| DeleteOffsets { request, order, reply }).await?;
        answer.unwrap_or_else(|| Err(outcome_unknown()))
    }

    /// A read, if this node coordinated the groups after the call began: a coordinator that has been replaced, and
    /// does not know of it, must not tell its past as if it were now. The in-sync replicas of its log say so.
    async fn of_now<T>(
        &self,
        asked: impl Future<Output = Result<Option<Result<T, Error>>, Error>>,
    ) -> Result<T, Error> {
        let confirmed = self.log.confirm(Some(self.leader_epoch));
        let (answer, confirmed) = tokio::join!(asked, confirmed);
        let answer = answer?.unwrap_or_else(|| Err(not_available()));
        confirmed.map_err(|error| unconfirmed(&error))?;
        answer
    }

    /// None: the actor died before it answered.
    async fn ask<M, T>(
        &self,
        question: impl FnOnce(Reply<T>) -> M,
    ) -> Result<Option<Result<T, Error>>, Error>
    where
        M: Message<Result = ()> + Send + 'static,
        CoordinatorActor: Handler<M>,
    {
        let addr = self.addr()?;
        self.mailbox.ask(&addr, question).await.map_err(refusal)
    }

    /// Hands a request over, if the mailbox has room.
    fn send<M>(&self, message: M) -> Result<(), Error>
    where
        M: Message<Result = ()> + Send + 'static,
        CoordinatorActor: Handler<M>,
    {
        let addr = self.addr()?;
        self.mailbox.try_send(&addr, message).map_err(refusal)
    }

    /// Hands a message over, waiting for room in the mailbox.
    pub(super) async fn tell<M>(&self, message: M) -> Result<(), Error>
    where
        M: Message<Result = ()> + Send + Unpin + 'static,
        CoordinatorActor: Handler<M>,
    {
        let addr = self.addr()?;
        self.mailbox.sent(Instant::now());
        addr.send(message).await.map_err(|_| {
            self.mailbox.taken(Instant::now());
            not_available()
        })
    }

    /// Whether a request would be taken now.
    pub(super) fn check_serves(&self) -> Result<(), Error> {
        self.addr().map(drop)
    }

    fn addr(&self) -> Result<Addr<CoordinatorActor>, Error> {
        match self.board.snapshot() {
            State::Running(addr) if addr.connected() => Ok(Addr::clone(&addr)),
            State::Running(_) | State::Restarting => {
                let message = "the group's coordinator reads its log; try again";
                Err(Error::new(ErrorCode::CoordinatorLoading, message))
            }
            State::Offline(reason) => {
                let code = ErrorCode::CoordinatorNotAvailable;
                Err(Error { code, ..Error::clone(&reason) })
            }
            State::Retired(_) => Err(not_coordinator()),
        }
    }
}

/// What tools see, and do.
impl CoordinatorHandle {
    /// The shard that the actor lives on.
    pub fn shard(&self) -> usize {
        self.log.shard
    }

    /// Groups and members, as of a moment ago.
    pub fn census(&self) -> (u64, u64) {
        (self.groups.load(Ordering::Relaxed), self.members.load(Ordering::Relaxed))
    }

    pub(super) fn note_census(&self, groups: u64, members: u64) {
        self.groups.store(groups, Ordering::Relaxed);
        self.members.store(members, Ordering::Relaxed);
    }

    /// Kills the actor, or revives a coordinator that is out of service; returns the number of restarts when
    /// one serves again.
    ///
    /// # Errors
    /// Why none serves, at the latest after `patience`.
    pub async fn kill(&self, die: Die, patience: Duration) -> Result<u32, Error> {
        let restarts = self.board.kill(|addr| {
            self.mailbox.command(addr, die);
            true
        });
        match tokio::time::timeout(patience, self.board.rebuilt(restarts)).await {
            Ok(Some(restarts)) => Ok(restarts),
            Ok(None) => Err(match self.board.cause() {
                Some(reason) => Error::clone(&reason),
                None => not_coordinator(),
            }),
            Err(_) => {
                let message = "the actor was killed and has not come back yet";
                Err(Error::new(ErrorCode::RequestTimedOut, message))
            }
        }
    }
}

fn refusal(refused: Refused) -> Error {
    match refused {
        Refused::Full => {
            let message =
                format!("{MAILBOX_CAPACITY} requests wait for this coordinator; try again later");
            Error::new(ErrorCode::Throttled, message)
        }
        Refused::Closed => not_available(),
    }
}

impl fmt::Display for CoordinatorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.log.board)
    }
}

pub(super) fn not_available() -> Error {
    let message = "the group's coordinator is not available at the moment; try again";
    Error::new(ErrorCode::CoordinatorNotAvailable, message)
}

pub(super) fn not_coordinator() -> Error {
    let message = "this node does not coordinate the group any more; ask for its coordinator";
    Error::new(ErrorCode::NotCoordinator, message)
}

/// This node may be cut off, and another may coordinate the groups.
fn unconfirmed(why: &Error) -> Error {
    let message = format!(
        "this node cannot tell whether it still coordinates the group, and answers nothing from its past: {}",
        why.message
    );
    Error::new(ErrorCode::NotCoordinator, message)
}

pub(super) fn outcome_unknown() -> Error {
    let message =
        "the coordinator stopped before it knew whether this is done; ask what is committed";
    Error::new(ErrorCode::OutcomeUnknown, message)
}
