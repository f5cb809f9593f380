//! `troupe.v1.EventBusService`: records in, records out. The broker does the batch work for clients that
//! have nothing but generated stubs, and finds the leaders.

use super::produce::parse_acks;
use super::publish::{self, Call, REQUESTS_TOGETHER, publish_stream};
use super::{check_writable, subscription, topics};
use crate::context::Context;
use crate::forward::{Allotted, hears};
use crate::grpc::Handover;
use crate::registry::TopicEntry;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_server::EventBusService;

/// How long this node may take to learn of a topic that is there.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);

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
    check_writable(name)?;
    let unknown = match known_topic(context, name).await {
        Err(unknown)
            if context.config.auto_create_topics && unknown.code == ErrorCode::UnknownTopic =>
        {
            unknown
        }
        found => return found,
    };
    let creation = CreateTopicRequest { name: name.to_owned(), ..Default::default() };
    match topics::create(context, Request::new(creation)).await.map_err(Error::from) {
        Ok(_) => {}
        // Somebody else was faster, and this node is about to hear of it.
        Err(error) if error.code == ErrorCode::TopicExists => {
            let mut images = context.metadata.image.clone();
            let heard = images.wait_for(|image| image.topic(name).is_some());
            if tokio::time::timeout(NEWS_PATIENCE, heard).await.is_err() {
                return Err(unknown);
            }
        }
        // Whether there is a topic now is open, and that nothing was published is not.
        Err(error) if !error.surely_not_done() || error.code == ErrorCode::Overtaken => {
            let message = format!("topic `{name}` could not be created in time: {}", error.message);
            return Err(Error::new(ErrorCode::LeaderNotAvailable, message));
        }
        Err(error) => return Err(error),
    }
    known_topic(context, name).await
}

/// The topic of that name, if this node knows of it, or is about to.
pub(super) async fn known_topic(context: &Context, name: &str) -> Result<Arc<TopicEntry>, Error> {
    let unknown = match context.metadata.registry.topic(name) {
        Err(unknown) if unknown.code == ErrorCode::UnknownTopic => unknown,
        found => return found,
    };
    if !hears(&context.metadata, |image| image.topic(name).is_some()).await {
        return Err(unknown);
    }
    context.metadata.caught_up().await;
    context.metadata.registry.topic(name)
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
