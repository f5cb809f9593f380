//! The called side of the controller: `troupe.internal.v1.ControllerService`, for the control listener.
//!
//! Promises: every call is answered by what [`ControllerApi`] says; every message of a session is answered;
//! a session that ends says why; a stream that ends, however it ends, ends its session.
//! Never here: what silence means ([`crate::sessions`]).

use crate::api::ControllerApi;
use crate::config::{ControllerConfig, SessionTimings};
use crate::handle::ControllerHandle;
use crate::sessions::{BrokerSessions, Heartbeat, SessionId, SessionState, gone};
use crate::voters::VoterSet;
use futures::stream::{self, BoxStream, StreamExt};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tonic::{Request, Response, Status, Streaming};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, MetadataOffset, NodeId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::controller_service_server::{
    ControllerService, ControllerServiceServer,
};

/// What a caller has to accept, and may send, in one message: the metadata of a large cluster.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Serves brokers elsewhere, and this node's own. Clones are the same endpoint.
#[derive(Clone)]
pub struct ControllerEndpoint {
    controller: ControllerHandle,
    sessions: BrokerSessions,
    api: ControllerApi,
    timings: SessionTimings,
}

impl ControllerEndpoint {
    pub(crate) fn start(
        controller: &ControllerHandle,
        config: &ControllerConfig,
    ) -> ControllerEndpoint {
        let voters = VoterSet::new(&config.voters);
        let sessions = BrokerSessions::start(controller, &voters, config);
        let api = ControllerApi::new(controller, &sessions, &voters, config);
        ControllerEndpoint {
            controller: controller.clone(),
            sessions,
            api,
            timings: config.sessions,
        }
    }

    /// To be added to the routes of the listener that the list of voters names.
    pub fn into_service(self) -> ControllerServiceServer<ControllerEndpoint> {
        ControllerServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub fn sessions(&self) -> &BrokerSessions {
        &self.sessions
    }
}

#[tonic::async_trait]
impl ControllerService for ControllerEndpoint {
    async fn register_broker(
        &self,
        request: Request<pb::RegisterBrokerRequest>,
    ) -> Result<Response<pb::RegisterBrokerResponse>, Status> {
        Ok(Response::new(self.api.register_broker(request.into_inner()).await?))
    }

    type BrokerSessionStream = BoxStream<'static, Result<pb::BrokerSessionResponse, Status>>;

    async fn broker_session(
        &self,
        request: Request<Streaming<pb::BrokerSessionRequest>>,
    ) -> Result<Response<Self::BrokerSessionStream>, Status> {
        self.sessions.listen_here();
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(self.timings.timeout, messages.message()).await;
        let silent = || Error::new(ErrorCode::InvalidRequest, "a session begins with a message");
        let first = first.map_err(|_| silent())??.ok_or_else(silent)?;
        let broker = self.api.check(first.caller.clone())?;
        let session = self.sessions.open(broker, heartbeat(&first)).await?;
        let (receiving, closed) = oneshot::channel();
        let requests = Requests { sessions: self.sessions.clone(), broker, session: session.id };
        tokio::spawn(requests.listen(messages, closed));
        let known = first.wants_metadata.then(|| self.known_below(first.metadata_offset));
        let responses = Responses {
            states: session.states,
            images: self.controller.image(),
            known,
            opening: Some(self.timings),
            over: false,
            _receiving: receiving,
        };
        Ok(Response::new(
            stream::unfold(responses, |mut responses| async {
                let answer = responses.next().await?;
                Some((answer, responses))
            })
            .boxed(),
        ))
    }

    async fn alter_partitions(
        &self,
        request: Request<pb::AlterPartitionsRequest>,
    ) -> Result<Response<pb::AlterPartitionsResponse>, Status> {
        Ok(Response::new(self.api.alter_partitions(request.into_inner()).await?))
    }

    async fn report_replicas(
        &self,
        request: Request<pb::ReportReplicasRequest>,
    ) -> Result<Response<pb::ReportReplicasResponse>, Status> {
        Ok(Response::new(self.api.report_replicas(request.into_inner()).await?))
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<pb::AllocateProducerIdsRequest>,
    ) -> Result<Response<pb::AllocateProducerIdsResponse>, Status> {
        Ok(Response::new(self.api.allocate_producer_ids(request.into_inner()).await?))
    }

