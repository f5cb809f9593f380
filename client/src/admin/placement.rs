//! Which node has which replicas, and which had better.

use super::Admin;
use crate::client::MAX_ANSWER;
use crate::error::ClientError;
use tonic::transport::Channel;
use troupe_proto::admin::v1::placement_service_client::PlacementServiceClient;
use troupe_proto::admin::v1::{
    PlanReassignmentRequest, PlanReassignmentResponse, RetireNodeRequest, RetireNodeResponse,
};
use troupe_proto::ids::NodeId;

impl Admin {
    /// Other replicas for partitions, as few as reach a goal. Changes nothing.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, BROKER_NOT_REGISTERED, INVALID_REPLICATION_FACTOR, INVALID_REQUEST.
    pub async fn plan_reassignment(
        &self,
        request: PlanReassignmentRequest,
    ) -> Result<PlanReassignmentResponse, ClientError> {
        self.call(true, |channel| {
            let request = request.clone();
            async move { placement(channel).plan_reassignment(request).await }
        })
        .await
    }

    /// Marks a node as being retired, until it is removed: nothing is placed on it, and others lead in its place. Twice
    /// is as good as once.
    ///
    /// # Errors
    /// BROKER_NOT_REGISTERED, INVALID_REPLICATION_FACTOR, INVALID_REQUEST.
    pub async fn retire_node(&self, node: NodeId) -> Result<RetireNodeResponse, ClientError> {
        self.mark_node(RetireNodeRequest { node_id: node.0, cancel: false }).await
    }

    /// A node that was being retired stays. Twice is as good as once.
    ///
    /// # Errors
    /// BROKER_NOT_REGISTERED.
    pub async fn keep_node(&self, node: NodeId) -> Result<(), ClientError> {
        self.mark_node(RetireNodeRequest { node_id: node.0, cancel: true }).await.map(drop)
    }

    async fn mark_node(
        &self,
        request: RetireNodeRequest,
    ) -> Result<RetireNodeResponse, ClientError> {
        self.call(true, |channel| async move { placement(channel).retire_node(request).await })
            .await
    }
}

fn placement(channel: Channel) -> PlacementServiceClient<Channel> {
    PlacementServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}
