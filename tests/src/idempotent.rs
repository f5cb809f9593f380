//! An idempotent producer, by hand.

use crate::{Sample, Server, batch_of};
use troupe_proto::log::v1::{InitProducerRequest, RecordBatch};

/// Sends one record at a time, whose value is its sequence.
pub struct IdempotentProducer {
    id: u64,
    epoch: u32,
    timestamp_ms: i64,
}

impl IdempotentProducer {
    /// A new one, all of whose records have this timestamp.
    pub async fn new(server: &Server, timestamp_ms: i64) -> Self {
        let answer = server.log().init_producer(InitProducerRequest {}).await;
        let answer = answer.expect("a producer gets an id").into_inner();
        Self { id: answer.producer_id, epoch: answer.producer_epoch, timestamp_ms }
    }

    pub fn batch(&self, sequence: u32) -> RecordBatch {
        RecordBatch {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: sequence,
            ..batch_of(&[Sample::of(format!("{sequence}"), self.timestamp_ms)])
        }
    }
}
