//! The supervisor of a shard's partitions: begins and ends the lives of their actors, hands them what changes, and
//! looks after all of them now and then.
//!
//! Promises: what changes reaches the actor of now, or the one that is being built; a partition counts as retired when
//! nobody works in its directory any more. What follows the end of an actor is said in `life`.

use super::assignment::{Assignment, PartitionSetup};
use super::handle::PartitionHandle;
use super::life::PartitionLife;
use super::messages::{
    Checkpoint, DirectoryFailed, EnforceRetention, Rest, Retire, Retirement, Update,
};
use super::shared::Shared;
use crate::allocator;
use actix::{Actor, AsyncContext, Context, Handler, Message};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use troupe_actor::{ActorState, supervise};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::PartitionState;
use troupe_proto::ids::PartitionKey;

/// How often a shard's thread says that it runs; a silence of twice that is none.
const BEAT: Duration = Duration::from_millis(250);
/// Checkpoint intervals without use after which a log gives back its descriptors.
const REST_AFTER: u32 = 12;
/// Checkpoint intervals without use of any partition after which the heap gives back what it kept.
const GIVE_BACK_AFTER: u32 = 2;

/// Build the partition's actor.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StartPartition {
    pub handle: Arc<PartitionHandle>,
    pub setup: PartitionSetup,
}

/// The partition's configuration or leadership changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct UpdatePartition {
    pub key: PartitionKey,
    pub config: Arc<TopicConfig>,
    pub state: Arc<PartitionState>,
}

/// Stop the partition's actor for good. Done when nobody works in its directory any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RetirePartition {
    pub key: PartitionKey,
    pub why: Retirement,
    pub done: oneshot::Sender<()>,
}

struct Child {
    assignment: Rc<Assignment>,
    /// Ends when nobody works in the partition's directory any more.
    life: JoinHandle<()>,
    /// Checkpoint intervals since it was last used.
    idle: u32,
}

pub struct Supervisor {
    shared: Rc<Shared>,
    children: HashMap<PartitionKey, Child>,
    checkpoint_interval: Duration,
    retention_interval: Duration,
    /// Until retention is looked at first.
    retention_delay: Duration,
    /// Checkpoint intervals since any partition was used.
    quiet: u32,
}

impl Supervisor {
    pub fn new(shared: Shared, config: &crate::NodeConfig) -> Self {
        Self {
            shared: Rc::new(shared),
            children: HashMap::new(),
            checkpoint_interval: config.checkpoint_interval.duration(),
            retention_interval: config.retention_check_interval.duration(),
            retention_delay: config
                .initial_task_delay
                .duration()
                .min(config.retention_check_interval.duration()),
            quiet: 0,
        }
    }

    fn enforce_retention(&self) {
        for child in self.children.values() {
            child.assignment.handle.tell(EnforceRetention);
        }
    }

    /// Once in a while: checkpoints for those that changed, rest for those that nobody uses.
    fn look_after_all(&mut self) {
        let mut used = false;
        for child in self.children.values_mut() {
            let handle = &child.assignment.handle;
            if handle.board.is_dirty() {
                handle.tell(Checkpoint);
            }
            if handle.board.take_used() {
                child.idle = 0;
                used = true;
            } else {
                child.idle = child.idle.saturating_add(1);
            }
            if child.idle == REST_AFTER {
                handle.tell(Rest);
            }
        }
        for Child { assignment, .. } in self.children.values() {
            assignment.pass_on(&self.shared);
            assignment.remind_if_away(&self.shared);
        }
        self.quiet = if used { 0 } else { self.quiet.saturating_add(1) };
        if self.quiet == GIVE_BACK_AFTER {
            self.shared.flusher.submit(allocator::give_back);
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.checkpoint_interval, |supervisor, _| supervisor.look_after_all());
        ctx.run_interval(BEAT, |supervisor, _| {
            supervisor.shared.thread_stall_detector.beat();
        });
        ctx.run_later(self.retention_delay, |supervisor, ctx| {
            supervisor.enforce_retention();
            ctx.run_interval(supervisor.retention_interval, |supervisor, _| {
                supervisor.enforce_retention();
            });
        });
    }
}

impl Handler<StartPartition> for Supervisor {
    type Result = ();

    fn handle(&mut self, StartPartition { handle, setup }: StartPartition, _: &mut Self::Context) {
        let (key, board) = (handle.key(), Arc::clone(&handle.board));
        let setup = RefCell::new(setup);
        let (over, away, out_of_service) = (Cell::new(false), Cell::new(false), Cell::new(false));
        let assignment = Rc::new(Assignment { handle, setup, over, away, out_of_service });
        let mut life = PartitionLife::new(Rc::clone(&assignment), Rc::clone(&self.shared));
        // Over when the life itself says so.
        let life = actix_rt::spawn(async move {
            supervise(&mut life, &board, std::future::pending()).await;
        });
        self.children.insert(key, Child { assignment, life, idle: 0 });
    }
}

impl Handler<UpdatePartition> for Supervisor {
    type Result = ();

    fn handle(&mut self, update: UpdatePartition, _: &mut Self::Context) {
        let Some(Child { assignment, .. }) = self.children.get(&update.key) else { return };
        let UpdatePartition { config, state, .. } = update;
        {
            let mut setup = assignment.setup.borrow_mut();
            (setup.config, setup.state) = (Arc::clone(&config), Arc::clone(&state));
        }
        assignment.handle.command(Update { config, state });
        assignment.pass_on(&self.shared);
        assignment.withdraw_again(&self.shared);
    }
}

impl Handler<DirectoryFailed> for Supervisor {
    type Result = ();

    fn handle(&mut self, failed: DirectoryFailed, _: &mut Self::Context) {
        for child in self.children.values() {
            // Whoever is being built just now looks by itself.
            child.assignment.handle.command(failed);
        }
    }
}

impl Handler<RetirePartition> for Supervisor {
    type Result = ();

    fn handle(&mut self, retire: RetirePartition, _: &mut Self::Context) {
        let RetirePartition { key, why, done } = retire;
        let Some(Child { assignment, life, .. }) = self.children.remove(&key) else { return };
        assignment.over.set(true);
        let board = Arc::clone(&assignment.handle.board);
        if board.set_damaged(false) {
            self.shared.metrics.damaged_replicas.decrement(1);
        }
        board.report_made();
        board.offline_report_made();
        let leader_streams = Arc::clone(&self.shared.leader_streams);
        let (closed, closing) = oneshot::channel();
        let running = board.state() == ActorState::Running;
        // Without an actor nothing is open, but its log may be about to be.
        if !(running && assignment.handle.command(Retire { why, done: closed })) {
            board.retire_replica(why);
        }
        // Behind the message: no pass begins after it.
        board.cleaning.stop();
        actix_rt::spawn(async move {
            // An error: the actor died before it came to that, and nobody builds another.
            if closing.await.is_err() {
                board.retire_replica(why);
            }
            leader_streams.abandon(key);
            // Fails only if it panicked, and then nobody works there either.
            let _ = life.await;
            board.cleaning.idle().await;
            // Whoever asked may be gone.
            let _ = done.send(());
        });
    }
}
