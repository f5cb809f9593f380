//! The node's actors as a tree: where each stands, and how it is.

use super::actor::{Actor, ActorState};
use crate::controller_channel::ControllerChannel;
use crate::coordinator::{CoordinatorHandle, Machine};
use crate::faults::{NodeFault, NodeFaults};
use crate::group::{GroupCoordinators, GroupHandle};
use crate::metadata_cache::MetadataCache;
use crate::partition::{How, LONG_MS, PartitionHandle, millis};
use crate::replication::Replicator;
use crate::txn::{TxnCoordinators, TxnHandle};
use std::sync::Arc;
use std::time::Instant;
use troupe_actor::{ActorState as LifeState, Address, FaultKind, StallDetector};
use troupe_controller::ControllerHandle;
use troupe_proto::ids::NodeId;

/// What coordinators are called.
const GROUP_COORDINATOR: &str = "group-coordinator";
const TXN_COORDINATOR: &str = "transaction-coordinator";

pub struct ActorTree {
    /// host:port that clients are told.
    pub endpoint: String,
    pub metadata: Arc<MetadataCache>,
    pub controller: Arc<ControllerChannel>,
    pub coordinators: Arc<GroupCoordinators>,
    pub txn_coordinators: Arc<TxnCoordinators>,
    /// By shard: whether its thread runs.
    pub thread_stall_detectors: Vec<Arc<StallDetector>>,
    /// By shard: the streams from the leaders of what is followed here.
    pub replicators: Vec<Arc<Replicator>>,
    /// What the whole node suffers.
    pub faults: Arc<NodeFaults>,
}

/// What an address names.
pub(super) enum Named {
    Controller,
    Partition(Arc<PartitionHandle>),
    Coordinator(Arc<GroupHandle>),
    TxnCoordinator(Arc<TxnHandle>),
    /// What a shard follows of a node.
    Replication {
        shard: usize,
        leader: NodeId,
    },
}

impl ActorTree {
    /// By address.
    pub(super) fn actors(&self) -> Vec<Actor> {
        let mut actors = vec![self.describe_node()];
        if let Some(controller) = self.controller.local() {
            actors.push(self.describe_controller(controller));
        }
        let shards = self.thread_stall_detectors.iter().enumerate();
        actors.extend(shards.map(|(shard, detector)| self.describe_supervisor(shard, detector)));
        actors.extend(self.partitions().iter().map(|handle| self.describe_partition(handle)));
        let coordinators = self.coordinators.led();
        actors.extend(coordinators.iter().map(|handle| {
            let (groups, members) = handle.shared.counts();
            let detail = format!("{groups} groups, {members} members");
            self.describe_coordinator(handle, GROUP_COORDINATOR, detail)
        }));
        let coordinators = self.txn_coordinators.led();
        actors.extend(coordinators.iter().map(|handle| {
            let (ids, open) = handle.shared.counts();
            let detail = format!("{ids} transactional ids, {open} open transactions");
            self.describe_coordinator(handle, TXN_COORDINATOR, detail)
        }));
        for (shard, replicator) in self.replicators.iter().enumerate() {
            actors.extend(replicator.streams().into_iter().map(|stream| {
                let address = self.shard(shard).child("replication", stream.leader);
                let detail = format!("{} partitions", stream.channels);
                Actor { detail, ..Actor::running(address, "replication") }
            }));
        }
        actors.sort_by(|a, b| a.address.cmp(&b.address));
        actors
    }

    /// Whom an address names of those that can be hurt.
    pub(super) fn find(&self, address: &str) -> Option<Named> {
        if self.root().only("controller") == *address {
            return Some(Named::Controller);
        }
        if let Some(handle) =
            self.partitions().into_iter().find(|handle| self.partition_address(handle) == *address)
        {
            return Some(Named::Partition(handle));
        }
        let mut coordinators = self.coordinators.led().into_iter();
        if let Some(handle) = coordinators
            .find(|handle| self.coordinator_address(handle, GROUP_COORDINATOR) == *address)
        {
            return Some(Named::Coordinator(handle));
        }
        let mut coordinators = self.txn_coordinators.led().into_iter();
        if let Some(handle) = coordinators
            .find(|handle| self.coordinator_address(handle, TXN_COORDINATOR) == *address)
        {
            return Some(Named::TxnCoordinator(handle));
        }
        self.find_replication(address)
    }

    fn find_replication(&self, address: &str) -> Option<Named> {
        let (shard, leader) = self.root().name_in("shard", address)?.split_once("/replication/")?;
        let (shard, leader) = (shard.parse().ok()?, NodeId(leader.parse().ok()?));
        let replicator = self.replicators.get::<usize>(shard)?;
        let standing = replicator.streams();
        let named = standing.iter().any(|stream| stream.leader == leader);
        named.then_some(Named::Replication { shard, leader })
    }

    pub(super) fn partitions(&self) -> Vec<Arc<PartitionHandle>> {
        let topics = self.metadata.registry.topics();
        topics.values().flat_map(|topic| topic.replicas().cloned()).collect()
    }

    /// Of this node's controller.
    pub(super) fn restarts(&self) -> u32 {
        self.controller.local().map_or(0, |controller| controller.restarts())
    }
}

