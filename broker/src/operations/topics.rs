//! Topics: looked up in this node's image, changed by the active controller.

use super::page::Page;
use super::topic_lookup::{check_writable, unknown_topic};
use crate::NodeConfig;
use crate::config::UpdateMode;
use crate::controller_channel::AsOf;
use crate::forward::{ActiveController, Call, Decided, Relay};
use crate::metadata_cache::MetadataCache;
use crate::node_settings::NodeSettings;
use crate::topic_defaults::{TopicDefaults, synonyms};
use std::sync::Arc;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{
    ClusterImage, CreatePartitions, CreateTopic, DeleteTopic, INTERNAL_TOPICS, Topic, UpdateTopic,
    check_topic_name,
};
use troupe_machines::config::{self, ConfigKey};
use troupe_proto::error::Error;
use troupe_proto::ids::TopicId;

pub struct Topics {
    metadata: Arc<MetadataCache>,
    controller: Arc<ActiveController>,
    /// By which there are defaults of this node for topics that do not say it themselves.
    settings: Arc<NodeSettings>,
}

/// A setting of a topic.
pub struct TopicSetting {
    pub key: &'static ConfigKey,
    /// In force.
    pub value: String,
    pub origin: SettingOrigin,
}

/// Who has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    Default,
    Topic,
    /// This node's configuration, or what was set for this broker, as the topic says nothing.
    Node,
    /// What was set for the cluster.
    Cluster,
}

/// One page of topics.
pub struct ListedTopics {
    pub topics: Vec<Arc<Topic>>,
    pub next_page_token: String,
    pub as_of: AsOf,
}

impl Topics {
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ActiveController>,
        settings: Arc<NodeSettings>,
    ) -> Self {
        Self { metadata, controller, settings }
    }

    /// The topic's settings as they hold on this node.
    pub fn settings(&self, topic: &Topic) -> Vec<TopicSetting> {
        let image = self.metadata.now();
        let config = TopicDefaults::of(&self.settings.now()).apply(topic);
        let setting = |key: &'static ConfigKey| TopicSetting {
            key,
            value: config.get(key.name).unwrap_or_default(),
            origin: self.origin(&image, topic, key.name),
        };
        config::keys().iter().map(setting).collect()
    }

    fn origin(&self, image: &ClusterImage, topic: &Topic, key: &str) -> SettingOrigin {
        if topic.overrides.contains_key(key) {
            return SettingOrigin::Topic;
        }
        let (own, cluster) =
            (image.broker_overrides(self.metadata.node_id), image.cluster_overrides());
        let is_started_with = |key: &str| {
            let differs = self.settings.started().get(key) != NodeConfig::default().get(key);
            differs && NodeConfig::update_mode(key) != Some(UpdateMode::ClusterWide)
        };
        for &synonym in synonyms(key) {
            if own.contains_key(synonym) {
                return SettingOrigin::Node;
            }
            if cluster.contains_key(synonym) {
                return SettingOrigin::Cluster;
            }
            if is_started_with(synonym) {
                return SettingOrigin::Node;
            }
        }
        SettingOrigin::Default
    }

    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`.
    pub fn get(&self, name: &str) -> Result<(Arc<Topic>, AsOf), Error> {
        let image = self.metadata.now();
        let topic = image.topic(name).cloned().ok_or_else(|| unknown_topic(name))?;
        Ok((topic, self.controller.channel.as_of(&image)))
    }

    /// By name.
    pub fn list(&self, include_internal: bool, page: &Page) -> ListedTopics {
        let image = self.metadata.now();
        let shown = image.topics().filter(|topic| include_internal || !topic.is_internal());
        let (topics, next_page_token) = page.cut(shown, |topic| topic.name.to_string());
        let topics = topics.into_iter().cloned().collect();
        ListedTopics { topics, next_page_token, as_of: self.controller.channel.as_of(&image) }
    }

    /// # Errors
    /// `TOPIC_EXISTS`, `INVALID_TOPIC`, and others of the controller.
    pub async fn create<R: Send>(
        &self,
        call: &Call,
        mut creation: CreateTopic,
        relay: &impl Relay<R>,
    ) -> Result<Decided<Arc<Topic>, R>, Error> {
        check_topic_name(&creation.name)?;
        if call.forwarded {
            // A node that does not say so yet needs the topics that it keeps.
            creation.internal |= INTERNAL_TOPICS.contains(&&*creation.name);
        } else if !creation.internal {
            check_writable(&creation.name)?;
        }
        let here = |controller: ControllerHandle| {
            let creation = creation.clone();
            async move { controller.create_topic(creation).await }
        };
        self.controller.decide(call, here, relay).await
    }

    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_CONFIG`, and others of the controller.
    pub async fn update<R: Send>(
        &self,
        call: &Call,
        update: UpdateTopic,
        relay: &impl Relay<R>,
    ) -> Result<Decided<Arc<Topic>, R>, Error> {
        check_topic_name(&update.name)?;
        let here = |controller: ControllerHandle| {
            let update = update.clone();
            async move { controller.update_topic(update).await }
        };
        self.controller.decide(call, here, relay).await
    }

    /// # Errors
    /// `UNKNOWN_TOPIC`, and others of the controller.
    pub async fn create_partitions<R: Send>(
        &self,
        call: &Call,
        creation: CreatePartitions,
        relay: &impl Relay<R>,
    ) -> Result<Decided<Arc<Topic>, R>, Error> {
        check_topic_name(&creation.name)?;
        let here = |controller: ControllerHandle| {
            let creation = creation.clone();
            async move { controller.create_partitions(creation).await }
        };
        self.controller.decide(call, here, relay).await
    }

    /// # Errors
    /// `UNKNOWN_TOPIC`, and others of the controller.
    pub async fn delete<R: Send>(
        &self,
        call: &Call,
        deletion: DeleteTopic,
        relay: &impl Relay<R>,
    ) -> Result<Decided<TopicId, R>, Error> {
        check_topic_name(&deletion.name)?;
        let here = |controller: ControllerHandle| {
            let deletion = deletion.clone();
            async move { controller.delete_topic(deletion).await }
        };
        self.controller.decide(call, here, relay).await
    }
}
