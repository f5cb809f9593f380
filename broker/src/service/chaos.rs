//! `troupe.chaos.v1alpha1.ChaosService`: the node's actors as a tree, how to kill one, and how to hurt one.

use crate::context::Context;
use crate::group::{GroupHandle, OFFSETS_TOPIC};
use crate::operations::Page;
use crate::partition::{How, LONG_MS, PartitionHandle, drop_replies, millis};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};
use troupe_actor::{ActorState, Address, Die, Fault, FaultKind};
use troupe_controller::ControllerHandle;
use troupe_proto::chaos::v1alpha1 as pb;
use troupe_proto::chaos::v1alpha1::chaos_service_server::ChaosService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// How long a killed actor is waited for.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);
/// The longest that a fault lasts.
const MAX_FAULT_MS: u32 = 60_000;
/// How often a stream that broke is looked for.
const STREAM_INTERVAL: Duration = Duration::from_millis(5);

/// What an address names.
enum Named {
    Controller,
    Partition(Arc<PartitionHandle>),
    Coordinator(Arc<GroupHandle>),
    /// What a shard follows of a node.
    Replication {
        shard: usize,
        leader: NodeId,
    },
}

pub struct Chaos {
    context: Arc<Context>,
}

impl Chaos {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn root(&self) -> Address {
        Address::root("node", self.context.node_id)
    }

    fn shard(&self, shard: usize) -> Address {
        self.root().child("shard", shard)
    }

    fn address(&self, handle: &PartitionHandle) -> Address {
        let name = format!("{}/{}", handle.topic(), handle.key().partition);
        self.shard(handle.shard).child("partition", name)
    }

    fn coordinator_address(&self, handle: &GroupHandle) -> Address {
        let name = format!("{OFFSETS_TOPIC}/{}", handle.partition());
        self.shard(handle.shard()).child("group-coordinator", name)
    }

    fn coordinator(&self, handle: &GroupHandle) -> pb::Actor {
        let (groups, members) = handle.shared.counts();
        let still_ms = millis(handle.mailbox.still(Instant::now()));
        pb::Actor {
            address: self.coordinator_address(handle).into(),
            kind: "group-coordinator".to_owned(),
            state: match handle.board.state() {
                ActorState::Running if still_ms >= LONG_MS => pb::ActorState::Stalled,
                ActorState::Running => pb::ActorState::Running,
                ActorState::Restarting => pb::ActorState::Restarting,
                ActorState::Offline | ActorState::Retired => pb::ActorState::Offline,
            }
            .into(),
            mailbox_depth: handle.mailbox.depth(),
            restarts: i32::try_from(handle.board.restarts()).unwrap_or(i32::MAX),
            detail: format!("{groups} groups, {members} members"),
            stands_still_ms: wire(still_ms),
            ..Default::default()
        }
    }

    fn partition(&self, handle: &PartitionHandle) -> pb::Actor {
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
        let fault = condition.fault.map_or(pb::Fault::Unspecified, |fault| match fault {
            FaultKind::Pause => pb::Fault::Pause,
            FaultKind::Stall => pb::Fault::Stall,
            FaultKind::DropReplies => pb::Fault::DropReplies,
        });
        pb::Actor {
            address: self.address(handle).into(),
            kind: "partition".to_owned(),
            state: match condition.how {
                How::Running => pb::ActorState::Running,
                How::Restarting => pb::ActorState::Restarting,
                How::Offline => pb::ActorState::Offline,
                How::Paused => pb::ActorState::Paused,
                How::Stalled => pb::ActorState::Stalled,
                How::Damaged => pb::ActorState::Damaged,
                How::Waiting => pb::ActorState::Waiting,
            }
            .into(),
            mailbox_depth: board.mailbox.depth(),
            restarts: i32::try_from(board.restarts()).unwrap_or(i32::MAX),
            detail,
            stands_still_ms: wire(condition.still_ms),
            oldest_wait_ms: wire(condition.oldest_wait_ms),
            queued_bytes: wire(condition.queued_bytes),
            fault: fault.into(),
        }
    }

    /// Waiting: what it was asked to decide is not decided yet.
    fn controller_actor(&self, controller: &ControllerHandle) -> pb::Actor {
        let waits_ms = millis(controller.oldest_wait().unwrap_or_default());
        let state = match waits_ms >= LONG_MS {
            true => pb::ActorState::Waiting,
            false => pb::ActorState::Running,
        };
        let leadership = *controller.leadership().borrow();
        let detail = match (
            leadership.here,
            self.context.controller.hears_controller(),
            leadership.leader,
        ) {
            (true, ..) => "active".to_owned(),
            (false, true, Some(leader)) => format!("stands by; node {leader} is active"),
            (false, _, _) => "stands by; no active controller is heard".to_owned(),
        };
        pb::Actor {
            address: self.root().only("controller").into(),
            kind: "controller".to_owned(),
            state: state.into(),
            restarts: i32::try_from(self.restarts()).unwrap_or(i32::MAX),
            detail,
            oldest_wait_ms: wire(waits_ms),
            ..Default::default()
        }
    }

