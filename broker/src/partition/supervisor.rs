//! The supervisor of a shard's partitions: builds their actors from disk, and builds them again when they
//! die. (actix's own neither re-creates an actor nor notices a panic.)
//!
//! Promises: a dead actor is replaced by one that knows only what is on disk; three panics in a minute
//! take the replica offline for a person to look at; an actor that was retired stays away.

use super::actor::{PartitionActor, Parts};
use super::beat::{self, Beat};
use super::board::ActorState;
use super::flusher::Flusher;
use super::guard::{Down, DownGuard};
use super::handle::PartitionHandle;
use super::message::{Checkpoint, EnforceRetention, MAILBOX_CAPACITY, Rest, Retire, Update};
use super::opening::{self, Opened};
use crate::allocator;
use crate::metrics::NodeMetrics;
use crate::pulse::Pulse;
use crate::replication::Replicator;
use crate::wishes::Wishes;
use actix::{Actor, AsyncContext, Context, Handler, Message};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use troupe_log::{Inventory, LogError, Space};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::PartitionState;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionKey};

const PANICS_TOLERATED: usize = 3;
const PANIC_WINDOW: Duration = Duration::from_secs(60);
/// Checkpoint intervals without use after which a log gives back its descriptors.
const REST_AFTER: u32 = 12;
/// A replica that is offline for want of descriptors or space tries again after the first of these, then after
/// twice as long each time, up to the second.
const FIRST_REST: Duration = Duration::from_millis(100);
const LAST_REST: Duration = Duration::from_secs(5);
/// Checkpoint intervals without use of any partition after which the heap gives back what it kept.
const GIVE_BACK_AFTER: u32 = 2;

/// What a partition is started with.
#[derive(Clone)]
pub struct PartitionSetup {
    pub dir: PathBuf,
    pub config: Arc<TopicConfig>,
    pub state: Arc<PartitionState>,
}

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
    pub delete: bool,
    pub done: oneshot::Sender<()>,
}

/// Try again with a replica that was taken offline.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Revive(pub PartitionKey);

#[derive(Message)]
#[rtype(result = "()")]
struct LogOpened {
    key: PartitionKey,
    generation: u64,
    result: Result<Opened, OpenFailure>,
}

/// Why a log could not be opened.
struct OpenFailure {
    reason: Error,
    /// Only for the moment.
    temporary: bool,
}

impl From<LogError> for OpenFailure {
    fn from(error: LogError) -> Self {
        let temporary = error.is_temporary();
        Self { reason: error.into(), temporary }
    }
}

/// For want of something that the machine may have again: try once more.
#[derive(Message)]
#[rtype(result = "()")]
struct TryAgain {
    key: PartitionKey,
    generation: u64,
}

struct Child {
    handle: Arc<PartitionHandle>,
    setup: PartitionSetup,
    /// Counts the actors that this partition has had; what an older one tells is not listened to.
    generation: u64,
    panics: Vec<Instant>,
    /// The last leader epoch in which an actor of it has died. None other leads in it, even if the log does not
    /// show it: what the dead one knew of the ISR may be newer than the news here.
    led: Option<LeaderEpoch>,
    /// Checkpoint intervals since it was last used.
    idle: u32,
    /// Closes when the last recovery of its log has ended.
    recovered: Option<oneshot::Receiver<()>>,
    /// How long it rests after the next try that fails for want of something.
    rest: Duration,
}

/// What all partitions of a shard share.
#[derive(Clone)]
pub struct Shared {
    pub node_id: NodeId,
    /// How many logs are recovered at the same time, over all shards.
    pub recoveries: Arc<Semaphore>,
    pub flusher: Flusher,
    pub metrics: Arc<NodeMetrics>,
    /// What replicas want of the controller.
    pub wishes: Wishes,
    /// The streams from the leaders of what is followed here.
    pub replicator: Arc<Replicator>,
    pub pulse: Arc<Pulse>,
    /// Of the shard's thread.
    pub beat: Arc<Beat>,
    /// `replica.lag.time.max.ms`
    pub lag_max_ms: u64,
    /// Which partitions have a directory.
    pub inventory: Arc<Inventory>,
    /// Whether the disk has room for records.
    pub space: Arc<Space>,
}

