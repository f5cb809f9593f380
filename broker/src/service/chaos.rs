//! `troupe.chaos.v1alpha1.ChaosService`: the node's actors as a tree, how to kill one, and how to hurt one.

use super::Page;
use crate::context::Context;
use crate::groups::{self, CoordinatorHandle, OFFSETS_TOPIC};
use crate::partition::{
    ActorState, Die, Fault, FaultKind, How, LONG_MS, PartitionHandle, Revive, now,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};
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
    Coordinator(Arc<CoordinatorHandle>),
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

    fn root(&self) -> String {
        format!("node/{}", self.context.node_id)
    }

    fn address(&self, handle: &PartitionHandle) -> String {
        let (shard, topic, partition) = (handle.shard, handle.topic(), handle.key().partition);
        format!("{}/shard/{shard}/partition/{topic}/{partition}", self.root())
    }

    fn coordinator_address(&self, handle: &CoordinatorHandle) -> String {
        let (shard, partition) = (handle.shard(), handle.partition());
        format!("{}/shard/{shard}/group-coordinator/{OFFSETS_TOPIC}/{partition}", self.root())
    }

    fn coordinator(&self, handle: &CoordinatorHandle) -> pb::Actor {
        let (groups, members) = handle.census();
        let still_ms = handle.mailbox().still_ms(now());
        pb::Actor {
            address: self.coordinator_address(handle),
            kind: "group-coordinator".to_owned(),
            state: match handle.state() {
                groups::State::Serving(_) if still_ms >= LONG_MS => pb::ActorState::Stalled,
                groups::State::Serving(_) => pb::ActorState::Running,
                groups::State::Loading => pb::ActorState::Restarting,
                groups::State::Unavailable(_) | groups::State::Gone => pb::ActorState::Offline,
            }
            .into(),
            mailbox_depth: handle.mailbox().depth(),
            restarts: i32::try_from(handle.restarts()).unwrap_or(i32::MAX),
            detail: format!("{groups} groups, {members} members"),
            stands_still_ms: wire(still_ms),
            ..Default::default()
        }
    }

    fn partition(&self, handle: &PartitionHandle) -> pb::Actor {
        let (condition, board) = (handle.condition(), &handle.board);
        let mut detail = format!("high watermark {}", board.high_watermark());
        if condition.how == How::Offline
            && let Some(reason) = board.offline_reason()
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
            address: self.address(handle),
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
    fn controller_actor(&self, controller: &ControllerHandle, address: String) -> pb::Actor {
        let oldest = controller.oldest_wait().unwrap_or_default();
        let waits_ms = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        let state = match waits_ms >= LONG_MS {
            true => pb::ActorState::Waiting,
            false => pb::ActorState::Running,
        };
        let leadership = *controller.leadership().borrow();
        let detail = match (leadership.here, self.context.hears_controller(), leadership.leader) {
            (true, ..) => "active".to_owned(),
            (false, true, Some(leader)) => format!("stands by; node {leader} is active"),
            (false, _, _) => "stands by; no active controller is heard".to_owned(),
        };
        pb::Actor {
            address,
            kind: "controller".to_owned(),
            state: state.into(),
            restarts: i32::try_from(self.restarts()).unwrap_or(i32::MAX),
            detail,
            oldest_wait_ms: wire(waits_ms),
            ..Default::default()
        }
    }

    /// A shard's thread stands still as long as nothing on it runs, its supervisor too.
    fn supervisor(&self, shard: usize, address: String) -> pb::Actor {
        let still_ms = self.context.beats[shard].silence_ms(now());
        let stalled = still_ms >= LONG_MS;
        let state = if stalled { pb::ActorState::Stalled } else { pb::ActorState::Running };
        pb::Actor {
            address,
            kind: "supervisor".to_owned(),
            state: state.into(),
            stands_still_ms: wire(if stalled { still_ms } else { 0 }),
            ..Default::default()
        }
    }

    fn restarts(&self) -> u32 {
        self.context.control.local().map_or(0, |controller| controller.restarts())
    }

    fn controller(&self) -> Result<&ControllerHandle, Error> {
        self.context.control.local().ok_or_else(|| {
            let message = "this node is a broker only: no controller runs here";
            Error::new(ErrorCode::UnknownActor, message)
        })
    }

    fn partitions(&self) -> Vec<Arc<PartitionHandle>> {
        let topics = self.context.registry.topics();
        topics.values().flat_map(|topic| topic.replicas().cloned()).collect()
    }

    fn actors(&self) -> Vec<pb::Actor> {
        let plain = |address: String, kind: &str, detail: String| pb::Actor {
            address,
            kind: kind.to_owned(),
            state: pb::ActorState::Running.into(),
            detail,
            ..Default::default()
        };
        let root = self.root();
        let mut actors = vec![plain(root.clone(), "node", self.context.endpoint.clone())];
        if let Some(controller) = self.context.control.local() {
            actors.push(self.controller_actor(controller, format!("{root}/controller")));
        }
        let shards = 0..self.context.supervisors.len();
        actors.extend(shards.map(|shard| self.supervisor(shard, format!("{root}/shard/{shard}"))));
        actors.extend(self.partitions().iter().map(|handle| self.partition(handle)));
        let coordinators = self.context.groups.led();
        actors.extend(coordinators.iter().map(|handle| self.coordinator(handle)));
        for (shard, replicator) in self.context.replicators.iter().enumerate() {
            actors.extend(replicator.streams().into_iter().map(|stream| {
                let address = format!("{root}/shard/{shard}/replication/{}", stream.leader);
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
        if address == format!("{}/controller", self.root()) {
            return Ok(Named::Controller);
        }
        if let Some(handle) =
            self.partitions().into_iter().find(|handle| self.address(handle) == address)
        {
            return Ok(Named::Partition(handle));
        }
        let mut coordinators = self.context.groups.led().into_iter();
        if let Some(handle) =
            coordinators.find(|handle| self.coordinator_address(handle) == address)
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
        let below = address.strip_prefix(&format!("{}/shard/", self.root()))?;
        let (shard, leader) = below.split_once("/replication/")?;
        let (shard, leader) = (shard.parse().ok()?, NodeId(leader.parse().ok()?));
        let replicator = self.context.replicators.get::<usize>(shard)?;
        let standing = replicator.streams();
        let named = standing.iter().any(|stream| stream.leader == leader);
        named.then_some(Named::Replication { shard, leader })
    }

    async fn kill_controller(&self, mode: pb::KillMode) -> Result<u32, Error> {
        match mode {
            pb::KillMode::Panic => self.controller()?.panic().await?,
            pb::KillMode::Stop | pb::KillMode::Unspecified => self.controller()?.kill().await?,
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
        let image = self.context.image.borrow().clone();
        self.partitions().iter().filter(|handle| handle.shard == shard).any(|handle| {
            image.partition(&handle.key()).is_some_and(|partition| partition.leader == Some(leader))
        })
    }

    /// Kills and waits until the new one serves.
    async fn kill_partition(
        &self,
        handle: &PartitionHandle,
        mode: pb::KillMode,
    ) -> Result<u32, Error> {
        let before = handle.board.restarts();
        let dies = if handle.board.state() == ActorState::Offline {
            self.context.supervisors[handle.shard].do_send(Revive(handle.key()));
            true
        } else {
            let death = match mode {
                pb::KillMode::Panic => Die::Panic,
                pb::KillMode::Stop | pb::KillMode::Unspecified => Die::Stop,
            };
            // Without an actor it is being rebuilt already.
            handle.tell(death)
        };
        handle.rebuilt(before + u32::from(dies), RECOVERY_PATIENCE).await
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
        pb::Fault::DropReplies => Fault::DropReplies {
            probability: if probability == 0.0 { 1.0 } else { probability },
            seed: request.seed,
        },
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
        let page = Page::new(request.page_size, &request.page_token)?;
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
        let (started, mode) = (Instant::now(), request.mode());
        let named = self.find(&request.address)?;
        self.context.metrics.fault_injected("kill");
        let restarts = match named {
            Named::Controller => self.kill_controller(mode).await?,
            Named::Partition(handle) => self.kill_partition(&handle, mode).await?,
            Named::Coordinator(handle) => {
                handle.kill(mode == pb::KillMode::Panic, RECOVERY_PATIENCE).await?
            }
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
