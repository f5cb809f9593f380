//! The coordinator's actor: the groups of one partition of `__consumer_offsets`, in one leader epoch.
//!
//! [`Groups`] decides and remembers; the log remembers for longer; this file carries out.
//! Order: one message at a time; what is decided is replayed before the next one.
//! Answers: whatever rests on a change is told when the change is on every in-sync replica, or the actor stops.
//! If a change cannot be written, what was replayed is not true: the actor ends, and is built from the log anew.
//! Never here: a lock, an `.await` on the actor, a rule of groups.

use super::handle::{CoordinatorHandle, not_available, not_coordinator};
use super::lead::{End, deposed};
use super::member::MemberSink;
use super::message::{Disconnected, Join, Resign, Say};
use super::outbox::{Answer, Encoded, Outbox, Outcome};
use crate::clock::now;
use crate::partition::{AppendRequest, Appended, REBUILD_PATIENCE, Responder};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle,
    StreamHandler, WrapFuture,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use troupe_actor::{Die, Guard, Turns};
use troupe_machines::group::{Catalog, Decision, GroupError, Groups, SessionId};
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;
use troupe_proto::v1::Acks;

/// How long an append may take.
const APPEND_TIMEOUT_MS: u32 = 5_000;
/// Bytes of changes that may wait for the log; then who wants more is told to come later.
const OUTBOX_BYTES: usize = 8 << 20;
/// Of a member's record, what all but the host and the subscription may take.
const MEMBER_BYTES: usize = 4 << 10;
/// How soon a deadline that has passed is looked at again.
const OVERDUE: u64 = 50;
/// How soon after a change groups and members are counted.
const CENSUS: Duration = Duration::from_secs(1);

pub struct CoordinatorActor {
    pub(super) handle: Arc<CoordinatorHandle>,
    /// Decides.
    pub(super) groups: Groups,
    pub(super) outbox: Outbox,
    sessions: HashMap<SessionId, MemberSink>,
    catalog: watch::Receiver<Arc<Catalog>>,
    census: Census,
    /// The timer for the machine's next deadline, and when it rings.
    alarm: Option<(Time, SpawnHandle)>,
    turns: Turns,
    guard: Guard<End>,
}

impl CoordinatorActor {
    pub fn new(
        handle: Arc<CoordinatorHandle>,
        groups: Groups,
        max_record_bytes: u64,
        catalog: watch::Receiver<Arc<Catalog>>,
        guard: Guard<End>,
    ) -> Self {
        Self {
            census: Census::new(Arc::clone(&handle)),
            handle,
            groups,
            outbox: Outbox::new(max_record_bytes),
            sessions: HashMap::new(),
            catalog,
            alarm: None,
            turns: Turns::default(),
            guard,
        }
    }
}

impl Actor for CoordinatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.groups.loaded(now());
        self.take_catalog(ctx);
        ctx.add_stream(WatchStream::from_changes(self.catalog.clone()));
        let log = Arc::clone(&self.handle.log);
        let deposed = async move { deposed(&log).await };
        ctx.spawn(deposed.into_actor(self).map(|(), actor, ctx| actor.resign(ctx)));
        self.census.take(&self.groups);
    }
}

impl StreamHandler<Arc<Catalog>> for CoordinatorActor {
    fn handle(&mut self, _: Arc<Catalog>, ctx: &mut Context<Self>) {
        self.take_catalog(ctx);
    }

    /// The node is stopping; until then, groups go on.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<Join> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, join: Join, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Join { session, new_member_id, host, start, sink } = join;
        let asked = start.subscription.as_ref();
        if let Err(error) = self.check_takes().and_then(|()| self.check_fits(asked, &host)) {
            return sink.end(Some(error));
        }
        self.sessions.insert(session, sink);
        let decision = self.groups.join(now(), session, new_member_id, &host, start);
        self.settle_of(session, decision, ctx);
    }
}

