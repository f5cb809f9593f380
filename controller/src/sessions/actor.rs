//! The session actor: carries out what the [`BrokerHeartbeats`] decide, and tells sessions how they stand.
//!
//! Acts only while this controller is the active one, and has applied everything that was decided before.
//! Answers: `Open` is answered once it is known whether this controller is active; a session ends when its
//! broker has registered anew, when this controller is active no more, or with the actor.
//! Never here: a rule about silence, a stream.

use super::heartbeats::{BrokerHeartbeats, Heartbeat, RUN_INTERVAL, SessionId, Step};
use super::stalls::Stalls;
use crate::config::{SessionTimings, Upkeep};
use crate::handle::ControllerHandle;
use crate::metadata_log::Leadership;
use crate::probe;
use crate::voters::VoterSet;
use actix::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::WatchStream;
use troupe_actor::{Die, Guard};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, MetadataOffset, NodeId};

/// Before the question whether this controller is active is asked again.
const ACTIVATION_RETRY: Duration = Duration::from_millis(100);

/// A broker's session, as its stream holds it.
pub(crate) struct Session {
    pub id: SessionId,
    /// Closed: whoever kept the session is gone.
    pub states: watch::Receiver<SessionState>,
}

/// How a session stands. Every heartbeat changes it, so that every heartbeat is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionState {
    pub heard: u64,
    pub fenced: bool,
    pub may_stop: bool,
    /// The session is over, and why.
    pub over: Option<Error>,
}

type Opened = Result<Session, Error>;

pub(super) struct SessionActor {
    pub(super) controller: ControllerHandle,
    pub(super) settings: Settings,
    state: State,
    sessions: BTreeMap<NodeId, (SessionId, watch::Sender<SessionState>)>,
    /// Who led last, but for this node.
    predecessor: Option<NodeId>,
    /// Asked for before it was known who is active.
    waiting: Vec<Open>,
    timers: Vec<SpawnHandle>,
    /// The next look at where leaders are, and what it goes by.
    pub(super) balancing: Option<(Upkeep, SpawnHandle)>,
    _guard: Guard<Infallible>,
}

/// What every actor, life after life, has in common.
#[derive(Clone)]
pub(super) struct Settings {
    /// What the thread has missed that hears the heartbeats.
    pub stalls: Arc<Stalls>,
    pub voters: VoterSet,
    pub timings: SessionTimings,
    /// What it goes by.
    pub cluster: crate::settings::Settings,
    /// Go on when the actor is rebuilt: what is left of an old session is not taken for a new one.
    pub session_ids: Arc<AtomicU64>,
}

enum State {
    Standby,
    /// This node leads in this term, and has not applied all that was decided before.
    CatchingUp(u64),
    Active(u64, BrokerHeartbeats),
}

impl SessionActor {
    pub fn new(
        controller: ControllerHandle,
        settings: Settings,
        guard: Guard<Infallible>,
    ) -> SessionActor {
        SessionActor {
            controller,
            settings,
            state: State::Standby,
            sessions: BTreeMap::new(),
            predecessor: None,
            waiting: Vec::new(),
            timers: Vec::new(),
            balancing: None,
            _guard: guard,
        }
    }
}

impl SessionActor {
    /// Begins or ends to keep sessions with the leadership of this node; hearing the same again changes nothing.
    fn follow(&mut self, leadership: Leadership, ctx: &mut Context<Self>) {
        self.predecessor = leadership.leader.filter(|_| !leadership.here).or(self.predecessor);
        match &self.state {
            State::CatchingUp(term) | State::Active(term, _)
                if leadership.here && *term == leadership.term => {}
            State::Standby | State::CatchingUp(_) | State::Active(..) if leadership.here => {
                self.stand_by(leadership.leader, ctx);
                self.state = State::CatchingUp(leadership.term);
                self.catch_up(leadership.term, ctx);
            }
            State::Standby | State::CatchingUp(_) | State::Active(..) => {
                self.stand_by(leadership.leader, ctx);
            }
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(1024);
        ctx.add_stream(WatchStream::new(self.controller.leadership()));
        ctx.add_stream(WatchStream::new(self.controller.image()));
    }
}

impl StreamHandler<Leadership> for SessionActor {
    fn handle(&mut self, leadership: Leadership, ctx: &mut Context<Self>) {
        self.follow(leadership, ctx);
    }

