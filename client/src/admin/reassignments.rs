//! Other replicas for partitions.

use super::{Admin, all_pages};
use crate::client::MAX_ANSWER;
use crate::error::ClientError;
use tonic::transport::Channel;
use troupe_proto::admin::v1::reassignment_service_client::ReassignmentServiceClient;
use troupe_proto::admin::v1::{
    AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest, PartitionReassignment,
    ReassignmentResult, TopicPartitions,
};

impl Admin {
    /// Begins reassignments, gives others in the place of those under way, or cancels them. Done when they have begun:
    /// [`Admin::list_partition_reassignments`] shows what is still under way.
    ///
    /// # Errors
    /// INVALID_REQUEST while a node is of an earlier version; those of a partition are in its result.
    pub async fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignmentsRequest,
    ) -> Result<Vec<ReassignmentResult>, ClientError> {
        let answer = self
            .call(false, |channel| {
                let request = request.clone();
                async move { reassignments(channel).alter_partition_reassignments(request).await }
            })
            .await?;
        Ok(answer.results)
    }

    /// What is under way of these partitions; empty: of all.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC.
    pub async fn list_partition_reassignments(
        &self,
        partitions: &[TopicPartitions],
    ) -> Result<Vec<PartitionReassignment>, ClientError> {
        all_pages(|page_token| async move {
            let partitions = partitions.to_vec();
            let request = ListPartitionReassignmentsRequest { partitions, page_size: 0, page_token };
            let page = self
                .call(true, |channel| {
                    let request = request.clone();
                    async move { reassignments(channel).list_partition_reassignments(request).await }
                })
                .await?;
            Ok((page.reassignments, page.next_page_token))
        })
        .await
    }
}

fn reassignments(channel: Channel) -> ReassignmentServiceClient<Channel> {
    ReassignmentServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}
