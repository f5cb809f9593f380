//! The controller actor: the one that decides.
//!
//! [`ClusterImage`] decides; this file keeps decisions in order, and answers waiting.
//! Order: one request at a time, each decided on an image that holds all decided before it, committed or not.
//! Answers: given when the log has applied the decision, or said that it will not.
//! If a decision fails, so do those that rest on it: the log refuses them. The actor then drops its image,
//! waits until the log has applied all it ever will, and takes the committed one.
//! Never here: a rule about topics or brokers, a file, an `.await`.

use crate::metadata_log::{Base, Leadership, MetadataLog, Proposal, ProposeError};
use crate::raft::MAX_PROPOSALS;
use crate::request::{Parked, Request, overtaken};
use crate::settings::Settings;
use actix::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_stream::wrappers::WatchStream;
use troupe_actor::{Die, Guard};
use troupe_machines::cluster::{ClusterImage, DecisionOrder};
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// Decisions under way; one place in the log's queue stays free for a barrier.
const MAX_IN_FLIGHT: usize = MAX_PROPOSALS - 1;
/// Requests that wait for this controller to become active.
const MAX_WAITING: usize = 1024;
/// Before a barrier that failed is tried again, if nothing else happens.
const BARRIER_RETRY: Duration = Duration::from_millis(100);
/// What began before the actor did has a time too.
const LEAD_MS: u64 = 3_600_000;

/// Partitions that are named one by one in a line about many.
const NAMED: usize = 5;

pub(crate) struct ControllerActor {
    log: Arc<dyn MetadataLog>,
    settings: Settings,
    /// Of a cluster that has none yet.
    new_cluster_id: String,
    state: State,
    /// By the order of proposing: the answers that wait for each.
    in_flight: BTreeMap<u64, Vec<Parked>>,
    waiting: VecDeque<Ask>,
    next_proposal: u64,
    /// What was decided here lately.
    order: DecisionOrder,
    origin: Instant,
    _guard: Guard<Infallible>,
}

enum State {
    /// Another node decides, or nobody does.
    Standby { leader: Option<NodeId> },
    /// This node decides once all that was proposed before is applied.
    CatchingUp { barrier: u64, term: u64 },
    /// This node decides, on this image: the committed one and what is under way.
    Active { image: ClusterImage, term: u64 },
    /// The log is closed.
    Closed,
}

impl ControllerActor {
    pub fn new(
        log: Arc<dyn MetadataLog>,
        settings: Settings,
        new_cluster_id: String,
        guard: Guard<Infallible>,
    ) -> ControllerActor {
        ControllerActor {
            log,
            settings,
            new_cluster_id,
            state: State::Standby { leader: None },
            in_flight: BTreeMap::new(),
            waiting: VecDeque::new(),
            next_proposal: 0,
            order: DecisionOrder::default(),
            origin: Instant::now(),
            _guard: guard,
        }
    }
}

impl Actor for ControllerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(256);
        ctx.add_stream(WatchStream::new(self.log.leadership()));
    }
}

impl StreamHandler<Leadership> for ControllerActor {
    fn handle(&mut self, leadership: Leadership, ctx: &mut Context<Self>) {
        if leadership.here {
            // A term that is new to an active controller was lost and won again: others may have decided.
            self.catch_up(ctx);
        } else {
            self.stand_by(leadership.leader);
        }
    }

