//! `troupe.chaos.v1alpha1.ChaosService` over [`Chaos`].

use super::node_faults::{active, fault, node_fault};
use super::numbers::{int32, int64};
use crate::operations::{Actor, ActorState, Chaos, FaultRequest, Page};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_actor::{Die, FaultKind};
use troupe_proto::chaos::v1alpha1 as pb;
use troupe_proto::chaos::v1alpha1::chaos_service_server::ChaosService;

pub struct ChaosDoor {
    chaos: Arc<Chaos>,
}

impl ChaosDoor {
    pub fn new(chaos: Arc<Chaos>) -> Self {
        Self { chaos }
    }
}

fn actor(actor: Actor) -> pb::Actor {
    pb::Actor {
        address: actor.address.into(),
        kind: actor.kind.to_owned(),
        state: state(actor.state).into(),
        mailbox_depth: actor.mailbox_depth,
        restarts: int32(actor.restarts),
        detail: actor.detail,
        stands_still_ms: int64(actor.still_ms),
        oldest_wait_ms: int64(actor.oldest_wait_ms),
        queued_bytes: int64(actor.queued_bytes),
        fault: fault(actor.fault.map(|(kind, _)| kind)).into(),
        fault_left_ms: int64(actor.fault.map_or(0, |(_, left_ms)| left_ms)),
    }
}

fn state(state: ActorState) -> pb::ActorState {
    match state {
        ActorState::Running => pb::ActorState::Running,
        ActorState::Restarting => pb::ActorState::Restarting,
        ActorState::Offline => pb::ActorState::Offline,
        ActorState::Paused => pb::ActorState::Paused,
        ActorState::Stalled => pb::ActorState::Stalled,
        ActorState::Waiting => pb::ActorState::Waiting,
        ActorState::Damaged => pb::ActorState::Damaged,
    }
}

fn fault_kind(fault: pb::Fault) -> Option<FaultKind> {
    match fault {
        pb::Fault::Unspecified => None,
        pb::Fault::Pause => Some(FaultKind::Pause),
        pb::Fault::Stall => Some(FaultKind::Stall),
        pb::Fault::DropReplies => Some(FaultKind::DropReplies),
    }
}

fn death(mode: pb::KillMode) -> Die {
    match mode {
        pb::KillMode::Panic => Die::Panic,
        pb::KillMode::Stop | pb::KillMode::Unspecified => Die::Stop,
    }
}

#[tonic::async_trait]
impl ChaosService for ChaosDoor {
    async fn list_actors(
        &self,
        request: Request<pb::ListActorsRequest>,
    ) -> Result<Response<pb::ListActorsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, request.page_token)?;
        let (actors, next_page_token) = self.chaos.list(&request.prefix, &page);
        let actors = actors.into_iter().map(actor).collect();
        Ok(Response::new(pb::ListActorsResponse { actors, next_page_token }))
    }

    async fn kill_actor(
        &self,
        request: Request<pb::KillActorRequest>,
    ) -> Result<Response<pb::KillActorResponse>, Status> {
        let request = request.into_inner();
        let killed = self.chaos.kill(&request.address, death(request.mode())).await?;
        Ok(Response::new(pb::KillActorResponse {
            recovery_micros: int64(killed.recovery.as_micros()),
            restarts: int32(killed.restarts),
        }))
    }

    async fn inject_fault(
        &self,
        request: Request<pb::InjectFaultRequest>,
    ) -> Result<Response<pb::InjectFaultResponse>, Status> {
        let request = request.into_inner();
        let fault = FaultRequest {
            kind: fault_kind(request.fault()),
            duration_ms: request.duration_ms,
            probability: request.probability,
            seed: request.seed,
        };
        let survived = self.chaos.inject_fault(&request.address, fault).await?;
        Ok(Response::new(pb::InjectFaultResponse {
            recovery_micros: int64(survived.recovery.as_micros()),
            dropped_reply_count: int64(survived.dropped_replies),
        }))
    }

    async fn start_fault(
        &self,
        request: Request<pb::StartFaultRequest>,
    ) -> Result<Response<pb::StartFaultResponse>, Status> {
        let request = request.into_inner();
        let fault = node_fault(request.fault)?;
        let fault_id = self.chaos.start_fault(&request.fault_id, fault, request.duration_ms)?;
        Ok(Response::new(pb::StartFaultResponse { fault_id }))
    }

    async fn list_faults(
        &self,
        request: Request<pb::ListFaultsRequest>,
    ) -> Result<Response<pb::ListFaultsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, request.page_token)?;
        let (faults, next_page_token) = self.chaos.list_faults(&page);
        let faults = faults.into_iter().map(active).collect();
        Ok(Response::new(pb::ListFaultsResponse { faults, next_page_token }))
    }

    async fn stop_faults(
        &self,
        request: Request<pb::StopFaultsRequest>,
    ) -> Result<Response<pb::StopFaultsResponse>, Status> {
        let stopped_fault_ids = self.chaos.stop_faults(&request.into_inner().fault_id)?;
        Ok(Response::new(pb::StopFaultsResponse { stopped_fault_ids }))
    }
}
