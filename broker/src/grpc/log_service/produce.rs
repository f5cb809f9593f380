//! Produce and ProduceStream on the wire: the batch is found in the request, and answers are joined.

use crate::address_book::AddressBook;
use crate::grpc::acks::parse_acks;
use crate::grpc::body::{Outgoing, ResponseBody};
use crate::grpc::message::{Field, Requests, encode, fields, mistyped};
use crate::operations::{Answered, Answers, Produced, StreamAnswer, StreamedBatch};
use bytes::BytesMut;
use futures::{Stream, StreamExt};
use prost::Message;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;
use troupe_proto::codec::not_the_message;
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1 as pb;
use troupe_proto::rope::Rope;

/// Answers that are joined into one write.
const ANSWERS_PER_WRITE: usize = 256;
/// Writes that wait for the client.
const WRITES_AHEAD: usize = 16;

/// The batches of a `ProduceRequest`.
pub fn batches(message: Rope) -> Result<Vec<Produced>, Status> {
    let (mut acks, mut timeout_ms, mut batches) = (0, 0, Vec::new());
    let mut transactional_id = None;
    fields(message, |tag, field| {
        match (tag, field) {
            (1, Field::Number(number)) => acks = number as i32,
            (2, Field::Number(number)) => timeout_ms = number as u32,
            (3, Field::Bytes(bytes)) => batches.push(partition_batch(bytes)?),
            (4, Field::Bytes(bytes)) => transactional_id = named(bytes)?,
            (1..=4, _) => return Err(mistyped(tag)),
            _ => {}
        }
        Ok(())
    })?;
    for produced in &mut batches {
        (produced.acks, produced.timeout_ms) = (parse_acks(acks), timeout_ms);
        produced.transactional_id.clone_from(&transactional_id);
    }
    Ok(batches)
}

