//! `troupe.v1.EventBusService`: records in, records out. The broker does the batch work for clients that
//! have nothing but generated stubs.

use super::produce::parse_acks;
use super::{shutting_down, tail};
use crate::context::Context;
use crate::partition::{
    AppendRequest, Appended, PartitionHandle, REBUILD_PATIENCE, Responder, now,
};
use crate::registry::TopicEntry;
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesOrdered};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use troupe_machines::cluster::CreateTopic;
use troupe_proto::batch::{
    BuiltBatch, Compression, OVERHEAD, ProducedBatch, RecordSetBuilder, Verified,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::partitioner::partition_of_key;
use troupe_proto::rope::Rope;
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_server::EventBusService;

/// Records of one request and partition are cut into batches of about this size.
const BATCH_BYTES: usize = 512 << 10;
/// Requests of a stream that are joined if they arrived together.
const REQUESTS_TOGETHER: usize = 256;
/// Groups of requests of a stream that may be unanswered.
const GROUPS_UNANSWERED: usize = 64;

pub struct EventBus {
    context: Arc<Context>,
}

impl EventBus {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

/// A batch under way: which records of the request it holds, in order, and its answer.
struct Pending {
    partition: u32,
    records: Vec<(usize, i64)>,
    answer: oneshot::Receiver<Result<Appended, Error>>,
}

/// A batch being filled.
struct Filling {
    keyless: bool,
    builder: RecordSetBuilder,
    records: Vec<(usize, i64)>,
}

impl Filling {
    fn new() -> Self {
        Self { keyless: false, builder: RecordSetBuilder::new(), records: Vec::new() }
    }
}

/// Everything of one request, submitted.
struct Submitted {
    count: usize,
    pending: Vec<Pending>,
}

async fn submit(
    context: &Context,
    topic: &TopicEntry,
    acks: pb::Acks,
    records: &[pb::Record],
) -> Result<Submitted, Error> {
    if context.shutdown.is_cancelled() {
        return Err(shutting_down());
    }
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let unkeyed = i32::try_from(rand::random_range(0..count.max(1))).unwrap_or(0);
    // Every partition is checked before the first record is appended.
    let partitions = records
        .iter()
        .map(|record| match (&record.partition, &record.key) {
            (Some(partition), _) => topic.partition(*partition).map(|_| *partition),
            (None, Some(key)) => Ok(i32::try_from(partition_of_key(key, count).0).unwrap_or(0)),
            (None, None) => Ok(unkeyed),
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for record in records {
        check_record(topic, record)?;
    }
    let clock = now().as_timestamp();
    let mut filling: BTreeMap<i32, Filling> = BTreeMap::new();
    let mut pending = Vec::new();
    for ((index, record), partition) in records.iter().enumerate().zip(partitions) {
        let batch = filling.entry(partition).or_insert_with(Filling::new);
        if !batch.builder.is_empty() && batch.builder.len() + size_of(record) > BATCH_BYTES {
            let full = std::mem::replace(batch, Filling::new());
            pending.push(hand_over(context, topic, partition, acks, full).await?);
        }
        let batch = filling.entry(partition).or_insert_with(Filling::new);
        let timestamp = record.timestamp_ms.unwrap_or(clock);
        let headers =
            record.headers.iter().map(|header| (header.key.as_str(), header.value.as_deref()));
        batch.keyless |= record.key.is_none();
        batch.builder.push_with(timestamp, record.key.as_deref(), record.value.as_deref(), headers);
        batch.records.push((index, timestamp));
    }
    for (partition, batch) in filling {
        if !batch.builder.is_empty() {
            pending.push(hand_over(context, topic, partition, acks, batch).await?);
        }
    }
    Ok(Submitted { count: records.len(), pending })
}

/// About what a record takes in a batch; never less.
fn size_of(record: &pb::Record) -> usize {
    const FRAMING: usize = 32;
    let headers = record
        .headers
        .iter()
        .map(|header| {
            FRAMING + header.key.len() + header.value.as_ref().map_or(0, |value| value.len())
        })
        .sum::<usize>();
    FRAMING
        + record.key.as_ref().map_or(0, |key| key.len())
        + record.value.as_ref().map_or(0, |value| value.len())
        + headers
}

/// What would be refused is refused before any record of the request is appended.
fn check_record(topic: &TopicEntry, record: &pb::Record) -> Result<(), Error> {
    let (actual, limit) = (size_of(record) + OVERHEAD, topic.config().max_message_bytes);
    if actual as u64 > limit {
        let message = format!(
            "a record of about {actual} bytes is over the topic's max.message.bytes of {limit}"
        );
        return Err(Error::new(ErrorCode::RecordTooLarge, message)
            .with("limit", limit)
            .with("actual", actual));
    }
    if topic.config().cleanup.compact && record.key.is_none() {
        let message = format!("topic `{}` is compacted: every record needs a key", topic.name);
        return Err(Error::new(ErrorCode::InvalidRecord, message));
    }
    Ok(())
}

/// This node's replica.
fn local(
    context: &Context,
    topic: &TopicEntry,
    partition: i32,
) -> Result<Arc<PartitionHandle>, Error> {
    let (key, handle) = topic.partition(partition)?;
    handle.cloned().ok_or_else(|| {
        let message = "this node has no replica of the partition";
        context.redirect(Error::new(ErrorCode::NotLeader, message), &key)
    })
}

async fn hand_over(
    context: &Context,
    topic: &TopicEntry,
    partition: i32,
    acks: pb::Acks,
    batch: Filling,
) -> Result<Pending, Error> {
    let handle = local(context, topic, partition)?;
    let BuiltBatch { header, payload, .. } = batch
        .builder
        .finish(Compression::None, None)
        .map_err(|error| Error::new(error.code(), error.to_string()))?;
    let produced = ProducedBatch {
        last_offset_delta: header.last_offset_delta,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        producer: None,
        record_count: header.record_count,
        attributes: header.attributes,
        payload_crc: Some(header.payload_crc),
        payload: Rope::from(payload),
    };
    // What this code built needs no checking.
    let verified = Verified { payload_crc: header.payload_crc, keyless: batch.keyless };
    let (responder, answer) = Responder::channel();
    let request = AppendRequest {
        batch: produced,
        verified,
        acks,
        timeout_ms: context.request_timeout_ms(0),
        expected_leader_epoch: None,
        patience: REBUILD_PATIENCE,
    };
    handle.append(request, responder).await;
    Ok(Pending { partition: handle.key().partition.0, records: batch.records, answer })
}

/// Waits for every batch; the first failure is the request's.
async fn answered(submitted: Submitted) -> Result<Vec<pb::RecordResult>, Error> {
    let mut results = vec![pb::RecordResult::default(); submitted.count];
    let (mut failure, mut appended_some): (Option<Error>, bool) = (None, false);
    for pending in submitted.pending {
        let answer = pending.answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorCode::OutcomeUnknown, "the partition's actor stopped; try again"))
        });
        match answer {
            Ok(appended) => {
                appended_some = true;
                for ((index, timestamp), delta) in pending.records.into_iter().zip(0..) {
                    results[index] = pb::RecordResult {
                        partition: i32::try_from(pending.partition).unwrap_or(i32::MAX),
                        offset: appended
                            .base_offset
                            .map_or(-1, |base| Offset::to_wire(base.plus(delta))),
                        timestamp_ms: appended.log_append_time_ms.unwrap_or(timestamp),
                    };
                }
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(results),
        // Part of the request is in the log: the request as a whole did not surely not happen.
        Some(error) if appended_some && error.surely_not_done() => {
            let message = format!("some records were appended, others refused: {error}");
            Err(Error { code: ErrorCode::OutcomeUnknown, message, ..error })
        }
        Some(error) => Err(error),
    }
}

async fn find_topic(context: &Context, name: &str) -> Result<Arc<TopicEntry>, Error> {
    match context.registry.topic(name) {
        Err(_) if context.config.auto_create_topics && !name.is_empty() => {
            let creation = CreateTopic { name: name.to_owned(), ..CreateTopic::default() };
            match context.control.here()?.create_topic(creation).await {
                Ok(_) => {}
                // Somebody else was faster.
                Err(error) if error.code == ErrorCode::TopicExists => {}
                Err(error) => return Err(error),
            }
            context.caught_up().await;
            context.registry.topic(name)
        }
        found => found,
    }
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
    let mut start: Option<(Arc<TopicEntry>, pb::Acks)> = None;
    let mut open = true;
    let ended = loop {
        tokio::select! {
            group = groups.next(), if open && unanswered.len() < GROUPS_UNANSWERED => {
                let Some(group) = group else {
                    open = false;
                    continue;
                };
                match submit_group(&context, &mut start, group).await {
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
    context: &Context,
    start: &mut Option<(Arc<TopicEntry>, pb::Acks)>,
    group: Group,
) -> Result<(Vec<usize>, Submitted), Status> {
    let (mut sizes, mut records) = (Vec::with_capacity(group.len()), Vec::new());
    for request in group {
        let request = request?;
        match start {
            None => {
                let topic = find_topic(context, &request.topic).await?;
                *start = Some((topic, parse_acks(request.acks)?));
            }
            Some((topic, _)) if !request.topic.is_empty() && *request.topic != *topic.name => {
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
    let Some((topic, acks)) = start else {
        return Err(
            Error::new(ErrorCode::InvalidRequest, "the first message names no topic").into()
        );
    };
    // The topic may have got partitions or another configuration. One made anew is another topic.
    if let Ok(now) = context.registry.topic(&topic.name)
        && now.id == topic.id
    {
        *topic = now;
    }
    Ok((sizes, submit(context, topic, *acks, &records).await?))
}

#[tonic::async_trait]
impl EventBusService for EventBus {
    async fn publish(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let request = request.into_inner();
        let topic = find_topic(&self.context, &request.topic).await?;
        let acks = parse_acks(request.acks)?;
        let submitted = submit(&self.context, &topic, acks, &request.records).await?;
        Ok(Response::new(pb::PublishResponse { results: answered(submitted).await? }))
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

    type TailStream = BoxStream<'static, Result<pb::TailResponse, Status>>;

    async fn tail(
        &self,
        request: Request<pb::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let topic = self.context.registry.topic(&request.topic)?;
        let (out, answers) = mpsc::channel(4);
        let positions = tail::positions(&topic, &request).await?;
        tokio::spawn(tail::run(Arc::clone(&self.context), topic, request, positions, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