    async fn begin_shutdown(
        &self,
        request: Request<pb::BeginShutdownRequest>,
    ) -> Result<Response<pb::BeginShutdownResponse>, Status> {
        Ok(Response::new(self.api.begin_shutdown(request.into_inner()).await?))
    }
}

impl ControllerEndpoint {
    /// What a broker knows that has applied the metadata below this offset. Only the newest image is kept: to
    /// whoever knows less, everything is told.
    fn known_below(&self, offset: u64) -> Arc<ClusterImage> {
        let newest = self.controller.image().borrow().clone();
        if newest.next_offset() == MetadataOffset(offset) { newest } else { Arc::default() }
    }
}

fn heartbeat(request: &pb::BrokerSessionRequest) -> Heartbeat {
    Heartbeat {
        metadata_offset: MetadataOffset(request.metadata_offset),
        wants_shutdown: request.wants_shutdown,
        log_version: request.log_version,
        metadata_version: request.metadata_version,
        listeners: request.listeners.clone(),
    }
}

/// The half of a session that hears.
struct Requests {
    sessions: BrokerSessions,
    broker: (NodeId, BrokerEpoch),
    session: SessionId,
}

impl Requests {
    /// Until the broker's stream ends, or nobody takes the responses any more.
    async fn listen(
        self,
        mut messages: Streaming<pb::BrokerSessionRequest>,
        mut closed: oneshot::Receiver<Infallible>,
    ) {
        let (node_id, _) = self.broker;
        loop {
            let message = tokio::select! {
                message = messages.message() => message,
                _ = &mut closed => break,
            };
            match message {
                Ok(Some(message)) if self.is_same(&message) => {
                    self.sessions.heard(node_id, self.session, heartbeat(&message)).await;
                }
                Ok(Some(_)) => {
                    tracing::warn!(node = node_id.0, "a session's message from another broker");
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        self.sessions.broke(node_id, self.session).await;
    }

    fn is_same(&self, message: &pb::BrokerSessionRequest) -> bool {
        let (NodeId(node_id), BrokerEpoch(epoch)) = self.broker;
        let same =
            |caller: &pb::BrokerCaller| caller.node_id == node_id && caller.broker_epoch == epoch;
        message.caller.as_ref().is_none_or(same)
    }
}

/// The half of a session that speaks: whenever there is something to say and the broker takes it. What has
/// gathered meanwhile is said at once.
struct Responses {
    states: watch::Receiver<SessionState>,
    images: watch::Receiver<Arc<ClusterImage>>,
    /// The metadata that the broker has; `None`: it has its own.
    known: Option<Arc<ClusterImage>>,
    /// Said in the first answer.
    opening: Option<SessionTimings>,
    over: bool,
    /// Dropped with the stream: then nobody needs to listen.
    _receiving: oneshot::Sender<Infallible>,
}

impl Responses {
    async fn next(&mut self) -> Option<Result<pb::BrokerSessionResponse, Status>> {
        if self.over {
            return None;
        }
        let opening = self.opening.take();
        let kept = match opening {
            Some(_) => Ok(()),
            None => self.news().await,
        };
        let state = self.states.borrow_and_update().clone();
        if let Some(error) = state.over.or(kept.err()) {
            self.over = true;
            return Some(Err(error.into()));
        }
        // Before the delta, which then reaches at least as far.
        let metadata_offset = self.images.borrow().next_offset().0;
        let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Some(Ok(pb::BrokerSessionResponse {
            fenced: state.fenced,
            may_stop: state.may_stop,
            metadata_offset,
            metadata: self.delta(),
            heartbeat_interval_ms: opening.map_or(0, |timings| milliseconds(timings.heartbeat)),
            session_timeout_ms: opening.map_or(0, |timings| milliseconds(timings.timeout)),
        }))
    }

    /// Until there is something to say, or nobody keeps the session.
    async fn news(&mut self) -> Result<(), Error> {
        let changed = if self.known.is_some() {
            tokio::select! {
                changed = self.states.changed() => changed,
                changed = self.images.changed() => changed,
            }
        } else {
            self.states.changed().await
        };
        changed.map_err(|_| gone())
    }

    fn delta(&mut self) -> Option<pb::MetadataDelta> {
        let known = self.known.as_mut()?;
        let newest = self.images.borrow_and_update().clone();
        if newest.next_offset() == known.next_offset() {
            return None;
        }
        let delta = newest.delta(known);
        *known = newest;
        Some(delta.into())
    }
}