impl Handler<Say> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, Say { session, request }: Say, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        if !self.sessions.contains_key(&session) {
            return;
        }
        if let Some(number) = request.applied {
            let decision = self.groups.applied(now(), session, number);
            // What cannot be written is logged; the member is told when its time is over.
            let _ = self.settle(decision, None, None, ctx);
        }
        if let Some(subscription) = request.subscription {
            if let Err(error) = self.check_fits(Some(&subscription), "") {
                return self.expel(session, error, ctx);
            }
            let decision = self.groups.subscribe(now(), session, subscription);
            self.settle_of(session, decision, ctx);
        }
        if request.leave {
            let decision = self.groups.leave(now(), session);
            let farewell = self.sessions.remove(&session);
            // What cannot be written is logged; the stream ends either way.
            let _ = self.settle(decision, None, farewell, ctx);
        }
    }
}

impl Handler<Disconnected> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, Disconnected(session): Disconnected, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        // Also of one whose stream was ended here: if it is a member still, its time runs from now on.
        self.groups.disconnected(now(), session);
        if let Some(sink) = self.sessions.remove(&session) {
            sink.end(None);
        }
        self.set_alarm(ctx);
    }
}

impl Handler<Resign> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, _: Resign, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.resign(ctx);
    }
}

impl Handler<Die> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, message: Die, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        match message {
            Die::Stop => ctx.stop(),
            Die::Panic => panic!("killed by the chaos service"),
        }
    }
}

impl CoordinatorActor {
    /// What a member asked for: done, or its stream ends, as soon as what that rests on is committed.
    fn settle_of(
        &mut self,
        session: SessionId,
        decision: Result<Decision<()>, GroupError>,
        ctx: &mut Context<Self>,
    ) {
        let decision = decision.unwrap_or_else(|error| Decision {
            changes: Vec::new(),
            answer: (),
            pushes: Vec::new(),
            ended: vec![(session, error)],
        });
        if let Err(error) = self.settle(decision, None, None, ctx) {
            self.expel(session, error, ctx);
        }
    }

    /// The stream ends; if it was a member's, that one is away.
    fn expel(&mut self, session: SessionId, error: Error, ctx: &mut Context<Self>) {
        self.groups.disconnected(now(), session);
        if let Some(sink) = self.sessions.remove(&session) {
            sink.end(Some(error));
        }
        self.set_alarm(ctx);
    }

    /// Whether a member that says so much of itself can be remembered. It has to be known before the machine
    /// decides: a decision that cannot be written leaves it believing what never was.
    fn check_fits(&self, asked: Option<&pb::Subscription>, host: &str) -> Result<(), Error> {
        let subscription = asked.map_or(0, prost::Message::encoded_len);
        self.outbox.check_len(subscription + host.len() + MEMBER_BYTES)
    }

    /// Replays a decision and writes it; what it says is told when it is committed.
    ///
    /// # Errors
    /// `RECORD_TOO_LARGE`: then nothing of it has happened, and the answer has been given.
    pub(super) fn settle<T>(
        &mut self,
        decision: Decision<T>,
        answer: Option<Answer>,
        farewell: Option<MemberSink>,
        ctx: &mut Context<Self>,
    ) -> Result<(), Error> {
        let Decision { changes, pushes, ended, .. } = decision;
        let records: Vec<Encoded> = changes.iter().map(Encoded::from).collect();
        if let Err(error) = self.outbox.check(&records) {
            tracing::error!(coordinator = %self.handle, %error, "a decision cannot be written");
            if let Some(answer) = answer {
                answer(Err(error.clone()));
            }
            self.set_alarm(ctx);
            return Err(error);
        }
        for change in &changes {
            self.groups.replay(change).expect("the machine replays what it has decided itself");
        }
        self.groups.note_decided(now(), &changes);
        if !changes.is_empty() && !std::mem::replace(&mut self.census.is_due, true) {
            ctx.run_later(CENSUS, |actor, _| actor.census.take(&actor.groups));
        }
        let outcome = Outcome { answer, pushes, ended, farewell };
        if let Some(outcome) = self.outbox.push(&records, outcome) {
            self.tell(outcome);
        }
        self.append(ctx);
        self.set_alarm(ctx);
        Ok(())
    }

