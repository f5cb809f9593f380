//! How everything outside the actor speaks to a coordinator, for longer than any one actor lives.

use super::actor::CoordinatorActor;
use super::member::{self, MemberStream};
use super::message::{
    Commit, CommitAll, Delete, DeleteOffsets, Describe, Die, Fetch, Join, List, MAILBOX_CAPACITY,
    Order, Reply,
};
use crate::mailbox::Mailbox;
use crate::metrics::NodeMetrics;
use crate::partition::{PartitionHandle, now};
use crate::pulse::Pulse;
use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Actor, Addr, Handler, Message};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use troupe_machines::group::SessionId;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionId};
use troupe_proto::log::v1 as pb;

/// Whether there is an actor.
#[derive(Clone)]
pub enum State {
    Loading,
    Serving(Addr<CoordinatorActor>),
    /// Until somebody looks, or leadership changes.
    Unavailable(Arc<Error>),
    /// This node does not lead the partition in that epoch any more.
    Gone,
}

/// What a coordinator takes from its node.
pub struct Home {
    pub node_id: NodeId,
    /// host:port that clients are told.
    pub endpoint: String,
    pub metrics: Arc<NodeMetrics>,
    pub pulse: Arc<Pulse>,
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
    state: watch::Sender<State>,
    next_session: AtomicU64,
    restarts: AtomicU32,
    mailbox: Mailbox,
    groups: AtomicU64,
    members: AtomicU64,
    revive: Notify,
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
            state: watch::Sender::new(State::Loading),
            next_session: AtomicU64::new(1),
            restarts: AtomicU32::new(0),
            mailbox: Mailbox::default(),
            groups: AtomicU64::new(0),
            members: AtomicU64::new(0),
            revive: Notify::new(),
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
        message: impl FnOnce(Reply<T>) -> M,
    ) -> Result<Option<Result<T, Error>>, Error>
    where
        M: Message<Result = ()> + Send + 'static,
        CoordinatorActor: Handler<M>,
        <CoordinatorActor as Actor>::Context: ToEnvelope<CoordinatorActor, M>,
    {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply))?;
        Ok(answer.await.ok())
    }

    /// Hands a request over, if the mailbox has room.
    fn send<M>(&self, message: M) -> Result<(), Error>
    where
        M: Message<Result = ()> + Send + 'static,
        CoordinatorActor: Handler<M>,
        <CoordinatorActor as Actor>::Context: ToEnvelope<CoordinatorActor, M>,
    {
        let addr = self.addr()?;
        self.mailbox.sent(now());
        addr.try_send(message).map_err(|error| {
            self.message_taken();
            match error {
                SendError::Full(_) => {
                    let message = format!(
                        "{MAILBOX_CAPACITY} requests wait for this coordinator; try again later"
                    );
                    Error::new(ErrorCode::Throttled, message)
                }
                SendError::Closed(_) => not_available(),
            }
        })
    }

    /// Hands a message over, waiting for room in the mailbox.
    pub(super) async fn tell<M>(&self, message: M) -> Result<(), Error>
    where
        M: Message<Result = ()> + Send + Unpin + 'static,
        CoordinatorActor: Handler<M>,
        <CoordinatorActor as Actor>::Context: ToEnvelope<CoordinatorActor, M>,
    {
        let addr = self.addr()?;
        self.mailbox.sent(now());
        addr.send(message).await.map_err(|_| {
            self.message_taken();
            not_available()
        })
    }

    /// Whether a request would be taken now.
    pub(super) fn check_serves(&self) -> Result<(), Error> {
        self.addr().map(drop)
    }

    fn addr(&self) -> Result<Addr<CoordinatorActor>, Error> {
        match &*self.state.borrow() {
            State::Serving(addr) if addr.connected() => Ok(addr.clone()),
            State::Serving(_) | State::Loading => {
                let message = "the group's coordinator reads its log; try again";
                Err(Error::new(ErrorCode::CoordinatorLoading, message))
            }
            State::Unavailable(reason) => {
                let code = ErrorCode::CoordinatorNotAvailable;
                Err(Error { code, ..Error::clone(reason) })
            }
            State::Gone => Err(not_coordinator()),
        }
    }

    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn set_state(&self, state: State) {
        let changed = self.state.send_if_modified(|known| {
            let again = matches!((&*known, &state), (State::Loading, State::Loading));
            *known = state;
            !again
        });
        if changed {
            self.home.changes.send_modify(|count| *count += 1);
        }
    }
}

/// What tools see, and do.
impl CoordinatorHandle {
    /// The shard that the actor lives on.
    pub fn shard(&self) -> usize {
        self.log.shard
    }

    /// How often the actor was built again.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Groups and members, as of a moment ago.
    pub fn census(&self) -> (u64, u64) {
        (self.groups.load(Ordering::Relaxed), self.members.load(Ordering::Relaxed))
    }

    pub(super) fn note_census(&self, groups: u64, members: u64) {
        self.groups.store(groups, Ordering::Relaxed);
        self.members.store(members, Ordering::Relaxed);
    }

    pub(super) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn message_taken(&self) {
        self.mailbox.taken(now());
    }

    pub(super) fn mailbox_emptied(&self) {
        self.mailbox.emptied();
    }

    /// Returns when somebody wants a coordinator back that is out of service.
    pub(super) async fn revived(&self) {
        self.revive.notified().await;
    }

    /// Kills the actor, or revives a coordinator that is out of service; returns the number of restarts when
    /// one serves again.
    ///
    /// # Errors
    /// Why none serves, at the latest after `patience`.
    pub async fn kill(&self, panic: bool, patience: Duration) -> Result<u32, Error> {
        let mut states = self.state.subscribe();
        let before = self.restarts();
        let dies = match self.state() {
            State::Serving(addr) => {
                self.mailbox.sent(now());
                addr.do_send(if panic { Die::Panic } else { Die::Stop });
                true
            }
            State::Unavailable(_) => {
                self.revive.notify_one();
                true
            }
            // It is being built already.
            State::Loading => false,
            State::Gone => return Err(not_coordinator()),
        };
        let wanted = before + u32::from(dies);
        let settled = |state: &State| match state {
            State::Gone => true,
            State::Serving(_) | State::Unavailable(_) => self.restarts() >= wanted,
            State::Loading => false,
        };
        let settled = tokio::time::timeout(patience, states.wait_for(settled)).await;
        match settled.as_ref().map(|state| state.as_deref()) {
            Ok(Ok(State::Serving(_))) => Ok(self.restarts()),
            Ok(Ok(State::Unavailable(reason))) => Err(Error::clone(reason)),
            Ok(_) => Err(not_coordinator()),
            Err(_) => {
                let message = "the actor was killed and has not come back yet";
                Err(Error::new(ErrorCode::RequestTimedOut, message))
            }
        }
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
