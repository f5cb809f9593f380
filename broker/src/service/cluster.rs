//! `troupe.admin.v1.ClusterService`: the cluster as a whole, and what the replicas of this node hold.

use super::Page;
use crate::context::Context;
use crate::partition::{ActorState, PartitionHandle};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::cluster_service_server::ClusterService;

pub struct Cluster {
    context: Arc<Context>,
}

impl Cluster {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_cluster(
        &self,
        _: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::GetClusterResponse>, Status> {
        let image = self.context.image.borrow().clone();
        let nodes = image.brokers().map(|broker| pb::ClusterNode {
            node_id: broker.node_id.0,
            endpoint: broker.endpoint.clone(),
            http_endpoint: broker.http_endpoint.clone(),
            rack: broker.rack.clone().unwrap_or_default(),
            fenced: broker.fenced,
            broker_epoch: i64::try_from(broker.epoch.0).unwrap_or(i64::MAX),
        });
        let (mut partitions, mut offline, mut under_replicated) = (0, 0, 0);
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            partitions += 1;
            offline += i32::from(partition.leader.is_none());
            under_replicated += i32::from(partition.isr.len() < partition.replicas.len());
        }
        Ok(Response::new(pb::GetClusterResponse {
            cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
            controller_id: self.context.controller.controller_id().map_or(-1, |id| id.0),
            nodes: nodes.collect(),
            metadata_offset: i64::try_from(image.next_offset().0).unwrap_or(i64::MAX),
            topic_count: i32::try_from(image.topic_count()).unwrap_or(i32::MAX),
            partition_count: partitions,
            offline_partition_count: offline,
            under_replicated_partition_count: under_replicated,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Result<Response<pb::ListReplicasResponse>, Status> {
        let request = request.into_inner();
        let mut handles: Vec<Arc<PartitionHandle>> = if request.topic.is_empty() {
            let topics = self.context.registry.topics();
            topics.values().flat_map(|topic| topic.partitions.iter().cloned()).collect()
        } else {
            self.context.registry.topic(&request.topic)?.partitions.clone()
        };
        handles.sort_by(|a, b| (a.topic(), a.key().partition).cmp(&(b.topic(), b.key().partition)));
        let page = Page::new(request.page_size, &request.page_token)?;
        let (handles, next_page_token) = page.cut(handles.into_iter(), |handle| {
            format!("{}\u{0}{:010}", handle.topic(), handle.key().partition.0)
        });
        let replicas =
            futures::future::join_all(handles.iter().map(|handle| describe(handle))).await;
        Ok(Response::new(pb::ListReplicasResponse { replicas, next_page_token }))
    }
}

async fn describe(handle: &PartitionHandle) -> pb::Replica {
    let mut replica = pb::Replica {
        topic: handle.topic().to_owned(),
        partition: i32::try_from(handle.key().partition.0).unwrap_or(i32::MAX),
        role: pb::ReplicaRole::Offline.into(),
        ..Default::default()
    };
    if handle.board.state() == ActorState::Offline {
        replica.offline_reason =
            handle.board.offline_reason().map(|reason| reason.to_string()).unwrap_or_default();
        return replica;
    }
    match handle.describe().await {
        Ok(held) => {
            replica.role = pb::ReplicaRole::Leader.into();
            replica.leader_epoch = held.leader_epoch.0;
            replica.log_start_offset = held.log_start.to_wire();
            replica.high_watermark = held.high_watermark.to_wire();
            replica.flushed_end_offset = held.flushed_end.to_wire();
            replica.log_end_offset = held.log_end.to_wire();
            replica.size_bytes = i64::try_from(held.size_bytes).unwrap_or(i64::MAX);
            replica.segment_count = i32::try_from(held.segment_count).unwrap_or(i32::MAX);
        }
        Err(error) => replica.offline_reason = error.to_string(),
    }
    replica
}
