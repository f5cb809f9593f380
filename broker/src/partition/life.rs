//! The life of one partition's actor: built from disk, and built again when it has died.
//!
//! Promises: a dead actor is replaced by one that knows only what is on disk; three panics in a minute, or as many ends
//! for what a log that is opened anew may do, or a disk error, take the replica offline for a person to look at; what the machine only lacks for the moment is tried again;
//! an actor that was retired stays away.

use super::actor::{PartitionActor, Parts};
use super::assignment::{Assignment, PartitionSetup};
use super::failure::Failure;
use super::messages::MAILBOX_CAPACITY;
use super::opening::{self, Opened};
use super::shared::Shared;
use actix::{Actor, Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use troupe_actor::{ActorState, Beginning, Exit, Guard, Life, Next, RestartWindow};
use troupe_log::{Location, LogDirectory};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::LeaderEpoch;

const PANICS_TOLERATED: usize = 3;
/// A replica that is offline for want of descriptors or space tries again after the first of these, then after
/// twice as long each time, up to the second.
const FIRST_REST: Duration = Duration::from_millis(100);
const LAST_REST: Duration = Duration::from_secs(5);

pub struct PartitionLife {
    assignment: Rc<Assignment>,
    shared: Rc<Shared>,
    panics: RestartWindow,
    /// The last leader epoch in which an actor of it has died. None other leads in it, even if the log does not
    /// show it: what the dead one knew of the ISR may be newer than the news here.
    led: Option<LeaderEpoch>,
    /// How long it rests after the next try that fails for want of something.
    rest: Duration,
    /// The controller is to be told of damage as soon as there is an actor, which the answer goes to.
    reports: bool,
}

impl PartitionLife {
    pub fn new(assignment: Rc<Assignment>, shared: Rc<Shared>) -> Self {
        let panics = RestartWindow::new(PANICS_TOLERATED);
        Self { assignment, shared, panics, led: None, rest: FIRST_REST, reports: false }
    }

    /// Opens the log off this thread.
    async fn open(&mut self, guard: Guard<Failure>) -> Result<Addr<PartitionActor>, Next<Error>> {
        let (assignment, shared) = (Rc::clone(&self.assignment), Rc::clone(&self.shared));
        let flushes = &assignment.handle.board.flushes;
        flushes.idle().await;
        assignment.handle.board.cleaning.idle().await;
        if flushes.has_failed() {
            let message = "a flush failed; check the disk, then `troupe actor kill` to try again";
            let reason = Error::new(ErrorCode::StorageFailure, message);
            return Err(self.cannot_open(Failure::lasting(reason)));
        }
        let permit = Arc::clone(&shared.recoveries).acquire_owned().await;
        let Some(_permit) = permit.ok().filter(|_| !assignment.over.get()) else {
            return Err(Next::Over);
        };
        let PartitionSetup { config, .. } = assignment.setup.borrow().clone();
        let (key, node_id) = (assignment.handle.key(), shared.node_id);
        let (times, directories) = (shared.times, Arc::clone(&shared.directories));
        let topic = assignment.handle.topic();
        let Location { directory, path } =
            match directories.locate(topic, key.partition, key.topic_id) {
                Ok(location) => location,
                Err(error) => return Err(self.cannot_open(error.into())),
            };
        let giving_up = assignment.handle.board.take_giving_up();
        let lost_end = assignment.handle.board.lost_end();
        if giving_up.is_some() {
            self.forget_damage();
        }
        let open = move || {
            if let Some(reply) = giving_up {
                let given_up = opening::give_up_damage(path.clone(), key, &config, lost_end);
                // Whoever asked may be gone.
                let _ = reply.send(given_up.map_err(Error::from));
            }
            opening::open(path, key, node_id, &config, times, &directories.inventory)
        };
        // Fails only if recovery panicked, which is a bug that must not pass for an empty log.
        let opened = match tokio::task::spawn_blocking(open).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                if !error.is_temporary() {
                    directory.suspect();
                }
                return Err(self.cannot_open(error.into()));
            }
            Err(_) => return Err(self.ended(Exit::panicked())),
        };
        if assignment.over.get() {
            return Err(Next::Over);
        }
        Ok(self.serve(opened, directory, guard))
    }

    /// From here to where others find the actor nobody else has the thread: no news is lost.
    fn serve(
        &mut self,
        mut opened: Opened,
        home: Arc<LogDirectory>,
        guard: Guard<Failure>,
    ) -> Addr<PartitionActor> {
        self.rest = FIRST_REST;
        self.assignment.out_of_service.set(false);
        self.reports = self.note_damage(&opened);
        opened.replica.restore_leader_epoch(self.led);
        let handle = Arc::clone(&self.assignment.handle);
        handle.board.mailbox.emptied();
        handle.board.faults.end_standstill();
        let PartitionSetup { config, state } = self.assignment.setup.borrow().clone();
        let (board, shared) = (Arc::clone(&handle.board), Rc::clone(&self.shared));
        let parts = Parts { board, handle, opened, home, config, state, shared, guard };
        // Others send as soon as they see it, which is before it has started.
        PartitionActor::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            PartitionActor::new(parts)
        })
    }

    /// If there still is some, it is found again.
    fn forget_damage(&self) {
        self.assignment.handle.board.lose_end(None);
        if self.assignment.handle.board.set_damaged(false) {
            self.shared.metrics.damaged_replicas.decrement(1);
        }
    }

    /// A replica that lacks what it has acknowledged is no member of anything until it was filled again: the
    /// controller has to know, unless there is no other replica. True: it is to be told, and nobody leads here
    /// before.
    fn note_damage(&self, opened: &Opened) -> bool {
        let (metrics, board) = (&self.shared.metrics, &self.assignment.handle.board);
        metrics.log_notices.increment(opened.notices);
        if opened.log.damage().is_none() {
            return false;
        }
        metrics.log_damages.increment(1);
        if board.set_damaged(true) {
            metrics.damaged_replicas.increment(1);
        }
        let reports = self.assignment.setup.borrow().state.replicas.len() > 1;
        if reports {
            board.owe_report();
        }
        reports
    }

    fn cannot_open(&mut self, failure: Failure) -> Next<Error> {
        let partition = &self.assignment.handle.board;
        tracing::error!(%partition, error = %failure.reason, "the log cannot be opened");
        self.take_offline(failure)
    }

    fn take_offline(
        &mut self,
        Failure { reason, temporary, disk_is_away, in_doubt: _ }: Failure,
    ) -> Next<Error> {
        self.assignment.handle.board.set_offline(reason.clone());
        let retry = temporary.then_some(self.rest);
        if temporary {
            self.shared.metrics.storage_waits.increment(1);
            self.rest = (2 * self.rest).min(LAST_REST);
        } else {
            self.assignment.report_offline(&self.shared, disk_is_away);
        }
        self.assignment.pass_on(&self.shared);
        Next::Offline { cause: reason, retry }
    }
}

