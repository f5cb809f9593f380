//! `troupe.chaos.v1alpha1.ChaosService`: the node's actors as a tree, and how to kill one.

use super::Page;
use crate::context::Context;
use crate::partition::{ActorState, Die, PartitionHandle, Revive};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};
use troupe_controller::ControllerHandle;
use troupe_proto::chaos::v1alpha1 as pb;
use troupe_proto::chaos::v1alpha1::chaos_service_server::ChaosService;
use troupe_proto::error::{Error, ErrorCode};

/// How long a killed actor is waited for.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);

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
        let mut actors = vec![
            plain(root.clone(), "node", self.context.endpoint.clone()),
            pb::Actor {
                restarts: i32::try_from(self.restarts()).unwrap_or(i32::MAX),
                ..plain(format!("{root}/controller"), "controller", String::new())
            },
        ];
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
                    ActorState::Restarting => pb::ActorState::Restarting,
                    ActorState::Offline | ActorState::Retired => pb::ActorState::Offline,
                }
                .into(),
                mailbox_depth: handle.board.mailbox_depth(),
                restarts: i32::try_from(handle.board.restarts()).unwrap_or(i32::MAX),
                detail: format!("high watermark {}", handle.board.high_watermark()),
            }
        }));
        actors.sort_by(|a, b| a.address.cmp(&b.address));
        actors
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
        if !self.context.config.chaos_enable {
            let message =
                "this node does not let actors be killed; start it with chaos.enable=true";
            return Err(Error::new(ErrorCode::ChaosDisabled, message).into());
        }
        let request = request.into_inner();
        let started = Instant::now();
        let mode = request.mode();
        let restarts = if request.address == format!("{}/controller", self.root()) {
            match mode {
                pb::KillMode::Panic => self.controller()?.panic().await?,
                pb::KillMode::Stop | pb::KillMode::Unspecified => {
                    self.controller()?.kill().await?;
                }
            }
            self.restarts()
        } else {
            let partitions = self.partitions();
            let found = partitions.iter().find(|handle| self.address(handle) == request.address);
            let handle = found.ok_or_else(|| {
                let message = format!(
                    "no actor that can be killed has the address `{}`; `troupe actor tree` shows all",
                    request.address
                );
                Error::new(ErrorCode::UnknownActor, message)
            })?;
            self.kill_partition(handle, mode).await?
        };
        Ok(Response::new(pb::KillActorResponse {
            recovery_micros: i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX),
            restarts: i32::try_from(restarts).unwrap_or(i32::MAX),
        }))
    }

    async fn inject_fault(
        &self,
        _request: Request<pb::InjectFaultRequest>,
    ) -> Result<Response<pb::InjectFaultResponse>, Status> {
        Err(Status::unimplemented("this node injects no faults but kill_actor's"))
    }
}