    fn finished(&mut self, _ctx: &mut Context<Self>) {
        self.state = State::Closed;
        for ask in self.waiting.drain(..) {
            ask.request.refuse(closed());
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Ask {
    pub request: Request,
    /// When it began, if it came from afar: in the meantime something else may have been decided.
    pub began: Option<Instant>,
}

impl Handler<Ask> for ControllerActor {
    type Result = ();

    fn handle(&mut self, ask: Ask, ctx: &mut Context<Self>) {
        self.take(ask, ctx);
    }
}

impl Handler<Die> for ControllerActor {
    type Result = ();

    /// Drops the actor and all it holds in memory.
    fn handle(&mut self, die: Die, ctx: &mut Context<Self>) {
        match die {
            Die::Stop => ctx.terminate(),
            Die::Panic => panic!("the controller actor was told to panic"),
        }
    }
}

impl ControllerActor {
    /// Decides a request, keeps it until it can, or refuses it.
    fn take(&mut self, ask: Ask, ctx: &mut Context<Self>) {
        match &self.state {
            State::Active { .. } if self.in_flight.len() >= MAX_IN_FLIGHT => {
                ask.request.refuse(busy());
            }
            State::Active { .. } => self.decide(ask, ctx),
            State::Standby { leader: Some(leader) } => {
                ask.request.refuse(not_controller(Some(*leader)))
            }
            State::Standby { leader: None } | State::CatchingUp { .. }
                if self.waiting.len() >= MAX_WAITING =>
            {
                ask.request.refuse(busy());
            }
            State::Standby { leader: None } | State::CatchingUp { .. } => {
                self.waiting.push_back(ask);
            }
            State::Closed => ask.request.refuse(closed()),
        }
    }

    /// On a scale that begins long before this actor.
    fn time_at(&self, at: Instant) -> Time {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let since = millis(at.saturating_duration_since(self.origin));
        let before = millis(self.origin.saturating_duration_since(at));
        Time(LEAD_MS.saturating_add(since).saturating_sub(before))
    }

    /// Decides one request, on an image that has everything before it. What would change something is refused if
    /// something about the same was decided since it began.
    fn decide(&mut self, Ask { request, began }: Ask, ctx: &mut Context<Self>) {
        let now = self.time_at(Instant::now());
        let began = began.map(|began| self.time_at(began));
        let State::Active { image, term } = &mut self.state else {
            unreachable!("only an active controller decides");
        };
        let subject = request.subject();
        let (records, parked) = request.decide(image, &self.settings);
        if records.is_empty() {
            match self.in_flight.last_entry() {
                Some(mut last) => last.get_mut().push(parked),
                None => parked(Ok(())),
            }
            return;
        }
        if let Some(subject) = subject {
            if began.is_some_and(|began| self.order.is_overtaken(now, began, &subject)) {
                return parked(Err(overtaken()));
            }
            self.order.note(now, subject);
        }
        let base = Base { term: *term, offset: image.next_offset() };
        let unclean = image.unclean_elections(&records);
        if !unclean.is_empty() {
            let named = unclean[..unclean.len().min(NAMED)].join(", ");
            tracing::warn!(
                partitions = unclean.len(),
                "elects leaders that may lack acknowledged records, because nobody is left who has them all: {named}"
            );
        }
        image.replay_all(&records).expect("a decision's own records can be replayed");
        self.propose(Proposal::new(base, records), parked, ctx);
    }

    fn propose(&mut self, proposal: Proposal, parked: Parked, ctx: &mut Context<Self>) -> u64 {
        let number = self.next_proposal;
        self.next_proposal += 1;
        self.in_flight.insert(number, vec![parked]);
        let proposed = self.log.propose(proposal).into_actor(self);
        ctx.spawn(proposed.map(move |result, actor, ctx| {
            actor.on_proposed(number, result.unwrap_or(Err(ProposeError::OutcomeUnknown)), ctx);
        }));
        number
    }

    fn on_proposed(
        &mut self,
        number: u64,
        result: Result<(), ProposeError>,
        ctx: &mut Context<Self>,
    ) {
        let parked = self.in_flight.remove(&number).unwrap_or_default();
        for answer in parked {
            answer(result.clone().map_err(refusal));
        }
        match (&mut self.state, result) {
            (State::CatchingUp { barrier, term }, Ok(())) if *barrier == number => {
                let term = *term;
                self.activate(term, ctx);
            }
            (State::CatchingUp { barrier, .. }, Err(error)) if *barrier == number => {
                tracing::debug!(%error, "could not catch up with the metadata log");
                // A leader that nobody follows knows no other to send its callers to.
                let Leadership { leader, here, .. } = *self.log.leadership().borrow();
                self.state = State::Standby { leader: leader.filter(|_| !here) };
                ctx.run_later(BARRIER_RETRY, |actor, ctx| actor.catch_up_again(ctx));
            }
            (State::Active { image, .. }, Ok(())) if self.in_flight.is_empty() => {
                let committed = self.log.image().borrow().clone();
                assert!(committed.next_offset() >= image.next_offset(), "all is committed");
                // The same image; from now on in the same memory. If there is more in it, another
                // controller has decided it, and the news that it leads is on its way.
                if committed.next_offset() == image.next_offset() {
                    *image = (*committed).clone();
                }
            }
            (State::Active { .. }, Err(error)) => {
                tracing::warn!(%error, "a decision was not committed; starting from what is");
                self.catch_up(ctx);
            }
            _ => {}
        }
    }

    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        // Before the barrier: if another term has begun when that is applied, what is decided will not be.
        let term = self.log.leadership().borrow().term;
        let barrier = self.propose(Proposal::barrier(), Box::new(|_| {}), ctx);
        self.state = State::CatchingUp { barrier, term };
    }

    fn catch_up_again(&mut self, ctx: &mut Context<Self>) {
        let leads = self.log.leadership().borrow().here;
        if leads && matches!(self.state, State::Standby { .. }) {
            self.catch_up(ctx);
        }
    }

    /// All that was ever proposed is applied, or never will be.
    fn activate(&mut self, term: u64, ctx: &mut Context<Self>) {
        let image = ClusterImage::clone(&self.log.image().borrow());
        let new_cluster = image.cluster_id().is_none();
        self.state = State::Active { image, term };
        if new_cluster {
            self.bootstrap_cluster(ctx);
        }
        for ask in std::mem::take(&mut self.waiting) {
            self.take(ask, ctx);
        }
    }

    fn bootstrap_cluster(&mut self, ctx: &mut Context<Self>) {
        let State::Active { image, term } = &mut self.state else { return };
        let base = Base { term: *term, offset: image.next_offset() };
        let bootstrap = image.initialize(&self.new_cluster_id).expect("it has no other id yet");
        image.replay_all(&bootstrap.records).expect("a decision's own records can be replayed");
        self.propose(Proposal::new(base, bootstrap.records), Box::new(|_| {}), ctx);
    }

    fn stand_by(&mut self, leader: Option<NodeId>) {
        self.state = State::Standby { leader };
        if leader.is_some() {
            for ask in self.waiting.drain(..) {
                ask.request.refuse(not_controller(leader));
            }
        }
    }
}

fn refusal(error: ProposeError) -> Error {
    match error {
        ProposeError::NotLeader { leader } => not_controller(leader),
        ProposeError::Superseded => Error::new(ErrorCode::NotController, error.to_string()),
        ProposeError::OutcomeUnknown => Error::new(ErrorCode::OutcomeUnknown, error.to_string()),
    }
}

fn not_controller(leader: Option<NodeId>) -> Error {
    let error = Error::new(ErrorCode::NotController, "this node is not the active controller");
    match leader {
        Some(leader) => error.with_leader(leader.0, ""),
        None => error,
    }
}

fn busy() -> Error {
    Error::new(ErrorCode::Throttled, "the controller has too many decisions under way")
}

fn closed() -> Error {
    Error::new(ErrorCode::ShuttingDown, "the metadata log is closed")
}
