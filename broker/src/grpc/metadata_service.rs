//! `troupe.log.v1.MetadataService` over [`ClusterMetadata`].

use super::numbers::int64;
use crate::address_book::AddressBook;
use crate::controller_channel::AsOf;
use crate::operations::{ClusterMetadata, MetadataDelta, Node};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_machines::cluster::Topic;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::metadata_service_server::MetadataService;

pub struct MetadataDoor {
    metadata: Arc<ClusterMetadata>,
    /// What those are told who come by this listener.
    addresses: AddressBook,
}

impl MetadataDoor {
    pub fn new(metadata: Arc<ClusterMetadata>, addresses: AddressBook) -> Self {
        Self { metadata, addresses }
    }
}

fn nodes(nodes: Vec<Node>) -> Vec<pb::Node> {
    let node = |node: Node| pb::Node {
        node_id: node.node_id.0,
        endpoint: node.endpoint,
        rack: node.rack,
        fenced: node.fenced,
        controller: node.is_controller,
    };
    nodes.into_iter().map(node).collect()
}

fn offset(as_of: &AsOf) -> i64 {
    int64(as_of.metadata_offset.0)
}

fn topics(topics: &[Arc<Topic>]) -> Vec<pb::TopicMetadata> {
    topics.iter().map(|topic| metadata(topic)).collect()
}

fn metadata(topic: &Topic) -> pb::TopicMetadata {
    let partitions =
        topic.partitions.iter().zip(0..).map(|(partition, number)| pb::PartitionMetadata {
            partition: number,
            leader_id: partition.leader.map_or(-1, |leader| leader.0),
            leader_epoch: partition.leader_epoch.0,
            partition_epoch: partition.partition_epoch.0,
            replicas: partition.replicas.iter().map(|node| node.0).collect(),
            in_sync_replicas: partition.isr.iter().map(|node| node.0).collect(),
        });
    pb::TopicMetadata {
        name: topic.name.to_string(),
        topic_id: topic.id.to_wire(),
        internal: topic.is_internal(),
        partitions: partitions.collect(),
    }
}

fn delta(delta: MetadataDelta) -> pb::WatchMetadataResponse {
    pb::WatchMetadataResponse {
        topics: topics(&delta.topics),
        deleted_topics: delta.deleted_topics.iter().map(|name| name.to_string()).collect(),
        nodes: nodes(delta.nodes),
        metadata_offset: offset(&delta.as_of),
        as_of: Some(delta.as_of.into()),
    }
}

#[tonic::async_trait]
impl MetadataService for MetadataDoor {
    async fn describe_cluster(
        &self,
        _: Request<pb::DescribeClusterRequest>,
    ) -> Result<Response<pb::DescribeClusterResponse>, Status> {
        let described = self.metadata.describe_cluster(&self.addresses);
        Ok(Response::new(pb::DescribeClusterResponse {
            cluster_id: described.cluster_id,
            nodes: nodes(described.nodes),
            controller_id: described.controller_id.map_or(-1, |id| id.0),
            metadata_offset: offset(&described.as_of),
            as_of: Some(described.as_of.into()),
        }))
    }

    async fn describe_topics(
        &self,
        request: Request<pb::DescribeTopicsRequest>,
    ) -> Result<Response<pb::DescribeTopicsResponse>, Status> {
        let pb::DescribeTopicsRequest { topics: names, allow_auto_topic_creation: creates } =
            request.into_inner();
        if creates {
            self.metadata.create_missing(&names).await?;
        }
        let described = self.metadata.describe_topics(names, &self.addresses)?;
        Ok(Response::new(pb::DescribeTopicsResponse {
            topics: topics(&described.topics),
            unknown_topics: described.unknown_topics,
            nodes: nodes(described.nodes),
            metadata_offset: offset(&described.as_of),
            as_of: Some(described.as_of.into()),
        }))
    }

    type WatchMetadataStream = BoxStream<'static, Result<pb::WatchMetadataResponse, Status>>;

    async fn watch_metadata(
        &self,
        request: Request<pb::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        let deltas = self.metadata.watch(request.into_inner().topics, &self.addresses)?;
        let encoded = deltas.map(|change| change.map(delta).map_err(Status::from));
        Ok(Response::new(encoded.boxed()))
    }
}
