//! `troupe.admin.v1.ClusterService` over [`Cluster`] and [`Health`].

use super::cleaning::cleaning;
use super::log_dirs;
use super::numbers::{int32, int64};
use crate::address_book::AddressBook;
use crate::forward::{Call, deadline_of};
use crate::log_directories::LogDirs;
use crate::operations::{
    Cluster, ClusterNode, Drained, ElectionResult, Elections, Health, NamedPartitions, Page,
    PartitionFilter, PartitionState, Reason, ReasonKind, Replica, ReplicaQuery, ReplicaRole,
    ScrubbedReplica, Verdict,
};
use crate::partition::How;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::ops::Range;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_machines::cluster::Election;
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::cluster_service_server::ClusterService;
use troupe_proto::ids::{NodeId, Offset};

pub struct ClusterDoor {
    cluster: Arc<Cluster>,
    health: Arc<Health>,
    log_dirs: Arc<LogDirs>,
    /// What those are told who come by this listener.
    addresses: AddressBook,
}

impl ClusterDoor {
    pub fn new(
        cluster: Arc<Cluster>,
        health: Arc<Health>,
        log_dirs: Arc<LogDirs>,
        addresses: AddressBook,
    ) -> Self {
        Self { cluster, health, log_dirs, addresses }
    }
}

