//! What is known of settings, from each place that may have them, in the order in which these count (A3).

use crate::NodeConfig;
use crate::config::{NodeKey, UpdateMode};
use crate::topic_defaults::{TopicDefaults, synonyms};
use std::sync::Arc;
use troupe_machines::cluster::{ClusterImage, Topic};
use troupe_machines::config::{self, ConfigKey};
use troupe_proto::ids::NodeId;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Only a broker knows that does not answer.
    Unknown,
    Topic,
    Broker,
    Cluster,
    /// The broker was started with it.
    Started,
    Default,
}

/// How a setting is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Restart,
    PerBroker,
    ClusterWide,
    PerTopic,
}

/// A value that there is for a setting, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: String,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedSetting {
    pub name: &'static str,
    /// In force. `None`: not known.
    pub value: Option<String>,
    /// The first is in force.
    pub synonyms: Vec<Synonym>,
    pub default: String,
    pub documentation: &'static str,
    pub change: Change,
    pub is_list: bool,
}

impl DescribedSetting {
    pub fn source(&self) -> Source {
        match (&self.value, self.synonyms.first()) {
            (Some(_), Some(synonym)) => synonym.source,
            _ => Source::Unknown,
        }
    }
}

/// The settings of one resource, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    pub settings: Vec<DescribedSetting>,
    /// Why some are not known; empty: they all are.
    pub notice: String,
}

/// The places that may have settings.
pub struct Levels<'a> {
    image: Arc<ClusterImage>,
    broker: Option<NodeId>,
    /// What the broker was started with, if that is known.
    started: Option<&'a NodeConfig>,
    defaults: NodeConfig,
}

impl<'a> Levels<'a> {
    pub fn new(
        image: Arc<ClusterImage>,
        broker: Option<NodeId>,
        started: Option<&'a NodeConfig>,
    ) -> Self {
        Self { image, broker, started, defaults: NodeConfig::default() }
    }

    /// All values that a broker has for a key, but for the default.
    fn of_node(&self, name: &'static str, mode: UpdateMode) -> Vec<Synonym> {
        let synonym = |value: &String, source| Synonym { name, value: value.clone(), source };
        let mut found = Vec::new();
        if let Some(broker) = self.broker.filter(|_| mode == UpdateMode::Dynamic) {
            let own = self.image.broker_overrides(broker).get(name);
            found.extend(own.map(|value| synonym(value, Source::Broker)));
        }
        if mode != UpdateMode::Restart {
            let clusters = self.image.cluster_overrides().get(name);
            found.extend(clusters.map(|value| synonym(value, Source::Cluster)));
        }
        // What was set to the default, nobody can tell from what was not set.
        let started = self.started.and_then(|started| started.get(name));
        let differs = started.filter(|value| self.defaults.get(name).as_ref() != Some(value));
        found.extend(differs.map(|value| synonym(&value, Source::Started)));
        found
    }

    fn default_of(key: &NodeKey) -> Synonym {
        Synonym { name: key.name, value: key.default.clone(), source: Source::Default }
    }

    /// What a broker has.
    pub fn broker(&self, wanted: &[String]) -> Described {
        let setting = |key: NodeKey| {
            let mut synonyms = self.of_node(key.name, key.update_mode);
            let is_known = self.started.is_some() || !synonyms.is_empty();
            synonyms.push(Self::default_of(&key));
            let value = is_known.then(|| synonyms[0].value.clone());
            described(key, value, synonyms)
        };
        Described { settings: wanted_keys(wanted).map(setting).collect(), notice: String::new() }
    }

    /// What all brokers have that have nothing of their own.
    pub fn cluster(&self, wanted: &[String]) -> Described {
        let keys = wanted_keys(wanted).filter(|key| key.update_mode != UpdateMode::Restart);
        let setting = |key: NodeKey| {
            let mut synonyms = self.of_node(key.name, key.update_mode);
            synonyms.push(Self::default_of(&key));
            let value = Some(synonyms[0].value.clone());
            described(key, value, synonyms)
        };
        Described { settings: keys.map(setting).collect(), notice: String::new() }
    }

    /// What a topic has, on a broker that goes by `now`.
    pub fn topic(&self, topic: &Topic, now: &NodeConfig, wanted: &[String]) -> Described {
        let config = TopicDefaults::of(now).apply(topic);
        let setting = |key: &'static ConfigKey| {
            let own = topic.overrides.get(key.name).map(|value| Synonym {
                name: key.name,
                value: value.clone(),
                source: Source::Topic,
            });
            let mut all: Vec<_> = own.into_iter().collect();
            for &name in synonyms(key.name) {
                let Some(mode) = NodeConfig::update_mode(name) else { continue };
                let mut of_node = self.of_node(name, mode);
                // What a controller was started with was written into the topic when it was created.
                of_node
                    .retain(|it| mode != UpdateMode::ClusterWide || it.source == Source::Cluster);
                all.extend(of_node);
            }
            let default = key.default.to_owned();
            all.push(Synonym { name: key.name, value: default.clone(), source: Source::Default });
            DescribedSetting {
                name: key.name,
                value: config.get(key.name),
                synonyms: all,
                default,
                documentation: key.documentation,
                change: Change::PerTopic,
                is_list: config::is_list(key.name),
            }
        };
        let keys = config::keys().iter();
        let keys = keys.filter(|key| wanted.is_empty() || wanted.iter().any(|it| it == key.name));
        Described { settings: keys.map(setting).collect(), notice: String::new() }
    }
}

/// By name.
fn wanted_keys(wanted: &[String]) -> impl Iterator<Item = NodeKey> {
    let mut keys = NodeConfig::keys();
    keys.retain(|key| wanted.is_empty() || wanted.iter().any(|it| it == key.name));
    keys.sort_by_key(|key| key.name);
    keys.into_iter()
}

fn described(key: NodeKey, value: Option<String>, synonyms: Vec<Synonym>) -> DescribedSetting {
    DescribedSetting {
        name: key.name,
        value,
        synonyms,
        default: key.default,
        documentation: key.documentation,
        change: match key.update_mode {
            UpdateMode::Restart => Change::Restart,
            UpdateMode::Dynamic => Change::PerBroker,
            UpdateMode::ClusterWide => Change::ClusterWide,
        },
        is_list: NodeConfig::is_list(key.name),
    }
}