impl Life for PartitionLife {
    type Actor = PartitionActor;
    type Reason = Failure;
    type Cause = Error;

    fn begin(&mut self, guard: Guard<Failure>) -> Beginning<'_, PartitionActor, Error> {
        Box::pin(self.open(guard))
    }

    fn ended(&mut self, Exit { panicked, reason }: Exit<Failure>) -> Next<Error> {
        self.assignment.handle.board.cleaning.stop();
        if self.assignment.over.get() {
            return Next::Over;
        }
        let handle = Arc::clone(&self.assignment.handle);
        let (board, key) = (&handle.board, handle.key());
        board.set_leads(false);
        board.set_follows(false);
        let wanting = match reason {
            // The actor has resigned, and told why.
            Some(Failure { reason, temporary: false, disk_is_away, in_doubt: false }) => {
                self.assignment.report_offline(&self.shared, disk_is_away);
                return Next::Offline { cause: reason, retry: None };
            }
            wanting => wanting,
        };
        let (doubt, wanting) = match wanting {
            Some(Failure { reason, in_doubt: true, .. }) => (Some(reason), None),
            wanting => (None, wanting),
        };
        self.shared.leader_streams.abandon(key);
        board.count_restart();
        self.shared.metrics.actor_restarts.increment(1);
        // Another replica leads before this one is rebuilt.
        if let Some(leader_epoch) = board.take_leading() {
            self.shared.controller.report_failed_leader(key, leader_epoch);
            self.led = self.led.max(Some(leader_epoch));
        }
        if let Some(failure) = wanting {
            return self.take_offline(failure);
        }
        if let Some(reason) = doubt
            && self.panics.note(Instant::now())
        {
            return self.take_offline(Failure::lasting(reason));
        }
        if panicked && self.panics.note(Instant::now()) {
            tracing::error!(partition = %board, "panicked too often: offline");
            let message = "the partition's actor panicked three times in a minute; see the \
                           node's log, then `troupe actor kill` it to try again";
            let cause = Error::new(ErrorCode::StorageFailure, message);
            return Next::Offline { cause, retry: None };
        }
        tracing::warn!(partition = %board, panicked, "actor died; rebuilding");
        Next::another()
    }

    fn entered(&mut self, state: ActorState) {
        if state == ActorState::Running && std::mem::take(&mut self.reports) {
            self.shared.controller.report_lost_data(self.assignment.handle.clone());
        }
    }

    fn revived(&mut self) {
        self.panics.clear();
        self.assignment.handle.board.flushes.forgive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::PartitionHandle;
    use troupe_actor::supervise;

    /// Ten thousand of them wait for nothing but an end.
    #[test]
    fn the_life_of_an_idle_partition_costs_less_than_half_a_kilobyte() {
        fn size<F>(_: impl FnOnce(PartitionLife, Arc<PartitionHandle>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(|mut life, handle| async move {
            supervise(&mut life, &handle.board, std::future::pending()).await;
        });
        assert!(bytes < 512, "{bytes} bytes");
    }
}
