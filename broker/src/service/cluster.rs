//! `troupe.admin.v1.ClusterService`: the cluster as a whole, and what the replicas of this node hold.

use super::metadata::active_controller;
use super::{distress, partitions, replicas};
use crate::context::Context;
use crate::forward::{Call, deadline_of};
use crate::operations::Page;
use crate::partition::PartitionHandle;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::cluster_service_server::ClusterService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

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
        let image = self.context.metadata.now();
        let shares = shares(&image);
        let nodes = image.brokers().map(|broker| {
            let share = shares.get(&broker.node_id).copied().unwrap_or_default();
            pb::ClusterNode {
                node_id: broker.node_id.0,
                endpoint: broker.endpoint.clone(),
                http_endpoint: broker.http_endpoint.clone(),
                rack: broker.rack.clone().unwrap_or_default(),
                fenced: broker.fenced,
                broker_epoch: i64::try_from(broker.epoch.0).unwrap_or(i64::MAX),
                shutting_down: broker.shutting_down,
                leader_count: share.leaders,
                replica_count: share.replicas,
                in_sync_count: share.in_sync,
            }
        });
        let (mut count, mut offline, mut under_replicated) = (0, 0, 0);
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            count += 1;
            offline += i32::from(partition.leader.is_none());
            under_replicated += i32::from(partition.is_under_replicated());
        }
        Ok(Response::new(pb::GetClusterResponse {
            cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
            controller_id: active_controller(&self.context).map_or(-1, |id| id.0),
            nodes: nodes.collect(),
            metadata_offset: i64::try_from(image.next_offset().0).unwrap_or(i64::MAX),
            topic_count: i32::try_from(image.topic_count()).unwrap_or(i32::MAX),
            partition_count: count,
            offline_partition_count: offline,
            under_replicated_partition_count: under_replicated,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            as_of: Some(self.context.controller.as_of(&image).into()),
        }))
    }

    async fn get_health(
        &self,
        _: Request<pb::GetHealthRequest>,
    ) -> Result<Response<pb::GetHealthResponse>, Status> {
        Ok(Response::new(distress::health(&self.context).await))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Result<Response<pb::ListReplicasResponse>, Status> {
        let answer_by = deadline_of(request.metadata());
        let request = request.into_inner();
        let mut handles: Vec<Arc<PartitionHandle>> = if request.topic.is_empty() {
            let topics = self.context.metadata.registry.topics();
            topics.values().flat_map(|topic| topic.replicas().cloned()).collect()
        } else {
            self.context.metadata.registry.topic(&request.topic)?.replicas().cloned().collect()
        };
        handles.sort_by(|a, b| (a.topic(), a.key().partition).cmp(&(b.topic(), b.key().partition)));
        let page = Page::new(request.page_size, request.page_token.clone())?;
        let (handles, next_page_token) = page.cut(handles.into_iter(), |handle| {
            format!("{}\u{0}{:010}", handle.topic(), handle.key().partition.0)
        });
        let node_id = self.context.node_id;
        let replicas = if request.brief {
            handles.iter().map(|handle| replicas::brief(node_id, handle)).collect()
        } else {
            let each = handles.iter().map(|handle| replicas::describe(node_id, handle, answer_by));
            futures::future::join_all(each).await
        };
        Ok(Response::new(pb::ListReplicasResponse { replicas, next_page_token }))
    }

    async fn list_partitions(
        &self,
        request: Request<pb::ListPartitionsRequest>,
    ) -> Result<Response<pb::ListPartitionsResponse>, Status> {
        let image = self.context.metadata.now();
        let mut listed = partitions::list(&image, &request.into_inner())?;
        listed.as_of = Some(self.context.controller.as_of(&image).into());
        Ok(Response::new(listed))
    }

    async fn elect_leaders(
        &self,
        request: Request<pb::ElectLeadersRequest>,
    ) -> Result<Response<pb::ElectLeadersResponse>, Status> {
        let mut request = request;
        let impossible = partitions::take_impossible(&mut request.get_mut().partitions);
        if request.get_ref().partitions.is_empty() && !impossible.is_empty() {
            return Ok(Response::new(pb::ElectLeadersResponse { results: impossible }));
        }
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let here = |controller: ControllerHandle| {
            let request = asked.clone();
            async move { partitions::elect(&controller, request).await }
        };
        let there = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked.clone());
            async move { ClusterServiceClient::new(channel).elect_leaders(request).await }
        };
        let elected = self.context.active_controller.decide(&call, here, &there).await?;
        let mut elected = elected.respond(&call, |elected| elected);
        elected.get_mut().results.splice(..0, impossible);
        Ok(elected)
    }

    async fn drain_node(
        &self,
        request: Request<pb::DrainNodeRequest>,
    ) -> Result<Response<pb::DrainNodeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let node_id = asked.node_id;
        let here =
            |controller: ControllerHandle| async move { drain(&controller, NodeId(node_id)).await };
        let there = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked);
            async move { ClusterServiceClient::new(channel).drain_node(request).await }
        };
        let decided = self.context.active_controller.decide(&call, here, &there).await?;
        Ok(decided.respond(&call, |answer| answer))
    }

    async fn resume_node(
        &self,
        request: Request<pb::ResumeNodeRequest>,
    ) -> Result<Response<pb::ResumeNodeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let node_id = asked.node_id;
        let here = |controller: ControllerHandle| async move {
            controller.resume_broker(NodeId(node_id)).await?;
            Ok(pb::ResumeNodeResponse {})
        };
        let there = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked);
            async move { ClusterServiceClient::new(channel).resume_node(request).await }
        };
        let decided = self.context.active_controller.decide(&call, here, &there).await?;
        Ok(decided.respond(&call, |answer| answer))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let node_id = asked.node_id;
        let here = |controller: ControllerHandle| async move {
            controller.unregister_broker(NodeId(node_id)).await?;
            Ok(pb::RemoveNodeResponse {})
        };
        let there = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked);
            async move { ClusterServiceClient::new(channel).remove_node(request).await }
        };
        let decided = self.context.active_controller.decide(&call, here, &there).await?;
        Ok(decided.respond(&call, |answer| answer))
    }
}

