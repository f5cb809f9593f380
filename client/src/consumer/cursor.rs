//! A batch that is being handed out record by record.

use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::fetcher::{ConsumerRecord, FetchedBatch};
use crate::topic_partition::TopicPartition;
use troupe_proto::ids::Offset;

type Records = Exclusive<Box<dyn Iterator<Item = Result<ConsumerRecord, ClientError>> + Send>>;

pub(super) struct Cursor {
    pub at: TopicPartition,
    batch: FetchedBatch,
    /// Once somebody wants records.
    records: Option<Records>,
    /// The next record.
    pub next: Offset,
}

impl Cursor {
    pub(super) fn new(batch: FetchedBatch) -> Self {
        let next = batch.wanted.max(batch.header.base_offset);
        Self { at: batch.topic_partition(), batch, records: None, next }
    }

    /// The next record; None: the batch is at its end, and so is `next`.
    #[inline]
    pub(super) fn record(&mut self) -> Option<Result<ConsumerRecord, ClientError>> {
        let batch = &self.batch;
        let records = self.records.get_or_insert_with(|| Exclusive::new(Box::new(batch.records())));
        let record = records.get_mut().next();
        match &record {
            Some(Ok(record)) => self.next = record.offset.plus(1),
            Some(Err(_)) => {}
            None => self.next = self.batch.header.end_offset(),
        }
        record
    }

    pub(super) fn header(&self) -> &troupe_proto::batch::BatchHeader {
        &self.batch.header
    }

    /// Whether anything of it was handed out.
    pub(super) fn is_fresh(&self) -> bool {
        self.records.is_none()
    }

    /// Every record of it was handed out.
    pub(super) fn is_at_end(&self) -> bool {
        !self.is_fresh() && self.next >= self.batch.header.end_offset()
    }

    /// What is left of the batch.
    pub(super) fn into_batch(mut self) -> FetchedBatch {
        self.batch.wanted = self.batch.wanted.max(self.next);
        self.batch
    }
}
