//! Produce and ProduceStream: find the batch in the request, check it, hand it to its partition.

mod chains;

use crate::admission::Share;
use crate::context::Context;
use crate::grpc::{Field, Handover, Outgoing, Requests, ResponseBody, encode, fields, mistyped};
use crate::operations::check_writable;
use crate::partition::{
    AppendRequest, Appended, CROWD_PATIENCE, Chain, PartitionHandle, Responder,
};
use crate::shutdown::shutting_down;
use chains::Chains;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use troupe_machines::admission::FlowId;
use troupe_proto::batch::{BatchError, Limits, ProducedBatch, Verified};
use troupe_proto::codec::not_the_message;
use troupe_proto::error::{Error, ErrorCode, Publication};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1 as pb;
use troupe_proto::rope::Rope;
use troupe_proto::v1::Acks;

/// Batches of one stream that may be unanswered; reading stops there.
const MAX_UNANSWERED: usize = 1024;
/// Answers that are joined into one write.
const ANSWERS_PER_WRITE: usize = 256;
/// A batch that unpacks to more is checked on another thread.
const UNPACKED_AT_ONCE: usize = 1 << 20;

/// One batch on its way to its partition, as it stood in a request.
#[derive(Default)]
struct Produced {
    correlation_id: u64,
    acks: i32,
    timeout_ms: u32,
    partition: Option<pb::TopicPartition>,
    leader_epoch: Option<u32>,
    chain: Option<Arc<Chain>>,
    batch: Option<Rope>,
}

impl Produced {
    /// The fields of a `ProduceStreamRequest`.
    fn from_stream(message: Rope, chains: &mut Chains) -> Result<Self, Status> {
        let mut produced = Self::default();
        fields(message, |tag, field| {
            match (tag, field) {
                (1, Field::Number(number)) => produced.correlation_id = number,
                (2, Field::Number(number)) => produced.acks = number as i32,
                (3, Field::Number(number)) => produced.timeout_ms = number as u32,
                (4, Field::Bytes(bytes)) => produced.partition = Some(topic_partition(bytes)?),
                (5, Field::Number(number)) => produced.leader_epoch = Some(number as u32),
                (6, Field::Number(number)) => produced.chain = chains.find(number),
                (15, Field::Bytes(bytes)) => produced.batch = Some(bytes),
                (1..=6 | 15, _) => return Err(mistyped(tag)),
                _ => {}
            }
            Ok(())
        })?;
        Ok(produced)
    }

    /// Checks the batch and hands it over in its flow's turn, if that comes in the batch's time and before `until`;
    /// the responder is answered in any case. `handover`: of a call that has no headers yet.
    async fn submit(
        self,
        context: &Context,
        flow: Option<FlowId>,
        until: Option<Instant>,
        handover: Option<&Handover>,
        responder: Responder<Appended>,
    ) {
        let timeout_ms = context.request_timeout_ms(self.timeout_ms);
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        let deadline = until.map_or(deadline, |until| until.min(deadline));
        let batch = self.batch.unwrap_or_default();
        match checked(context, self.partition.as_ref(), self.acks, batch).await {
            Ok((handle, batch, verified, acks)) => {
                let (chain, responder) = match batch.producer {
                    Some(_) => (self.chain, responder),
                    None => {
                        (self.chain.or_else(|| handover.map(of_its_own)), of_no_producer(responder))
                    }
                };
                let responder = match turn(context, flow, deadline, batch.payload.len()).await {
                    Ok(share) => responder.holding(share),
                    Err(error) => return responder.of_chain(chain).answer(Err(error)),
                };
                let left = deadline.saturating_duration_since(Instant::now()).as_millis();
                let request = AppendRequest {
                    batch,
                    verified,
                    acks,
                    timeout_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
                    expected_leader_epoch: self.leader_epoch.map(LeaderEpoch),
                    patience: CROWD_PATIENCE,
                    chain,
                };
                handle.append(request, responder).await;
            }
            Err(error) => responder.of_chain(self.chain).answer(Err(error)),
        }
    }
}

/// A batch by itself, whose call has its headers as soon as a leader begins to append it.
fn of_its_own(handover: &Handover) -> Arc<Chain> {
    Arc::new(Chain::new(handover.begun.clone()))
}

/// Nothing tells a batch without a producer id from the same batch sent again: where it may be appended, no answer says
/// that it can be.
fn of_no_producer(responder: Responder<Appended>) -> Responder<Appended> {
    Responder::new(move |answer| {
        responder.answer(answer.map_err(|error| error.of_publication(Publication::default())));
    })
}