impl Shared {
    /// A replica that lacks what it has acknowledged is no member of anything until it was filled again: the
    /// controller has to know, unless there is no other replica. True: it is to be told, and nobody leads here
    /// before.
    fn note_damage(&self, child: &Child, opened: &Opened) -> bool {
        self.metrics.log_notices.increment(opened.notices);
        if opened.log.damage().is_none() {
            return false;
        }
        self.metrics.log_damages.increment(1);
        if child.handle.board.set_damaged(true) {
            self.metrics.damaged_replicas.increment(1);
        }
        let reports = child.setup.state.replicas.len() > 1;
        if reports {
            child.handle.board.owe_report();
        }
        reports
    }
}

pub struct Supervisor {
    shared: Shared,
    children: HashMap<PartitionKey, Child>,
    checkpoint_interval: Duration,
    retention_interval: Duration,
    /// Checkpoint intervals since any partition was used.
    quiet: u32,
}

impl Supervisor {
    pub fn new(shared: Shared, config: &crate::NodeConfig) -> Self {
        Self {
            shared,
            children: HashMap::new(),
            checkpoint_interval: config.checkpoint_interval.duration(),
            retention_interval: config.retention_check_interval.duration(),
            quiet: 0,
        }
    }

    /// Once in a while: checkpoints for those that changed, rest for those that nobody uses.
    fn look_after_all(&mut self) {
        let mut used = false;
        for child in self.children.values_mut() {
            if child.handle.board.is_dirty() {
                child.handle.tell(Checkpoint);
            }
            if child.handle.board.take_used() {
                child.idle = 0;
                used = true;
            } else {
                child.idle = child.idle.saturating_add(1);
            }
            if child.idle == REST_AFTER {
                child.handle.tell(Rest);
            }
        }
        self.children.values().for_each(|child| self.pass_on(child));
        self.quiet = if used { 0 } else { self.quiet.saturating_add(1) };
        if self.quiet == GIVE_BACK_AFTER {
            self.shared.flusher.submit(allocator::give_back);
        }
    }

    /// A replica that is offline does not notice that it was made the leader: another one is asked for, if any
    /// is in sync. Else the controller could only name this one again.
    fn pass_on(&self, child: &Child) {
        let (state, node_id) = (&child.setup.state, self.shared.node_id);
        let in_its_place = |node: &NodeId| *node != node_id && state.eligible.contains_key(node);
        if child.handle.board.state() == ActorState::Offline
            && state.leader == Some(node_id)
            && state.isr.iter().any(in_its_place)
        {
            self.shared.wishes.elect_another(child.handle.key(), state.leader_epoch);
        }
    }

