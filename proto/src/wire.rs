//! The same messages, read lazily. A length-delimited field looks the same on the wire whether it is
//! declared as a message or as bytes; these types declare batches as bytes, so that a slice of a file or
//! of a request passes through without being decoded. Tests hold them against the generated types.

use crate::internal::v1::replicate_partitions_response::Refusal;
use crate::log::v1::{AbortedTransaction, TopicPartition};
use crate::v1::ErrorDetail;
use bytes::Bytes;
use prost::Message;

/// [`crate::log::v1::ProduceStreamRequest`] with an encoded batch.
#[derive(Clone, PartialEq, Message)]
pub struct ProduceStreamRequest {
    #[prost(uint64, tag = "1")]
    pub correlation_id: u64,
    #[prost(enumeration = "crate::v1::Acks", tag = "2")]
    pub acks: i32,
    #[prost(uint32, tag = "3")]
    pub timeout_ms: u32,
    #[prost(message, optional, tag = "4")]
    pub partition: Option<TopicPartition>,
    #[prost(uint32, optional, tag = "5")]
    pub leader_epoch: Option<u32>,
    #[prost(uint64, tag = "6")]
    pub chain: u64,
    #[prost(string, tag = "7")]
    pub transactional_id: String,
    /// A serialised `RecordBatch`.
    #[prost(bytes = "bytes", tag = "15")]
    pub batch: Bytes,
}

/// [`crate::log::v1::FetchStreamResponse`] with encoded batches.
#[derive(Clone, PartialEq, Message)]
pub struct FetchStreamResponse {
    #[prost(message, optional, tag = "1")]
    pub partition: Option<TopicPartition>,
    #[prost(int64, tag = "2")]
    pub high_watermark: i64,
    #[prost(int64, tag = "3")]
    pub log_start_offset: i64,
    #[prost(message, optional, tag = "4")]
    pub error: Option<ErrorDetail>,
    /// Of streams only.
    #[prost(uint64, tag = "5")]
    pub subscription: u64,
    #[prost(int32, optional, tag = "6")]
    pub preferred_read_replica: Option<i32>,
    #[prost(int64, tag = "7")]
    pub last_stable_offset: i64,
    #[prost(message, repeated, tag = "8")]
    pub aborted_transactions: Vec<AbortedTransaction>,
    /// Serialised `RecordBatches`: whole batches as they stand in the file.
    #[prost(bytes = "bytes", tag = "15")]
    pub batches: Bytes,
}

/// [`crate::log::v1::FetchResponse`] with encoded batches.
#[derive(Clone, PartialEq, Message)]
pub struct FetchResponse {
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<PartitionFetch>,
}

/// [`crate::log::v1::PartitionFetch`] with encoded batches.
pub type PartitionFetch = FetchStreamResponse;

/// [`crate::internal::v1::ReplicatePartitionsResponse`] with encoded batches.
#[derive(Clone, PartialEq, Message)]
pub struct ReplicatePartitionsResponse {
    #[prost(uint32, tag = "1")]
    pub channel: u32,
    #[prost(uint64, tag = "2")]
    pub high_watermark: u64,
    #[prost(uint64, tag = "3")]
    pub log_start_offset: u64,
    #[prost(oneof = "Refusal", tags = "4, 5, 6, 11")]
    pub refusal: Option<Refusal>,
    #[prost(uint64, tag = "7")]
    pub round: u64,
    #[prost(uint64, optional, tag = "8")]
    pub read_offset: Option<u64>,
    #[prost(uint64, tag = "9")]
    pub everyone_has_offset: u64,
    #[prost(uint64, tag = "10")]
    pub tombstones_gone_offset: u64,
    /// Serialised `RecordBatches`: whole batches as they stand in the file.
    #[prost(bytes = "bytes", tag = "15")]
    pub batches: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::v1 as typed;

    fn partition() -> Option<TopicPartition> {
        Some(TopicPartition {
            topic: "t".into(),
            partition: 3,
            topic_id: Bytes::from_static(b"id"),
        })
    }

    fn batch() -> typed::RecordBatch {
        typed::RecordBatch { base_offset: 7, record_count: 1, ..Default::default() }
    }

    #[test]
    fn a_lazy_produce_request_has_the_same_wire_image() {
        let typed = typed::ProduceStreamRequest {
            transactional_id: "tx".into(),
            leader_epoch: Some(7),
            chain: 5,
            correlation_id: 9,
            acks: 2,
            timeout_ms: 11,
            partition: partition(),
            batch: Some(batch()),
        };
        let lazy = ProduceStreamRequest::decode(&typed.encode_to_vec()[..]).unwrap();
        assert_eq!(lazy.batch, batch().encode_to_vec());
        assert_eq!(lazy.encode_to_vec(), typed.encode_to_vec());
    }

    #[test]
    fn lazy_fetch_responses_have_the_same_wire_image() {
        let batches = typed::RecordBatches { batches: vec![batch(), batch()] };
        let pushed = typed::FetchStreamResponse {
            aborted_transactions: vec![AbortedTransaction { producer_id: 4, first_offset: 3 }],
            last_stable_offset: 4,
            partition: partition(),
            high_watermark: 5,
            log_start_offset: 1,
            error: Some(ErrorDetail { message: "m".into(), ..Default::default() }),
            subscription: 7,
            preferred_read_replica: Some(0),
            batches: Some(batches.clone()),
        };
        let lazy = FetchStreamResponse::decode(&pushed.encode_to_vec()[..]).unwrap();
        assert_eq!(lazy.batches, batches.encode_to_vec());
        assert_eq!(lazy.encode_to_vec(), pushed.encode_to_vec());

        let answer = typed::FetchResponse {
            partitions: vec![typed::PartitionFetch {
                aborted_transactions: vec![AbortedTransaction { producer_id: 4, first_offset: 0 }],
                last_stable_offset: 3,
                partition: partition(),
                high_watermark: 5,
                log_start_offset: 1,
                error: None,
                preferred_read_replica: Some(3),
                batches: Some(batches),
            }],
        };
        let lazy = FetchResponse::decode(&answer.encode_to_vec()[..]).unwrap();
        assert_eq!(lazy.encode_to_vec(), answer.encode_to_vec());
    }

    #[test]
    fn lazy_replication_has_the_same_wire_image() {
        use crate::internal::v1 as internal;
        let refusal =
            Refusal::Divergence(internal::Divergence { leader_epoch: Some(3), end_offset: 9 });
        let anew = Refusal::BeginAnew(internal::BeginAnew { log_start_offset: 7 });
        for refusal in [None, Some(refusal), Some(anew)] {
            let typed = internal::ReplicatePartitionsResponse {
                channel: 4,
                high_watermark: 5,
                log_start_offset: 1,
                refusal,
                round: 6,
                read_offset: Some(0),
                everyone_has_offset: 2,
                tombstones_gone_offset: 8,
                batches: Some(typed::RecordBatches { batches: vec![batch()] }),
            };
            let lazy = ReplicatePartitionsResponse::decode(&typed.encode_to_vec()[..]).unwrap();
            assert_eq!(lazy.encode_to_vec(), typed.encode_to_vec());
        }
    }
}
