//! Fetch and FetchStream on the wire: batches go out as they lie.

use crate::address_book::AddressBook;
use crate::grpc::body::IntoPieces;
use crate::grpc::message::{
    Requests, decode, encode, encode_all_with_payload, encode_with_payload,
};
use crate::operations::{FetchPosition, FetchRequest, FetchUpdate, Fetched};
use crate::partition::{AbortedTransaction, Isolation};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;
use tonic::Status;
use troupe_proto::ids::LeaderEpoch;
use troupe_proto::log::v1 as pb;
use troupe_proto::wire;

/// Field number of the partitions in a unary fetch's answer.
const PARTITIONS_TAG: u32 = 1;
/// Field number of the batches in every fetch answer.
const BATCHES_TAG: u32 = 15;

pub fn fetch_request(request: pb::FetchRequest) -> FetchRequest {
    FetchRequest {
        max_wait: Duration::from_millis(request.max_wait_ms.into()),
        min_bytes: request.min_bytes,
        max_bytes: request.max_bytes,
        positions: request.positions.into_iter().map(position).collect(),
    }
}

/// What the requests of a stream change.
pub fn updates(requests: Requests) -> impl Stream<Item = Result<FetchUpdate, Status>> {
    requests.map(|message| {
        let request: pb::FetchStreamRequest = decode(message?)?;
        Ok(FetchUpdate {
            credit_bytes: request.credit_bytes,
            positions: request.positions.into_iter().map(position).collect(),
            drop: request.drop,
        })
    })
}

fn position(position: pb::FetchPosition) -> FetchPosition {
    FetchPosition {
        partition: position.partition,
        subscription: position.subscription,
        offset: position.offset,
        leader_epoch: position.leader_epoch.map(LeaderEpoch),
        client_rack: position.client_rack.map(Into::into),
        max_bytes: position.max_bytes,
        isolation: Isolation::from_wire(position.isolation_level),
    }
}

/// The answer of a single fetch.
pub fn pieces(fetched: Vec<Fetched>, addresses: &AddressBook) -> Vec<Bytes> {
    let items = fetched.into_iter().map(|one| with_payload(one.told(addresses))).collect();
    encode_all_with_payload(PARTITIONS_TAG, BATCHES_TAG, items)
}

/// One answer of a stream.
impl IntoPieces for Fetched {
    fn into_pieces(self, out: &mut VecDeque<Bytes>) {
        let (answer, batches) = with_payload(self);
        match batches.is_empty() {
            true => out.push_back(encode(&answer)),
            false => out.extend(encode_with_payload(&answer, BATCHES_TAG, batches)),
        }
    }
}

fn aborted(transaction: &AbortedTransaction) -> pb::AbortedTransaction {
    pb::AbortedTransaction {
        producer_id: transaction.producer_id.0,
        first_offset: transaction.first_offset.to_wire(),
    }
}

/// An answer and, apart from it, the batches that go out as they lie.
fn with_payload(fetched: Fetched) -> (wire::PartitionFetch, Bytes) {
    let Fetched { partition, subscription, answer } = fetched;
    let named = wire::PartitionFetch { partition, subscription, ..Default::default() };
    match answer {
        Ok(read) => {
            let answer = wire::PartitionFetch {
                high_watermark: read.high_watermark.to_wire(),
                last_stable_offset: read.last_stable.to_wire(),
                aborted_transactions: read.aborted.iter().map(aborted).collect(),
                log_start_offset: read.log_start.to_wire(),
                preferred_read_replica: read.preferred_replica.map(|node| node.0),
                ..named
            };
            (answer, read.bytes)
        }
        Err(error) => {
            let error = Some(error.into());
            let answer = wire::PartitionFetch {
                high_watermark: -1,
                last_stable_offset: -1,
                log_start_offset: -1,
                error,
                ..named
            };
            (answer, Bytes::new())
        }
    }
}