    /// Opens the log off this thread; comes back as [`LogOpened`].
    fn open(&mut self, key: PartitionKey, ctx: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.generation += 1;
        child.handle.uninstall(ActorState::Restarting, None);
        let (dir, config, generation) =
            (child.setup.dir.clone(), Arc::clone(&child.setup.config), child.generation);
        let inventory = Arc::clone(&self.shared.inventory);
        let board = Arc::clone(&child.handle.board);
        let (recoveries, node_id, me) =
            (Arc::clone(&self.shared.recoveries), self.shared.node_id, ctx.address());
        let lag_max_ms = self.shared.lag_max_ms;
        let (ended, recovered) = oneshot::channel();
        child.recovered = Some(recovered);
        tokio::task::spawn_local(async move {
            // Dropped last, whichever way this ends.
            let _ended = ended;
            board.flushes.idle().await;
            if board.flushes.has_failed() {
                let message =
                    "a flush failed; check the disk, then `troupe actor kill` to try again";
                let reason = Error::new(ErrorCode::StorageFailure, message);
                let result = Err(OpenFailure { reason, temporary: false });
                return me.do_send(LogOpened { key, generation, result });
            }
            let Ok(_permit) = recoveries.acquire_owned().await else { return };
            if board.state() == ActorState::Retired {
                return;
            }
            let open = move || opening::open(dir, key, node_id, &config, lag_max_ms, &inventory);
            // Fails only if recovery panicked, which is a bug that must not pass for an empty log.
            let result = tokio::task::spawn_blocking(open).await;
            match result {
                Ok(result) => {
                    let result = result.map_err(OpenFailure::from);
                    me.do_send(LogOpened { key, generation, result });
                }
                Err(_) => me.do_send(Down { key, generation, panicked: true, wanting: None }),
            }
        });
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.checkpoint_interval, |supervisor, _| supervisor.look_after_all());
        ctx.run_interval(beat::INTERVAL, |supervisor, _| supervisor.shared.beat.beat());
        ctx.run_interval(self.retention_interval, |supervisor, _| {
            for child in supervisor.children.values() {
                child.handle.tell(EnforceRetention);
            }
        });
    }
}

impl Handler<StartPartition> for Supervisor {
    type Result = ();

    fn handle(
        &mut self,
        StartPartition { handle, setup }: StartPartition,
        ctx: &mut Self::Context,
    ) {
        let (key, panics) = (handle.key(), Vec::new());
        let child = Child {
            handle,
            setup,
            generation: 0,
            panics,
            led: None,
            idle: 0,
            recovered: None,
            rest: FIRST_REST,
        };
        self.children.insert(key, child);
        self.open(key, ctx);
    }
}

impl Handler<LogOpened> for Supervisor {
    type Result = ();

    fn handle(&mut self, opened: LogOpened, ctx: &mut Self::Context) {
        let Some(child) = self.children.get_mut(&opened.key) else { return };
        if child.generation != opened.generation {
            return;
        }
        match opened.result {
            Ok(mut log) => {
                child.rest = FIRST_REST;
                let reports = self.shared.note_damage(child, &log);
                log.replica.restore_leader_epoch(child.led);
                let me = ctx.address().recipient();
                let guard = DownGuard::new(me, opened.key, opened.generation);
                let parts = Parts {
                    handle: Arc::clone(&child.handle),
                    opened: log,
                    config: Arc::clone(&child.setup.config),
                    state: Arc::clone(&child.setup.state),
                    shared: self.shared.clone(),
                    guard,
                };
                // Others send as soon as they see it, which is before it has started.
                child.handle.install(PartitionActor::create(|ctx| {
                    ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
                    PartitionActor::new(parts)
                }));
                if reports {
                    // The answer goes to the actor.
                    self.shared.wishes.report_loss(&child.handle);
                }
            }
            Err(OpenFailure { reason, temporary }) => {
                tracing::error!(partition = %child.handle.board, error = %reason, "the log cannot be opened");
                self.take_offline(opened.key, reason, temporary, ctx);
            }
        }
    }
}

impl Supervisor {
    fn take_offline(
        &mut self,
        key: PartitionKey,
        reason: Error,
        temporary: bool,
        ctx: &mut Context<Self>,
    ) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.handle.uninstall(ActorState::Offline, Some(reason));
        if temporary {
            self.shared.metrics.storage_waits.increment(1);
            let again = TryAgain { key, generation: child.generation };
            ctx.notify_later(again, child.rest);
            child.rest = (2 * child.rest).min(LAST_REST);
        }
        if let Some(child) = self.children.get(&key) {
            self.pass_on(child);
        }
    }
}

impl Handler<TryAgain> for Supervisor {
    type Result = ();

    fn handle(&mut self, TryAgain { key, generation }: TryAgain, ctx: &mut Self::Context) {
        let child = self.children.get(&key).filter(|child| child.generation == generation);
        if child.is_some_and(|child| child.handle.board.state() == ActorState::Offline) {
            self.open(key, ctx);
        }
    }
}

