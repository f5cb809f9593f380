//! `troupe.chaos.v1alpha1.ChaosService`: the node's actors as a tree, how to kill one, and how to hurt one.

use super::Page;
use crate::context::Context;
use crate::groups::{self, CoordinatorHandle, OFFSETS_TOPIC};
use crate::partition::{ActorState, Die, Fault, PartitionHandle, Revive};
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
        pb::Actor {
            address: self.coordinator_address(handle),
            kind: "group-coordinator".to_owned(),
            state: match handle.state() {
                groups::State::Serving(_) => pb::ActorState::Running,
                groups::State::Loading => pb::ActorState::Restarting,
                groups::State::Unavailable(_) | groups::State::Gone => pb::ActorState::Offline,
            }
            .into(),
            mailbox_depth: handle.mailbox_depth(),
            restarts: i32::try_from(handle.restarts()).unwrap_or(i32::MAX),
            detail: format!("{groups} groups, {members} members"),
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
        if self.context.control.local().is_some() {
            actors.push(pb::Actor {
                restarts: i32::try_from(self.restarts()).unwrap_or(i32::MAX),
                ..plain(format!("{root}/controller"), "controller", String::new())
            });
        }
        let shards = self.context.supervisors.len();
        actors.extend(
            (0..shards)
                .map(|shard| plain(format!("{root}/shard/{shard}"), "supervisor", String::new())),
        );
        actors.extend(self.partitions().iter().map(|handle| {
            pb::Actor {
                address: self.address(handle),
                kind: "partition".to_owned(),
                state: match handle.board.state() {
                    ActorState::Running => pb::ActorState::Running,
                    // It can be sent to a moment before the board says so.
                    ActorState::Restarting if handle.has_actor() => pb::ActorState::Running,
                    ActorState::Restarting => pb::ActorState::Restarting,
                    ActorState::Offline | ActorState::Retired => pb::ActorState::Offline,
                }
                .into(),
                mailbox_depth: handle.board.mailbox_depth(),
                restarts: i32::try_from(handle.board.restarts()).unwrap_or(i32::MAX),
                detail: format!("high watermark {}", handle.board.high_watermark()),
            }
        }));
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
        let restarts = match self.find(&request.address)? {
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
        let survived = handle.suffer(fault, duration, RECOVERY_PATIENCE).await?;
        Ok(Response::new(pb::InjectFaultResponse {
            recovery_micros: micros(survived.recovery),
            dropped_reply_count: i64::try_from(survived.dropped_replies).unwrap_or(i64::MAX),
        }))
    }
}
