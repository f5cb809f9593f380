//! `troupe.admin.v1.PlacementService` over [`Placement`].

use super::numbers::{int32, int64};
use crate::forward::Call;
use crate::operations::{NamedSize, Placement};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_machines::cluster::{
    BrokerLoad, Plan, PlanGoal, PlanRequest, PlannedBroker, PlannedPartition,
};
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::placement_service_client::PlacementServiceClient;
use troupe_proto::admin::v1::placement_service_server::PlacementService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

pub struct PlacementDoor(pub Arc<Placement>);

fn ids(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn plan_request(asked: &pb::PlanReassignmentRequest) -> Result<PlanRequest, Error> {
    let to_nodes = nodes(&asked.to_node_ids);
    let (goal, to_nodes) = match asked.goal() {
        pb::PlanGoal::Unspecified | pb::PlanGoal::Even => (PlanGoal::Even, to_nodes),
        pb::PlanGoal::Fill => (PlanGoal::Fill(to_nodes), Vec::new()),
        pb::PlanGoal::Empty => (PlanGoal::Empty, to_nodes),
        pb::PlanGoal::Classic => (PlanGoal::Classic, to_nodes),
    };
    let factor = asked.replication_factor.map(|asked| {
        let message = format!("{asked} is no replication factor; ask for at least 1");
        let error = Error::new(ErrorCode::InvalidReplicationFactor, message);
        u32::try_from(asked).ok().filter(|factor| *factor > 0).ok_or(error)
    });
    Ok(PlanRequest {
        goal,
        topics: asked.topics.clone(),
        to_nodes,
        exclude_nodes: nodes(&asked.exclude_node_ids),
        replication_factor: factor.transpose()?,
        ignore_racks: asked.disable_rack_aware,
        sizes: BTreeMap::new(),
    })
}

/// A size that is none counts as none.
fn size(size: &pb::PartitionSize) -> Option<NamedSize> {
    let (partition, bytes) =
        (u32::try_from(size.partition).ok()?, u64::try_from(size.size_bytes).ok()?);
    Some(NamedSize { topic: size.topic.clone(), partition, bytes })
}

fn planned(partition: &PlannedPartition) -> pb::PlannedPartition {
    pb::PlannedPartition {
        topic: partition.topic.to_string(),
        partition: int32(partition.key.partition.0),
        current_replicas: ids(&partition.current),
        proposed_replicas: ids(&partition.proposed),
        size_bytes: int64(partition.size),
        rack_aware: partition.separated,
    }
}

fn share(load: BrokerLoad) -> pb::NodeShare {
    let BrokerLoad { leaders, replicas, bytes } = load;
    pb::NodeShare {
        leader_count: int64(leaders),
        replica_count: int64(replicas),
        size_bytes: int64(bytes),
    }
}

fn node(broker: &PlannedBroker) -> pb::PlannedNode {
    pb::PlannedNode {
        node_id: broker.node_id.0,
        rack: broker.rack.clone().unwrap_or_default(),
        before: Some(share(broker.before)),
        after: Some(share(broker.after)),
    }
}

#[tonic::async_trait]
impl PlacementService for PlacementDoor {
    async fn plan_reassignment(
        &self,
        request: Request<pb::PlanReassignmentRequest>,
    ) -> Result<Response<pb::PlanReassignmentResponse>, Status> {
        let asked = request.into_inner();
        let sizes: Vec<NamedSize> = asked.sizes.iter().filter_map(size).collect();
        let (plan, as_of) = self.0.plan(plan_request(&asked)?, &sizes).await?;
        let Plan { partitions, brokers } = plan;
        Ok(Response::new(pb::PlanReassignmentResponse {
            partitions: partitions.iter().map(planned).collect(),
            nodes: brokers.iter().map(node).collect(),
            as_of: Some(as_of.into()),
        }))
    }

    async fn retire_node(
        &self,
        request: Request<pb::RetireNodeRequest>,
    ) -> Result<Response<pb::RetireNodeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked);
            async move { PlacementServiceClient::new(channel).retire_node(request).await }
        };
        let (node_id, cancel) = (NodeId(asked.node_id), asked.cancel);
        let retired = self.0.retire_node(&call, node_id, cancel, &relay).await?;
        let voter_ids = ids(&self.0.voters());
        let encode = |moved| pb::RetireNodeResponse { moved_leader_count: int32(moved), voter_ids };
        Ok(retired.respond(&call, encode))
    }
}
