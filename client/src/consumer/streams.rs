//! Records and batches as streams.

use super::Consumer;
use crate::error::ClientError;
use crate::fetcher::{ConsumerRecord, FetchedBatch};
use futures::stream::{Stream, unfold};

impl Consumer {
    /// The records as a stream that ends never; an error does not end it.
    pub fn records(
        &mut self,
    ) -> impl Stream<Item = Result<ConsumerRecord, ClientError>> + Send + Unpin + '_ {
        Box::pin(unfold(self, |consumer| async move { Some((consumer.next().await, consumer)) }))
    }

    /// The batches as a stream that ends never; an error does not end it.
    pub fn batches(
        &mut self,
    ) -> impl Stream<Item = Result<FetchedBatch, ClientError>> + Send + Unpin + '_ {
        Box::pin(unfold(
            self,
            |consumer| async move { Some((consumer.next_batch().await, consumer)) },
        ))
    }

    /// The records as a stream that owns the consumer; dropping it leaves the group.
    pub fn into_records(
        self,
    ) -> impl Stream<Item = Result<ConsumerRecord, ClientError>> + Send + Unpin {
        Box::pin(unfold(
            self,
            |mut consumer| async move { Some((consumer.next().await, consumer)) },
        ))
    }
}
