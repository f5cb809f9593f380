//! The life of one coordinator, as long as this node leads its partition in that epoch: loaded from the log,
//! served by an actor, and loaded again when the actor has died.
//!
//! Promises: a dead actor is replaced by one that knows only what is in the log; three panics in a minute end it
//! until leadership changes or somebody looks.

use super::actor::CoordinatorActor;
use super::coordinators::OFFSETS_TOPIC;
use super::handle::CoordinatorHandle;
use super::loading::{LoadError, load};
use super::message::{MAILBOX_CAPACITY, Resign};
use super::settings::settings;
use crate::context::Context;
use crate::partition::PartitionHandle;
use actix::{Actor, Addr, ArbiterHandle};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use troupe_actor::{ActorState, Beginning, Exit, Guard, Life, Next, RestartWindow};
use troupe_machines::group::Groups;
use troupe_proto::error::{Error, ErrorCode};

const PANICS_TOLERATED: usize = 3;
/// How soon a log that could not be loaded, or not be written, is looked at again.
const RETRY: Duration = Duration::from_millis(50);
/// The longest pause before a log that cannot be written is loaded once more.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_600);
/// A coordinator that lasted longer could write, for a while at least.
const LASTED: Duration = Duration::from_secs(10);

/// Why an actor ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A change could not be written.
    Failed,
    /// The replica does not lead any more.
    Resigned,
}

/// Returns when the replica does not lead any more, as far as it knows itself.
pub async fn deposed(log: &PartitionHandle) {
    let deposed = || (!log.board.leads() || log.board.is_gone()).then_some(());
    log.board.wait_for(deposed).await;
}

/// How long to wait after so many coordinators in a row that could not write. Each one reads the whole log, and
/// every member comes back to it: a log without enough replicas must not keep the node busy with that.
fn pause(failures: u32) -> Duration {
    RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// A coordinator's life, and what it depends on.
pub struct Lead {
    context: Arc<Context>,
    handle: Arc<CoordinatorHandle>,
    /// The thread that the partition's actor lives on.
    arbiter: ArbiterHandle,
    /// How many logs are loaded at the same time.
    loads: Arc<Semaphore>,
    panics: RestartWindow,
    /// Actors in a row that could not write.
    failures: u32,
    served_since: Instant,
}

impl Lead {
    pub fn new(
        context: Arc<Context>,
        handle: Arc<CoordinatorHandle>,
        arbiter: ArbiterHandle,
        loads: Arc<Semaphore>,
    ) -> Self {
        let (panics, served_since) = (RestartWindow::new(PANICS_TOLERATED), Instant::now());
        Self { context, handle, arbiter, loads, panics, failures: 0, served_since }
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

    fn start(&self, groups: Groups, guard: Guard<End>) -> Addr<CoordinatorActor> {
        let handle = Arc::clone(&self.handle);
        let catalog = self.context.groups.catalog();
        let max_record_bytes = self.max_record_bytes();
        handle.mailbox.emptied();
        CoordinatorActor::start_in_arbiter(&self.arbiter, move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            CoordinatorActor::new(handle, groups, max_record_bytes, catalog, guard)
        })
    }

    fn max_record_bytes(&self) -> u64 {
        // Without the topic it is about to be over.
        self.context.metadata.registry.topic(OFFSETS_TOPIC).map_or(0, |topic| {
            let config = topic.config();
            config.max_message_bytes.min(config.segment_bytes)
        })
    }

    /// Out of service until somebody has looked at it.
    fn rest(&self, cause: Error) -> Next<Error> {
        tracing::error!(coordinator = %self.handle, error = %cause, "out of service");
        Next::Offline { cause, retry: None }
    }

    /// How long before the next one is loaded.
    fn pause(&mut self, failed: bool) -> Duration {
        self.failures = match failed {
            true if self.served_since.elapsed() < LASTED => self.failures + 1,
            true => 1,
            false => 0,
        };
        if failed { pause(self.failures) } else { Duration::ZERO }
    }
}

impl Life for Lead {
    type Actor = CoordinatorActor;
    type Reason = End;
    type Cause = Error;

    fn begin(&mut self, guard: Guard<End>) -> Beginning<'_, CoordinatorActor, Error> {
        Box::pin(async move {
            self.served_since = Instant::now();
            match self.load().await {
                Ok(groups) => {
                    self.served_since = Instant::now();
                    Ok(self.start(groups, guard))
                }
                Err(LoadError::Passing(error)) => {
                    tracing::debug!(coordinator = %self.handle, %error, "not loaded yet");
                    Err(Next::Another { after: RETRY })
                }
                Err(LoadError::Corrupt(error)) => Err(self.rest(error)),
                Err(LoadError::Panicked) => Err(self.ended(Exit::panicked())),
            }
        })
    }

    fn ended(&mut self, Exit { panicked, reason }: Exit<End>) -> Next<Error> {
        let down = match reason {
            _ if panicked => "Panicked",
            Some(End::Failed) => "Failed",
            Some(End::Resigned) => "Resigned",
            None => "Stopped",
        };
        let after = self.pause(down == "Failed");
        if down == "Resigned" {
            return Next::Another { after };
        }
        self.handle.board.count_restart();
        self.context.metrics.actor_restarts.increment(1);
        tracing::warn!(coordinator = %self.handle, %down, "the coordinator ended; loading it again");
        if panicked && self.panics.note(Instant::now()) {
            let message = "the coordinator panicked three times in a minute; see the node's log, \
                           then `troupe actor kill` it to try again";
            return self.rest(Error::new(ErrorCode::CoordinatorNotAvailable, message));
        }
        Next::Another { after }
    }

    fn entered(&mut self, _: ActorState) {
        self.handle.changes.send_modify(|count| *count += 1);
    }

    fn revived(&mut self) {
        self.panics.clear();
    }

    /// Whoever waits is told; a dead actor has told them.
    fn dismiss(&self, actor: &Addr<CoordinatorActor>) {
        actor.do_send(Resign);
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
