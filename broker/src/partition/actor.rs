//! The partition actor: one replica of one partition, sole owner of its log.
//!
//! [`Replica`] decides; this file carries out.
//! Order: one message at a time; a batch's offsets are fixed when its handler returns.
//! Answers: `Append` is answered when its acks are in, when its time is over, or when the actor stops.
//! Never here: a lock, an `.await` on the actor, a protocol rule.

mod deletions;
mod followers;
mod questions;
mod shortage;
mod verifications;

pub use followers::FollowerStream;
pub use verifications::Asked;

use super::board::Board;
use super::failure::Failure;
use super::messages::{Appended, Describe, Description, Flushed};
use super::move_state::MoveState;
use super::next_look::NextLook;
use super::opening::{Opened, log_config, note_completed, replica_config};
use super::replica_handle::ReplicaHandle;
use super::responder::Responder;
use super::shared::Shared;
use crate::clock::now;
use crate::metrics::Stages;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use deletions::Deletions;
use followers::Followers;
use prost::Message;
use questions::Questions;
use shortage::{SHORTAGE_RETRY, Shortage};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use troupe_actor::{Die, Guard, Turns};
use troupe_log::disk::FileDisk;
use troupe_log::{Judged, Log, LogDirectory, LogError};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::{Effect, Effects, PartitionState, Repair, Replica, Role, Token};
use troupe_machines::time::Time;
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, Offset};
use verifications::Verifications;

pub struct PartitionActor {
    /// By which those answer whom it asks.
    pub(super) handle: Arc<dyn ReplicaHandle>,
    pub(super) board: Arc<Board<Self>>,
    /// Decides.
    pub(super) replica: Replica,
    /// Remembers. Taken by `Retire`, which stops the actor, and by the end of a move, during which it does nothing.
    pub(super) log: Option<Log<FileDisk>>,
    /// The directory that the log is in.
    pub(super) home: Arc<LogDirectory>,
    pub(super) moving: MoveState,
    pub(super) next_look: NextLook,
    pub(super) config: Arc<TopicConfig>,
    pub(super) state: Arc<PartitionState>,
    pub(super) followers: Followers,
    /// As it was when the stream from its leader was opened last.
    pub(super) follows_throttled: bool,
    /// Answers that wait for acks.
    pub(super) parked: HashMap<Token, Responder<Appended>>,
    /// Written and not flushed, by where they end; of those whose answer waits for that.
    pub(super) unflushed: VecDeque<(Offset, Arc<Stages>)>,
    pub(super) next_token: u64,
    pub(super) verifications: Verifications,
    /// Effects that were decided and wait for those before them.
    due: VecDeque<Effect>,
    performing: bool,
    pub(super) questions: Questions,
    pub(super) deletions: Deletions,
    pub(super) shared: Rc<Shared>,
    /// The timer for the machine's next tick, and when it rings.
    alarm: Option<(Time, SpawnHandle)>,
    turns: Turns,
    pub(super) shortage: Shortage,
    pub(super) repair: Repair,
    /// The inventory knows that the partition has a directory.
    pub(super) is_registered: bool,
    /// What was unusual about how old segments were found to be, and has been told.
    pub(super) judged: Judged,
    /// Last, so that the log is closed before the supervisor hears that the actor is gone.
    pub(super) guard: Guard<Failure>,
}

/// What an actor is built from.
pub struct Parts {
    pub board: Arc<Board<PartitionActor>>,
    pub handle: Arc<dyn ReplicaHandle>,
    pub opened: Opened,
    pub home: Arc<LogDirectory>,
    pub config: Arc<TopicConfig>,
    pub state: Arc<PartitionState>,
    pub shared: Rc<Shared>,
    pub guard: Guard<Failure>,
}

