//! `troupe.admin.v1.TopicService` over [`Topics`] and [`RecordDeletion`].

use super::numbers::int32;
use crate::address_book::AddressBook;
use crate::forward::Call;
use crate::operations::{
    DeletedRecords, DeletionTerms, Page, PartitionDeletion, RecordDeletion, SettingOrigin,
    TopicSetting, Topics,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_machines::cluster::{CreatePartitions, CreateTopic, DeleteTopic, Topic, UpdateTopic};
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::topic_service_server::TopicService;
use troupe_proto::ids::{NodeId, TopicId};
use troupe_proto::log::v1::TopicPartition;

pub struct TopicDoor {
    topics: Arc<Topics>,
    record_deletion: Arc<RecordDeletion>,
    /// What those are told who come by this listener.
    addresses: AddressBook,
}

impl TopicDoor {
    pub fn new(
        topics: Arc<Topics>,
        record_deletion: Arc<RecordDeletion>,
        addresses: AddressBook,
    ) -> Self {
        Self { topics, record_deletion, addresses }
    }
}

fn deletion(asked: pb::RecordsDeletion) -> PartitionDeletion {
    let pb::RecordsDeletion { topic, partition, topic_id, before_offset } = asked;
    PartitionDeletion { partition: TopicPartition { topic, partition, topic_id }, before_offset }
}

fn deletion_result(deleted: DeletedRecords, addresses: &AddressBook) -> pb::RecordsDeletionResult {
    let DeletedRecords { partition, low_watermark } = deleted;
    let TopicPartition { topic, partition, .. } = partition;
    let (low_watermark, error) = match low_watermark {
        Ok(offset) => (offset.to_wire(), None),
        Err(error) => (-1, Some(addresses.told(error).into())),
    };
    pb::RecordsDeletionResult { topic, partition, low_watermark, error }
}

fn assignments(wire: &[pb::ReplicaAssignment]) -> Vec<Vec<NodeId>> {
    wire.iter().map(|one| one.replicas.iter().copied().map(NodeId).collect()).collect()
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
        adding_replicas: partition.adding.iter().map(|node| node.0).collect(),
        removing_replicas: partition.removing.iter().map(|node| node.0).collect(),
        cancelled_until_in_sync: topic.cancelled_until_in_sync(partition),
    });
    pb::Topic {
        name: topic.name.to_string(),
        topic_id: topic.id.to_wire(),
        internal: topic.is_internal(),
        replication_factor: int32(topic.replication_factor()),
        partitions: partitions.collect(),
        configs: Vec::new(),
    }
}

/// A topic with every configuration key, the value in force, and where it comes from.
fn whole(topics: &Topics, topic: &Topic) -> Option<pb::Topic> {
    let configs = topics.settings(topic).into_iter().map(|setting| {
        let TopicSetting { key, value, origin } = setting;
        let source = match origin {
            SettingOrigin::Default => pb::ConfigSource::Default,
            SettingOrigin::Topic => pb::ConfigSource::Topic,
            SettingOrigin::Node => pb::ConfigSource::Node,
            SettingOrigin::Cluster => pb::ConfigSource::Cluster,
        };
        pb::ConfigEntry {
            name: key.name.to_owned(),
            value,
            source: source.into(),
            default_value: key.default.to_string(),
            documentation: key.documentation.to_string(),
        }
    });
    Some(pb::Topic { configs: configs.collect(), ..brief(topic) })
}

