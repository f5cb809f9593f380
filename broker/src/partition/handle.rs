//! How everything outside the actor speaks to a partition: bounded in bytes, in our errors, and for
//! longer than any one actor lives.

use super::actor::PartitionActor;
use super::board::{ActorState, Board};
use super::chain::Chain;
use super::message::{
    Append, Appended, BUDGET_UNIT, Confirm, Describe, Description, FindOffset, Finding,
    OffsetQuery, QUEUE_BYTES, Read, ReadAnswer,
};
use super::opening::now;
use super::responder::Responder;
use actix::dev::ToEnvelope;
use actix::{Addr, Handler, Message};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use troupe_proto::batch::{ProducedBatch, Verified};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};
use troupe_proto::v1::Acks;

/// How long a request waits for an actor that is being rebuilt, if nothing waits behind it.
pub const REBUILD_PATIENCE: Duration = Duration::from_secs(10);
/// The same, if other partitions' requests wait behind it; whoever asked may try again.
pub const CROWD_PATIENCE: Duration = Duration::from_millis(50);

/// A batch for [`PartitionHandle::append`].
pub struct AppendRequest {
    pub batch: ProducedBatch,
    pub verified: Verified,
    pub acks: Acks,
    pub timeout_ms: u32,
    /// The leader epoch that the client knows; a leader of another one refuses.
    pub expected_leader_epoch: Option<LeaderEpoch>,
    /// How long to wait for an actor that is being rebuilt.
    pub patience: Duration,
    /// It is refused if one before it was not appended.
    pub chain: Option<Arc<Chain>>,
}

/// One partition of this node.
pub struct PartitionHandle {
    pub board: Arc<Board>,
    /// The shard that its actor lives on.
    pub shard: usize,
    actor: ArcSwapOption<Addr<PartitionActor>>,
    budget: Arc<Semaphore>,
}

impl PartitionHandle {
    pub fn new(board: Board, shard: usize) -> Self {
        Self {
            board: Arc::new(board),
            shard,
            actor: ArcSwapOption::empty(),
            budget: Arc::new(Semaphore::new(QUEUE_BYTES / BUDGET_UNIT)),
        }
    }

    pub fn key(&self) -> PartitionKey {
        self.board.key
    }

    pub fn topic(&self) -> &str {
        &self.board.topic
    }

    /// Appends; the responder is answered, always.
    pub async fn append(&self, request: AppendRequest, responder: Responder<Appended>) {
        let AppendRequest {
            batch,
            verified,
            acks,
            timeout_ms,
            expected_leader_epoch,
            patience,
            chain,
        } = request;
        let responder = self.timed(responder.of_chain(chain.clone()), batch.payload.len() as u64);
        let units = batch.payload.len().div_ceil(BUDGET_UNIT).max(1);
        let units = units.min(QUEUE_BYTES / BUDGET_UNIT) as u32;
        let budget = match Arc::clone(&self.budget).acquire_many_owned(units).await {
            Ok(budget) => budget,
            Err(_) => return responder.answer(Err(self.gone())),
        };
        match self.addr(patience).await {
            Ok(addr) => {
                let message = Append {
                    batch,
                    verified,
                    acks,
                    timeout_ms,
                    expected_leader_epoch,
                    chain,
                    responder,
                    budget,
                };
                // A message that is refused is dropped, and its responder with it: answered.
                let _ = self.post(&addr, message);
            }
            Err(error) => responder.answer(Err(error)),
        }
    }

    /// The same responder, which also counts that it waits, and what it is answered with.
    fn timed(&self, responder: Responder<Appended>, bytes: u64) -> Responder<Appended> {
        let (started, board) = (Instant::now(), Arc::clone(&self.board));
        let place = board.waits.enter(now(), bytes);
        Responder::new(move |answer| {
            board.waits.leave(place);
            if board.faults.drops_reply() {
                // Dropped, it says that nobody knows.
                return drop(responder);
            }
            board.metrics.answered(started.elapsed(), answer.as_ref().err());
            responder.answer(answer);
        })
    }

    /// Reads what is there now. A leader of another epoch than the expected one refuses, and so does a
    /// replica that does not lead.
    pub async fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        expected_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<ReadAnswer, Error> {
        self.ask(|reply| Read { from, max_bytes, expected_leader_epoch, reply }).await?
    }

    /// Returns when there is something to read at `from`, or an error to be found by reading.
    pub async fn readable(&self, from: Offset) {
        loop {
            let rung = self.board.bell();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let served = self.board.leads() && !self.board.is_gone();
            if !served || self.board.high_watermark() > from {
                return;
            }
            rung.await;
        }
    }

    /// Whether a request would be answered, if only with an error, without waiting for an actor to be built.
    pub fn answers_now(&self) -> bool {
        self.board.is_gone() || self.has_actor()
    }

    /// Returns when an actor serves, or with the error that a request would be answered with.
    pub async fn serves(&self, patience: Duration) -> Result<(), Error> {
        self.addr(patience).await.map(drop)
    }

    pub fn has_actor(&self) -> bool {
        self.actor.load().as_ref().is_some_and(|addr| addr.connected())
    }

