//! A topic as it is printed; the keys are those of `troupe.admin.v1` in proto JSON.

use super::cleaning::CleaningView;
use crate::as_of::AsOf;
use serde::Serialize;
use troupe_proto::admin::v1::{ConfigSource, Replica, Topic};
use troupe_proto::ids::TopicId;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicView {
    pub name: String,
    pub topic_id: String,
    pub internal: bool,
    pub replication_factor: i32,
    pub partitions: Vec<PartitionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configs: Option<Vec<ConfigView>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionView {
    pub partition: i32,
    /// None: no leader.
    pub leader_id: Option<i32>,
    pub leader_epoch: u32,
    pub replicas: Vec<i32>,
    pub in_sync_replicas: Vec<i32>,
    /// While they are reassigned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adding_replicas: Vec<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removing_replicas: Vec<i32>,
    /// It was cancelled: the removing replicas go once so many of the others are in sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_until_in_sync: Option<u32>,
    /// How the leader's actor is; if it did not answer, or its node did not, that and why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// What the leader says about its log. None: it did not answer in time, or nobody leads.
    #[serde(flatten)]
    pub log: Option<LogView>,
    /// Of every replica, if the topic is compacted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cleaning: Vec<CleaningView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogView {
    pub log_start_offset: i64,
    pub high_watermark: i64,
    pub flushed_end_offset: i64,
    pub log_end_offset: i64,
    pub size_bytes: i64,
    pub segment_count: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub offline_reason: String,
    /// What is unusual about how old records were found to be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub retention_notice: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigView {
    pub name: String,
    pub value: String,
    /// `topic`, `node`, `cluster` or `default`.
    pub source: &'static str,
    pub default_value: String,
    pub documentation: String,
}

impl TopicView {
    /// As the controller has it; nodes may not have heard yet.
    pub fn is_compacted(&self) -> bool {
        let mut configs = self.configs.iter().flatten();
        let policy = configs.find(|config| config.name == "cleanup.policy");
        policy.is_some_and(|policy| policy.value.split(',').any(|it| it == "compact"))
    }

    pub fn new(topic: &Topic) -> TopicView {
        let partitions = topic.partitions.iter().map(|partition| PartitionView {
            partition: partition.partition,
            leader_id: (partition.leader_id >= 0).then_some(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas.clone(),
            in_sync_replicas: partition.in_sync_replicas.clone(),
            adding_replicas: partition.adding_replicas.clone(),
            removing_replicas: partition.removing_replicas.clone(),
            cancelled_until_in_sync: partition.cancelled_until_in_sync,
            condition: String::new(),
            log: None,
            cleaning: Vec::new(),
        });
        TopicView {
            name: topic.name.clone(),
            topic_id: TopicId::from_wire(&topic.topic_id)
                .map_or_else(String::new, |id| id.to_string()),
            internal: topic.internal,
            replication_factor: topic.replication_factor,
            partitions: partitions.collect(),
            configs: None,
            dry_run: false,
            as_of: None,
        }
    }
}

impl LogView {
    pub fn new(replica: &Replica) -> LogView {
        LogView {
            log_start_offset: replica.log_start_offset,
            high_watermark: replica.high_watermark,
            flushed_end_offset: replica.flushed_end_offset,
            log_end_offset: replica.log_end_offset,
            size_bytes: replica.size_bytes,
            segment_count: replica.segment_count,
            offline_reason: replica.offline_reason.clone(),
            retention_notice: replica.retention_notice.clone(),
        }
    }
}

pub fn configs(topic: &Topic) -> Vec<ConfigView> {
    let view = topic.configs.iter().map(|config| ConfigView {
        name: config.name.clone(),
        value: config.value.clone(),
        source: match config.source() {
            ConfigSource::Topic => "topic",
            ConfigSource::Node => "node",
            ConfigSource::Cluster => "cluster",
            ConfigSource::Default | ConfigSource::Unspecified => "default",
        },
        default_value: config.default_value.clone(),
        documentation: config.documentation.clone(),
    });
    view.collect()
}
