//! `troupe.admin.v1.ClusterService`: the cluster as a whole, and what the replicas of this node hold.

use super::Page;
use crate::context::Context;
use crate::partition::{ActorState, PartitionHandle};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_machines::cluster::{ClusterImage, Election};
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::cluster_service_server::ClusterService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, NodeId, PartitionId, PartitionKey};

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
            shutting_down: broker.shutting_down,
            ..Default::default()
        });
        let (mut partitions, mut offline, mut under_replicated) = (0, 0, 0);
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            partitions += 1;
            offline += i32::from(partition.leader.is_none());
            under_replicated += i32::from(partition.isr.len() < partition.replicas.len());
        }
        Ok(Response::new(pb::GetClusterResponse {
            cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
            controller_id: self.context.control.controller_id().map_or(-1, |id| id.0),
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
            topics.values().flat_map(|topic| topic.replicas().cloned()).collect()
        } else {
            self.context.registry.topic(&request.topic)?.replicas().cloned().collect()
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

    async fn list_partitions(
        &self,
        request: Request<pb::ListPartitionsRequest>,
    ) -> Result<Response<pb::ListPartitionsResponse>, Status> {
        let request = request.into_inner();
        let image = self.context.image.borrow().clone();
        let page = Page::new(request.page_size, &request.page_token)?;
        if !request.topic.is_empty() && image.topic(&request.topic).is_none() {
            let message = format!("topic `{}` does not exist", request.topic);
            return Err(Error::new(ErrorCode::UnknownTopic, message).into());
        }
        let shown = image
            .topics()
            .filter(|topic| request.topic.is_empty() || *topic.name == *request.topic)
            .flat_map(|topic| (0..).zip(&topic.partitions).map(move |(at, one)| (topic, at, one)))
            .filter(|(topic, _, partition)| {
                let min_isr = topic.config.min_insync_replicas as usize;
                match request.filter() {
                    pb::PartitionFilter::Unspecified => true,
                    pb::PartitionFilter::UnderReplicated => {
                        partition.isr.len() < partition.replicas.len()
                    }
                    pb::PartitionFilter::Offline => partition.leader.is_none(),
                    pb::PartitionFilter::UnderMinIsr => {
                        partition.isr.len() < min_isr.min(partition.replicas.len())
                    }
                    pb::PartitionFilter::NotPreferred => {
                        partition.leader.as_ref() != partition.replicas.first()
                    }
                }
            });
        let (page, next_page_token) =
            page.cut(shown, |(topic, at, _)| format!("{}\u{0}{at:010}", topic.name));
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        let partitions = page.into_iter().map(|(topic, at, partition)| pb::PartitionState {
            topic: topic.name.to_string(),
            partition: at,
            leader_id: partition.leader.map(|leader| leader.0),
            leader_epoch: partition.leader_epoch.0,
            partition_epoch: partition.partition_epoch.0,
            replicas: ids(&partition.replicas),
            in_sync_replicas: ids(&partition.isr),
            eligible_leader_replicas: ids(&partition.elr),
            min_in_sync_replicas: topic.config.min_insync_replicas,
        });
        Ok(Response::new(pb::ListPartitionsResponse {
            partitions: partitions.collect(),
            next_page_token,
        }))
    }

    async fn elect_leaders(
        &self,
        request: Request<pb::ElectLeadersRequest>,
    ) -> Result<Response<pb::ElectLeadersResponse>, Status> {
        let request = request.into_inner();
        let election = match request.r#type() {
            pb::ElectionType::Unspecified | pb::ElectionType::Preferred => Election::Preferred,
            pb::ElectionType::Unclean => Election::Unclean,
        };
        let image = self.context.image.borrow().clone();
        let mut results = Vec::new();
        let mut wanted: Vec<(String, i32, PartitionKey)> = Vec::new();
        for named in request.partitions {
            let Some(topic) = image.topic(&named.topic) else {
                let message = format!("topic `{}` does not exist", named.topic);
                return Err(Error::new(ErrorCode::UnknownTopic, message).into());
            };
            let all = 0..i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            let asked = if named.partitions.is_empty() { all.collect() } else { named.partitions };
            for partition in asked {
                let number = u32::try_from(partition).unwrap_or(u32::MAX);
                wanted.push((named.topic.clone(), partition, topic.key(PartitionId(number))));
            }
        }
        if wanted.is_empty() {
            for topic in image.topics() {
                for (at, partition) in (0i32..).zip(&topic.partitions) {
                    let concerned = match election {
                        Election::Preferred => {
                            partition.leader.as_ref() != partition.replicas.first()
                        }
                        Election::Unclean => partition.leader.is_none(),
                    };
                    if concerned {
                        let key = topic.key(PartitionId(at.unsigned_abs()));
                        wanted.push((topic.name.to_string(), at, key));
                    }
                }
            }
        }
        let keys = wanted.iter().map(|(.., key)| *key).collect();
        let answers = self.context.control.here()?.elect_leaders(keys, election).await?;
        for ((topic, partition, _), answer) in wanted.into_iter().zip(answers) {
            let result = pb::ElectionResult { topic, partition, ..Default::default() };
            results.push(match answer {
                Ok(after) => pb::ElectionResult {
                    leader_id: after.leader.map(|leader| leader.0),
                    leader_epoch: after.leader_epoch.0,
                    ..result
                },
                Err(error) => {
                    pb::ElectionResult { error: Some(Error::from(error).into()), ..result }
                }
            });
        }
        Ok(Response::new(pb::ElectLeadersResponse { results }))
    }

    async fn drain_node(
        &self,
        request: Request<pb::DrainNodeRequest>,
    ) -> Result<Response<pb::DrainNodeResponse>, Status> {
        let node_id = NodeId(request.into_inner().node_id);
        let controller = self.context.control.here()?;
        let count = |image: &ClusterImage| image.led_by(node_id).count();
        let before = count(&controller.image().borrow());
        let epoch = self.registered(node_id)?;
        controller.begin_shutdown(node_id, epoch).await?;
        let left = count(&controller.image().borrow());
        Ok(Response::new(pb::DrainNodeResponse {
            moved_leader_count: i32::try_from(before.saturating_sub(left)).unwrap_or(i32::MAX),
            left_leader_count: i32::try_from(left).unwrap_or(i32::MAX),
        }))
    }

    async fn resume_node(
        &self,
        _: Request<pb::ResumeNodeRequest>,
    ) -> Result<Response<pb::ResumeNodeResponse>, Status> {
        Err(Status::unimplemented("a drained node comes back when it is started anew"))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let node_id = NodeId(request.into_inner().node_id);
        self.context.control.here()?.unregister_broker(node_id).await?;
        Ok(Response::new(pb::RemoveNodeResponse {}))
    }
}

impl Cluster {
    fn registered(&self, node_id: NodeId) -> Result<BrokerEpoch, Error> {
        let image = self.context.image.borrow();
        image.broker(node_id).map(|broker| broker.epoch).ok_or_else(|| {
            let message = format!("node {node_id} is not registered; `troupe node list` shows all");
            Error::new(ErrorCode::BrokerNotRegistered, message)
        })
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
