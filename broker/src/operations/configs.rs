//! Settings of topics, of brokers and of all brokers together: looked up here, changed by the active controller.
//!
//! Promise: of each value it is told where it comes from, and what would hold instead. What only another broker knows
//! that does not answer is told to be unknown.
//! Never here: what a setting does.

mod described;

pub use described::{Change, Described, DescribedSetting, Source, Synonym};

use super::topic_lookup::unknown_topic;
use crate::NodeConfig;
use crate::controller_channel::AsOf;
use crate::forward::{ActiveController, Call, Decided, Relay, ask_broker};
use crate::metadata_cache::MetadataCache;
use crate::node_keys::NodeKeys;
use crate::node_settings::NodeSettings;
use crate::peers::Peers;
use described::Levels;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{AlterConfigs, ClusterError, Configured};
use troupe_machines::config::{BrokerKeys, ConfigError, Scope, TopicConfig};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// A broker that does not answer in this time is away.
const BROKER_PATIENCE: Duration = Duration::from_secs(3);

pub struct Configs {
    metadata: Arc<MetadataCache>,
    controller: Arc<ActiveController>,
    settings: Arc<NodeSettings>,
    peers: Arc<Peers>,
}

/// What another broker says of its own settings, in the words of the door that was asked; or why it is not known.
pub enum Told<R> {
    Here(Described),
    There(R),
}

impl Configs {
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ActiveController>,
        settings: Arc<NodeSettings>,
        peers: Arc<Peers>,
    ) -> Self {
        Self { metadata, controller, settings, peers }
    }

    /// `keys`: only these; empty: all. A broker elsewhere is asked by `relay`.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `BROKER_NOT_REGISTERED`, `INVALID_CONFIG`.
    pub async fn describe<R: Send>(
        &self,
        resource: &Configured,
        keys: &[String],
        deadline: Instant,
        relay: &impl Relay<R>,
    ) -> Result<Told<R>, Error> {
        check_keys(resource, keys)?;
        let node_id = match resource {
            Configured::Topic(name) => return self.topic(name, keys).map(Told::Here),
            Configured::Cluster => {
                return Ok(Told::Here(self.levels(None, None).cluster(keys)));
            }
            Configured::Broker(node_id) if *node_id == self.metadata.node_id => {
                let started = Some(self.settings.started());
                return Ok(Told::Here(self.levels(Some(*node_id), started).broker(keys)));
            }
            Configured::Broker(node_id) => *node_id,
        };
        let image = self.metadata.now();
        let Some(broker) = image.broker(node_id) else {
            return Err(ClusterError::UnknownBroker { node_id }.into());
        };
        let patience = deadline.min(Instant::now() + BROKER_PATIENCE);
        let asked = ask_broker(
            &self.peers,
            &broker.endpoint,
            patience,
            ErrorCode::LeaderNotAvailable,
            relay,
        )
        .await;
        let why = match asked {
            Ok(answer) => return Ok(Told::There(answer)),
            Err(error) => error.message,
        };
        let mut described = self.levels(Some(node_id), None).broker(keys);
        described.notice = format!(
            "what node {node_id} was started with is not known, as it does not answer: {why}"
        );
        Ok(Told::Here(described))
    }

    /// As of when what is looked up here is true.
    pub fn as_of(&self) -> AsOf {
        self.controller.channel.as_of(&self.metadata.now())
    }

    fn levels<'a>(&'a self, broker: Option<NodeId>, started: Option<&'a NodeConfig>) -> Levels<'a> {
        Levels::new(self.metadata.now(), broker, started)
    }

    fn topic(&self, name: &str, keys: &[String]) -> Result<Described, Error> {
        let image = self.metadata.now();
        let topic = image.topic(name).cloned().ok_or_else(|| unknown_topic(name))?;
        let started = Some(self.settings.started());
        let levels = Levels::new(image, Some(self.metadata.node_id), started);
        Ok(levels.topic(&topic, &self.settings.now(), keys))
    }

    /// Has settings changed; each resource for itself, in the order asked.
    ///
    /// # Errors
    /// Those of the controller before anything was decided.
    pub async fn alter<R: Send>(
        &self,
        call: &Call,
        changes: &[AlterConfigs],
        relay: &impl Relay<R>,
    ) -> Result<Decided<Vec<Result<(), Error>>, R>, Error> {
        let here = |controller: ControllerHandle| async move { alter(&controller, changes).await };
        self.controller.decide(call, here, relay).await
    }
}

async fn alter(
    controller: &ControllerHandle,
    changes: &[AlterConfigs],
) -> Result<Vec<Result<(), Error>>, Error> {
    let mut results = Vec::with_capacity(changes.len());
    for change in changes {
        let changed = controller.alter_configs(change.clone()).await;
        match changed {
            // Nothing is decided yet: the way to the controller that decides is looked for again.
            Err(error) if results.is_empty() && error.code == ErrorCode::NotController => {
                return Err(error);
            }
            changed => results.push(changed),
        }
    }
    Ok(results)
}

/// Whether the resource can have keys of that name.
fn check_keys(resource: &Configured, keys: &[String]) -> Result<(), ConfigError> {
    for key in keys {
        match resource {
            Configured::Topic(_) => TopicConfig::default().unset(key)?,
            Configured::Broker(_) | Configured::Cluster => {
                match NodeKeys.check_key(Scope::Cluster, key) {
                    Err(ConfigError::NeedsRestart { .. })
                        if matches!(resource, Configured::Broker(_)) => {}
                    checked => checked?,
                }
            }
        }
    }
    Ok(())
}

/// Those that are named once; of the others, which they are.
pub fn named_once<'a>(resources: impl Iterator<Item = &'a Configured>) -> Vec<bool> {
    let mut seen = BTreeSet::new();
    resources.map(|resource| seen.insert(resource)).collect()
}