/// Addresses.
impl ActorTree {
    /// The node's own.
    pub(super) fn address(&self) -> Address {
        self.root()
    }

    fn root(&self) -> Address {
        Address::root("node", self.metadata.node_id)
    }

    fn shard(&self, shard: usize) -> Address {
        self.root().child("shard", shard)
    }

    fn partition_address(&self, handle: &PartitionHandle) -> Address {
        let name = format!("{}/{}", handle.topic(), handle.key().partition);
        self.shard(handle.shard).child("partition", name)
    }

    fn coordinator_address<M: Machine>(
        &self,
        handle: &CoordinatorHandle<M>,
        kind: &'static str,
    ) -> Address {
        let name = format!("{}/{}", M::TOPIC, handle.partition());
        self.shard(handle.shard()).child(kind, name)
    }
}

/// How they are.
impl ActorTree {
    /// With what it suffers.
    fn describe_node(&self) -> Actor {
        let mut detail = self.endpoint.clone();
        for lasting in self.faults.list() {
            if !matches!(lasting.fault, NodeFault::Pause) {
                detail += &format!("; {} ({} s left)", lasting.fault, lasting.left.as_secs());
            }
        }
        let paused = self.faults.paused_for().map(millis);
        Actor {
            state: if paused.is_some() { ActorState::Paused } else { ActorState::Running },
            detail,
            fault: paused.map(|left_ms| (FaultKind::Pause, left_ms)),
            ..Actor::running(self.root(), "node")
        }
    }

    /// The actors that suffer faults of their own.
    pub(super) fn suffering(&self) -> Vec<(String, (FaultKind, u64))> {
        let suffers = |handle: &Arc<PartitionHandle>| {
            let fault = handle.condition().fault?;
            Some((self.partition_address(handle).to_string(), fault))
        };
        self.partitions().iter().filter_map(suffers).collect()
    }

    /// Waiting: what it was asked to decide is not decided yet.
    fn describe_controller(&self, controller: &ControllerHandle) -> Actor {
        let waits_ms = millis(controller.oldest_wait().unwrap_or_default());
        let leadership = *controller.leadership().borrow();
        let hears = self.controller.hears_controller();
        let detail = match (leadership.here, hears, leadership.leader) {
            (true, ..) => "active".to_owned(),
            (false, true, Some(leader)) => format!("stands by; node {leader} is active"),
            (false, _, _) => "stands by; no active controller is heard".to_owned(),
        };
        Actor {
            state: match waits_ms >= LONG_MS {
                true => ActorState::Waiting,
                false => ActorState::Running,
            },
            restarts: self.restarts(),
            detail,
            oldest_wait_ms: waits_ms,
            ..Actor::running(self.root().only("controller"), "controller")
        }
    }

    /// A shard's thread stands still as long as nothing on it runs, its supervisor too.
    fn describe_supervisor(&self, shard: usize, detector: &StallDetector) -> Actor {
        let still_ms = millis(detector.silence(Instant::now()));
        let stalled = still_ms >= LONG_MS;
        Actor {
            state: match (self.faults.pause.is_closed(), stalled) {
                (true, _) => ActorState::Paused,
                (false, true) => ActorState::Stalled,
                (false, false) => ActorState::Running,
            },
            still_ms: if stalled { still_ms } else { 0 },
            ..Actor::running(self.shard(shard), "supervisor")
        }
    }

    fn describe_partition(&self, handle: &PartitionHandle) -> Actor {
        let (condition, board) = (handle.condition(), &handle.board);
        let mut detail = format!("high watermark {}", board.high_watermark());
        if condition.how == How::Offline
            && let Some(reason) = board.cause()
        {
            detail = reason.to_string();
        }
        if board.is_damaged() {
            detail += "; it lacks records that it had acknowledged";
        }
        Actor {
            state: match condition.how {
                How::Running => ActorState::Running,
                How::Restarting => ActorState::Restarting,
                How::Offline => ActorState::Offline,
                How::Paused => ActorState::Paused,
                How::Stalled => ActorState::Stalled,
                How::Damaged => ActorState::Damaged,
                How::Waiting => ActorState::Waiting,
            },
            mailbox_depth: board.mailbox.depth(),
            restarts: board.restarts(),
            detail,
            still_ms: condition.still_ms,
            oldest_wait_ms: condition.oldest_wait_ms,
            queued_bytes: condition.queued_bytes,
            fault: condition.fault,
            ..Actor::running(self.partition_address(handle), "partition")
        }
    }

    fn describe_coordinator<M: Machine>(
        &self,
        handle: &CoordinatorHandle<M>,
        kind: &'static str,
        detail: String,
    ) -> Actor {
        let still_ms = millis(handle.mailbox.still(Instant::now()));
        Actor {
            state: match handle.board.state() {
                LifeState::Running if still_ms >= LONG_MS => ActorState::Stalled,
                LifeState::Running => ActorState::Running,
                LifeState::Restarting => ActorState::Restarting,
                LifeState::Offline | LifeState::Retired => ActorState::Offline,
            },
            mailbox_depth: handle.mailbox.depth(),
            restarts: handle.board.restarts(),
            detail,
            still_ms,
            ..Actor::running(self.coordinator_address(handle, kind), kind)
        }
    }
}
