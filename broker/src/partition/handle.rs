//! How everything outside the actor speaks to a partition: bounded in bytes, in our errors, and for
//! longer than any one actor lives.

use super::actor::PartitionActor;
use super::message::{
    Append, Appended, Describe, Description, FindOffset, FoundOffset, OffsetQuery, Read, ReadAnswer,
};
use super::responder::Responder;
use actix::dev::ToEnvelope;
use actix::{Addr, Handler, Message};
use arc_swap::ArcSwapOption;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};
use troupe_proto::batch::{ProducedBatch, Verified};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};
use troupe_proto::v1::Acks;

/// Payload bytes that may wait for one partition's actor.
const QUEUE_BYTES: usize = 64 << 20;
/// The budget is counted in units, so that small requests are bounded in number too.
const BUDGET_UNIT: usize = 4 << 10;
/// Messages that may wait: more than the budget lets in, so the mailbox never refuses.
pub const MAILBOX_CAPACITY: usize = 2 * QUEUE_BYTES / BUDGET_UNIT;
/// How long a request waits for an actor that is being rebuilt.
const REBUILD_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ActorState {
    Restarting = 0,
    Running = 1,
    /// Taken offline after repeated panics or a disk error.
    Offline = 2,
    /// The partition is gone from this node.
    Retired = 3,
}

/// One partition of this node.
pub struct PartitionHandle {
    pub key: PartitionKey,
    pub topic: Arc<str>,
    /// The shard that its actor lives on.
    pub shard: usize,
    actor: ArcSwapOption<Addr<PartitionActor>>,
    state: AtomicU8,
    offline_reason: ArcSwapOption<Error>,
    pub restarts: AtomicU32,
    /// Messages sent and not handled yet.
    pub mailbox_depth: AtomicI64,
    budget: Arc<Semaphore>,
    high_watermark: AtomicU64,
    /// Something was appended since the last checkpoint.
    dirty: AtomicBool,
    /// Something was appended or read since the supervisor last looked.
    used: AtomicBool,
    /// Rung when the high watermark advances, the state changes, or the actor is replaced.
    bell: Notify,
}

impl PartitionHandle {
    pub fn new(key: PartitionKey, topic: Arc<str>, shard: usize) -> Self {
        Self {
            key,
            topic,
            shard,
            actor: ArcSwapOption::empty(),
            state: AtomicU8::new(ActorState::Restarting as u8),
            offline_reason: ArcSwapOption::empty(),
            restarts: AtomicU32::new(0),
            mailbox_depth: AtomicI64::new(0),
            budget: Arc::new(Semaphore::new(QUEUE_BYTES / BUDGET_UNIT)),
            high_watermark: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            used: AtomicBool::new(false),
            bell: Notify::new(),
        }
    }

    pub fn state(&self) -> ActorState {
        match self.state.load(Ordering::Acquire) {
            0 => ActorState::Restarting,
            1 => ActorState::Running,
            2 => ActorState::Offline,
            _ => ActorState::Retired,
        }
    }

    /// First offset that readers may not see yet, as last told by the actor.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Appends; the responder is answered, always.
    pub async fn append(
        &self,
        batch: ProducedBatch,
        verified: Verified,
        acks: Acks,
        timeout_ms: u32,
        responder: Responder<Appended>,
    ) {
        let units = batch.payload.len().div_ceil(BUDGET_UNIT).max(1);
        let units = units.min(QUEUE_BYTES / BUDGET_UNIT) as u32;
        let budget = match Arc::clone(&self.budget).acquire_many_owned(units).await {
            Ok(budget) => budget,
            Err(_) => return responder.answer(Err(self.gone())),
        };
        match self.addr().await {
            Ok(addr) => {
                let message = Append { batch, verified, acks, timeout_ms, responder, budget };
                // A message that is refused is dropped, and its responder with it: answered.
                let _ = self.post(&addr, message);
            }
            Err(error) => responder.answer(Err(error)),
        }
    }

    /// Reads what is there now.
    pub async fn read(&self, from: Offset, max_bytes: usize) -> Result<ReadAnswer, Error> {
        self.ask(|reply| Read { from, max_bytes, reply }).await?
    }