    /// A shard's thread stands still as long as nothing on it runs, its supervisor too.
    fn supervisor(&self, shard: usize) -> pb::Actor {
        let detector = &self.context.thread_stall_detectors[shard];
        let still_ms = millis(detector.silence(Instant::now()));
        let stalled = still_ms >= LONG_MS;
        let state = if stalled { pb::ActorState::Stalled } else { pb::ActorState::Running };
        pb::Actor {
            address: self.shard(shard).into(),
            kind: "supervisor".to_owned(),
            state: state.into(),
            stands_still_ms: wire(if stalled { still_ms } else { 0 }),
            ..Default::default()
        }
    }

    fn restarts(&self) -> u32 {
        self.context.controller.local().map_or(0, |controller| controller.restarts())
    }

    fn controller(&self) -> Result<&ControllerHandle, Error> {
        self.context.controller.local().ok_or_else(|| {
            let message = "this node is a broker only: no controller runs here";
            Error::new(ErrorCode::UnknownActor, message)
        })
    }

    fn partitions(&self) -> Vec<Arc<PartitionHandle>> {
        let topics = self.context.metadata.registry.topics();
        topics.values().flat_map(|topic| topic.replicas().cloned()).collect()
    }

    fn actors(&self) -> Vec<pb::Actor> {
        let plain = |address: Address, kind: &str, detail: String| pb::Actor {
            address: address.into(),
            kind: kind.to_owned(),
            state: pb::ActorState::Running.into(),
            detail,
            ..Default::default()
        };
        let mut actors = vec![plain(self.root(), "node", self.context.endpoint.clone())];
        if let Some(controller) = self.context.controller.local() {
            actors.push(self.controller_actor(controller));
        }
        let shards = 0..self.context.supervisors.len();
        actors.extend(shards.map(|shard| self.supervisor(shard)));
        actors.extend(self.partitions().iter().map(|handle| self.partition(handle)));
        let coordinators = self.context.groups.led();
        actors.extend(coordinators.iter().map(|handle| self.coordinator(handle)));
        for (shard, replicator) in self.context.replicators.iter().enumerate() {
            actors.extend(replicator.streams().into_iter().map(|stream| {
                let address = self.shard(shard).child("replication", stream.leader);
                plain(address, "replication", format!("{} partitions", stream.channels))
            }));
        }
        actors.sort_by(|a, b| a.address.cmp(&b.address));
        actors
    }

    /// Whom a call that does harm is for.
    fn find(&self, address: &str) -> Result<Named, Error> {
        if !self.context.config.chaos_enable {
            let message = "this node does not let actors be hurt; start it with chaos.enable=true";
            return Err(Error::new(ErrorCode::ChaosDisabled, message));
        }
        if self.root().only("controller") == *address {
            return Ok(Named::Controller);
        }
        if let Some(handle) =
            self.partitions().into_iter().find(|handle| self.address(handle) == *address)
        {
            return Ok(Named::Partition(handle));
        }
        let mut coordinators = self.context.groups.led().into_iter();
        if let Some(handle) =
            coordinators.find(|handle| self.coordinator_address(handle) == *address)
        {
            return Ok(Named::Coordinator(handle));
        }
        self.replication(address).ok_or_else(|| {
            let message = format!(
                "no actor that can be hurt has the address `{address}`; `troupe actor tree` shows all"
            );
            Error::new(ErrorCode::UnknownActor, message)
        })
    }

    fn replication(&self, address: &str) -> Option<Named> {
        let (shard, leader) = self.root().name_in("shard", address)?.split_once("/replication/")?;
        let (shard, leader) = (shard.parse().ok()?, NodeId(leader.parse().ok()?));
        let replicator = self.context.replicators.get::<usize>(shard)?;
        let standing = replicator.streams();
        let named = standing.iter().any(|stream| stream.leader == leader);
        named.then_some(Named::Replication { shard, leader })
    }

    async fn kill_controller(&self, die: Die) -> Result<u32, Error> {
        match die {
            Die::Panic => self.controller()?.panic().await?,
            Die::Stop => self.controller()?.kill().await?,
        }
        Ok(self.restarts())
    }

