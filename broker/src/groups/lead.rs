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
/// The longest pause before a log that cannot be written is loaded once more.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_600);
/// A coordinator that lasted longer could write, for a while at least.
const LASTED: Duration = Duration::from_secs(10);

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

/// How long to wait after so many coordinators in a row that could not write. Each one reads the whole log, and
/// every member comes back to it: a log without enough replicas must not keep the node busy with that.
fn pause(failures: u32) -> Duration {
    RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
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
        let (mut panics, mut failures) = (Vec::new(), 0);
        loop {
            self.handle.set_state(State::Loading);
            let mut served_since = Instant::now();
            let down = match self.load().await {
                Ok(groups) => {
                    let (guard, down) = DownGuard::new();
                    served_since = Instant::now();
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
            failures = match down {
                Down::Failed if served_since.elapsed() < LASTED => failures + 1,
                Down::Failed => 1,
                Down::Stopped | Down::Resigned | Down::Panicked => 0,
            };
            if failures > 0 {
                tokio::time::sleep(pause(failures)).await;
            }
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
        if down == Down::Resigned {
            return;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_is_loaded_less_and_less_often() {
        assert_eq!(pause(1), RETRY);
        assert_eq!(pause(2), RETRY * 2);
        assert_eq!(
            (pause(6), pause(7), pause(u32::MAX)),
            (LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE)
        );
    }
}