    /// Returns the number of restarts when it is at least `restarts` and an actor serves.
    pub async fn rebuilt(&self, restarts: u32, patience: Duration) -> Result<u32, Error> {
        let wait = async {
            loop {
                let rung = self.board.bell();
                tokio::pin!(rung);
                rung.as_mut().enable();
                let now = self.board.restarts();
                match self.board.state() {
                    ActorState::Running if now >= restarts && self.has_actor() => return Ok(now),
                    ActorState::Offline | ActorState::Retired if now >= restarts => {
                        return Err(self.gone());
                    }
                    _ => rung.await,
                }
            }
        };
        tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| {
            let message = "the actor was killed and has not come back yet";
            Err(Error::new(ErrorCode::RequestTimedOut, message))
        })
    }

    /// As far as this replica knows: it may have been replaced without having heard of it; and in which leader epoch.
    /// `from`: of a search by time, what comes before it has been looked at.
    ///
    /// # Errors
    /// `NOT_LEADER`; `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH` if it does not lead in that epoch.
    pub async fn find_offset(
        &self,
        at: OffsetQuery,
        from: Offset,
        expected_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(LeaderEpoch, Finding), Error> {
        self.ask(|reply| FindOffset { at, from, expected_leader_epoch, reply }).await?
    }

    /// Returns when it is known that this replica led, in that epoch, after the call began: whatever it has told
    /// since is of now. Waits for its in-sync followers.
    ///
    /// # Errors
    /// `NOT_LEADER`, `FENCED_LEADER_EPOCH`; `LEADER_NOT_AVAILABLE` if too few are in sync, or not all of them answer
    /// in time: this node may be cut off.
    pub async fn confirm(&self, expected_leader_epoch: Option<LeaderEpoch>) -> Result<(), Error> {
        self.ask(|reply| Confirm { expected_leader_epoch, reply }).await?
    }

    pub async fn describe(&self) -> Result<Description, Error> {
        self.ask(|reply| Describe { reply }).await
    }

    /// Sends without waiting for an answer; false if there is no actor now.
    pub fn tell<M>(&self, message: M) -> bool
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        <PartitionActor as actix::Actor>::Context: ToEnvelope<PartitionActor, M>,
    {
        match self.actor.load_full() {
            Some(addr) => self.post(&addr, message).is_ok(),
            None => false,
        }
    }

    async fn ask<M, T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> M) -> Result<T, Error>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        <PartitionActor as actix::Actor>::Context: ToEnvelope<PartitionActor, M>,
    {
        let addr = self.addr(REBUILD_PATIENCE).await?;
        let (reply, answer) = oneshot::channel();
        self.post(&addr, message(reply))?;
        let answer = answer.await.ok().filter(|_| !self.board.faults.drops_reply());
        answer.ok_or_else(|| match self.board.is_gone() {
            true => self.gone(),
            false => {
                let message = "the partition's actor stopped; try again";
                Error::new(ErrorCode::LeaderNotAvailable, message)
            }
        })
    }

    fn post<M>(&self, addr: &Addr<PartitionActor>, message: M) -> Result<(), Error>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        <PartitionActor as actix::Actor>::Context: ToEnvelope<PartitionActor, M>,
    {
        self.board.message_sent();
        addr.try_send(message).map_err(|error| {
            self.board.message_taken();
            match error {
                actix::prelude::SendError::Full(_) => {
                    Error::new(ErrorCode::Throttled, "too many requests wait for this partition")
                }
                actix::prelude::SendError::Closed(_) => {
                    let message = "the partition's actor stopped; try again";
                    Error::new(ErrorCode::LeaderNotAvailable, message)
                }
            }
        })
    }

    /// The actor of now; waits while one is being rebuilt.
    async fn addr(&self, patience: Duration) -> Result<Arc<Addr<PartitionActor>>, Error> {
        let wait = async {
            loop {
                let rung = self.board.bell();
                tokio::pin!(rung);
                rung.as_mut().enable();
                if self.board.is_gone() {
                    return Err(self.gone());
                }
                match self.actor.load_full() {
                    Some(addr) if addr.connected() => return Ok(addr),
                    _ => rung.await,
                }
            }
        };
        tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| {
            let message = "the partition is still being recovered; try again";
            Err(Error::new(ErrorCode::LeaderNotAvailable, message))
        })
    }

    fn gone(&self) -> Error {
        match self.board.offline_reason() {
            Some(reason) => Error::clone(&reason),
            None => {
                let message = "the partition is not on this node any more; refresh metadata";
                Error::new(ErrorCode::NotLeader, message)
            }
        }
    }
}

impl PartitionHandle {
    /// What must not be lost, however many requests wait: the supervisor's own few messages, for which the
    /// mailbox always has room. False if there is no actor now; one that dies first drops the message.
    pub fn command<M>(&self, message: M) -> bool
    where
        M: Message<Result = ()> + Send + 'static,
        PartitionActor: Handler<M>,
        <PartitionActor as actix::Actor>::Context: ToEnvelope<PartitionActor, M>,
    {
        let Some(addr) = self.actor.load_full() else { return false };
        self.board.message_sent();
        addr.do_send(message);
        true
    }

    /// A new actor takes over.
    pub(super) fn install(&self, addr: Addr<PartitionActor>) {
        self.board.mailbox.emptied();
        self.board.faults.end_standstill();
        self.actor.store(Some(Arc::new(addr)));
        self.board.set_state(ActorState::Running, None);
    }

    /// The actor is gone, and why, if that is for longer.
    pub(super) fn uninstall(&self, state: ActorState, reason: Option<Error>) {
        self.actor.store(None);
        self.board.set_leads(false);
        self.board.set_state(state, reason);
    }
}
