//! The coordinator's actor: what one partition of an internal topic remembers, in one leader epoch.
//!
//! The [`Machine`] decides and remembers; the log remembers for longer; this file carries out. What its machine is asked
//! are messages of its own.
//! Order: one message at a time; what is decided is replayed before the next one.
//! Answers: whatever rests on a change is told when the change is on every in-sync replica, or the actor stops.
//! If a change cannot be written, what was replayed is not true: the actor ends, and is built from the log anew.
//! Never here: a lock, an `.await` on the actor, a rule of what is coordinated.

use super::home::Home;
use super::machine::{Audience, Decided, Machine};
use super::message::Resign;
use super::outbox::{Answer, Outbox, Outcome};
use super::record::Record;
use super::refusal::{not_available, not_coordinator};
use crate::clock::now;
use crate::partition::{AppendRequest, Appended, REBUILD_PATIENCE, Responder};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle,
    StreamHandler, WrapFuture,
};
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use troupe_actor::{Die, Guard, Turns};
use troupe_machines::replica::Acks;
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};

/// How long an append may take.
const APPEND_TIMEOUT_MS: u32 = 5_000;
/// Bytes of changes that may wait for the log; then who wants more is told to come later.
const OUTBOX_BYTES: usize = 8 << 20;
/// How soon a deadline that has passed is looked at again.
const OVERDUE: u64 = 50;
/// How soon after a change the node's counts are brought up to date.
const COUNT: Duration = Duration::from_secs(1);

/// Why an actor ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A change could not be written.
    Failed,
    /// The replica does not lead any more.
    Resigned,
}

pub struct CoordinatorActor<M: Machine> {
    pub home: Arc<Home<M>>,
    /// Decides.
    pub machine: M,
    pub audience: M::Audience,
    outbox: Outbox<M::Told>,
    catalog: watch::Receiver<Arc<M::Catalog>>,
    settings: watch::Receiver<M::Settings>,
    /// There was a change, and the timer runs.
    count_is_due: bool,
    /// The timer for the machine's next deadline, and when it rings.
    alarm: Option<(Time, SpawnHandle)>,
    turns: Turns,
    guard: Guard<End>,
}

impl<M: Machine> CoordinatorActor<M> {
    pub fn new(
        home: Arc<Home<M>>,
        machine: M,
        max_record_bytes: u64,
        (catalog, settings): (watch::Receiver<Arc<M::Catalog>>, watch::Receiver<M::Settings>),
        guard: Guard<End>,
    ) -> Self {
        Self {
            audience: M::Audience::new(home.surroundings()),
            home,
            machine,
            outbox: Outbox::new(max_record_bytes, M::SUBJECT),
            catalog,
            settings,
            count_is_due: false,
            alarm: None,
            turns: Turns::default(),
            guard,
        }
    }
}

impl<M: Machine> Actor for CoordinatorActor<M> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.machine.loaded(now());
        self.take_catalog(ctx);
        ctx.add_stream(WatchStream::from_changes(self.catalog.clone()));
        // Others may have come while the log was read.
        ctx.add_stream(WatchStream::new(self.settings.clone()).map(Settled));
        let home = Arc::clone(&self.home);
        let deposed = async move { home.deposed().await };
        ctx.spawn(deposed.into_actor(self).map(|(), actor, ctx| actor.resign(ctx)));
        self.audience.count(&self.machine);
    }
}

impl<M: Machine> StreamHandler<Arc<M::Catalog>> for CoordinatorActor<M> {
    fn handle(&mut self, _: Arc<M::Catalog>, ctx: &mut Context<Self>) {
        self.take_catalog(ctx);
    }

