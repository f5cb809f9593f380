//! What a producer with a transactional id does beside sending: Kafka's five calls, and the guard.

use super::{Committing, ConsumerGroupMetadata, Transaction, TransactionError, Transactions};
use crate::consumer::OffsetAndMetadata;
use crate::error::ClientError;
use crate::producer::Producer;
use crate::topic_partition::TopicPartition;
use std::sync::Arc;
use std::time::Duration;

impl Producer {
    /// Fences whoever else has the transactional id, and has what it left open aborted. To be called once, before all
    /// others; [`Producer::transaction`] does it by itself.
    ///
    /// # Errors
    /// `Fatal`: INVALID_TRANSACTIONAL_ID, INVALID_TRANSACTION_TIMEOUT. `Retriable`: not within `max_block`.
    pub async fn init_transactions(&self) -> Result<(), TransactionError> {
        self.transactions()?.init(self.accumulator()).await
    }

    /// From here on what is sent is part of a transaction. Asks nobody.
    ///
    /// # Errors
    /// `IllegalState`: one is open, or the producer is not initialised. `Fatal`.
    pub async fn begin_transaction(&self) -> Result<(), TransactionError> {
        self.transactions()?.begin(self.accumulator()).await.map(drop)
    }

    /// The same as a value that aborts when it is dropped. Initialises the producer if nobody has.
    ///
    /// # Errors
    /// As [`Producer::init_transactions`] and [`Producer::begin_transaction`].
    pub async fn transaction(&self) -> Result<Transaction<'_>, TransactionError> {
        let transactions = self.transactions()?;
        if transactions.session().is_none() {
            transactions.init(self.accumulator()).await?;
        }
        let number = transactions.begin(self.accumulator()).await?;
        Ok(Transaction::new(self, number))
    }

    /// Offsets that are committed with the transaction, or never: those of what it was made from. Nothing else commits
    /// them: switch `enable_auto_commit` off.
    ///
    /// # Errors
    /// `Abortable`: UNKNOWN_MEMBER, STALE_MEMBER_EPOCH, FENCED_INSTANCE_ID if the group has gone on without the consumer;
    /// what the coordinator of the group refuses. `Retriable`: not within `max_block`; if it is not called again, the
    /// transaction can only be aborted.
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        let offsets = offsets.into_iter().collect();
        self.transactions()?.send_offsets(self.accumulator(), offsets, group).await
    }

    /// Waits until all that was sent is appended, and has it committed: from here on readers of committed records see all
    /// of it, each partition for itself.
    ///
    /// # Errors
    /// `Abortable`: something was not appended. `Retriable`: not answered within `max_block`; it may be committed, and
    /// all that can be done is to call this again. `Fatal`: PRODUCER_FENCED; what was open is aborted.
    pub async fn commit_transaction(&self) -> Result<(), TransactionError> {
        self.transactions()?.commit(self.accumulator()).await
    }

    /// The same for who does not wait: the next transaction may be begun at once, and what was asked for is answered in
    /// order. Commits that are asked for while others are being decided are decided together after them, so that small
    /// transactions go on at the pace of their records; what is sent meanwhile is kept, up to `buffer_memory`. When one
    /// fails, all behind it have, and what is open too: then [`Producer::abort_transaction`] takes it back.
    ///
    /// # Errors
    /// `Abortable`: something was not appended; `IllegalState`: none is open; `Fatal`. What becomes of the commit is told
    /// by [`Committing`].
    pub async fn start_commit(&self) -> Result<Committing, TransactionError> {
        self.transactions()?.start_commit(self.shared_accumulator()).await
    }

    /// Gives up what was not sent, and has the rest aborted: readers of committed records see none of it. Consumers go on
    /// from where they are: [`crate::Consumer::seek_to_committed`] takes them back.
    ///
    /// # Errors
    /// `Retriable`: call it again. `Fatal`.
    pub async fn abort_transaction(&self) -> Result<(), TransactionError> {
        self.transactions()?.abort(self.accumulator(), Duration::MAX).await
    }

    fn transactions(&self) -> Result<&Arc<Transactions>, TransactionError> {
        self.accumulator().transactions.as_ref().ok_or_else(|| {
            TransactionError::illegal("the producer has no transactional_id: set one")
        })
    }

    /// What an error of `send` means for the transaction.
    pub(super) fn transaction_error(&self, error: ClientError) -> TransactionError {
        let transactions = self.accumulator().transactions.as_ref();
        let now = transactions.and_then(|it| it.state.lock().check_send().err());
        match (error, now) {
            (_, Some(now @ TransactionError::Fatal(_))) => now,
            (ClientError::IllegalState { what }, _) => TransactionError::IllegalState { what },
            (ClientError::TransactionFailed { cause }, _) => TransactionError::Abortable(*cause),
            (error, _) => TransactionError::of_record(error),
        }
    }
}