impl PartitionActor {
    pub fn new(parts: Parts) -> Self {
        Self {
            handle: parts.handle,
            board: parts.board,
            replica: parts.opened.replica,
            log: Some(parts.opened.log),
            home: parts.home,
            moving: MoveState::default(),
            next_look: NextLook::default(),
            config: parts.config,
            state: parts.state,
            followers: Followers::default(),
            follows_throttled: false,
            parked: HashMap::new(),
            unflushed: VecDeque::new(),
            next_token: 0,
            due: VecDeque::new(),
            performing: false,
            verifications: Verifications::default(),
            questions: Questions::default(),
            deletions: Deletions::default(),
            shared: parts.shared,
            alarm: None,
            turns: Turns::default(),
            shortage: Shortage::default(),
            repair: Repair::default(),
            is_registered: false,
            judged: Judged::default(),
            guard: parts.guard,
        }
    }
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (now, mut effects) = (now(), Effects::new());
        // The log was opened with the configuration of then, which may have changed meanwhile.
        let config = Arc::clone(&self.config);
        let key = self.board.key;
        self.log().set_config(log_config(&config, key));
        let times = self.shared.times;
        self.replica.reconfigure(now, replica_config(&config, times), &mut effects);
        self.note_report_owed();
        self.learn_state(&mut effects);
        self.perform(effects, ctx);
        self.forget_damage_if_filled();
        if self.log().owes_checkpoint() {
            self.board.set_dirty();
        }
        self.publish_ends();
        self.resign_if_disk_failed(ctx);
    }
}

impl Handler<Flushed> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Flushed { result, started }: Flushed, ctx: &mut Self::Context) {
        self.take_turn_of_own(ctx);
        match result {
            Ok(done) => {
                self.shared.metrics.flushed(started.elapsed());
                let flushed_end = self.log().complete_flush(done);
                self.note_flushed(flushed_end);
                let mut effects = Effects::new();
                self.replica.on_flushed(now(), flushed_end, &mut effects);
                self.perform(effects, ctx);
            }
            Err(error) if error.is_temporary() && !self.log().is_poisoned() => {
                self.put_off(&error);
                ctx.run_later(SHORTAGE_RETRY, |actor, ctx| actor.start_flush(ctx));
            }
            Err(error) => self.go_offline(error, ctx),
        }
    }
}

impl Handler<Describe> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Describe { reply }: Describe, ctx: &mut Self::Context) {
        self.take_turn(ctx);
        let (role, leader_epoch, high_watermark) =
            (self.replica.role(), self.epoch_of_role(), self.replica.high_watermark());
        let retention_notice = self.retention_notice();
        let log = self.log();
        let _ = reply.send(Description {
            role,
            leader_epoch,
            log_start: log.log_start(),
            high_watermark,
            flushed_end: log.flushed_end(),
            log_end: log.log_end(),
            size_bytes: log.size_bytes(),
            segment_count: log.segment_count(),
            retention_notice,
            damaged: self.damaged_offsets(),
        });
    }
}

impl Handler<Die> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Die, ctx: &mut Self::Context) {
        self.take_turn(ctx);
        message.take_effect(ctx);
    }
}

impl PartitionActor {
    /// The one place where effects meet the world, in the order in which they were decided: what comes of one of them
    /// waits for those that were decided before. Otherwise a leader would hear an older end last.
    pub(super) fn perform(&mut self, effects: Effects, ctx: &mut Context<Self>) {
        self.due.extend(effects);
        if self.performing {
            return;
        }
        self.performing = true;
        while let Some(effect) = self.due.pop_front() {
            match effect {
                Effect::Answer { token, result } => {
                    if let Some(responder) = self.parked.remove(&token) {
                        responder.answer(result.map(Appended::from).map_err(Error::from));
                    }
                }
                Effect::Confirmed { token, result } => self.questions.answer(token, result),
                Effect::Deleted { token, result } => self.deletions.answer(token, result),
                Effect::Flush => self.start_flush(ctx),
                Effect::HighWatermark(_) | Effect::LastStable(_) => self.publish_ends(),
                Effect::Completed(completed) => {
                    if let Err(error) = note_completed(self.log(), &completed) {
                        self.go_offline(error, ctx);
                    }
                }
                Effect::LeaderEpochStarted { leader_epoch, start_offset } => {
                    self.log().assign_epoch(leader_epoch, start_offset);
                }
                Effect::Replication(effect) => match self.perform_replication(effect, ctx) {
                    Ok(effects) => self.perform(effects, ctx),
                    Err(error) => self.go_offline(error, ctx),
                },
            }
        }
        self.performing = false;
        self.tell_board();
        self.give_up_verifications(ctx);
        self.push(ctx);
        self.set_alarm(ctx);
    }