    /// The node is stopping; until then, it goes on.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

/// Something else was settled.
struct Settled<S>(S);

impl<M: Machine> StreamHandler<Settled<M::Settings>> for CoordinatorActor<M> {
    fn handle(&mut self, Settled(settings): Settled<M::Settings>, _: &mut Context<Self>) {
        self.machine.settle(settings);
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl<M: Machine> Handler<Resign> for CoordinatorActor<M> {
    type Result = ();

    fn handle(&mut self, _: Resign, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.resign(ctx);
    }
}

impl<M: Machine> Handler<Die> for CoordinatorActor<M> {
    type Result = ();

    fn handle(&mut self, message: Die, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        message.take_effect(ctx);
    }
}

impl<M: Machine> CoordinatorActor<M> {
    /// Replays a decision and writes it; what it says is told when it is committed.
    ///
    /// # Errors
    /// `RECORD_TOO_LARGE`: then nothing of it has happened, and the answer has been given.
    pub fn settle(
        &mut self,
        decided: Decided<M>,
        answer: Option<Answer>,
        ctx: &mut Context<Self>,
    ) -> Result<(), Error> {
        let Decided { changes, told, .. } = decided;
        let records: Vec<Record> = changes.iter().map(M::encode).collect();
        if let Err(error) = self.outbox.check(&records) {
            tracing::error!(coordinator = %self.home, %error, "a decision cannot be written");
            if let Some(answer) = answer {
                answer(Err(error.clone()));
            }
            self.set_alarm(ctx);
            return Err(error);
        }
        for change in &changes {
            self.machine.replay(change).expect("the machine replays what it has decided itself");
        }
        self.machine.note_decided(now(), &changes);
        if !changes.is_empty() && !std::mem::replace(&mut self.count_is_due, true) {
            ctx.run_later(COUNT, |actor, _| {
                actor.count_is_due = false;
                actor.audience.count(&actor.machine);
            });
        }
        if let Some(outcome) = self.outbox.push(&records, Outcome { answer, told }) {
            self.tell(outcome);
        }
        self.append(ctx);
        self.set_alarm(ctx);
        Ok(())
    }

    /// What is decided meanwhile goes into the same batch.
    pub fn in_one_batch(
        &mut self,
        ctx: &mut Context<Self>,
        decide: impl FnOnce(&mut Self, &mut Context<Self>),
    ) {
        self.outbox.hold();
        decide(self, ctx);
        self.outbox.release();
        self.append(ctx);
    }

    /// The one place where somebody is told something.
    fn tell(&mut self, outcome: Outcome<M::Told>) {
        if let Some(answer) = outcome.answer {
            answer(Ok(()));
        }
        self.audience.tell(outcome.told);
    }

    /// Appends the next batch, unless one is under way.
    fn append(&mut self, ctx: &mut Context<Self>) {
        let batch = match self.outbox.take() {
            Some(batch) => batch.and_then(|batch| batch.produced()),
            None => return,
        };
        let (batch, verified) = match batch {
            Ok(produced) => produced,
            Err(error) => {
                return self.fail(&Error::new(error.code(), error.to_string()), ctx);
            }
        };
        let request = AppendRequest {
            chain: None,
            transactional_id: None,
            batch,
            verified,
            acks: Acks::All,
            timeout_ms: APPEND_TIMEOUT_MS,
            expected_leader_epoch: Some(self.home.leader_epoch),
            patience: REBUILD_PATIENCE,
        };
        let log = Arc::clone(&self.home.log);
        let appended = async move {
            let (responder, appended) = Responder::channel();
            log.append(request, responder).await;
            // A responder always answers.
            appended
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorCode::OutcomeUnknown, "no answer")))
        };
        ctx.spawn(appended.into_actor(self).map(|result, actor, ctx| actor.appended(result, ctx)));
    }

    fn appended(&mut self, result: Result<Appended, Error>, ctx: &mut Context<Self>) {
        match result {
            Ok(_) => {
                for outcome in self.outbox.committed() {
                    self.tell(outcome);
                }
                self.append(ctx);
            }
            Err(error) => self.fail(&error, ctx),
        }
    }

    /// What was decided is not in the log, or nobody knows whether it is: this state is worth nothing.
    fn fail(&mut self, error: &Error, ctx: &mut Context<Self>) {
        tracing::warn!(coordinator = %self.home, %error, "a change of {}s was not written", M::SUBJECT);
        let told = match error.code {
            ErrorCode::NotLeader | ErrorCode::FencedLeaderEpoch => not_coordinator::<M>(),
            _ => not_available::<M>(),
        };
        self.guard.note(End::Failed);
        self.end(told, error.surely_not_done(), ctx);
    }

    /// Another node coordinates, or this one in another epoch.
    fn resign(&mut self, ctx: &mut Context<Self>) {
        self.guard.note(End::Resigned);
        self.end(not_coordinator::<M>(), false, ctx);
    }

    fn end(&mut self, error: Error, surely_not: bool, ctx: &mut Context<Self>) {
        self.outbox.fail(&error, surely_not);
        self.audience.dismiss(&error);
        ctx.stop();
    }

    fn take_catalog(&mut self, ctx: &mut Context<Self>) {
        let catalog = Arc::clone(&self.catalog.borrow_and_update());
        let decided = self.machine.catalog_changed(now(), catalog);
        // What cannot be written is logged; the machine stays with what it had.
        let _ = self.settle(decided, None, ctx);
    }

    /// Whether there is room for more changes.
    pub fn check_takes(&self) -> Result<(), Error> {
        if !self.home.node.stall_detector.is_fit() {
            let message = "this node stood still and does not know yet whether it still leads";
            return Err(Error::new(ErrorCode::CoordinatorNotAvailable, message));
        }
        if self.outbox.bytes() > OUTBOX_BYTES {
            let message = "too many changes wait for the log of this coordinator";
            return Err(Error::new(ErrorCode::Throttled, message));
        }
        Ok(())
    }

    /// Whether a record of that many bytes can be written. It has to be known before the machine decides: a decision
    /// that cannot be written leaves it believing what never was.
    ///
    /// # Errors
    /// `RECORD_TOO_LARGE`.
    pub fn check_len(&self, bytes: usize) -> Result<(), Error> {
        self.outbox.check_len(bytes)
    }

    pub fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(next) = self.machine.next_deadline() else { return };
        match self.alarm {
            Some((set, _)) if set <= next => return,
            Some((_, alarm)) => {
                ctx.cancel_future(alarm);
            }
            None => {}
        }
        let now_ms = now().0;
        let wait = if next.0 > now_ms { next.0 - now_ms } else { OVERDUE };
        let alarm = ctx.run_later(Duration::from_millis(wait), |actor, ctx| {
            actor.alarm = None;
            let decided = actor.machine.on_time(now());
            // What cannot be written is logged, and tried again.
            let _ = actor.settle(decided, None, ctx);
        });
        self.alarm = Some((next, alarm));
    }

    /// Counts a message.
    pub fn take_turn(&mut self, ctx: &mut Context<Self>) {
        self.home.mailbox.taken(Instant::now());
        self.turns.take(ctx);
    }
}
