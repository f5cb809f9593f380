//! `troupe.log.v1.MetadataService`: the image of the cluster, and its changes as they are committed.

use crate::context::Context;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use troupe_machines::cluster::{ClusterImage, Topic, check_topic_names};
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::metadata_service_server::MetadataService;

pub struct Metadata {
    context: Arc<Context>,
}

impl Metadata {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

/// Who decides, if it has been heard lately: a quorum that is lost leaves everybody believing in the last one.
pub fn active_controller(context: &Context) -> Option<NodeId> {
    context.controller.controller_id().filter(|_| context.controller.hears_controller())
}

fn nodes(context: &Context, image: &ClusterImage) -> Vec<pb::Node> {
    let controller = active_controller(context);
    let node = |broker: &troupe_machines::cluster::Broker| pb::Node {
        node_id: broker.node_id.0,
        endpoint: broker.endpoint.clone(),
        rack: broker.rack.clone().unwrap_or_default(),
        fenced: broker.fenced,
        controller: controller == Some(broker.node_id),
    };
    image.brokers().map(node).collect()
}

fn offset(image: &ClusterImage) -> i64 {
    i64::try_from(image.next_offset().0).unwrap_or(i64::MAX)
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

#[tonic::async_trait]
impl MetadataService for Metadata {
    async fn describe_cluster(
        &self,
        _: Request<pb::DescribeClusterRequest>,
    ) -> Result<Response<pb::DescribeClusterResponse>, Status> {
        let image = self.context.metadata.now();
        Ok(Response::new(pb::DescribeClusterResponse {
            cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
            nodes: nodes(&self.context, &image),
            controller_id: active_controller(&self.context).map_or(-1, |id| id.0),
            metadata_offset: offset(&image),
            as_of: Some(self.context.controller.as_of(&image).into()),
        }))
    }

    async fn describe_topics(
        &self,
        request: Request<pb::DescribeTopicsRequest>,
    ) -> Result<Response<pb::DescribeTopicsResponse>, Status> {
        let names = request.into_inner().topics;
        check_topic_names(&names).map_err(Error::from)?;
        let image = self.context.metadata.now();
        let (mut topics, mut unknown_topics) = (Vec::new(), Vec::new());
        if names.is_empty() {
            topics.extend(image.topics().map(|topic| metadata(topic)));
        }
        for name in names {
            match image.topic(&name) {
                Some(topic) => topics.push(metadata(topic)),
                None => unknown_topics.push(name),
            }
        }
        Ok(Response::new(pb::DescribeTopicsResponse {
            topics,
            unknown_topics,
            nodes: nodes(&self.context, &image),
            metadata_offset: offset(&image),
            as_of: Some(self.context.controller.as_of(&image).into()),
        }))
    }

    type WatchMetadataStream = BoxStream<'static, Result<pb::WatchMetadataResponse, Status>>;

    async fn watch_metadata(
        &self,
        request: Request<pb::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        let watched = request.into_inner().topics;
        check_topic_names(&watched).map_err(Error::from)?;
        let (sender, receiver) = mpsc::channel(4);
        let context = Arc::clone(&self.context);
        tokio::spawn(push_changes(context, watched, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type Changes = mpsc::Sender<Result<pb::WatchMetadataResponse, Status>>;

async fn push_changes(context: Arc<Context>, watched: Vec<String>, changes: Changes) {
    let mut images: watch::Receiver<Arc<ClusterImage>> = context.metadata.image.clone();
    let mut seen: BTreeMap<Arc<str>, Arc<Topic>> = BTreeMap::new();
    let mut seen_nodes = None;
    loop {
        let image = images.borrow_and_update().clone();
        let mut delta = pb::WatchMetadataResponse {
            metadata_offset: offset(&image),
            as_of: Some(context.controller.as_of(&image).into()),
            ..Default::default()
        };
        let first = seen_nodes.is_none();
        seen.retain(|name, _| {
            let kept = image.topic(name).is_some();
            if !kept {
                delta.deleted_topics.push(name.to_string());
            }
            kept
        });
        for topic in image.topics() {
            let asked_for = watched.is_empty() || watched.iter().any(|name| **name == *topic.name);
            let known = seen.get(&topic.name).is_some_and(|old| Arc::ptr_eq(old, topic));
            if asked_for && !known {
                delta.topics.push(metadata(topic));
                seen.insert(Arc::clone(&topic.name), Arc::clone(topic));
            }
        }
        let nodes = nodes(&context, &image);
        if seen_nodes.as_ref() != Some(&nodes) {
            delta.nodes.clone_from(&nodes);
            seen_nodes = Some(nodes);
        }
        let news =
            !(delta.topics.is_empty() && delta.deleted_topics.is_empty() && delta.nodes.is_empty());
        if (first || news) && changes.send(Ok(delta)).await.is_err() {
            return;
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            () = changes.closed() => return,
            () = context.shutdown.cancelled() => {
                // The client may be gone already.
                let _ = changes.send(Err(crate::shutdown::shutting_down().into())).await;
                return;
            }
        }
    }
}
