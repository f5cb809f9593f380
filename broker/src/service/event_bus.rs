//! `troupe.v1.EventBusService`: records in, records out. The broker does the batch work for clients that
//! have nothing but generated stubs, and finds the leaders.

use super::produce::parse_acks;
use super::publish::{self, Publisher, Submitted, answered};
use super::{check_writable, shutting_down, subscription, tail, topics};
use crate::context::Context;
use crate::forward::{deadline_of, hears};
use crate::registry::TopicEntry;
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesOrdered};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_server::EventBusService;

/// Requests of a stream that are joined if they arrived together.
const REQUESTS_TOGETHER: usize = 256;
/// Groups of requests of a stream that may be unanswered.
const GROUPS_UNANSWERED: usize = 64;
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
        Err(unknown) if context.config.auto_create_topics && !name.is_empty() => unknown,
        found => return found,
    };
    let creation = CreateTopicRequest { name: name.to_owned(), ..Default::default() };
    match topics::create(context, Request::new(creation)).await.map_err(Error::from) {
        Ok(_) => {}
        // Somebody else was faster, and this node is about to hear of it.
        Err(error) if error.code == ErrorCode::TopicExists => {
            let mut images = context.image.clone();
            let heard = images.wait_for(|image| image.topic(name).is_some());
            if tokio::time::timeout(NEWS_PATIENCE, heard).await.is_err() {
                return Err(unknown);
            }
        }
        Err(error) => return Err(error),
    }
    known_topic(context, name).await
}

/// The topic of that name, if this node knows of it, or is about to.
pub(super) async fn known_topic(context: &Context, name: &str) -> Result<Arc<TopicEntry>, Error> {
    let unknown = match context.registry.topic(name) {
        Err(unknown) => unknown,
        found => return found,
    };
    if !hears(context, |image| image.topic(name).is_some()).await {
        return Err(unknown);
    }
    context.caught_up().await;
    context.registry.topic(name)
}

type Out = mpsc::Sender<Result<pb::PublishStreamResponse, Status>>;

/// Requests that arrived together go into the same batches; answers keep the order of the requests.
async fn publish_stream(
    context: Arc<Context>,
    requests: Streaming<pb::PublishStreamRequest>,
    out: Out,
) {
    let mut groups = requests.ready_chunks(REQUESTS_TOGETHER);
    let mut unanswered = FuturesOrdered::new();
    let mut publisher: Option<Publisher> = None;
    let mut open = true;
    let ended = loop {
        tokio::select! {
            group = groups.next(), if open && unanswered.len() < GROUPS_UNANSWERED => {
                let Some(group) = group else {
                    open = false;
                    continue;
                };
                match submit_group(&context, &mut publisher, group).await {
                    Ok((sizes, submitted)) => unanswered.push_back(async move {
                        (sizes, answered(submitted).await)
                    }),
                    Err(status) => break Some(status),
                }
            }
            Some((sizes, answer)) = unanswered.next() => {
                let mut results = match answer {
                    Ok(results) => results.into_iter(),
                    Err(error) => break Some(error.into()),
                };
                for size in sizes {
                    let results = results.by_ref().take(size).collect();
                    if out.send(Ok(pb::PublishStreamResponse { results })).await.is_err() {
                        return;
                    }
                }
            }
            () = context.shutdown.cancelled(), if open => break Some(shutting_down().into()),
            else => break None,
        }
    };
    // What was handed over before the failure is still owed its answer.
    while let Some((sizes, Ok(results))) = unanswered.next().await {
        let mut results = results.into_iter();
        for size in sizes {
            let results = results.by_ref().take(size).collect();
            if out.send(Ok(pb::PublishStreamResponse { results })).await.is_err() {
                return;
            }
        }
    }
    if let Some(status) = ended {
        // The client may be gone.
        let _ = out.send(Err(status)).await;
    }
}

type Group = Vec<Result<pb::PublishStreamRequest, Status>>;

async fn submit_group(
    context: &Arc<Context>,
    publisher: &mut Option<Publisher>,
    group: Group,
) -> Result<(Vec<usize>, Submitted), Status> {
    let (mut sizes, mut records) = (Vec::with_capacity(group.len()), Vec::new());
    for request in group {
        let request = request?;
        match publisher {
            None => {
                let topic = find_topic(context, &request.topic).await?;
                let acks = parse_acks(request.acks)?;
                *publisher = Some(Publisher::new(Arc::clone(context), topic, acks));
            }
            Some(Publisher { topic, .. })
                if !request.topic.is_empty() && *request.topic != *topic.name =>
            {
                let message = format!(
                    "this stream publishes to `{}`; open another for `{}`",
                    topic.name, request.topic
                );
                return Err(Error::new(ErrorCode::InvalidRequest, message).into());
            }
            Some(_) => {}
        }
        sizes.push(request.records.len());
        records.extend(request.records);
    }
    let Some(publisher) = publisher else {
        return Err(
            Error::new(ErrorCode::InvalidRequest, "the first message names no topic").into()
        );
    };
    // The topic may have got partitions or another configuration. One made anew is another topic.
    if let Ok(now) = context.registry.topic(&publisher.topic.name)
        && now.id == publisher.topic.id
    {
        publisher.topic = now;
    }
    Ok((sizes, publisher.submit(&records).await?))
}

#[tonic::async_trait]
impl EventBusService for EventBus {
    async fn publish(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let deadline = deadline_of(request.metadata());
        let request = request.into_inner();
        let topic = find_topic(&self.context, &request.topic).await?;
        let acks = parse_acks(request.acks)?;
        let results =
            publish::publish(&self.context, &topic, acks, &request.records, deadline).await?;
        Ok(Response::new(pb::PublishResponse { results }))
    }

    type PublishStreamStream = BoxStream<'static, Result<pb::PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<pb::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (out, answers) = mpsc::channel(REQUESTS_TOGETHER);
        tokio::spawn(publish_stream(Arc::clone(&self.context), request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    type SubscribeStream = BoxStream<'static, Result<pb::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Ok(Response::new(subscription::subscribe(&self.context, request)))
    }

    async fn pull(
        &self,
        request: Request<pb::PullRequest>,
    ) -> Result<Response<pb::PullResponse>, Status> {
        Ok(Response::new(subscription::pull(&self.context, request).await?))
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
        request: Request<pb::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let deadline = deadline_of(request.metadata());
        let request = request.into_inner();
        let topic = known_topic(&self.context, &request.topic).await?;
        let (out, answers) = mpsc::channel(4);
        let positions = tail::positions(&self.context, &topic, &request, deadline).await?;
        tokio::spawn(tail::run(Arc::clone(&self.context), topic, request, positions, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