/// Waits for a flow's turn; what another node has let in has had it.
async fn turn(
    context: &Context,
    flow: Option<FlowId>,
    deadline: Instant,
    bytes: usize,
) -> Result<Option<Share>, Error> {
    let Some(flow) = flow else { return Ok(None) };
    tokio::select! {
        biased;
        share = context.admission.admit_until(deadline, flow, bytes) => share.map(Some),
        () = context.shutdown.cancelled() => Err(shutting_down()),
    }
}

fn topic_partition(bytes: Rope) -> Result<pb::TopicPartition, Status> {
    pb::TopicPartition::decode(bytes).map_err(|error| not_the_message(&error).into())
}

type Checked = (Arc<PartitionHandle>, ProducedBatch, Verified, Acks);

async fn checked(
    context: &Context,
    partition: Option<&pb::TopicPartition>,
    acks: i32,
    batch: Rope,
) -> Result<Checked, Error> {
    if context.shutdown.is_cancelled() {
        return Err(shutting_down());
    }
    check_writable(partition.map_or("", |named| &named.topic))?;
    let handle = context.metadata.partition(partition)?;
    let acks = parse_acks(acks)?;
    let batch = ProducedBatch::decode(batch)?;
    let verified = verified(context, &batch).await?;
    Ok((handle, batch, verified, acks))
}

/// Checks a batch: at once, unless it unpacks to so much that others on this thread would wait for it.
async fn verified(context: &Context, batch: &ProducedBatch) -> Result<Verified, Error> {
    let limits = |max_bytes| Limits { max_bytes, ..Limits::default() };
    let most = usize::try_from(context.config.max_unpacked_batch.0).unwrap_or(usize::MAX);
    let verified = match batch.verify(limits(most.min(UNPACKED_AT_ONCE))) {
        // Within the limit that holds it may unpack.
        Err(BatchError::Bomb { .. } | BatchError::BadCompression { .. })
            if most > UNPACKED_AT_ONCE =>
        {
            let batch = batch.clone();
            let verify = move || batch.verify(limits(most));
            tokio::task::spawn_blocking(verify).await.map_err(|_| shutting_down())?
        }
        verified => verified,
    };
    Ok(verified?)
}

pub(super) fn parse_acks(acks: i32) -> Result<Acks, Error> {
    Acks::try_from(acks).map_err(|_| {
        let message = format!("acks {acks} is none of ACKS_ALL, ACKS_LEADER, ACKS_NONE");
        Error::new(ErrorCode::InvalidRequest, message)
    })
}

/// What is known of a unary call beside its request.
pub(super) struct Call<'a> {
    pub flow: FlowId,
    pub deadline: Instant,
    pub handover: &'a Handover,
}

/// Several partitions in one call: each succeeds or fails for itself.
pub(super) async fn produce(
    context: &Context,
    call: Call<'_>,
    requests: &mut Requests,
) -> Result<pb::ProduceResponse, Status> {
    let message = requests.first().await?;
    let (mut acks, mut timeout_ms, mut entries) = (0, 0, Vec::new());
    fields(message, |tag, field| {
        match (tag, field) {
            (1, Field::Number(number)) => acks = number as i32,
            (2, Field::Number(number)) => timeout_ms = number as u32,
            (3, Field::Bytes(bytes)) => entries.push(bytes),
            (1..=3, _) => return Err(mistyped(tag)),
            _ => {}
        }
        Ok(())
    })?;
    let mut waiting = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut produced = Produced { acks, timeout_ms, ..Default::default() };
        fields(entry, |tag, field| {
            match (tag, field) {
                (1, Field::Bytes(bytes)) => produced.partition = Some(topic_partition(bytes)?),
                (2, Field::Number(number)) => produced.leader_epoch = Some(number as u32),
                (15, Field::Bytes(bytes)) => produced.batch = Some(bytes),
                (1 | 2 | 15, _) => return Err(mistyped(tag)),
                _ => {}
            }
            Ok(())
        })?;
        let partition = produced.partition.clone();
        let (responder, answer) = Responder::channel();
        produced
            .submit(context, Some(call.flow), Some(call.deadline), Some(call.handover), responder)
            .await;
        waiting.push((partition, answer));
    }
    let mut results = Vec::with_capacity(waiting.len());
    for (partition, answer) in waiting {
        let answer = answer.await.unwrap_or_else(|_| Err(shutting_down()));
        results.push(result(context, partition, answer));
    }
    Ok(pb::ProduceResponse { results })
}