fn ids(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn node(node: ClusterNode, addresses: &AddressBook) -> pb::ClusterNode {
    let ClusterNode { broker, leaders, replicas, in_sync } = node;
    // Whoever asks is shown every node.
    let endpoint = addresses.endpoint(&broker).unwrap_or(&broker.endpoint).to_owned();
    pb::ClusterNode {
        node_id: broker.node_id.0,
        endpoint,
        http_endpoint: broker.http_endpoint,
        rack: broker.rack.unwrap_or_default(),
        fenced: broker.fenced,
        broker_epoch: int64(broker.epoch.0),
        shutting_down: broker.shutting_down,
        leader_count: int32(leaders),
        replica_count: int32(replicas),
        in_sync_count: int32(in_sync),
        retiring: broker.retiring,
    }
}

fn verdict(verdict: Verdict) -> pb::HealthVerdict {
    match verdict {
        Verdict::Healthy => pb::HealthVerdict::Healthy,
        Verdict::Degraded => pb::HealthVerdict::Degraded,
        Verdict::Unhealthy => pb::HealthVerdict::Unhealthy,
    }
}

fn reason_kind(kind: ReasonKind) -> pb::HealthReasonKind {
    match kind {
        ReasonKind::NoActiveController => pb::HealthReasonKind::NoActiveController,
        ReasonKind::OldMetadata => pb::HealthReasonKind::OldMetadata,
        ReasonKind::SilentControllers => pb::HealthReasonKind::SilentControllers,
        ReasonKind::OfflinePartitions => pb::HealthReasonKind::OfflinePartitions,
        ReasonKind::UnderMinIsr => pb::HealthReasonKind::UnderMinIsr,
        ReasonKind::UnderReplicated => pb::HealthReasonKind::UnderReplicated,
        ReasonKind::FencedNodes => pb::HealthReasonKind::FencedNodes,
        ReasonKind::DrainingNodes => pb::HealthReasonKind::DrainingNodes,
        ReasonKind::OfflineReplicas => pb::HealthReasonKind::OfflineReplicas,
        ReasonKind::StalledReplicas => pb::HealthReasonKind::StalledReplicas,
        ReasonKind::DamagedReplicas => pb::HealthReasonKind::DamagedReplicas,
        ReasonKind::WaitingAppends => pb::HealthReasonKind::WaitingAppends,
        ReasonKind::DiskFull => pb::HealthReasonKind::DiskFull,
        ReasonKind::OfflineLogDirectories => pb::HealthReasonKind::OfflineLogDirectories,
    }
}

fn reason(reason: Reason) -> pb::HealthReason {
    pb::HealthReason {
        kind: reason_kind(reason.kind).into(),
        severity: verdict(reason.severity).into(),
        message: reason.message,
        node_ids: ids(&reason.nodes),
        count: int32(reason.count),
        examples: reason.examples,
    }
}

fn role(role: ReplicaRole) -> pb::ReplicaRole {
    match role {
        ReplicaRole::Leader => pb::ReplicaRole::Leader,
        ReplicaRole::Follower => pb::ReplicaRole::Follower,
        ReplicaRole::Offline => pb::ReplicaRole::Offline,
    }
}

fn condition(how: How) -> pb::ReplicaCondition {
    match how {
        How::Running => pb::ReplicaCondition::Running,
        How::Restarting => pb::ReplicaCondition::Restarting,
        How::Offline => pb::ReplicaCondition::Offline,
        How::Paused => pb::ReplicaCondition::Paused,
        How::Stalled => pb::ReplicaCondition::Stalled,
        How::Damaged => pb::ReplicaCondition::Damaged,
        How::Waiting => pb::ReplicaCondition::Waiting,
    }
}

fn replica(node_id: NodeId, replica: Replica) -> pb::Replica {
    let known = pb::Replica {
        node_id: node_id.0,
        topic: replica.topic,
        partition: int32(replica.partition.0),
        role: role(replica.role).into(),
        high_watermark: replica.high_watermark.to_wire(),
        offline_reason: replica.offline_reason.unwrap_or_default(),
        no_answer_reason: replica.no_answer_reason.unwrap_or_default(),
        condition: condition(replica.condition.how).into(),
        oldest_append_wait_ms: int64(replica.condition.oldest_wait_ms),
        queued_bytes: int64(replica.condition.queued_bytes),
        cleaning: replica.cleaning.map(cleaning),
        ..Default::default()
    };
    let Some(held) = replica.held else { return known };
    pb::Replica {
        leader_epoch: held.leader_epoch.0,
        log_start_offset: held.log_start.to_wire(),
        flushed_end_offset: held.flushed_end.to_wire(),
        log_end_offset: held.log_end.to_wire(),
        size_bytes: int64(held.size_bytes),
        segment_count: int32(held.segment_count),
        retention_notice: held.retention_notice,
        damaged_offsets: held.damaged.map(offset_range),
        ..known
    }
}

fn offset_range(range: Range<Offset>) -> pb::OffsetRange {
    pb::OffsetRange { first_offset: range.start.to_wire(), end_offset: range.end.to_wire() }
}

fn scrubbed(found: ScrubbedReplica) -> pb::ScrubReplicasResponse {
    let ScrubbedReplica { topic, partition, result, of } = found;
    let answer = pb::ScrubReplicasResponse {
        topic,
        partition: int32(partition.0),
        replica_count: int32(of),
        ..Default::default()
    };
    match result {
        Ok(found) => pb::ScrubReplicasResponse {
            segment_count: int32(found.segments),
            batch_count: int64(found.batches),
            size_bytes: int64(found.bytes),
            damaged: found.damages > 0,
            repaired_files: found.mended,
            ..answer
        },
        Err(error) => pb::ScrubReplicasResponse { error: Some(error.into()), ..answer },
    }
}

fn filter(filter: pb::PartitionFilter) -> PartitionFilter {
    match filter {
        pb::PartitionFilter::Unspecified => PartitionFilter::All,
        pb::PartitionFilter::UnderReplicated => PartitionFilter::UnderReplicated,
        pb::PartitionFilter::Offline => PartitionFilter::Offline,
        pb::PartitionFilter::UnderMinIsr => PartitionFilter::UnderMinIsr,
        pb::PartitionFilter::NotPreferred => PartitionFilter::NotPreferred,
    }
}

fn partition(state: &PartitionState) -> pb::PartitionState {
    let PartitionState { topic, number, partition } = state;
    pb::PartitionState {
        topic: topic.name.to_string(),
        partition: *number,
        leader_id: partition.leader.map(|leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch.0,
        replicas: ids(&partition.replicas),
        in_sync_replicas: ids(&partition.isr),
        eligible_leader_replicas: ids(&partition.elr),
        min_in_sync_replicas: topic.config.min_insync_replicas,
        adding_replicas: ids(&partition.adding),
        removing_replicas: ids(&partition.removing),
        cancelled_until_in_sync: topic.cancelled_until_in_sync(partition),
    }
}

fn elections(request: pb::ElectLeadersRequest) -> (Option<Elections>, Vec<ElectionResult>) {
    let kind = match request.r#type() {
        pb::ElectionType::Unspecified | pb::ElectionType::Preferred => Election::Preferred,
        pb::ElectionType::Unclean => Election::Unclean,
    };
    let named = request.partitions.into_iter().map(|named| {
        let pb::TopicPartitions { topic, partitions } = named;
        NamedPartitions { topic, partitions }
    });
    Elections::of(kind, named.collect())
}

fn named(named: &NamedPartitions) -> pb::TopicPartitions {
    let NamedPartitions { topic, partitions } = named.clone();
    pb::TopicPartitions { topic, partitions }
}

fn elected(results: Vec<ElectionResult>) -> Vec<pb::ElectionResult> {
    let results = results.into_iter().map(|ElectionResult { topic, partition, outcome }| {
        let result = pb::ElectionResult { topic, partition, ..Default::default() };
        match outcome {
            Ok(after) => pb::ElectionResult {
                leader_id: after.leader.map(|leader| leader.0),
                leader_epoch: after.leader_epoch.0,
                ..result
            },
            Err(error) => pb::ElectionResult { error: Some(error.into()), ..result },
        }
    });
    results.collect()
}

#[tonic::async_trait]
impl ClusterService for ClusterDoor {
    async fn get_cluster(
        &self,
        _: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::GetClusterResponse>, Status> {
        let cluster = self.cluster.overview();
        Ok(Response::new(pb::GetClusterResponse {
            cluster_id: cluster.cluster_id,
            controller_id: cluster.controller_id.map_or(-1, |id| id.0),
            nodes: cluster.nodes.into_iter().map(|it| node(it, &self.addresses)).collect(),
            metadata_offset: int64(cluster.as_of.metadata_offset.0),
            topic_count: int32(cluster.topics),
            partition_count: int32(cluster.partitions),
            offline_partition_count: int32(cluster.offline_partitions),
            under_replicated_partition_count: int32(cluster.under_replicated_partitions),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            as_of: Some(cluster.as_of.into()),
        }))
    }

    async fn get_health(
        &self,
        _: Request<pb::GetHealthRequest>,
    ) -> Result<Response<pb::GetHealthResponse>, Status> {
        let health = self.health.report().await;
        Ok(Response::new(pb::GetHealthResponse {
            verdict: verdict(health.verdict).into(),
            reasons: health.reasons.into_iter().map(reason).collect(),
            as_of: Some(health.as_of.into()),
        }))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Result<Response<pb::ListReplicasResponse>, Status> {
        let answer_by = deadline_of(request.metadata());
        let pb::ListReplicasRequest { topic, page_size, page_token, brief } = request.into_inner();
        let query = ReplicaQuery { topic, page_size, page_token, brief, answer_by };
        let listed = self.cluster.list_replicas(query).await?;
        let replicas = listed.replicas.into_iter().map(|it| replica(listed.node_id, it));
        Ok(Response::new(pb::ListReplicasResponse {
            replicas: replicas.collect(),
            next_page_token: listed.next_page_token,
        }))
    }

    async fn list_partitions(
        &self,
        request: Request<pb::ListPartitionsRequest>,
    ) -> Result<Response<pb::ListPartitionsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, request.page_token.clone())?;
        let filter = filter(request.filter());
        let listed = self.cluster.list_partitions(&request.topic, filter, &page)?;
        Ok(Response::new(pb::ListPartitionsResponse {
            partitions: listed.partitions.iter().map(partition).collect(),
            next_page_token: listed.next_page_token,
            as_of: Some(listed.as_of.into()),
        }))
    }

    async fn elect_leaders(
        &self,
        request: Request<pb::ElectLeadersRequest>,
    ) -> Result<Response<pb::ElectLeadersResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let r#type = request.r#type;
        let (elections, refused) = elections(request);
        let refused = elected(refused);
        let Some(elections) = elections else {
            return Ok(Response::new(pb::ElectLeadersResponse { results: refused }));
        };
        let call = call?;
        let relay = |channel: Channel, stamp: Request<()>| {
            let partitions = elections.named().iter().map(named).collect();
            let request = stamp.map(|()| pb::ElectLeadersRequest { r#type, partitions });
            async move { ClusterServiceClient::new(channel).elect_leaders(request).await }
        };
        let decided = self.cluster.elect_leaders(&call, &elections, &relay).await?;
        let encode =
            |results: Vec<ElectionResult>| pb::ElectLeadersResponse { results: elected(results) };
        let mut answer = decided.respond(&call, encode);
        answer.get_mut().results.splice(..0, refused);
        Ok(answer)
    }

    async fn drain_node(
        &self,
        request: Request<pb::DrainNodeRequest>,
    ) -> Result<Response<pb::DrainNodeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked);
            async move { ClusterServiceClient::new(channel).drain_node(request).await }
        };
        let drained = self.cluster.drain_node(&call, NodeId(asked.node_id), &relay).await?;
        let encode = |Drained { moved, left }| pb::DrainNodeResponse {
            moved_leader_count: int32(moved),
            left_leader_count: int32(left),
        };
        Ok(drained.respond(&call, encode))
    }

    async fn resume_node(
        &self,
        request: Request<pb::ResumeNodeRequest>,
    ) -> Result<Response<pb::ResumeNodeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked);
            async move { ClusterServiceClient::new(channel).resume_node(request).await }
        };
        let resumed = self.cluster.resume_node(&call, NodeId(asked.node_id), &relay).await?;
        Ok(resumed.respond(&call, |()| pb::ResumeNodeResponse {}))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked);
            async move { ClusterServiceClient::new(channel).remove_node(request).await }
        };
        let removed = self.cluster.remove_node(&call, NodeId(asked.node_id), &relay).await?;
        Ok(removed.respond(&call, |()| pb::RemoveNodeResponse {}))
    }

    async fn recover_partition(
        &self,
        request: Request<pb::RecoverPartitionRequest>,
    ) -> Result<Response<pb::RecoverPartitionResponse>, Status> {
        let pb::RecoverPartitionRequest { topic, partition } = request.into_inner();
        let lost = self.cluster.recover_partition(&topic, partition).await?;
        let lost_offsets = lost.into_iter().map(offset_range).collect();
        Ok(Response::new(pb::RecoverPartitionResponse { lost_offsets }))
    }

    type ScrubReplicasStream = BoxStream<'static, Result<pb::ScrubReplicasResponse, Status>>;

    async fn scrub_replicas(
        &self,
        request: Request<pb::ScrubReplicasRequest>,
    ) -> Result<Response<Self::ScrubReplicasStream>, Status> {
        let pb::ScrubReplicasRequest { topic, partitions } = request.into_inner();
        let found = self.cluster.scrub_replicas(&topic, &partitions)?;
        Ok(Response::new(ReceiverStream::new(found).map(|one| Ok(scrubbed(one))).boxed()))
    }

    async fn describe_log_dirs(
        &self,
        request: Request<pb::DescribeLogDirsRequest>,
    ) -> Result<Response<pb::DescribeLogDirsResponse>, Status> {
        let wanted = log_dirs::wanted(request.into_inner())?;
        let described = self.log_dirs.describe(wanted).await?;
        Ok(Response::new(log_dirs::described(described)))
    }

    async fn alter_replica_log_dirs(
        &self,
        request: Request<pb::AlterReplicaLogDirsRequest>,
    ) -> Result<Response<pb::AlterReplicaLogDirsResponse>, Status> {
        let replicas = request.into_inner().replicas.into_iter();
        let results = replicas.map(|replica| log_dirs::altered(&self.log_dirs, replica));
        Ok(Response::new(pb::AlterReplicaLogDirsResponse { results: results.collect() }))
    }
}