#[tonic::async_trait]
impl TopicService for TopicDoor {
    async fn create_topic(
        &self,
        request: Request<pb::CreateTopicRequest>,
    ) -> Result<Response<pb::CreateTopicResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked.clone());
            async move { TopicServiceClient::new(channel).create_topic(request).await }
        };
        let creation = CreateTopic {
            name: asked.name.clone(),
            partitions: asked.partitions,
            replication_factor: asked.replication_factor,
            assignments: assignments(&asked.assignments),
            configs: asked.configs.clone().into_iter().collect::<BTreeMap<_, _>>(),
            internal: asked.internal,
            validate_only: asked.validate_only,
        };
        let created = self.topics.create(&call, creation, &relay).await?;
        let encode =
            |topic: Arc<Topic>| pb::CreateTopicResponse { topic: whole(&self.topics, &topic) };
        Ok(created.respond(&call, encode))
    }

    async fn get_topic(
        &self,
        request: Request<pb::GetTopicRequest>,
    ) -> Result<Response<pb::GetTopicResponse>, Status> {
        let (topic, as_of) = self.topics.get(&request.into_inner().name)?;
        let (topic, as_of) = (whole(&self.topics, &topic), Some(as_of.into()));
        Ok(Response::new(pb::GetTopicResponse { topic, as_of }))
    }

    async fn list_topics(
        &self,
        request: Request<pb::ListTopicsRequest>,
    ) -> Result<Response<pb::ListTopicsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, request.page_token)?;
        let listed = self.topics.list(request.include_internal, &page);
        Ok(Response::new(pb::ListTopicsResponse {
            topics: listed.topics.iter().map(|topic| brief(topic)).collect(),
            next_page_token: listed.next_page_token,
            as_of: Some(listed.as_of.into()),
        }))
    }

    async fn update_topic(
        &self,
        request: Request<pb::UpdateTopicRequest>,
    ) -> Result<Response<pb::UpdateTopicResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked.clone());
            async move { TopicServiceClient::new(channel).update_topic(request).await }
        };
        let update = UpdateTopic {
            name: asked.name.clone(),
            set: asked.set_configs.clone().into_iter().collect::<BTreeMap<_, _>>(),
            unset: asked.unset_configs.clone(),
            internal: asked.internal,
            validate_only: asked.validate_only,
        };
        let updated = self.topics.update(&call, update, &relay).await?;
        let encode =
            |topic: Arc<Topic>| pb::UpdateTopicResponse { topic: whole(&self.topics, &topic) };
        Ok(updated.respond(&call, encode))
    }

    async fn create_partitions(
        &self,
        request: Request<pb::CreatePartitionsRequest>,
    ) -> Result<Response<pb::CreatePartitionsResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked.clone());
            async move { TopicServiceClient::new(channel).create_partitions(request).await }
        };
        let creation = CreatePartitions {
            name: asked.name.clone(),
            total: asked.total,
            assignments: assignments(&asked.assignments),
            internal: asked.internal,
            validate_only: asked.validate_only,
        };
        let created = self.topics.create_partitions(&call, creation, &relay).await?;
        let encode =
            |topic: Arc<Topic>| pb::CreatePartitionsResponse { topic: whole(&self.topics, &topic) };
        Ok(created.respond(&call, encode))
    }

    async fn delete_topic(
        &self,
        request: Request<pb::DeleteTopicRequest>,
    ) -> Result<Response<pb::DeleteTopicResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let relay = |channel: Channel, stamp: Request<()>| {
            let request = stamp.map(|()| asked.clone());
            async move { TopicServiceClient::new(channel).delete_topic(request).await }
        };
        let pb::DeleteTopicRequest { name, validate_only, internal } = asked.clone();
        let deletion = DeleteTopic { name, internal, validate_only };
        let deleted = self.topics.delete(&call, deletion, &relay).await?;
        let encode = |topic_id: TopicId| pb::DeleteTopicResponse { topic_id: topic_id.to_wire() };
        Ok(deleted.respond(&call, encode))
    }

    async fn delete_records(
        &self,
        request: Request<pb::DeleteRecordsRequest>,
    ) -> Result<Response<pb::DeleteRecordsResponse>, Status> {
        let call = Call::of(&request)?;
        let pb::DeleteRecordsRequest { partitions, timeout_ms, validate_only } =
            request.into_inner();
        let deletions = partitions.into_iter().map(deletion).collect();
        let terms = DeletionTerms { timeout_ms, validate_only };
        let deleted = self.record_deletion.delete(&call, deletions, terms).await;
        let told = |deleted| deletion_result(deleted, &self.addresses);
        let results = deleted.into_iter().map(told).collect();
        Ok(Response::new(pb::DeleteRecordsResponse { results }))
    }
}
