//! `troupe.v1.EventBusService`: records in, records out. The broker does the batch work for clients that
//! have nothing but generated stubs, and finds the leaders.

use super::produce::parse_acks;
use super::publish::{self, Call, REQUESTS_TOGETHER, publish_stream};
use super::subscription;
use crate::context::Context;
use crate::forward::Allotted;
use crate::grpc::Handover;
use crate::registry::TopicEntry;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_server::EventBusService;

pub struct EventBus {
    context: Arc<Context>,
}

impl EventBus {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

/// The topic of that name, created if that is allowed.
pub(super) async fn find_topic(context: &Context, name: &str) -> Result<Arc<TopicEntry>, Error> {
    context.topic_lookup.find_or_create(name).await
}

/// The topic of that name, if this node knows of it, or is about to.
pub(super) async fn known_topic(context: &Context, name: &str) -> Result<Arc<TopicEntry>, Error> {
    context.topic_lookup.find(name).await
}

async fn publish(
    context: &Arc<Context>,
    request: pb::PublishRequest,
    call: Call,
) -> Result<Vec<pb::RecordResult>, Error> {
    let acks = parse_acks(request.acks)?;
    let found = timeout_at(call.time.deadline, find_topic(context, &request.topic)).await;
    let topic = found.unwrap_or_else(|_| {
        let message = format!("topic `{}` was not found in time; nothing was sent", request.topic);
        Err(Error::new(ErrorCode::LeaderNotAvailable, message))
    })?;
    publish::publish(context, &topic, acks, &request.records, call).await
}

#[tonic::async_trait]
impl EventBusService for EventBus {
    async fn publish(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let Handover { came, begun } =
            request.extensions().get::<Handover>().cloned().unwrap_or_default();
        let call = Call {
            time: Allotted::by_call(came, request.metadata()),
            handed_over: begun,
            flow: self.context.admission.flow_of(request.extensions()),
        };
        let published = publish(&self.context, request.into_inner(), call).await;
        let results = published.map_err(publish::refusal)?;
        Ok(Response::new(pb::PublishResponse { results }))
    }

    type PublishStreamStream = BoxStream<'static, Result<pb::PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<pb::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (out, answers) = mpsc::channel(REQUESTS_TOGETHER);
        let flow = self.context.admission.flow_of(request.extensions());
        tokio::spawn(publish_stream(Arc::clone(&self.context), flow, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    type SubscribeStream = BoxStream<'static, Result<pb::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        _: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(elsewhere())
    }

    async fn pull(
        &self,
        _: Request<pb::PullRequest>,
    ) -> Result<Response<pb::PullResponse>, Status> {
        Err(elsewhere())
    }

    async fn settle(
        &self,
        request: Request<pb::SettleRequest>,
    ) -> Result<Response<pb::SettleResponse>, Status> {
        Ok(Response::new(subscription::settle(&self.context, request).await?))
    }

    type TailStream = BoxStream<'static, Result<pb::TailResponse, Status>>;

    async fn tail(
        &self,
        _: Request<pb::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        Err(elsewhere())
    }
}

/// [`super::ThinService`] stands in front and answers these.
fn elsewhere() -> Status {
    Status::unimplemented("this listener does not serve calls that carry deliveries")
}
