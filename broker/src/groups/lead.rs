//! The life of one coordinator, as long as this node leads its partition in that epoch: loaded from the log,
//! served by an actor, and loaded again when the actor has died. (actix's own supervisor neither re-creates an
//! actor nor notices a panic.)
//!
//! Promises: a dead actor is replaced by one that knows only what is in the log; three panics in a minute end it
//! until leadership changes or somebody looks.

use super::actor::CoordinatorActor;
use super::coordinators::OFFSETS_TOPIC;
use super::handle::{CoordinatorHandle, State};
use super::loading::{LoadError, load};
use super::message::{MAILBOX_CAPACITY, Resign};
use super::settings::settings;
use crate::context::Context;
use crate::partition::PartitionHandle;
use actix::{Actor, Addr, ArbiterHandle};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use troupe_machines::group::Groups;
use troupe_proto::error::{Error, ErrorCode};

const PANICS_TOLERATED: usize = 3;
const PANIC_WINDOW: Duration = Duration::from_secs(60);
/// How soon a log that could not be loaded, or not be written, is looked at again.
const RETRY: Duration = Duration::from_millis(50);

/// How an actor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It was told to, or was killed.
    Stopped,
    /// A change could not be written.
    Failed,
    /// The replica does not lead any more.
    Resigned,
    Panicked,
}

/// Tells that its actor is gone, however it went.
pub struct DownGuard {
    gone: Option<oneshot::Sender<Down>>,
    down: Down,
}

impl DownGuard {
    fn new() -> (Self, oneshot::Receiver<Down>) {
        let (gone, down) = oneshot::channel();
        (Self { gone: Some(gone), down: Down::Stopped }, down)
    }

    /// Why the actor is about to stop.
    pub fn note(&mut self, down: Down) {
        self.down = down;
    }
}

impl Drop for DownGuard {
    fn drop(&mut self) {
        let down = if std::thread::panicking() { Down::Panicked } else { self.down };
        if let Some(gone) = self.gone.take() {
            // Nobody listens if the node is gone.
            let _ = gone.send(down);
        }
    }
}

/// Returns when the replica does not lead any more, as far as it knows itself.
pub async fn deposed(log: &PartitionHandle) {
    loop {
        let rung = log.board.bell();
        tokio::pin!(rung);
        rung.as_mut().enable();
        if !log.board.leads() || log.board.is_gone() {
            return;
        }
        rung.await;
    }
}

/// What one coordinator's life depends on.
pub struct Lead {
    pub context: Arc<Context>,
    pub handle: Arc<CoordinatorHandle>,
    /// The thread that the partition's actor lives on.
    pub arbiter: ArbiterHandle,
    /// How many logs are loaded at the same time.
    pub loads: Arc<Semaphore>,
    /// Cancelled when this node does not lead the partition in that epoch any more, or is gone.
    pub over: CancellationToken,
}

impl Lead {
    /// Until it is over.
    pub async fn run(self) {
        let over = self.over.clone();
        tokio::select! {
            () = self.serve() => {}
            () = over.cancelled() => {}
        }
        // Whoever waits is told; a dead actor has told them.
        if let State::Serving(addr) = self.handle.state() {
            addr.do_send(Resign);
        }
        self.handle.set_state(State::Gone);
    }

    async fn serve(&self) {
        let mut panics = Vec::new();
        loop {
            self.handle.set_state(State::Loading);
            let down = match self.load().await {
                Ok(groups) => {
                    let (guard, down) = DownGuard::new();
                    self.handle.set_state(State::Serving(self.start(groups, guard)));
                    // An error: the thread is gone, and the node with it.
                    down.await.unwrap_or(Down::Stopped)
                }
                Err(LoadError::Passing(error)) => {
                    tracing::debug!(coordinator = %self.handle, %error, "not loaded yet");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(LoadError::Corrupt(error)) => {
                    self.rest(error).await;
                    panics.clear();
                    continue;
                }
                Err(LoadError::Panicked) => Down::Panicked,
            };
            self.handle.set_state(State::Loading);
            self.note(down, &mut panics).await;
        }
    }

    async fn load(&self) -> Result<Groups, LoadError> {
        let began = Instant::now();
        let (log, epoch) = (&self.handle.log, self.handle.leader_epoch);
        let groups = load(log, epoch, settings(&self.context.config), &self.loads).await?;
        let took = began.elapsed();
        self.context.metrics.group_load_seconds.record(took);
        tracing::debug!(coordinator = %self.handle, ?took, "loaded");
        Ok(groups)
    }

    fn start(&self, groups: Groups, guard: DownGuard) -> Addr<CoordinatorActor> {
        let handle = Arc::clone(&self.handle);
        let catalog = self.context.groups.catalog();
        let max_record_bytes = self.max_record_bytes();
        handle.mailbox_emptied();
        CoordinatorActor::start_in_arbiter(&self.arbiter, move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            CoordinatorActor::new(handle, groups, max_record_bytes, catalog, guard)
        })
    }

    fn max_record_bytes(&self) -> u64 {
        // Without the topic it is about to be over.
        self.context.registry.topic(OFFSETS_TOPIC).map_or(0, |topic| {
            let config = topic.config();
            config.max_message_bytes.min(config.segment_bytes)
        })
    }

    /// What an actor's end means for the next one.
    async fn note(&self, down: Down, panics: &mut Vec<Instant>) {
        match down {
            Down::Resigned => return,
            Down::Failed => tokio::time::sleep(RETRY).await,
            Down::Stopped | Down::Panicked => {}
        }
        self.handle.count_restart();
        self.context.metrics.actor_restarts.increment(1);
        tracing::warn!(coordinator = %self.handle, ?down, "the coordinator ended; loading it again");
        if down != Down::Panicked {
            return;
        }
        let now = Instant::now();
        panics.retain(|panic| now.duration_since(*panic) < PANIC_WINDOW);
        panics.push(now);
        if panics.len() >= PANICS_TOLERATED {
            let message = "the coordinator panicked three times in a minute; see the node's log, \
                           then `troupe actor kill` it to try again";
            self.rest(Error::new(ErrorCode::CoordinatorNotAvailable, message)).await;
            panics.clear();
        }
    }

    /// Out of service until somebody has looked at it.
    async fn rest(&self, reason: Error) {
        tracing::error!(coordinator = %self.handle, error = %reason, "out of service");
        self.handle.set_state(State::Unavailable(Arc::new(reason)));
        self.handle.revived().await;
        self.handle.count_restart();
    }
}
