//! `troupe.log.v1.LogService` over [`Produce`], [`Fetch`], [`Offsets`] and [`ProducerIds`], by hand: requests and
//! responses that carry batches are neither decoded nor joined. A plain tower service, mounted beside tonic's own.

mod fetch;
mod offsets;
mod produce;

use super::body::{ResponseBody, response};
use super::handover::Handover;
use super::message::{MessageReader, Requests, encode};
use crate::address_book::AddressBook;
use crate::connections::Connection;
use crate::forward::{FORWARDED, deadline_in, meant_epoch};
use crate::operations::{Fetch, Meant, Offsets, Produce, ProduceCall, ProducerIds};
use http::{Request, Response};
use prost::Message;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use troupe_proto::ids::LeaderEpoch;
use troupe_proto::log::v1 as pb;

#[derive(Clone)]
pub struct LogDoor {
    operations: Arc<LogOperations>,
    /// Bytes of one request.
    max_request: usize,
}

/// What it is a door to.
pub struct LogOperations {
    pub produce: Arc<Produce>,
    pub fetch: Arc<Fetch>,
    pub offsets: Arc<Offsets>,
    pub producer_ids: Arc<ProducerIds>,
    /// What those are told who come by this listener.
    pub addresses: AddressBook,
}

impl LogDoor {
    pub fn new(operations: LogOperations, max_request: usize) -> Self {
        Self { operations: Arc::new(operations), max_request }
    }

    async fn dispatch(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        // Another node has let it in, and counts it.
        let is_forwarded = request.headers().contains_key(FORWARDED);
        let leader_epoch = meant_epoch(request.headers()).map(LeaderEpoch);
        let handover = request.extensions().get::<Handover>().cloned().unwrap_or_default();
        let flow = Connection::flow_of(request.extensions());
        let deadline = deadline_in(request.headers());
        let mut requests: Requests = MessageReader::new(request.into_body(), self.max_request);
        let LogOperations { produce, fetch, offsets, producer_ids, addresses } = &*self.operations;
        match method.as_str() {
            "Produce" => {
                let batches = produce::batches(requests.first().await?)?;
                let call = ProduceCall { flow, deadline, handed_over: &handover.begun };
                let answered = produce.produce(batches, call).await;
                unary(produce::produce_response(answered, addresses))
            }
            "ProduceStream" => {
                let flow = (!is_forwarded).then_some(flow);
                let answers = produce.stream(produce::streamed(requests), flow);
                Ok(response(produce::written(answers, addresses.clone())))
            }
            "Fetch" => {
                let request = fetch::fetch_request(requests.only().await?);
                let fetched = fetch.fetch(request).await?;
                Ok(response(ResponseBody::once(fetch::pieces(fetched, addresses))))
            }
            "FetchStream" => {
                let fetched = fetch.stream(fetch::updates(requests), addresses.clone());
                Ok(response(ResponseBody::of(fetched)))
            }
            "ListOffsets" => {
                let queries = offsets::queries(requests.only().await?);
                let meant = Meant { as_known: is_forwarded, leader_epoch };
                let found = offsets.list(queries, meant).await;
                unary(offsets::list_offsets_response(found, addresses))
            }
            "InitProducer" => {
                let _: pb::InitProducerRequest = requests.only().await?;
                let producer_id = producer_ids.next().await?;
                unary(pb::InitProducerResponse { producer_id: producer_id.0, producer_epoch: 0 })
            }
            _ => Err(Status::unimplemented(format!("LogService has no method `{method}`"))),
        }
    }
}

fn unary(answer: impl Message) -> Result<Response<Body>, Status> {
    Ok(response(ResponseBody::once([encode(&answer)])))
}

impl NamedService for LogDoor {
    const NAME: &'static str = "troupe.log.v1.LogService";
}

impl tower::Service<Request<Body>> for LogDoor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move { Ok(door.dispatch(request).await.unwrap_or_else(Status::into_http)) })
    }
}
