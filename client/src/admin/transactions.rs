//! Transactions as an operator sees them (X21).
//!
//! Any node takes these calls and asks the coordinators and leaders. That one is not there for a moment, loads, or moves,
//! is waited out here, up to the request timeout.

use super::{Admin, all_pages};
use crate::client::MAX_ANSWER;
use crate::error::ClientError;
use std::time::Duration;
use tonic::transport::Channel;
use troupe_proto::admin::v1::transaction_service_client::TransactionServiceClient;
use troupe_proto::admin::v1::{
    AbortHangingTransactionRequest, AbortTransactionRequest, DescribeProducersRequest,
    DescribeTransactionRequest, DescribeTransactionResponse, FindHangingTransactionsRequest,
    FindHangingTransactionsResponse, ListTransactionsRequest, ProducerState, TransactionListing,
    TransactionState,
};
use troupe_proto::ids::{Offset, PartitionId, ProducerId};

impl Admin {
    /// The transactional ids of all coordinators, by id: those in one of these states, or all if none is named; only those
    /// of this producer id; only those that have been open for so long.
    ///
    /// # Errors
    /// COORDINATOR_LOADING and COORDINATOR_NOT_AVAILABLE if one does not answer in time; those of any control call.
    pub async fn list_transactions(
        &self,
        states: &[TransactionState],
        producer: Option<ProducerId>,
        open_for: Duration,
    ) -> Result<Vec<TransactionListing>, ClientError> {
        all_pages(|page_token| async move {
            let request = ListTransactionsRequest {
                page_size: 0,
                page_token,
                states: states.iter().map(|&state| state.into()).collect(),
                producer_id: producer.map_or(0, |id| id.0),
                open_for_ms: millis(open_for),
            };
            let page = self
                .coordinator_call(true, |channel| {
                    let request = request.clone();
                    async move { transactions(channel).list_transactions(request).await }
                })
                .await?;
            Ok((page.transactions, page.next_page_token))
        })
        .await
    }

    /// A transactional id, and what its transaction has written to.
    ///
    /// # Errors
    /// TRANSACTIONAL_ID_NOT_FOUND, INVALID_TRANSACTIONAL_ID.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<DescribeTransactionResponse, ClientError> {
        self.coordinator_call(true, |channel| {
            let transactional_id = transactional_id.to_owned();
            let request = DescribeTransactionRequest { transactional_id };
            async move { transactions(channel).describe_transaction(request).await }
        })
        .await
    }

    /// Aborts what is open under a transactional id, and fences its producer.
    ///
    /// # Errors
    /// TRANSACTIONAL_ID_NOT_FOUND, INVALID_TRANSACTIONAL_ID, INVALID_TRANSACTION_STATE.
    pub async fn abort_transaction(&self, transactional_id: &str) -> Result<(), ClientError> {
        let aborted = self.coordinator_call(false, |channel| {
            let transactional_id = transactional_id.to_owned();
            let request = AbortTransactionRequest { transactional_id };
            async move { transactions(channel).abort_transaction(request).await }
        });
        aborted.await.map(drop)
    }

    /// Who writes to a partition, and what of it is open there, as its leader knows.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION, LEADER_NOT_AVAILABLE.
    pub async fn describe_producers(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<Vec<ProducerState>, ClientError> {
        let request =
            DescribeProducersRequest { topic: topic.to_owned(), partition: partition.0 as i32 };
        let answer = self
            .call(true, |channel| {
                let request = request.clone();
                async move { transactions(channel).describe_producers(request).await }
            })
            .await?;
        Ok(answer.producers)
    }

    /// Transactions that are open at partitions while no coordinator knows of them, and the partitions that could not be
    /// asked. An empty topic is all of them. `open_for`: only those that have been for longer; none is 15 minutes.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, INVALID_TOPIC.
    pub async fn find_hanging_transactions(
        &self,
        topic: &str,
        partition: Option<PartitionId>,
        open_for: Duration,
    ) -> Result<FindHangingTransactionsResponse, ClientError> {
        let request = FindHangingTransactionsRequest {
            topic: topic.to_owned(),
            partition: partition.map(|partition| partition.0 as i32),
            open_for_ms: millis(open_for),
        };
        self.coordinator_call(true, |channel| {
            let request = request.clone();
            async move { transactions(channel).find_hanging_transactions(request).await }
        })
        .await
    }

    /// Ends such a one at its partition.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION, INVALID_TRANSACTION_STATE.
    pub async fn abort_hanging_transaction(
        &self,
        topic: &str,
        partition: PartitionId,
        start: Offset,
    ) -> Result<(), ClientError> {
        let request = AbortHangingTransactionRequest {
            topic: topic.to_owned(),
            partition: partition.0 as i32,
            start_offset: start.to_wire(),
        };
        let aborted = self.coordinator_call(false, |channel| {
            let request = request.clone();
            async move { transactions(channel).abort_hanging_transaction(request).await }
        });
        aborted.await.map(drop)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn transactions(channel: Channel) -> TransactionServiceClient<Channel> {
    TransactionServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}
