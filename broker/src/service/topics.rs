//! `troupe.admin.v1.TopicService`: requests become decisions of the controller, the image becomes answers.

use super::{Page, check_writable};
use crate::context::Context;
use crate::forward::is_forwarded;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{
    CreatePartitions, CreateTopic, DeleteTopic, INTERNAL_TOPICS, Topic, UpdateTopic,
    check_topic_name,
};
use troupe_machines::config;
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::topic_service_server::TopicService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

pub struct Topics {
    context: Arc<Context>,
}

impl Topics {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn find(&self, name: &str) -> Result<Arc<Topic>, Error> {
        check_topic_name(name)?;
        self.context.metadata.image.borrow().topic(name).cloned().ok_or_else(|| {
            let message = format!("topic `{name}` does not exist; `troupe topic list` shows all");
            Error::new(ErrorCode::UnknownTopic, message).with("topic", name)
        })
    }
}

fn assignments(wire: Vec<pb::ReplicaAssignment>) -> Vec<Vec<NodeId>> {
    wire.into_iter().map(|one| one.replicas.into_iter().map(NodeId).collect()).collect()
}

/// A topic with its partitions, without configs.
fn brief(topic: &Topic) -> pb::Topic {
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, number)| pb::Partition {
        partition: number,
        leader_id: partition.leader.map_or(-1, |leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch.0,
        replicas: partition.replicas.iter().map(|node| node.0).collect(),
        in_sync_replicas: partition.isr.iter().map(|node| node.0).collect(),
    });
    pb::Topic {
        name: topic.name.to_string(),
        topic_id: topic.id.to_wire(),
        internal: topic.is_internal(),
        replication_factor: i32::try_from(topic.replication_factor()).unwrap_or(i32::MAX),
        partitions: partitions.collect(),
        configs: Vec::new(),
    }
}

/// A topic with every configuration key, the value in force, and where it comes from.
fn whole(topic: &Topic) -> Option<pb::Topic> {
    let configs = config::keys().iter().map(|key| {
        let overridden = topic.overrides.contains_key(key.name);
        let source = if overridden { pb::ConfigSource::Topic } else { pb::ConfigSource::Default };
        pb::ConfigEntry {
            name: key.name.to_owned(),
            value: topic.config.get(key.name).unwrap_or_default(),
            source: source.into(),
            default_value: key.default.to_string(),
            documentation: key.documentation.to_string(),
        }
    });
    Some(pb::Topic { configs: configs.collect(), ..brief(topic) })
}

/// Creates a topic, wherever that is decided.
pub async fn create(
    context: &Context,
    request: Request<pb::CreateTopicRequest>,
) -> Result<Response<pb::CreateTopicResponse>, Status> {
    // A node that does not say so yet needs the topics that it keeps.
    let by_a_node = is_forwarded(&request) && INTERNAL_TOPICS.contains(&&*request.get_ref().name);
    let here = |controller: ControllerHandle, request: pb::CreateTopicRequest| async move {
        let creation = CreateTopic {
            name: request.name,
            partitions: request.partitions,
            replication_factor: request.replication_factor,
            assignments: assignments(request.assignments),
            configs: request.configs.into_iter().collect::<BTreeMap<_, _>>(),
            internal: request.internal || by_a_node,
            validate_only: request.validate_only,
        };
        let topic = controller.create_topic(creation).await?;
        Ok(pb::CreateTopicResponse { topic: whole(&topic) })
    };
    let there = |channel, request| async move {
        TopicServiceClient::new(channel).create_topic(request).await
    };
    context.active_controller.decide(request, here, there).await
}

#[tonic::async_trait]
impl TopicService for Topics {
    async fn create_topic(
        &self,
        request: Request<pb::CreateTopicRequest>,
    ) -> Result<Response<pb::CreateTopicResponse>, Status> {
        let asked = request.get_ref();
        check_topic_name(&asked.name).map_err(Error::from)?;
        if !asked.internal && !is_forwarded(&request) {
            check_writable(&asked.name)?;
        }
        create(&self.context, request).await
    }

    async fn get_topic(
        &self,
        request: Request<pb::GetTopicRequest>,
    ) -> Result<Response<pb::GetTopicResponse>, Status> {
        let topic = self.find(&request.into_inner().name)?;
        let as_of =
            Some(self.context.controller.as_of(&self.context.metadata.image.borrow()).into());
        Ok(Response::new(pb::GetTopicResponse { topic: whole(&topic), as_of }))
    }

    async fn list_topics(
        &self,
        request: Request<pb::ListTopicsRequest>,
    ) -> Result<Response<pb::ListTopicsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, &request.page_token)?;
        let image = self.context.metadata.now();
        let shown = image.topics().filter(|topic| request.include_internal || !topic.is_internal());
        let (topics, next_page_token) = page.cut(shown, |topic| topic.name.to_string());
        let topics = topics.into_iter().map(|topic| brief(topic)).collect();
        let as_of = Some(self.context.controller.as_of(&image).into());
        Ok(Response::new(pb::ListTopicsResponse { topics, next_page_token, as_of }))
    }

    async fn update_topic(
        &self,
        request: Request<pb::UpdateTopicRequest>,
    ) -> Result<Response<pb::UpdateTopicResponse>, Status> {
        check_topic_name(&request.get_ref().name).map_err(Error::from)?;
        let here = |controller: ControllerHandle, request: pb::UpdateTopicRequest| async move {
            let update = UpdateTopic {
                name: request.name,
                set: request.set_configs.into_iter().collect::<BTreeMap<_, _>>(),
                unset: request.unset_configs,
                internal: request.internal,
                validate_only: request.validate_only,
            };
            let topic = controller.update_topic(update).await?;
            Ok(pb::UpdateTopicResponse { topic: whole(&topic) })
        };
        let there = |channel, request| async move {
            TopicServiceClient::new(channel).update_topic(request).await
        };
        self.context.active_controller.decide(request, here, there).await
    }

    async fn create_partitions(
        &self,
        request: Request<pb::CreatePartitionsRequest>,
    ) -> Result<Response<pb::CreatePartitionsResponse>, Status> {
        check_topic_name(&request.get_ref().name).map_err(Error::from)?;
        let here = |controller: ControllerHandle, request: pb::CreatePartitionsRequest| async move {
            let creation = CreatePartitions {
                name: request.name,
                total: request.total,
                assignments: assignments(request.assignments),
                internal: request.internal,
                validate_only: request.validate_only,
            };
            let topic = controller.create_partitions(creation).await?;
            Ok(pb::CreatePartitionsResponse { topic: whole(&topic) })
        };
        let there = |channel, request| async move {
            TopicServiceClient::new(channel).create_partitions(request).await
        };
        self.context.active_controller.decide(request, here, there).await
    }

    async fn delete_topic(
        &self,
        request: Request<pb::DeleteTopicRequest>,
    ) -> Result<Response<pb::DeleteTopicResponse>, Status> {
        check_topic_name(&request.get_ref().name).map_err(Error::from)?;
        let here = |controller: ControllerHandle, request: pb::DeleteTopicRequest| async move {
            let pb::DeleteTopicRequest { name, validate_only, internal } = request;
            let deletion = DeleteTopic { name, internal, validate_only };
            let topic_id = controller.delete_topic(deletion).await?;
            Ok(pb::DeleteTopicResponse { topic_id: topic_id.to_wire() })
        };
        let there = |channel, request| async move {
            TopicServiceClient::new(channel).delete_topic(request).await
        };
        self.context.active_controller.decide(request, here, there).await
    }
}
