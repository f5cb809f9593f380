//! The life of one coordinator, as long as this node leads its partition in that epoch: loaded from the log,
//! served by an actor, and loaded again when the actor has died.
//!
//! Promises: a dead actor is replaced by one that knows only what is in the log; three panics in a minute end it
//! until leadership changes or somebody looks.

use super::actor::{CoordinatorActor, End};
use super::coordinators::Coordinators;
use super::handle::CoordinatorHandle;
use super::loading::{LoadError, load};
use super::machine::Machine;
use super::message::{MAILBOX_CAPACITY, Resign};
use actix::{Actor, Addr, ArbiterHandle};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use troupe_actor::{ActorState, Beginning, Exit, Guard, Life, Next, RestartWindow};
use troupe_proto::error::{Error, ErrorCode};

const PANICS_TOLERATED: usize = 3;
/// How soon a log that could not be loaded, or not be written, is looked at again.
const RETRY: Duration = Duration::from_millis(50);
/// The longest pause before a log that cannot be written is loaded once more.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_600);
/// A coordinator that lasted longer could write, for a while at least.
const LASTED: Duration = Duration::from_secs(10);

/// How long to wait after so many coordinators in a row that could not write. Each one reads the whole log, and
/// all who are connected come back to it: a log without enough replicas must not keep the node busy with that.
fn pause(failures: u32) -> Duration {
    RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// A coordinator's life, and what it depends on.
pub struct CoordinatorLife<M: Machine> {
    handle: Arc<CoordinatorHandle<M>>,
    coordinators: Arc<Coordinators<M>>,
    settings: watch::Receiver<M::Settings>,
    /// The thread that the partition's actor lives on.
    arbiter: ArbiterHandle,
    /// How many logs are loaded at the same time.
    loads: Arc<Semaphore>,
    panics: RestartWindow,
    /// Actors in a row that could not write.
    failures: u32,
    served_since: Instant,
}

impl<M: Machine> CoordinatorLife<M> {
    pub fn new(
        handle: Arc<CoordinatorHandle<M>>,
        coordinators: Arc<Coordinators<M>>,
        settings: watch::Receiver<M::Settings>,
        arbiter: ArbiterHandle,
        loads: Arc<Semaphore>,
    ) -> Self {
        let (panics, served_since) = (RestartWindow::new(PANICS_TOLERATED), Instant::now());
        Self { handle, coordinators, settings, arbiter, loads, panics, failures: 0, served_since }
    }

    async fn load(&self) -> Result<M, LoadError> {
        let began = Instant::now();
        let (log, epoch) = (&self.handle.log, self.handle.leader_epoch);
        let settings = self.settings.borrow().clone();
        let machine = load(log, epoch, settings, &self.loads).await?;
        let took = began.elapsed();
        M::observe_load(&self.handle.node.metrics, took);
        tracing::debug!(coordinator = %self.handle.home, ?took, "loaded");
        Ok(machine)
    }

    fn start(&self, machine: M, guard: Guard<End>) -> Addr<CoordinatorActor<M>> {
        let home = Arc::clone(&self.handle.home);
        let known = (self.coordinators.catalog(), self.settings.clone());
        let max_record_bytes = self.max_record_bytes();
        home.mailbox.emptied();
        CoordinatorActor::start_in_arbiter(&self.arbiter, move |ctx| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            CoordinatorActor::new(home, machine, max_record_bytes, known, guard)
        })
    }

    fn max_record_bytes(&self) -> u64 {
        // Without the topic it is about to be over.
        self.handle.node.metadata.registry.topic(M::TOPIC).map_or(0, |topic| {
            let config = topic.config();
            config.max_message_bytes.min(config.segment_bytes)
        })
    }

    /// Out of service until somebody has looked at it.
    fn rest(&self, cause: Error) -> Next<Error> {
        tracing::error!(coordinator = %self.handle.home, error = %cause, "out of service");
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

impl<M: Machine> Life for CoordinatorLife<M> {
    type Actor = CoordinatorActor<M>;
    type Reason = End;
    type Cause = Error;

    fn begin(&mut self, guard: Guard<End>) -> Beginning<'_, CoordinatorActor<M>, Error> {
        Box::pin(async move {
            self.served_since = Instant::now();
            match self.load().await {
                Ok(machine) => {
                    self.served_since = Instant::now();
                    Ok(self.start(machine, guard))
                }
                Err(LoadError::Passing(error)) => {
                    tracing::debug!(coordinator = %self.handle.home, %error, "not loaded yet");
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
        self.handle.node.metrics.actor_restarts.increment(1);
        tracing::warn!(coordinator = %self.handle.home, %down, "the coordinator ended; loading it again");
        if panicked && self.panics.note(Instant::now()) {
            let message = "the coordinator panicked three times in a minute; see the node's log, \
                           then `troupe actor kill` it to try again";
            return self.rest(Error::new(ErrorCode::CoordinatorNotAvailable, message));
        }
        Next::Another { after }
    }

    fn entered(&mut self, _: ActorState) {
        self.coordinators.tick();
    }

    fn revived(&mut self) {
        self.panics.clear();
    }

    /// Whoever waits is told; a dead actor has told them.
    fn dismiss(&self, actor: &Addr<CoordinatorActor<M>>) {
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