    /// Breaks the stream and waits until there is another, or nothing to follow any more.
    async fn kill_replication(&self, shard: usize, leader: NodeId) -> Result<u32, Error> {
        let replicator = &self.context.replicators[shard];
        let followed = || {
            let standing = replicator.streams();
            standing.iter().find(|stream| stream.leader == leader).map_or(0, |it| it.channels)
        };
        let before = followed();
        replicator.kill(leader);
        let back = async {
            while followed() < before && self.follows(shard, leader) {
                tokio::time::sleep(STREAM_INTERVAL).await;
            }
        };
        tokio::time::timeout(RECOVERY_PATIENCE, back).await.map_err(|_| {
            let message = "the stream was broken and has not come back yet";
            Error::new(ErrorCode::RequestTimedOut, message)
        })?;
        Ok(1)
    }

    /// Whether the shard has something to follow of that node.
    fn follows(&self, shard: usize, leader: NodeId) -> bool {
        let image = self.context.metadata.now();
        self.partitions().iter().filter(|handle| handle.shard == shard).any(|handle| {
            image.partition(&handle.key()).is_some_and(|partition| partition.leader == Some(leader))
        })
    }
}

fn death(mode: pb::KillMode) -> Die {
    match mode {
        pb::KillMode::Panic => Die::Panic,
        pb::KillMode::Stop | pb::KillMode::Unspecified => Die::Stop,
    }
}

/// What was asked for, within its bounds.
fn fault(request: &pb::InjectFaultRequest) -> Result<(Fault, Duration), Error> {
    let invalid = |message: String| Error::new(ErrorCode::InvalidRequest, message);
    if !(1..=MAX_FAULT_MS).contains(&request.duration_ms) {
        let (given, most) = (request.duration_ms, MAX_FAULT_MS);
        return Err(invalid(format!("duration_ms {given} is not between 1 and {most}")));
    }
    let probability = request.probability;
    if !(0.0..=1.0).contains(&probability) {
        return Err(invalid(format!("probability {probability} is not between 0 and 1")));
    }
    let fault = match request.fault() {
        pb::Fault::Pause => Fault::Pause,
        pb::Fault::Stall => Fault::Stall,
        pb::Fault::DropReplies => {
            drop_replies(if probability == 0.0 { 1.0 } else { probability }, request.seed)
        }
        pb::Fault::Unspecified => return Err(invalid("the request names no fault".to_owned())),
    };
    Ok((fault, Duration::from_millis(request.duration_ms.into())))
}

fn wire(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl ChaosService for Chaos {
    async fn list_actors(
        &self,
        request: Request<pb::ListActorsRequest>,
    ) -> Result<Response<pb::ListActorsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, request.page_token.clone())?;
        let wanted =
            self.actors().into_iter().filter(|actor| actor.address.starts_with(&request.prefix));
        let (actors, next_page_token) = page.cut(wanted, |actor| actor.address.clone());
        Ok(Response::new(pb::ListActorsResponse { actors, next_page_token }))
    }

    async fn kill_actor(
        &self,
        request: Request<pb::KillActorRequest>,
    ) -> Result<Response<pb::KillActorResponse>, Status> {
        let request = request.into_inner();
        let (started, die) = (Instant::now(), death(request.mode()));
        let named = self.find(&request.address)?;
        self.context.metrics.fault_injected("kill");
        let restarts = match named {
            Named::Controller => self.kill_controller(die).await?,
            Named::Partition(handle) => handle.kill(die, RECOVERY_PATIENCE).await?,
            Named::Coordinator(handle) => handle.kill(die, RECOVERY_PATIENCE).await?,
            Named::Replication { shard, leader } => self.kill_replication(shard, leader).await?,
        };
        Ok(Response::new(pb::KillActorResponse {
            recovery_micros: micros(started.elapsed()),
            restarts: i32::try_from(restarts).unwrap_or(i32::MAX),
        }))
    }

    async fn inject_fault(
        &self,
        request: Request<pb::InjectFaultRequest>,
    ) -> Result<Response<pb::InjectFaultResponse>, Status> {
        let request = request.into_inner();
        let Named::Partition(handle) = self.find(&request.address)? else {
            let message = "partitions alone suffer faults; the controller, coordinators and streams can be killed";
            return Err(Error::new(ErrorCode::InvalidRequest, message).into());
        };
        let (fault, duration) = fault(&request)?;
        self.context.metrics.fault_injected(match fault.kind() {
            FaultKind::Pause => "pause",
            FaultKind::Stall => "stall",
            FaultKind::DropReplies => "drop_replies",
        });
        let survived = handle.suffer(fault, duration, RECOVERY_PATIENCE).await?;
        Ok(Response::new(pb::InjectFaultResponse {
            recovery_micros: micros(survived.recovery),
            dropped_reply_count: i64::try_from(survived.dropped_replies).unwrap_or(i64::MAX),
        }))
    }
}
