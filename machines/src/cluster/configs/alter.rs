//! Decisions about settings, of one resource each: all of it or nothing (A3, A25).

use super::{Overrides, config_changes};
use crate::cluster::election::Rules;
use crate::cluster::image::ClusterImage;
use crate::cluster::replay::partition_record;
use crate::cluster::{
    ClusterError, ClusterPolicy, Decision, SETTINGS_VERSION, UpdateTopic, check_topic_name, wrap,
};
use crate::config::{self, BrokerKeys, ConfigError, Scope};
use std::collections::BTreeMap;
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1::MetadataRecord;
use troupe_proto::internal::v1::config_resource::Resource;
use troupe_proto::internal::v1::metadata_record::Record;

/// What nodes are started with in which topics follow the cluster, as far as it is not the default anyway.
fn started_with(policy: &ClusterPolicy) -> impl Iterator<Item = (&'static str, String)> {
    let ClusterPolicy { min_insync_replicas, unclean_leader_election, .. } = policy;
    let min_isr = (*min_insync_replicas > 1)
        .then(|| ("min.insync.replicas", min_insync_replicas.to_string()));
    let unclean =
        unclean_leader_election.then(|| ("unclean.leader.election.enable", "true".to_owned()));
    min_isr.into_iter().chain(unclean)
}

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Configured {
    Topic(String),
    Broker(NodeId),
    /// Every broker that has no setting of its own.
    Cluster,
}

/// What shall become of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    Set(String),
    /// Back to what holds without it.
    Delete,
    /// Of a list: these too, at its end, as far as they are not in it.
    Append(String),
    /// Of a list: these no more.
    Subtract(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    pub resource: Configured,
    /// By key; each once.
    pub alterations: Vec<(String, Alteration)>,
    /// The caller knows that the topic is the cluster's own.
    pub internal: bool,
    pub validate_only: bool,
}

impl ClusterImage {
    /// Changes settings of a topic, of a broker or of the cluster.
    pub fn alter_configs(
        &self,
        policy: &ClusterPolicy,
        keys: &dyn BrokerKeys,
        request: &AlterConfigs,
    ) -> Result<Decision<()>, ClusterError> {
        for (at, (key, _)) in request.alterations.iter().enumerate() {
            if request.alterations[..at].iter().any(|(other, _)| other == key) {
                return Err(ConfigError::Twice { key: key.clone() }.into());
            }
        }
        let records = match &request.resource {
            Configured::Topic(name) => self.alter_topic(name, request)?,
            Configured::Broker(node_id) => self.alter_broker(*node_id, keys, request)?,
            Configured::Cluster => self.alter_cluster(policy, keys, request)?,
        };
        let records = if request.validate_only { Vec::new() } else { records };
        Ok(Decision { records, answer: () })
    }

    fn alter_topic(
        &self,
        name: &str,
        request: &AlterConfigs,
    ) -> Result<Vec<MetadataRecord>, ClusterError> {
        check_topic_name(name)?;
        let unknown = || ClusterError::UnknownTopic { name: name.to_owned() };
        let topic = self.topic(name).ok_or_else(unknown)?;
        let (mut set, mut unset) = (BTreeMap::new(), Vec::new());
        for (key, alteration) in &request.alterations {
            let before = || config::is_list(key).then(|| topic.config.get(key)).flatten();
            match altered(key, alteration, before)? {
                Some(value) => {
                    set.insert(key.clone(), value);
                }
                None => unset.push(key.clone()),
            }
        }
        let (name, internal) = (name.to_owned(), request.internal);
        let update =
            UpdateTopic { name, set, unset, internal, validate_only: request.validate_only };
        Ok(self.update_topic(&update)?.records)
    }

    fn alter_broker(
        &self,
        node_id: NodeId,
        keys: &dyn BrokerKeys,
        request: &AlterConfigs,
    ) -> Result<Vec<MetadataRecord>, ClusterError> {
        if self.broker(node_id).is_none() {
            return Err(ClusterError::UnknownBroker { node_id });
        }
        self.check_knows(SETTINGS_VERSION, request.validate_only)?;
        let before = self.broker_overrides(node_id);
        let holds = |key: &str| self.broker_setting(node_id, key);
        let after = overrides(keys, Scope::OneBroker, before, request, holds)?;
        keys.check(self.cluster_overrides(), &after)?;
        let changes = config_changes(&Resource::NodeId(node_id.0), before, &after);
        Ok(changes.into_iter().map(|change| wrap(Record::Config(change))).collect())
    }