fn result(
    context: &Context,
    partition: Option<pb::TopicPartition>,
    answer: Result<Appended, Error>,
) -> pb::PartitionProduceResult {
    match answer {
        Ok(appended) => pb::PartitionProduceResult {
            partition,
            base_offset: appended.base_offset.map_or(-1, Offset::to_wire),
            log_append_time_ms: appended.log_append_time_ms.unwrap_or(-1),
            log_start_offset: appended.log_start.to_wire(),
            duplicate: appended.duplicate,
            error: None,
        },
        Err(error) => pb::PartitionProduceResult {
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            duplicate: false,
            error: Some(context.metadata.hinted(error, partition.as_ref()).into()),
            partition,
        },
    }
}

/// What the reading half of a stream and the partitions tell its writing half.
enum Answer {
    Batch {
        correlation_id: u64,
        partition: Option<pb::TopicPartition>,
        answer: Result<Appended, Error>,
    },
    End(Status),
}

/// Pipelined: one task reads and hands over, one writes the answers. The answer channel closes when the
/// reader has ended and every batch is answered; that ends the call.
pub(super) fn produce_stream(
    context: Arc<Context>,
    requests: Requests,
    flow: Option<FlowId>,
) -> ResponseBody {
    let (outgoing, body) = ResponseBody::channel(16);
    let (answers, answered) = mpsc::channel(MAX_UNANSWERED);
    tokio::spawn(read_batches(Arc::clone(&context), requests, flow, answers));
    tokio::spawn(write_answers(context, answered, outgoing));
    body
}

async fn read_batches(
    context: Arc<Context>,
    mut requests: Requests,
    flow: Option<FlowId>,
    answers: mpsc::Sender<Answer>,
) {
    let mut chains = Chains::default();
    loop {
        // Room for the answer is taken before the request is read: back-pressure on the client.
        let Ok(room) = answers.clone().reserve_owned().await else { return };
        let message = tokio::select! {
            message = requests.next() => message,
            () = context.shutdown.cancelled() => Err(shutting_down().into()),
            () = answers.closed() => return,
        };
        let produced = match message.and_then(|message| {
            message.map(|message| Produced::from_stream(message, &mut chains)).transpose()
        }) {
            Ok(Some(produced)) => produced,
            Ok(None) => return,
            Err(status) => {
                room.send(Answer::End(status));
                return;
            }
        };
        let (correlation_id, partition) = (produced.correlation_id, produced.partition.clone());
        let responder = Responder::new(move |answer| {
            room.send(Answer::Batch { correlation_id, partition, answer });
        });
        tokio::select! {
            () = produced.submit(&context, flow, None, None, responder) => {}
            // Nobody hears what becomes of it, and what waits for its turn is not appended.
            () = answers.closed() => return,
        }
    }
}

async fn write_answers(
    context: Arc<Context>,
    mut answered: mpsc::Receiver<Answer>,
    outgoing: mpsc::Sender<Outgoing>,
) {
    let mut answers = Vec::with_capacity(ANSWERS_PER_WRITE);
    let mut end = None;
    loop {
        let taken = tokio::select! {
            taken = answered.recv_many(&mut answers, ANSWERS_PER_WRITE) => taken,
            // The client has gone, and whoever still works for it hears it by this.
            () = outgoing.closed() => return,
        };
        if taken == 0 {
            break;
        }
        let mut joined = bytes::BytesMut::new();
        for answer in answers.drain(..) {
            match answer {
                Answer::Batch { correlation_id, partition, answer } => {
                    let result = Some(result(&context, partition, answer));
                    let message = pb::ProduceStreamResponse { correlation_id, result };
                    joined.extend_from_slice(&encode(&message));
                }
                Answer::End(status) => end = Some(status),
            }
        }
        if !joined.is_empty() && outgoing.send(Ok(vec![joined.freeze()])).await.is_err() {
            return;
        }
    }
    if let Some(status) = end {
        // The client is gone if this fails.
        let _ = outgoing.send(Err(status)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_machines::cluster::ClusterImage;
    use troupe_proto::ids::NodeId;

    /// Or a batch that waits for its turn would be appended for nobody.
    #[tokio::test]
    async fn who_waits_for_a_client_that_has_gone_hears_of_it() {
        let context = Context::of(NodeId(1), ClusterImage::default());
        let (answers, answered) = mpsc::channel(1);
        let (outgoing, body) = ResponseBody::channel(1);
        let writes = tokio::spawn(write_answers(context, answered, outgoing));
        tokio::task::yield_now().await;
        assert!(!answers.is_closed());
        drop(body);
        answers.closed().await;
        writes.await.unwrap();
    }
}