    /// Returns when there is something to read at `from`, or an error to be found by reading.
    pub async fn readable(&self, from: Offset) {
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let gone = matches!(self.state(), ActorState::Offline | ActorState::Retired);
            if gone || self.high_watermark() > from {
                return;
            }
            rung.await;
        }
    }

    /// Returns the number of restarts when it is over `restarts` and an actor serves again.
    pub async fn rebuilt(&self, restarts: u32, patience: Duration) -> Result<u32, Error> {
        let wait = async {
            loop {
                let rung = self.bell.notified();
                tokio::pin!(rung);
                rung.as_mut().enable();
                let now = self.restarts.load(Ordering::Relaxed);
                match self.state() {
                    ActorState::Running if now > restarts => return Ok(now),
                    ActorState::Offline | ActorState::Retired if now > restarts => {
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

    pub async fn find_offset(&self, at: OffsetQuery) -> Result<FoundOffset, Error> {
        self.ask(|reply| FindOffset { at, reply }).await?
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
        let addr = self.addr().await?;
        let (reply, answer) = oneshot::channel();
        self.post(&addr, message(reply))?;
        answer.await.map_err(|_| {
            Error::new(ErrorCode::LeaderNotAvailable, "the partition's actor stopped; try again")
        })
    }

    fn post<M>(&self, addr: &Addr<PartitionActor>, message: M) -> Result<(), Error>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        <PartitionActor as actix::Actor>::Context: ToEnvelope<PartitionActor, M>,
    {
        self.mailbox_depth.fetch_add(1, Ordering::Relaxed);
        addr.try_send(message).map_err(|error| {
            self.mailbox_depth.fetch_sub(1, Ordering::Relaxed);
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
    async fn addr(&self) -> Result<Arc<Addr<PartitionActor>>, Error> {
        let wait = async {
            loop {
                let rung = self.bell.notified();
                tokio::pin!(rung);
                rung.as_mut().enable();
                match self.state() {
                    ActorState::Offline | ActorState::Retired => return Err(self.gone()),
                    ActorState::Running | ActorState::Restarting => {}
                }
                match self.actor.load_full() {
                    Some(addr) if addr.connected() => return Ok(addr),
                    _ => rung.await,
                }
            }
        };
        tokio::time::timeout(REBUILD_PATIENCE, wait).await.unwrap_or_else(|_| {
            let message = "the partition is still being recovered; try again";
            Err(Error::new(ErrorCode::LeaderNotAvailable, message))
        })
    }

    fn gone(&self) -> Error {
        match self.offline_reason.load_full() {
            Some(reason) => Error::clone(&reason),
            None => {
                let message = "the partition is not on this node any more; refresh metadata";
                Error::new(ErrorCode::NotLeader, message)
            }
        }
    }
}

/// What the actor and its supervisor publish.
impl PartitionHandle {
    /// A new actor takes over.
    pub(super) fn install(&self, addr: Addr<PartitionActor>) {
        self.mailbox_depth.store(0, Ordering::Relaxed);
        self.actor.store(Some(Arc::new(addr)));
        self.state.store(ActorState::Running as u8, Ordering::Release);
        self.bell.notify_waiters();
    }

    pub(super) fn set_state(&self, state: ActorState, reason: Option<Error>) {
        self.offline_reason.store(reason.map(Arc::new));
        self.state.store(state as u8, Ordering::Release);
        if state != ActorState::Running {
            self.actor.store(None);
        }
        self.bell.notify_waiters();
    }

    pub(super) fn publish_high_watermark(&self, high_watermark: Offset) {
        self.high_watermark.store(high_watermark.0, Ordering::Release);
        self.bell.notify_waiters();
    }

    pub(super) fn message_taken(&self) {
        self.mailbox_depth.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn set_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
        self.set_used();
    }

    pub(super) fn set_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it was used since this was last asked.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    pub(super) fn take_dirty(&self) {
        self.dirty.store(false, Ordering::Relaxed);
    }

    pub fn offline_reason(&self) -> Option<Arc<Error>> {
        self.offline_reason.load_full()
    }
}

impl fmt::Display for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.key.partition)
    }
}