    /// The one place where somebody is told something.
    fn tell(&mut self, outcome: Outcome) {
        if let Some(answer) = outcome.answer {
            answer(Ok(()));
        }
        for push in outcome.pushes {
            if let Some(sink) = self.sessions.get(&push.session) {
                if push.assignment.is_some() {
                    self.handle.metrics.group_rebalances.increment(1);
                }
                sink.push(push);
            }
        }
        for (session, error) in outcome.ended {
            if let Some(sink) = self.sessions.remove(&session) {
                sink.end(Some(error.into()));
            }
        }
        if let Some(sink) = outcome.farewell {
            sink.end(None);
        }
    }

    /// Appends the next batch, unless one is under way.
    pub(super) fn append(&mut self, ctx: &mut Context<Self>) {
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
            batch,
            verified,
            acks: Acks::All,
            timeout_ms: APPEND_TIMEOUT_MS,
            expected_leader_epoch: Some(self.handle.leader_epoch),
            patience: REBUILD_PATIENCE,
        };
        let log = Arc::clone(&self.handle.log);
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
        tracing::warn!(coordinator = %self.handle, %error, "a change of groups was not written");
        let told = match error.code {
            ErrorCode::NotLeader | ErrorCode::FencedLeaderEpoch => not_coordinator(),
            _ => not_available(),
        };
        self.guard.note(End::Failed);
        self.end(told, error.surely_not_done(), ctx);
    }

    /// Another node coordinates these groups, or this one in another epoch.
    fn resign(&mut self, ctx: &mut Context<Self>) {
        self.guard.note(End::Resigned);
        self.end(not_coordinator(), false, ctx);
    }

    fn end(&mut self, error: Error, surely_not: bool, ctx: &mut Context<Self>) {
        self.outbox.fail(&error, surely_not);
        for (_, sink) in self.sessions.drain() {
            sink.end(Some(error.clone()));
        }
        ctx.stop();
    }

    fn take_catalog(&mut self, ctx: &mut Context<Self>) {
        let catalog = Arc::clone(&self.catalog.borrow_and_update());
        self.groups.set_catalog(catalog);
        let decision = self.groups.catalog_changed(now());
        // What cannot be written is logged; the groups stay with what they had.
        let _ = self.settle(decision, None, None, ctx);
    }

    /// Whether there is room for more changes.
    pub(super) fn check_takes(&self) -> Result<(), Error> {
        if !self.handle.stall_detector.is_fit() {
            let message = "this node stood still and does not know yet whether it still leads";
            return Err(Error::new(ErrorCode::CoordinatorNotAvailable, message));
        }
        if self.outbox.bytes() > OUTBOX_BYTES {
            let message = "too many changes wait for the log of this coordinator";
            return Err(Error::new(ErrorCode::Throttled, message));
        }
        Ok(())
    }

    pub(super) fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(next) = self.groups.next_deadline() else { return };
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
            let decision = actor.groups.on_time(now());
            // What cannot be written is logged, and tried again.
            let _ = actor.settle(decision, None, None, ctx);
        });
        self.alarm = Some((next, alarm));
    }

    /// Counts a message.
    pub(super) fn take_turn(&mut self, ctx: &mut Context<Self>) {
        self.handle.mailbox.taken(Instant::now());
        self.turns.take(ctx);
    }
}

/// What this coordinator adds to the node's counts.
struct Census {
    handle: Arc<CoordinatorHandle>,
    /// There was a change, and the timer runs.
    is_due: bool,
    groups: f64,
    members: f64,
}

impl Census {
    fn new(handle: Arc<CoordinatorHandle>) -> Self {
        Self { handle, is_due: false, groups: 0.0, members: 0.0 }
    }

    fn take(&mut self, groups: &Groups) {
        self.is_due = false;
        let listed = groups.list();
        let members = listed.iter().map(|group| f64::from(group.member_count)).sum::<f64>();
        self.count(listed.len() as f64, members);
    }

    fn count(&mut self, groups: f64, members: f64) {
        self.handle.metrics.groups.increment(groups - self.groups);
        self.handle.metrics.group_members.increment(members - self.members);
        (self.groups, self.members) = (groups, members);
        self.handle.note_census(groups as u64, members as u64);
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.count(0.0, 0.0);
    }
}