    /// Comes back as [`Flushed`]; if one is under way already, that one does.
    pub(super) fn start_flush(&mut self, ctx: &mut Context<Self>) {
        let Some(turn) = self.board.flushes.enter() else { return };
        match self.log().begin_flush() {
            Some(ticket) => {
                let (addr, board, started) =
                    (ctx.address(), Arc::clone(&self.board), Instant::now());
                let cleaner = Arc::clone(&self.shared.cleaner);
                // Who is not in sync is filled from others, and acknowledges nothing.
                let is_awaited = self.state.isr.contains(&self.shared.node_id);
                let ticket = if is_awaited { ticket } else { ticket.gently() };
                self.shared.flusher.submit(move || {
                    let began = Instant::now();
                    let result = ticket.run();
                    cleaner.has_flushed(began);
                    if result.as_ref().is_err_and(|error| !error.is_temporary()) {
                        board.flushes.note_failure();
                    }
                    drop(turn);
                    addr.do_send(Flushed { result, started });
                });
            }
            None => {
                drop(turn);
                let mut effects = Effects::new();
                let flushed_end = self.log().flushed_end();
                self.note_flushed(flushed_end);
                self.replica.on_flushed(now(), flushed_end, &mut effects);
                self.perform(effects, ctx);
            }
        }
    }

    /// The state before the batch that opened the segment at `offset`: recovery begins there.
    pub(super) fn snapshot_producers(&mut self, offset: Offset) {
        let snapshot = self.replica.snapshot().encode_to_vec();
        // Without it, recovery goes back to the snapshot before.
        if let Err(error) = self.log().write_producer_snapshot(offset, &snapshot) {
            tracing::warn!(partition = %self.board, %error, "no producer snapshot was written");
        }
    }

    /// The disk failed: what is parked is answered, and nothing is tried again on this log. If the machine only
    /// lacks something for the moment, another actor opens it anew in a while.
    pub(super) fn go_offline(&mut self, error: LogError, ctx: &mut Context<Self>) {
        let Some(error) = self.own_failure(error, ctx) else { return };
        tracing::error!(partition = %self.board, %error, "the replica goes offline");
        if !error.is_temporary() {
            self.home.suspect();
        }
        self.guard.note(error.clone().into());
        let mut effects = Effects::new();
        self.replica.on_storage_failure(&mut effects);
        self.perform(effects, ctx);
        self.board.set_offline(error.into());
        ctx.stop();
    }

    /// Up to where readers may go now.
    pub(super) fn publish_ends(&self) {
        let (high_watermark, last_stable) =
            (self.replica.high_watermark(), self.replica.last_stable_offset());
        self.board.publish_ends(high_watermark, last_stable);
    }

    /// What others find without asking.
    pub(super) fn tell_board(&self) {
        self.board.set_leads(self.replica.role() == Role::Leader);
        let is_damaged = self.board.is_damaged();
        self.board.set_follows(self.replica.serves_as_follower(&self.state, is_damaged));
        let replaceable = self.state.replicas.len() > 1;
        self.board.set_leading(self.replica.leader_epoch().filter(|_| replaceable));
    }

    /// In which the replica leads or follows.
    fn epoch_of_role(&self) -> LeaderEpoch {
        let follows = || self.replica.followed().map(|(_, epoch)| epoch);
        self.replica.leader_epoch().or_else(follows).unwrap_or_default()
    }

    pub(super) fn log(&mut self) -> &mut Log<FileDisk> {
        self.log.as_mut().expect("whoever takes the log lets nothing be handled until it is back")
    }

    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(next) = self.replica.next_tick() else { return };
        match self.alarm {
            Some((set, _)) if set <= next => return,
            Some((_, alarm)) => {
                ctx.cancel_future(alarm);
            }
            None => {}
        }
        let wait = Duration::from_millis(next.0.saturating_sub(now().0));
        let alarm = ctx.run_later(wait, |actor, ctx| {
            actor.alarm = None;
            let mut effects = Effects::new();
            actor.replica.on_tick(now(), &mut effects);
            actor.perform(effects, ctx);
        });
        self.alarm = Some((next, alarm));
    }

    /// Counts a message from outside.
    pub(super) fn take_turn(&mut self, ctx: &mut Context<Self>) {
        self.board.mailbox.taken(Instant::now());
        self.take_turn_of_own(ctx);
    }

    pub(super) fn take_turn_of_own(&mut self, ctx: &mut Context<Self>) {
        self.turns.take(ctx);
    }
}
