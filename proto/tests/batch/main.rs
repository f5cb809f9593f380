//! The batch codec against the generated types: both must say the same about the same bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod hostile;
mod produced;
mod stored;

use bytes::Bytes;
use proptest::prelude::*;
use troupe_proto::batch::{BuiltBatch, Compression, ProducerStamp, RecordSetBuilder};
use troupe_proto::ids::{PartitionId, PartitionKey, ProducerEpoch, ProducerId, Sequence, TopicId};
use troupe_proto::log::v1 as typed;
use troupe_proto::rope::Rope;

/// A record as an application sees it.
#[derive(Clone, Debug)]
pub struct Plain {
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

pub fn partition_key() -> PartitionKey {
    PartitionKey { topic_id: TopicId(uuid::Uuid::from_u128(77)), partition: PartitionId(3) }
}

fn payload_bytes() -> impl Strategy<Value = Option<Bytes>> {
    let bytes = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 100..400),
    ];
    prop::option::weighted(0.8, bytes.prop_map(Bytes::from))
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 1_760_000_000_000..1_760_000_100_000i64,
        1 => Just(0),
        1 => any::<i64>(),
    ]
}

pub fn plain_records() -> impl Strategy<Value = Vec<Plain>> {
    let headers = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(("[a-zä]{0,6}", payload_bytes()), 1..4),
    ];
    let record = (timestamp(), payload_bytes(), payload_bytes(), headers).prop_map(
        |(timestamp_ms, key, value, headers)| Plain { timestamp_ms, key, value, headers },
    );
    prop::collection::vec(record, 1..30)
}

pub fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

pub fn producer() -> impl Strategy<Value = Option<ProducerStamp>> {
    let stamp = (1..=u64::MAX, any::<u32>(), 0..Sequence::MODULUS).prop_map(
        |(id, epoch, base_sequence)| ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(base_sequence),
        },
    );
    prop::option::of(stamp)
}

/// Headers in the form that the builder takes.
pub fn borrowed(headers: &[(String, Option<Bytes>)]) -> Vec<(&str, Option<&[u8]>)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
}

pub fn build(
    records: &[Plain],
    compression: Compression,
    producer: Option<ProducerStamp>,
) -> BuiltBatch {
    let mut builder = RecordSetBuilder::new();
    for record in records {
        let Plain { timestamp_ms, key, value, headers } = record;
        builder.push(*timestamp_ms, key.as_deref(), value.as_deref(), &borrowed(headers));
    }
    builder.finish(compression, producer).unwrap()
}

/// The same records as a message.
pub fn typed_set(records: &[Plain]) -> typed::RecordSet {
    let base = records[0].timestamp_ms;
    let typed_record = |(index, record): (usize, &Plain)| typed::Record {
        offset_delta: index as u32,
        timestamp_delta: record.timestamp_ms.wrapping_sub(base),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| typed::Header { key: key.clone(), value: value.clone() })
            .collect(),
    };
    typed::RecordSet { records: records.iter().enumerate().map(typed_record).collect() }
}

/// The same bytes in pieces.
pub fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Rope {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    let mut rope = Rope::new();
    for ends in at.windows(2) {
        rope.push(Bytes::copy_from_slice(&bytes[ends[0]..ends[1]]));
    }
    rope
}

pub fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..20)
}
