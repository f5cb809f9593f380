//! `troupe.v1.EventBusService` over [`Publish`], [`PublishAtomically`] and [`Settle`]. The calls that carry deliveries are
//! answered before they come here.

use super::acks::parse_acks;
use super::event_bus_messages::{settle_request, settle_results};
use super::handover::Handover;
use crate::connections::Connection;
use crate::forward::{Allotted, deadline_of, is_forwarded};
use crate::operations::{
    AtomicRequest, Interruption, Publish, PublishAtomically, PublishCall, PublishRequest,
    PublishStreamRequest, PublishStreamResponse, PublishedAtomically, REQUESTS_TOGETHER, Record,
    RecordResult, Settle,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use troupe_proto::error::Error;
use troupe_proto::ids::Offset;
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::event_bus_service_server::EventBusService;

pub struct EventBusDoor {
    publish: Arc<Publish>,
    atomically: Arc<PublishAtomically>,
    settle: Arc<Settle>,
}

impl EventBusDoor {
    pub fn new(
        publish: Arc<Publish>,
        atomically: Arc<PublishAtomically>,
        settle: Arc<Settle>,
    ) -> Self {
        Self { publish, atomically, settle }
    }
}

impl Record for pb::Record {
    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> + Clone {
        self.headers.iter().map(|header| (header.key.as_str(), header.value.as_deref()))
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    fn partition(&self) -> Option<i32> {
        self.partition
    }
}

fn results(results: Vec<RecordResult>) -> Vec<pb::RecordResult> {
    let results = results.into_iter().map(|result| pb::RecordResult {
        partition: result.partition,
        offset: result.offset.map_or(-1, Offset::to_wire),
        timestamp_ms: result.timestamp_ms,
    });
    results.collect()
}

/// What another node has answered.
fn published(answer: pb::PublishAtomicallyResponse) -> PublishedAtomically {
    let of_topic = |of: pb::TopicResults| {
        let results = of.results.into_iter().map(|result| RecordResult {
            partition: result.partition,
            offset: Offset::from_wire(result.offset),
            timestamp_ms: result.timestamp_ms,
        });
        results.collect()
    };
    match answer.already_done {
        true => PublishedAtomically::Before,
        false => PublishedAtomically::Now(answer.topics.into_iter().map(of_topic).collect()),
    }
}

/// How a single call's records may go.
fn call_of<T>(request: &Request<T>) -> PublishCall {
    let Handover { came, begun } =
        request.extensions().get::<Handover>().cloned().unwrap_or_default();
    PublishCall {
        time: Allotted::by_call(came, request.metadata()),
        handed_over: begun,
        flow: Connection::flow_of(request.extensions()),
    }
}

/// One request of a stream.
fn asked(
    request: Result<pb::PublishStreamRequest, Status>,
) -> Result<PublishStreamRequest<pb::Record>, Interruption> {
    let pb::PublishStreamRequest { topic, acks, records, sequence } =
        request.map_err(|status| match std::error::Error::source(&status) {
            Some(_) => Interruption::Broken(status.into()),
            None => Interruption::Refused(status.into()),
        })?;
    Ok(PublishStreamRequest { topic, acks: parse_acks(acks), records, sequence })
}

/// One answer of a stream, or its end.
fn answer(
    answer: Result<PublishStreamResponse, Error>,
) -> Result<pb::PublishStreamResponse, Status> {
    let answer = answer?;
    Ok(pb::PublishStreamResponse { results: results(answer.results), sequence: answer.sequence })
}

#[tonic::async_trait]
impl EventBusService for EventBusDoor {
    async fn publish(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let call = call_of(&request);
        let pb::PublishRequest { topic, records, acks } = request.into_inner();
        let request = PublishRequest { topic, records, acks: parse_acks(acks) };
        let published = self.publish.publish(request, call).await?;
        Ok(Response::new(pb::PublishResponse { results: results(published) }))
    }

    async fn publish_atomically(
        &self,
        request: Request<pb::PublishAtomicallyRequest>,
    ) -> Result<Response<pb::PublishAtomicallyResponse>, Status> {
        let (call, forwarded) = (call_of(&request), is_forwarded(&request));
        let request = request.into_inner();
        let relayed = (!forwarded && !request.ack_ids.is_empty()).then(|| request.clone());
        let relay = relayed.map(|request| {
            move |channel: Channel, stamp: Request<()>| {
                let (metadata, extensions, ()) = stamp.into_parts();
                let request = Request::from_parts(metadata, extensions, request.clone());
                async move {
                    // As long as there are records.
                    let bus = EventBusServiceClient::new(channel);
                    let mut bus = bus.max_decoding_message_size(usize::MAX);
                    bus.publish_atomically(request).await.map(|answer| answer.map(published))
                }
            }
        });
        let topics = request.topics.into_iter().map(|of| (of.topic, of.records)).collect();
        let (ack_ids, key) = (request.ack_ids, request.transaction_key);
        let request = AtomicRequest { topics, ack_ids, key };
        let answer = match self.atomically.publish(request, call, relay).await? {
            PublishedAtomically::Now(topics) => {
                let of_topic = |of| pb::TopicResults { results: results(of) };
                let topics = topics.into_iter().map(of_topic).collect();
                pb::PublishAtomicallyResponse { topics, already_done: false }
            }
            PublishedAtomically::Before => {
                pb::PublishAtomicallyResponse { topics: Vec::new(), already_done: true }
            }
        };
        Ok(Response::new(answer))
    }

    type PublishStreamStream = BoxStream<'static, Result<pb::PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<pb::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (out, answers) = mpsc::channel(REQUESTS_TOGETHER);
        let flow = Connection::flow_of(request.extensions());
        let (publish, requests) = (Arc::clone(&self.publish), request.into_inner().map(asked));
        tokio::spawn(async move { publish.publish_stream(flow, requests, out).await });
        Ok(Response::new(ReceiverStream::new(answers).map(answer).boxed()))
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
        let (deadline, forwarded) = (deadline_of(request.metadata()), is_forwarded(&request));
        let asked = settle_request(request.into_inner());
        let settled = self.settle.settle(asked, deadline, forwarded).await?;
        Ok(Response::new(pb::SettleResponse { results: settle_results(settled) }))
    }

    type TailStream = BoxStream<'static, Result<pb::TailResponse, Status>>;

    async fn tail(
        &self,
        _: Request<pb::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        Err(elsewhere())
    }
}

/// [`super::DeliveryDoor`] stands in front and answers these.
fn elsewhere() -> Status {
    Status::unimplemented("this listener does not serve calls that carry deliveries")
}