impl Handler<Down> for Supervisor {
    type Result = ();

    fn handle(&mut self, down: Down, ctx: &mut Self::Context) {
        let Some(child) = self.children.get_mut(&down.key) else { return };
        if child.generation != down.generation {
            return;
        }
        self.shared.replicator.abandon(down.key);
        child.handle.board.count_restart();
        self.shared.metrics.actor_restarts.increment(1);
        // Another replica leads before this one is rebuilt.
        if let Some(leader_epoch) = child.handle.board.take_leading() {
            self.shared.wishes.elect_another(down.key, leader_epoch);
            child.led = child.led.max(Some(leader_epoch));
        }
        if let Some(reason) = down.wanting {
            return self.take_offline(down.key, reason, true, ctx);
        }
        if down.panicked {
            let now = Instant::now();
            child.panics.retain(|panic| now.duration_since(*panic) < PANIC_WINDOW);
            child.panics.push(now);
            if child.panics.len() >= PANICS_TOLERATED {
                tracing::error!(partition = %child.handle.board, "panicked too often: offline");
                let message = "the partition's actor panicked three times in a minute; see the \
                               node's log, then `troupe actor kill` it to try again";
                let reason = Error::new(ErrorCode::StorageFailure, message);
                child.handle.uninstall(ActorState::Offline, Some(reason));
                return;
            }
        }
        tracing::warn!(partition = %child.handle.board, panicked = down.panicked, "actor died; rebuilding");
        self.open(down.key, ctx);
    }
}

impl Handler<Revive> for Supervisor {
    type Result = ();

    fn handle(&mut self, Revive(key): Revive, ctx: &mut Self::Context) {
        if let Some(child) = self.children.get_mut(&key)
            && child.handle.board.state() == ActorState::Offline
        {
            child.panics.clear();
            child.handle.board.flushes.forgive();
            child.handle.board.count_restart();
            self.open(key, ctx);
        }
    }
}

impl Handler<UpdatePartition> for Supervisor {
    type Result = ();

    fn handle(&mut self, update: UpdatePartition, _: &mut Self::Context) {
        let Some(child) = self.children.get_mut(&update.key) else { return };
        child.setup.config = Arc::clone(&update.config);
        child.setup.state = Arc::clone(&update.state);
        // An actor that is being built just now takes its setup from here.
        child.handle.command(Update { config: update.config, state: update.state });
        if let Some(child) = self.children.get(&update.key) {
            self.pass_on(child);
        }
    }
}

impl Handler<RetirePartition> for Supervisor {
    type Result = ();

    fn handle(&mut self, retire: RetirePartition, _: &mut Self::Context) {
        let Some(mut child) = self.children.remove(&retire.key) else { return };
        if child.handle.board.set_damaged(false) {
            self.shared.metrics.damaged_replicas.decrement(1);
        }
        child.handle.board.report_made();
        let RetirePartition { key, delete, done } = retire;
        let replicator = Arc::clone(&self.shared.replicator);
        let (closed, closing) = oneshot::channel();
        let running = child.handle.board.state() == ActorState::Running;
        // Without an actor nothing is open, but its log may be about to be.
        if !(running && child.handle.command(Retire { delete, done: closed })) {
            child.handle.uninstall(ActorState::Retired, None);
            child.handle.board.retire(delete);
        }
        tokio::task::spawn_local(async move {
            // An error: the actor died before it came to that, and nobody builds another.
            if closing.await.is_err() {
                child.handle.uninstall(ActorState::Retired, None);
                child.handle.board.retire(delete);
            }
            replicator.abandon(key);
            if let Some(recovered) = child.recovered.take() {
                // Nothing is ever sent: it closes.
                let _ = recovered.await;
            }
            // Whoever asked may be gone.
            let _ = done.send(());
        });
    }
}
