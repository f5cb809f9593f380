//! What is set for topics, for single brokers and for all of them, in the image.
//!
//! Precedence (A3): a topic's own, then the broker's, then the cluster's, then what a node was started with, then the
//! default. Here are the first three. Two settings of the cluster's are what the controller decides by for topics that
//! do not set them: those stand in [`Topic::config`] at once, on every node alike.
//! Promise: the settings of a broker go with its registration.
//! Never here: what a broker's key means; records are taken as they are, in canonical form.

mod alter;

pub use alter::{AlterConfigs, Alteration, Configured};

use super::image::{ClusterImage, Topic};
use super::replay::Fault;
use crate::config::TopicConfig;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1::config_resource::Resource;
use troupe_proto::internal::v1::{ConfigRecord, ConfigResource};

/// What is set, by key, in canonical form.
pub type Overrides = BTreeMap<String, String>;

/// Settings of the cluster's by which the controller decides about topics that do not set them; of topics they have the
/// same names.
const FOLLOWED: [&str; 2] = ["min.insync.replicas", "unclean.leader.election.enable"];

static NOTHING: LazyLock<Overrides> = LazyLock::new(Overrides::new);

impl ClusterImage {
    /// What is set for every broker that does not set it.
    pub fn cluster_overrides(&self) -> &Overrides {
        &self.cluster_overrides
    }

    /// What is set for one broker.
    pub fn broker_overrides(&self, node_id: NodeId) -> &Overrides {
        self.broker_overrides.get(&node_id).map_or(&NOTHING, Arc::as_ref)
    }

    /// What was set for a broker while it runs: its own setting, else the cluster's. `None`: what it was started with
    /// holds.
    pub fn broker_setting(&self, node_id: NodeId, key: &str) -> Option<&str> {
        let own = self.broker_overrides(node_id).get(key);
        own.or_else(|| self.cluster_overrides.get(key)).map(String::as_str)
    }

    pub(super) fn apply_config(&mut self, record: &ConfigRecord) -> Result<(), Fault> {
        let resource = record.resource.as_ref().and_then(|resource| resource.resource.as_ref());
        match resource {
            Some(Resource::TopicId(id)) => self.apply_topic_config(id, record),
            Some(Resource::NodeId(node_id)) => self.apply_broker_config(NodeId(*node_id), record),
            Some(Resource::Cluster(true)) => {
                change(Arc::make_mut(&mut self.cluster_overrides), record);
                self.follow_cluster(&record.key)
            }
            Some(Resource::Cluster(false)) | None => Err(Fault::UnknownKind),
        }
    }

    fn apply_topic_config(&mut self, id: &[u8], record: &ConfigRecord) -> Result<(), Fault> {
        let defaults = Arc::clone(&self.topic_defaults);
        let topic = self.topic_mut(id)?;
        let config: &mut TopicConfig = Arc::make_mut(&mut topic.config);
        match &record.value {
            Some(value) => config.set(&record.key, value)?,
            None => config.reset(&record.key, &defaults)?,
        }
        change(&mut topic.overrides, record);
        Ok(())
    }

    fn apply_broker_config(&mut self, node_id: NodeId, record: &ConfigRecord) -> Result<(), Fault> {
        if self.broker(node_id).is_none() {
            return Err(Fault::UnknownBroker);
        }
        let mut overrides = self.broker_overrides(node_id).clone();
        change(&mut overrides, record);
        match overrides.is_empty() {
            true => {
                self.broker_overrides.remove_mut(&node_id);
            }
            false => self.broker_overrides.insert_mut(node_id, Arc::new(overrides)),
        }
        Ok(())
    }

    /// A setting of the cluster's has changed: topics that do not set it follow.
    fn follow_cluster(&mut self, key: &str) -> Result<(), Fault> {
        if !FOLLOWED.contains(&key) {
            return Ok(());
        }
        let mut defaults = TopicConfig::default();
        for key in FOLLOWED {
            if let Some(value) = self.cluster_overrides.get(key) {
                defaults.set(key, value)?;
            }
        }
        let follows = |topic: &&Arc<Topic>| {
            !topic.overrides.contains_key(key) && topic.config.get(key) != defaults.get(key)
        };
        let following: Vec<_> = self.topics().filter(follows).map(|it| it.name.clone()).collect();
        for name in following {
            let topic = self.topics.get_mut(&name).ok_or(Fault::UnknownTopic)?;
            let topic = Arc::make_mut(topic);
            Arc::make_mut(&mut topic.config).reset(key, &defaults)?;
        }
        self.topic_defaults = Arc::new(defaults);
        Ok(())
    }
}

fn change(overrides: &mut Overrides, record: &ConfigRecord) {
    match &record.value {
        Some(value) => {
            overrides.insert(record.key.clone(), value.clone());
        }
        None => {
            overrides.remove(&record.key);
        }
    }
}

/// What makes one set of overrides out of another.
pub(super) fn config_changes(
    resource: &Resource,
    before: &Overrides,
    after: &Overrides,
) -> Vec<ConfigRecord> {
    let record = |key: &String, value| {
        let resource = ConfigResource { resource: Some(resource.clone()) };
        ConfigRecord { resource: Some(resource), key: key.clone(), value }
    };
    let set = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value))
        .map(|(key, value)| record(key, Some(value.clone())));
    let unset = before.keys().filter(|key| !after.contains_key(*key)).map(|key| record(key, None));
    set.chain(unset).collect()
}
