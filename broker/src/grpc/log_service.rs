//! `troupe.log.v1.LogService`, by hand: requests and responses that carry batches are neither decoded
//! nor joined. A plain tower service, mounted beside tonic's own.

use super::{fetch, produce};
use crate::clock::wall_clock;
use crate::connections::Connection;
use crate::context::Context;
use crate::forward::{FORWARDED, deadline_in, find_here, find_here_now, meant_epoch};
use crate::grpc::{Handover, MessageReader, ResponseBody, encode, response};
use crate::partition::{FoundOffset, OffsetQuery};
use futures::{StreamExt, stream};
use http::{Request, Response};
use prost::Message;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1 as pb;

/// Partitions that are asked at the same time.
const LOOKUPS: usize = 64;

#[derive(Clone)]
pub struct LogService {
    context: Arc<Context>,
}

impl LogService {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn dispatch(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let context = self.context;
        let max_request = context.config.max_request_bytes.0 as usize;
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        // Another node has let it in, and counts it.
        let is_forwarded = request.headers().contains_key(FORWARDED);
        let leader_epoch = meant_epoch(request.headers()).map(LeaderEpoch);
        let handover = request.extensions().get::<Handover>().cloned().unwrap_or_default();
        let flow = Connection::flow_of(request.extensions());
        let deadline = deadline_in(request.headers());
        let mut requests = MessageReader::new(request.into_body(), max_request);
        match method.as_str() {
            "Produce" => {
                let call = produce::Call { flow, deadline, handover: &handover };
                unary(produce::produce(&context, call, &mut requests).await?)
            }
            "ProduceStream" => {
                let flow = (!is_forwarded).then_some(flow);
                Ok(response(produce::produce_stream(context, requests, flow)))
            }
            "Fetch" => fetch::fetch(&context, requests.only().await?).await.map(response),
            "FetchStream" => Ok(response(fetch::fetch_stream(context, requests))),
            "ListOffsets" => {
                let meant = Meant { as_known: is_forwarded, leader_epoch };
                unary(list_offsets(&context, requests.only().await?, meant).await)
            }
            "InitProducer" => {
                let _: pb::InitProducerRequest = requests.only().await?;
                let producer_id = context.producer_ids.next(&context).await?;
                unary(pb::InitProducerResponse { producer_id: producer_id.0, producer_epoch: 0 })
            }
            _ => Err(Status::unimplemented(format!("LogService has no method `{method}`"))),
        }
    }
}

fn unary(answer: impl Message) -> Result<Response<Body>, Status> {
    Ok(response(ResponseBody::once([encode(&answer)])))
}

impl NamedService for LogService {
    const NAME: &'static str = "troupe.log.v1.LogService";
}

impl tower::Service<Request<Body>> for LogService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(
            async move { Ok(service.dispatch(request).await.unwrap_or_else(Status::into_http)) },
        )
    }
}

/// How a question is meant.
#[derive(Clone, Copy)]
struct Meant {
    /// What this node knows is enough.
    as_known: bool,
    /// The node that asks takes this one for the leader in that epoch.
    leader_epoch: Option<LeaderEpoch>,
}

async fn list_offsets(
    context: &Context,
    request: pb::ListOffsetsRequest,
    meant: Meant,
) -> pb::ListOffsetsResponse {
    let found = request.queries.into_iter().map(|query| list_offset(context, query, meant));
    let results = stream::iter(found).buffered(LOOKUPS).collect().await;
    pb::ListOffsetsResponse { results }
}

async fn list_offset(context: &Context, query: pb::OffsetQuery, meant: Meant) -> pb::OffsetResult {
    let as_of_ms = wall_clock().as_timestamp();
    let found = find_offset(context, &query, meant).await;
    let partition = query.partition;
    match found {
        Err(error) => pb::OffsetResult {
            offset: -1,
            timestamp_ms: -1,
            error: Some(context.metadata.hinted(error, partition.as_ref()).into()),
            partition,
            ..Default::default()
        },
        Ok((found, of_now)) => pb::OffsetResult {
            partition,
            offset: found.offset.map_or(-1, Offset::to_wire),
            timestamp_ms: found.timestamp_ms.unwrap_or(-1),
            leader_epoch: found.leader_epoch.0,
            error: None,
            as_of_ms: (!of_now).then_some(as_of_ms),
        },
    }
}

/// And whether it is of now.
async fn find_offset(
    context: &Context,
    query: &pb::OffsetQuery,
    meant: Meant,
) -> Result<(FoundOffset, bool), Error> {
    let at = match query.at {
        Some(pb::offset_query::At::Earliest(_)) => OffsetQuery::Earliest,
        Some(pb::offset_query::At::Latest(_)) => OffsetQuery::Latest,
        Some(pb::offset_query::At::TimestampMs(time)) => OffsetQuery::Timestamp(time),
        Some(pb::offset_query::At::MaxTimestamp(_)) => OffsetQuery::MaxTimestamp,
        Some(pb::offset_query::At::EndOfEpoch(epoch)) => {
            OffsetQuery::EndOfEpoch(LeaderEpoch(epoch))
        }
        None => {
            let message = "the query says neither earliest, latest, timestamp_ms, max_timestamp nor \
                           end_of_epoch";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
    };
    let partition = context.metadata.partition(query.partition.as_ref())?;
    let unpacker = &context.leaders.unpacker;
    let of_the_past = matches!(at, OffsetQuery::Earliest | OffsetQuery::EndOfEpoch(_));
    let expected = meant.leader_epoch;
    match meant.as_known || of_the_past {
        true => Ok((find_here(unpacker, &partition, at, expected).await?, false)),
        false => Ok((find_here_now(unpacker, &partition, at, expected).await?, true)),
    }
}