/// The fields of a `PartitionProduce`.
fn partition_batch(message: Rope) -> Result<Produced, Status> {
    let mut produced = nothing();
    fields(message, |tag, field| {
        match (tag, field) {
            (1, Field::Bytes(bytes)) => produced.partition = Some(topic_partition(bytes)?),
            (2, Field::Number(number)) => produced.leader_epoch = Some(LeaderEpoch(number as u32)),
            (15, Field::Bytes(bytes)) => produced.batch = bytes,
            (1 | 2 | 15, _) => return Err(mistyped(tag)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(produced)
}

/// The batches of a stream.
pub fn streamed(requests: Requests) -> impl Stream<Item = Result<StreamedBatch, Status>> {
    requests.map(|message| streamed_batch(message?))
}

/// The fields of a `ProduceStreamRequest`.
fn streamed_batch(message: Rope) -> Result<StreamedBatch, Status> {
    let (mut correlation_id, mut chain, mut acks, mut produced) = (0, 0, 0, nothing());
    fields(message, |tag, field| {
        match (tag, field) {
            (1, Field::Number(number)) => correlation_id = number,
            (2, Field::Number(number)) => acks = number as i32,
            (3, Field::Number(number)) => produced.timeout_ms = number as u32,
            (4, Field::Bytes(bytes)) => produced.partition = Some(topic_partition(bytes)?),
            (5, Field::Number(number)) => produced.leader_epoch = Some(LeaderEpoch(number as u32)),
            (6, Field::Number(number)) => chain = number,
            (7, Field::Bytes(bytes)) => produced.transactional_id = named(bytes)?,
            (15, Field::Bytes(bytes)) => produced.batch = bytes,
            (1..=7 | 15, _) => return Err(mistyped(tag)),
            _ => {}
        }
        Ok(())
    })?;
    produced.acks = parse_acks(acks);
    Ok(StreamedBatch { correlation_id, chain, produced })
}

/// What a message says that has no fields.
fn nothing() -> Produced {
    Produced {
        partition: None,
        acks: parse_acks(0),
        timeout_ms: 0,
        leader_epoch: None,
        transactional_id: None,
        batch: Rope::new(),
    }
}

/// A name, if it is one.
fn named(bytes: Rope) -> Result<Option<Arc<str>>, Status> {
    let bytes = bytes.into_bytes();
    match std::str::from_utf8(&bytes) {
        Ok("") => Ok(None),
        Ok(name) => Ok(Some(name.into())),
        Err(_) => Err(Status::invalid_argument("a transactional id that is not UTF-8")),
    }
}

fn topic_partition(bytes: Rope) -> Result<pb::TopicPartition, Status> {
    pb::TopicPartition::decode(bytes).map_err(|error| not_the_message(&error).into())
}

pub fn produce_response(answered: Vec<Answered>, addresses: &AddressBook) -> pb::ProduceResponse {
    let results = answered.into_iter().map(|answered| result(answered, addresses));
    pb::ProduceResponse { results: results.collect() }
}

fn result(answered: Answered, addresses: &AddressBook) -> pb::PartitionProduceResult {
    let Answered { partition, answer } = answered;
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
            error: Some(addresses.told(error).into()),
            partition,
        },
    }
}

/// The answers of a stream, on their way to the client.
pub fn written(answers: Answers<Status>, addresses: AddressBook) -> ResponseBody {
    let (outgoing, body) = ResponseBody::channel(WRITES_AHEAD);
    tokio::spawn(write(answers, addresses, outgoing));
    body
}

async fn write(
    mut answers: Answers<Status>,
    addresses: AddressBook,
    outgoing: mpsc::Sender<Outgoing>,
) {
    let mut end = None;
    loop {
        let known = tokio::select! {
            known = answers.next(ANSWERS_PER_WRITE) => known,
            // The client has gone, and whoever still works for it hears it by this.
            () = outgoing.closed() => return,
        };
        let Some(known) = known else { break };
        let mut joined = BytesMut::new();
        for answer in known {
            match answer {
                Ok(StreamAnswer { correlation_id, answered }) => {
                    let result = Some(result(answered, &addresses));
                    let message = pb::ProduceStreamResponse { correlation_id, result };
                    joined.extend_from_slice(&encode(&message));
                }
                Err(status) => end = Some(status),
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
    use crate::admission::Admission;
    use crate::metadata_cache::MetadataCache;
    use crate::operations::Produce;
    use bytes::Bytes;
    use futures::stream;
    use std::task::Poll;
    use tokio_util::sync::CancellationToken;
    use troupe_machines::cluster::ClusterImage;
    use troupe_proto::ids::NodeId;

    #[tokio::test]
    async fn a_batch_comes_with_the_name_of_its_transaction() {
        let produced = |transactional_id: &str| {
            let partitions = vec![pb::PartitionProduce::default(); 2];
            let transactional_id = transactional_id.to_owned();
            let request = pb::ProduceRequest { transactional_id, partitions, ..Default::default() };
            batches(Rope::from(Bytes::from(request.encode_to_vec()))).unwrap()
        };
        let names = |produced: &[Produced]| -> Vec<_> {
            produced.iter().map(|one| one.transactional_id.clone()).collect()
        };
        assert_eq!(names(&produced("tx")), [Some("tx".into()), Some("tx".into())]);
        assert_eq!(names(&produced("")), [None, None]);
        let request =
            pb::ProduceStreamRequest { transactional_id: "tx".into(), ..Default::default() };
        let streamed = streamed_batch(Rope::from(Bytes::from(request.encode_to_vec()))).unwrap();
        assert_eq!(streamed.produced.transactional_id, Some("tx".into()));
        let not_utf8 = Rope::from(Bytes::from_static(&[0x3a, 1, 0xff]));
        assert!(streamed_batch(not_utf8).is_err());
    }

    /// Or a batch that waits for its turn would be appended for nobody.
    #[tokio::test]
    async fn who_waits_for_a_client_that_has_gone_hears_of_it() {
        let metadata = MetadataCache::of(NodeId(1), ClusterImage::default());
        let addresses = AddressBook::of_nodes(&metadata);
        let produce = Arc::new(Produce::new(metadata, Admission::new(1), 1 << 20));
        let read = CancellationToken::new();
        let until_dropped = read.clone().drop_guard();
        let batches = stream::poll_fn(move |_| {
            let _ = &until_dropped;
            Poll::Pending
        });
        let (outgoing, body) = ResponseBody::channel(1);
        let writes = tokio::spawn(write(produce.stream(batches, None), addresses, outgoing));
        tokio::task::yield_now().await;
        assert!(!read.is_cancelled());
        drop(body);
        read.cancelled().await;
        writes.await.unwrap();
    }
}
