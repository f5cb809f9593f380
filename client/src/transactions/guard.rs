//! A transaction as a value: who has it can send, and it ends with it.

use super::{Committing, ConsumerGroupMetadata, TransactionError};
use crate::consumer::OffsetAndMetadata;
use crate::producer::{Delivery, Producer, ProducerRecord};
use crate::topic_partition::TopicPartition;

/// A transaction that is open. Dropped without [`Transaction::commit`] it is aborted, in the background; the next one
/// waits for that.
///
/// ```no_run
/// # async fn example(producer: &troupe_client::Producer) -> Result<(), troupe_client::TransactionError> {
/// use troupe_client::ProducerRecord;
///
/// let transaction = producer.transaction().await?;
/// drop(transaction.send(ProducerRecord::new("orders").value("one")).await?);
/// drop(transaction.send(ProducerRecord::new("stock").value("minus one")).await?);
/// transaction.commit().await
/// # }
/// ```
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'p> {
    producer: &'p Producer,
    /// None: it is nobody's to abort any more.
    number: Option<u64>,
}

impl Transaction<'_> {
    /// As [`Producer::send`]. Nobody need wait for the delivery: a commit does, and fails if it has.
    ///
    /// # Errors
    /// `Abortable`: the record was not taken, or something of the transaction has failed before. `Fatal`.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, TransactionError> {
        let sent = self.producer.send(record).await;
        sent.map_err(|error| self.producer.transaction_error(error))
    }

    /// As [`Producer::send_offsets_to_transaction`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        self.producer.send_offsets_to_transaction(offsets, group).await
    }

    /// As [`Producer::commit_transaction`], which is what to call again after a `Retriable` error. After an `Abortable`
    /// one the transaction is aborted.
    ///
    /// # Errors
    /// As there.
    pub async fn commit(mut self) -> Result<(), TransactionError> {
        let committed = self.producer.commit_transaction().await;
        if matches!(committed, Err(TransactionError::Retriable(_))) {
            self.number = None;
        }
        committed
    }

    /// As [`Producer::start_commit`]. After an `Abortable` error the transaction is aborted.
    ///
    /// # Errors
    /// As there.
    pub async fn start_commit(self) -> Result<Committing, TransactionError> {
        self.producer.start_commit().await
    }

    /// As [`Producer::abort_transaction`].
    ///
    /// # Errors
    /// As there.
    pub async fn abort(self) -> Result<(), TransactionError> {
        self.producer.abort_transaction().await
    }
}

impl<'p> Transaction<'p> {
    pub(super) fn new(producer: &'p Producer, number: u64) -> Self {
        Self { producer, number: Some(number) }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.producer.abandon(number);
        }
    }
}
