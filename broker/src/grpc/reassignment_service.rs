//! `troupe.admin.v1.ReassignmentService` over [`Reassignments`].

use crate::forward::Call;
use crate::operations::{NamedPartitions, Page, Reassignments};
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_machines::cluster::{AlterPartitionReassignments, ReassignPartition, Reassigned};
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::reassignment_service_client::ReassignmentServiceClient;
use troupe_proto::admin::v1::reassignment_service_server::ReassignmentService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

pub struct ReassignmentDoor(pub Arc<Reassignments>);

fn ids(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn shown(topic: &str, number: i32, reassigned: &Reassigned) -> pb::PartitionReassignment {
    let Reassigned { partition, cancelled_until_in_sync } = reassigned;
    pb::PartitionReassignment {
        topic: topic.to_owned(),
        partition: number,
        replicas: ids(&partition.replicas),
        adding_replicas: ids(&partition.adding),
        removing_replicas: ids(&partition.removing),
        original_replicas: ids(&partition.original()),
        in_sync_replicas: ids(&partition.isr),
        leader_id: partition.leader.map(|leader| leader.0),
        cancelled_until_in_sync: *cancelled_until_in_sync,
    }
}

fn reassign(one: &pb::ReassignPartition) -> Result<ReassignPartition, Error> {
    if one.cancel && !one.replicas.is_empty() {
        let message = "a cancellation names no replicas: those from before are restored";
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    Ok(ReassignPartition {
        topic: one.topic.clone(),
        partition: one.partition,
        target: (!one.cancel).then(|| one.replicas.iter().copied().map(NodeId).collect()),
    })
}

#[tonic::async_trait]
impl ReassignmentService for ReassignmentDoor {
    async fn alter_partition_reassignments(
        &self,
        request: Request<pb::AlterPartitionReassignmentsRequest>,
    ) -> Result<Response<pb::AlterPartitionReassignmentsResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let partitions = asked.partitions.iter().map(reassign).collect::<Result<_, _>>()?;
        let request = AlterPartitionReassignments {
            partitions,
            allow_replication_factor_change: asked.allow_replication_factor_change.unwrap_or(true),
            validate_only: asked.validate_only,
        };
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked.clone());
            async move {
                ReassignmentServiceClient::new(channel).alter_partition_reassignments(request).await
            }
        };
        let decided = self.0.alter(&call, &request, &relay).await?;
        let answer = decided.respond(&call, |results| {
            let results = request.partitions.iter().zip(results).map(|(one, result)| {
                let ReassignPartition { topic, partition, .. } = one;
                let (after, error) = match result {
                    Ok(after) => (Some(shown(topic, *partition, &after)), None),
                    Err(error) => (None, Some(error.into())),
                };
                pb::ReassignmentResult { topic: topic.clone(), partition: *partition, after, error }
            });
            pb::AlterPartitionReassignmentsResponse { results: results.collect() }
        });
        Ok(answer)
    }

    async fn list_partition_reassignments(
        &self,
        request: Request<pb::ListPartitionReassignmentsRequest>,
    ) -> Result<Response<pb::ListPartitionReassignmentsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, request.page_token)?;
        let named = request.partitions.into_iter().map(|named| {
            let pb::TopicPartitions { topic, partitions } = named;
            NamedPartitions { topic, partitions }
        });
        let listed = self.0.list(&named.collect::<Vec<_>>(), &page)?;
        let reassignments =
            listed.reassignments.iter().map(|one| shown(&one.topic, one.number, &one.reassigned));
        Ok(Response::new(pb::ListPartitionReassignmentsResponse {
            reassignments: reassignments.collect(),
            next_page_token: listed.next_page_token,
            as_of: Some(listed.as_of.into()),
        }))
    }
}