/// Moves a node's leaderships away; those are left that nobody else can take.
async fn drain(
    controller: &ControllerHandle,
    node_id: NodeId,
) -> Result<pb::DrainNodeResponse, Error> {
    let image = controller.image().borrow().clone();
    let broker = image.broker(node_id).ok_or_else(|| {
        let message = format!("node {node_id} is not registered; `troupe node list` shows all");
        Error::new(ErrorCode::BrokerNotRegistered, message)
    })?;
    controller.begin_shutdown(node_id, broker.epoch).await?;
    let before = image.led_by(node_id).count();
    let left = controller.image().borrow().led_by(node_id).count();
    Ok(pb::DrainNodeResponse {
        moved_leader_count: i32::try_from(before.saturating_sub(left)).unwrap_or(i32::MAX),
        left_leader_count: i32::try_from(left).unwrap_or(i32::MAX),
    })
}

/// What a node has of the cluster's partitions.
#[derive(Clone, Copy, Default)]
struct Share {
    leaders: i32,
    replicas: i32,
    in_sync: i32,
}

fn shares(image: &ClusterImage) -> HashMap<NodeId, Share> {
    let mut shares: HashMap<NodeId, Share> = HashMap::new();
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        if let Some(leader) = partition.leader {
            shares.entry(leader).or_default().leaders += 1;
        }
        for replica in &partition.replicas {
            shares.entry(*replica).or_default().replicas += 1;
        }
        for replica in &partition.isr {
            shares.entry(*replica).or_default().in_sync += 1;
        }
    }
    shares
}