    /// Of the settings by which the controller itself decides, topics that do not set them have the new one at once. One
    /// that is unset leaves topics what they would have been created with.
    fn alter_cluster(
        &self,
        policy: &ClusterPolicy,
        keys: &dyn BrokerKeys,
        request: &AlterConfigs,
    ) -> Result<Vec<MetadataRecord>, ClusterError> {
        self.check_knows(SETTINGS_VERSION, request.validate_only)?;
        let before = self.cluster_overrides();
        let holds = |key: &str| before.get(key).map(String::as_str);
        let after = overrides(keys, Scope::Cluster, before, request, holds)?;
        keys.check(&after, &Overrides::new())?;
        self.broker_overrides.values().try_for_each(|own| keys.check(&after, own))?;
        let mut changes = Vec::new();
        for (key, started_with) in started_with(policy) {
            if !before.contains_key(key) || after.contains_key(key) {
                continue;
            }
            let kept = Overrides::from([(key.to_owned(), started_with)]);
            for topic in self.topics().filter(|topic| !topic.overrides.contains_key(key)) {
                let resource = Resource::TopicId(topic.id.to_wire());
                changes.extend(config_changes(&resource, &Overrides::new(), &kept));
            }
        }
        changes.extend(config_changes(&Resource::Cluster(true), before, &after));
        let mut records: Vec<_> =
            changes.into_iter().map(|change| wrap(Record::Config(change))).collect();
        records.extend(self.settled_anew(&records));
        Ok(records)
    }

    /// Where another `min.insync.replicas` has leaders commit with fewer, who is not in sync is not eligible any more
    /// (R16).
    fn settled_anew(&self, changes: &[MetadataRecord]) -> Vec<MetadataRecord> {
        let mut after = self.clone();
        after.replay_all(changes).expect("a decision's own records can be replayed");
        let min = |image: &ClusterImage, name: &str| {
            image.topic(name).map(|topic| topic.config.min_insync_replicas)
        };
        let mut records = Vec::new();
        for topic in after.topics().filter(|it| min(self, &it.name) != min(&after, &it.name)) {
            let active = |node| self.is_active(node);
            let rules = Rules { unclean: false, ..Rules::of(&topic.config, active) };
            let id = topic.id.to_wire();
            for (at, partition) in (0..).zip(&topic.partitions) {
                if let Some(settled) = rules.with(partition) {
                    records.push(wrap(Record::Partition(partition_record(&id, at, &settled))));
                }
            }
        }
        records
    }
}

/// What is set afterwards. `holds`: the value in force of a key, as far as it is set.
fn overrides<'a>(
    keys: &dyn BrokerKeys,
    scope: Scope,
    before: &Overrides,
    request: &AlterConfigs,
    holds: impl Fn(&str) -> Option<&'a str>,
) -> Result<Overrides, ConfigError> {
    let mut after = before.clone();
    for (key, alteration) in &request.alterations {
        // What an earlier version has set can always be unset.
        if !(before.contains_key(key) && *alteration == Alteration::Delete) {
            keys.check_key(scope, key)?;
        }
        let list = || {
            let default = keys.default_list(key)?;
            Some(holds(key).map_or(default, str::to_owned))
        };
        match altered(key, alteration, list)? {
            Some(value) => after.insert(key.clone(), keys.canonical(scope, key, &value)?),
            None => after.remove(key),
        };
    }
    Ok(after)
}

/// The new value; `None`: none of its own. `list`: what it is now, if it is a list.
fn altered(
    key: &str,
    alteration: &Alteration,
    list: impl FnOnce() -> Option<String>,
) -> Result<Option<String>, ConfigError> {
    let list = || list().ok_or_else(|| ConfigError::NoList { key: key.to_owned() });
    let items = |text: &str| -> Vec<String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    };
    Ok(match alteration {
        Alteration::Set(value) => Some(value.clone()),
        Alteration::Delete => None,
        Alteration::Append(more) => {
            let mut all = items(&list()?);
            for item in items(more) {
                if !all.contains(&item) {
                    all.push(item);
                }
            }
            Some(all.join(","))
        }
        Alteration::Subtract(less) => {
            let less = items(less);
            let mut all = items(&list()?);
            all.retain(|item| !less.contains(item));
            Some(all.join(","))
        }
    })
}