    /// The log is closed; the supervisor ends this actor.
    fn finished(&mut self, _ctx: &mut Context<Self>) {}
}

impl StreamHandler<Arc<ClusterImage>> for SessionActor {
    fn handle(&mut self, image: Arc<ClusterImage>, ctx: &mut Context<Self>) {
        if matches!(self.state, State::Active(..)) {
            self.follow_upkeep(&image, ctx);
        }
        self.run(ctx);
    }

    fn finished(&mut self, _ctx: &mut Context<Self>) {}
}

/// A broker begins a session under an epoch of its own.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Open {
    pub broker: (NodeId, BrokerEpoch),
    pub heartbeat: Heartbeat,
    pub reply: oneshot::Sender<Opened>,
}

impl Handler<Open> for SessionActor {
    type Result = ();

    fn handle(&mut self, open: Open, ctx: &mut Context<Self>) {
        // A broker may have heard of the new leader before this actor has.
        let leadership = *self.controller.leadership().borrow();
        self.follow(leadership, ctx);
        match &mut self.state {
            State::Active(..) => self.open(open, ctx),
            State::CatchingUp(_) => self.waiting.push(open),
            State::Standby => {
                let leader = self.controller.controller_id();
                let _ = open.reply.send(Err(self.settings.voters.not_controller(leader)));
            }
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Heard(pub NodeId, pub SessionId, pub Heartbeat);

impl Handler<Heard> for SessionActor {
    type Result = ();

    fn handle(&mut self, Heard(node_id, session, heartbeat): Heard, ctx: &mut Context<Self>) {
        let State::Active(_, heartbeats) = &mut self.state else { return };
        if self.sessions.get(&node_id).is_none_or(|(id, _)| *id != session) {
            return;
        }
        let now = Instant::now();
        heartbeats.heard(now, node_id, session, heartbeat);
        let image = self.controller.image().borrow().clone();
        let step = heartbeats.run_one(now, &image, node_id);
        self.take(step, ctx);
        self.tell(&image, node_id, 1);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Broke(pub NodeId, pub SessionId);

impl Handler<Broke> for SessionActor {
    type Result = ();

    fn handle(&mut self, Broke(node_id, session): Broke, ctx: &mut Context<Self>) {
        let State::Active(_, heartbeats) = &mut self.state else { return };
        let now = Instant::now();
        heartbeats.broke(now, node_id, session);
        if self.sessions.get(&node_id).is_some_and(|(id, _)| *id == session) {
            self.sessions.remove(&node_id);
        }
        let image = self.controller.image().borrow().clone();
        let step = heartbeats.run_one(now, &image, node_id);
        self.take(step, ctx);
    }
}

/// K12: whether somebody holds a session under this id, and is heard.
#[derive(Message)]
#[rtype(result = "bool")]
pub(super) struct IsAlive(pub NodeId);

impl Handler<IsAlive> for SessionActor {
    type Result = bool;

    fn handle(&mut self, IsAlive(node_id): IsAlive, _ctx: &mut Context<Self>) -> bool {
        match &self.state {
            State::Active(_, heartbeats) => heartbeats.is_alive(Instant::now(), node_id),
            State::Standby | State::CatchingUp(_) => false,
        }
    }
}

/// Who is not heard just now.
#[derive(Debug)]
pub(super) struct Silent;

impl Message for Silent {
    type Result = BTreeSet<NodeId>;
}

impl Handler<Silent> for SessionActor {
    type Result = MessageResult<Silent>;

    fn handle(&mut self, Silent: Silent, _ctx: &mut Context<Self>) -> MessageResult<Silent> {
        MessageResult(self.silent())
    }
}

impl Handler<Die> for SessionActor {
    type Result = ();

    fn handle(&mut self, die: Die, ctx: &mut Context<Self>) {
        match die {
            Die::Stop => ctx.terminate(),
            Die::Panic => panic!("the session actor was told to panic"),
        }
    }
}

impl SessionActor {
    /// Nobody has a session here any more.
    fn stand_by(&mut self, leader: Option<NodeId>, ctx: &mut Context<Self>) {
        self.state = State::Standby;
        let balancing = self.balancing.take().map(|(_, timer)| timer);
        for timer in self.timers.drain(..).chain(balancing) {
            ctx.cancel_future(timer);
        }
        let refusal = self.settings.voters.not_controller(leader);
        for (_, (_, state)) in std::mem::take(&mut self.sessions) {
            state.send_modify(|state| state.over = Some(refusal.clone()));
        }
        for open in self.waiting.drain(..) {
            let _ = open.reply.send(Err(refusal.clone()));
        }
    }

    fn catch_up(&mut self, term: u64, ctx: &mut Context<Self>) {
        let controller = self.controller.clone();
        let active = async move { controller.await_active().await }.into_actor(self);
        ctx.spawn(active.map(move |active, actor, ctx| match (&actor.state, active) {
            (State::CatchingUp(current), Ok(())) if *current == term => {
                actor.activate(term, ctx);
            }
            (State::CatchingUp(current), Err(error)) if *current == term => {
                tracing::debug!(%error, "not active yet");
                ctx.run_later(ACTIVATION_RETRY, move |actor, ctx| {
                    if matches!(actor.state, State::CatchingUp(current) if current == term) {
                        actor.catch_up(term, ctx);
                    }
                });
            }
            _ => {}
        }));
    }

    fn activate(&mut self, term: u64, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.state = State::Active(
            term,
            BrokerHeartbeats::new(now, self.settings.timings, self.predecessor),
        );
        self.run(ctx);
        for open in std::mem::take(&mut self.waiting) {
            self.open(open, ctx);
        }
        let balancing = self.balancing.take().map(|(_, timer)| timer);
        for timer in self.timers.drain(..).chain(balancing) {
            ctx.cancel_future(timer);
        }
        let image = self.controller.image().borrow().clone();
        self.timers = Self::begin_upkeep(ctx, self.settings.cluster.upkeep(&image));
        self.follow_upkeep(&image, ctx);
        self.timers.push(ctx.run_interval(RUN_INTERVAL, |actor, ctx| actor.run(ctx)));
    }

    fn open(&mut self, Open { broker, heartbeat, reply }: Open, ctx: &mut Context<Self>) {
        let State::Active(_, heartbeats) = &mut self.state else { return };
        let (node_id, epoch) = broker;
        let image = self.controller.image().borrow().clone();
        if let Err(refusal) = image.known_broker(node_id, epoch) {
            let _ = reply.send(Err(refusal.into()));
            return;
        }
        let now = Instant::now();
        let id = SessionId(self.settings.session_ids.fetch_add(1, Ordering::Relaxed));
        heartbeats.open(now, broker, id, heartbeat);
        let step = heartbeats.run_one(now, &image, node_id);
        let (tell, states) = watch::channel(SessionState::default());
        // Who had a session before sees it closed.
        self.sessions.insert(node_id, (id, tell));
        self.take(step, ctx);
        self.tell(&image, node_id, 0);
        let _ = reply.send(Ok(Session { id, states }));
    }

    fn run(&mut self, ctx: &mut Context<Self>) {
        let State::Active(_, heartbeats) = &mut self.state else { return };
        let image = self.controller.image().borrow().clone();
        let missed = self.settings.stalls.missed();
        let steps = heartbeats.run(Instant::now(), missed, &image);
        steps.into_iter().for_each(|step| self.take(Some(step), ctx));
        let nodes: Vec<NodeId> = self.sessions.keys().copied().collect();
        nodes.into_iter().for_each(|node_id| self.tell(&image, node_id, 0));
    }

    /// Tells a session how it stands, if that is new, or has been asked.
    fn tell(&mut self, image: &ClusterImage, node_id: NodeId, heard: u64) {
        let State::Active(_, heartbeats) = &self.state else { return };
        let Some((session, state)) = self.sessions.get(&node_id) else { return };
        if let Some(standing) = heartbeats.standing(image, node_id, *session) {
            state.send_if_modified(|told| {
                let now = SessionState {
                    heard: told.heard + heard,
                    fenced: standing.fenced,
                    may_stop: standing.may_stop,
                    over: None,
                };
                std::mem::replace(told, now.clone()) != now
            });
            return;
        }
        let over = match image.broker(node_id) {
            Some(broker) => {
                let message = format!("broker {node_id} has registered anew; this session is over");
                let error = Error::new(ErrorCode::StaleBrokerEpoch, message);
                error.with("current_epoch", broker.epoch)
            }
            None => {
                let message = format!("broker {node_id} was removed from the cluster");
                Error::new(ErrorCode::BrokerNotRegistered, message)
            }
        };
        state.send_modify(|state| state.over = Some(over.with("node_id", node_id)));
        self.sessions.remove(&node_id);
    }

    /// The one place where steps meet the world.
    fn take(&mut self, step: Option<Step>, ctx: &mut Context<Self>) {
        let controller = self.controller.clone();
        match step {
            None => {}
            Some(Step::Fence(node_id, epoch)) => {
                tracing::warn!(node = node_id.0, "a broker is not heard any more; fencing it");
                let silent = self.silent();
                let done = async move {
                    controller.fence_broker(node_id, epoch, silent).await.map(|()| None)
                };
                self.carry_out((node_id, epoch), done, ctx);
            }
            Some(Step::Unfence(node_id, epoch)) => {
                let done =
                    async move { controller.unfence_broker(node_id, epoch).await.map(|()| None) };
                self.carry_out((node_id, epoch), done, ctx);
            }
            Some(Step::NoteVersions(node_id, epoch, heartbeat)) => {
                let done = async move {
                    let versions = (heartbeat.log_version, heartbeat.metadata_version);
                    let listeners = heartbeat.listeners;
                    controller
                        .note_versions((node_id, epoch), versions, listeners)
                        .await
                        .map(|()| None)
                };
                self.carry_out((node_id, epoch), done, ctx);
            }
            Some(Step::BeginShutdown(node_id, epoch)) => {
                let done = async move { controller.begin_shutdown(node_id, epoch).await.map(Some) };
                self.carry_out((node_id, epoch), done, ctx);
            }
            Some(Step::Probe(node_id, last, endpoint)) => {
                let patience = self.settings.timings.timeout;
                let probed = async move { probe::is_refused(&endpoint, patience).await };
                ctx.spawn(probed.into_actor(self).map(move |refused, actor, ctx| {
                    let State::Active(_, heartbeats) = &mut actor.state else { return };
                    let now = Instant::now();
                    if !refused {
                        return heartbeats.not_refused(now, node_id, last);
                    }
                    heartbeats.refused(now, node_id, last);
                    let image = actor.controller.image().borrow().clone();
                    let step = heartbeats.run_one(now, &image, node_id);
                    actor.take(step, ctx);
                }));
            }
        }
    }

    fn carry_out(
        &mut self,
        broker: (NodeId, BrokerEpoch),
        done: impl Future<Output = Result<Option<MetadataOffset>, Error>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        let term = self.term();
        ctx.spawn(done.into_actor(self).map(move |done, actor, ctx| {
            if let Err(error) = &done {
                tracing::debug!(node = broker.0.0, %error, "a broker's state did not change");
            }
            let same = actor.term() == term;
            if let State::Active(_, heartbeats) = &mut actor.state
                && same
            {
                heartbeats.settled(Instant::now(), broker, done.map_err(drop));
                actor.run(ctx);
            }
        }));
    }

    /// Until this controller keeps sessions, it has heard nobody.
    pub(super) fn silent(&self) -> BTreeSet<NodeId> {
        match &self.state {
            State::Active(_, heartbeats) => heartbeats.silent(Instant::now()),
            State::Standby | State::CatchingUp(_) => {
                let image = self.controller.image().borrow().clone();
                image.brokers().map(|broker| broker.node_id).collect()
            }
        }
    }

    fn term(&self) -> Option<u64> {
        match &self.state {
            State::Active(term, _) => Some(*term),
            State::Standby | State::CatchingUp(_) => None,
        }
    }
}
