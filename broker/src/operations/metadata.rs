//! Who leads what, as clients are told: the image of the cluster, and its changes as they are committed.

use super::topic_lookup::TopicLookup;
use crate::address_book::AddressBook;
use crate::controller_channel::{AsOf, ControllerChannel};
use crate::metadata_cache::MetadataCache;
use crate::shutdown::shutting_down;
use futures::Stream;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use troupe_machines::cluster::{Broker, ClusterImage, Topic, check_topic_names};
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

/// Changes that wait for a watcher to take them.
const CHANGES: usize = 4;

pub struct ClusterMetadata {
    metadata: Arc<MetadataCache>,
    controller: Arc<ControllerChannel>,
    topic_lookup: TopicLookup,
}

/// A broker, as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub node_id: NodeId,
    /// host:port of the listener by which was asked.
    pub endpoint: String,
    /// Empty: none.
    pub rack: String,
    pub fenced: bool,
    pub is_controller: bool,
}

pub struct DescribedCluster {
    pub cluster_id: String,
    pub nodes: Vec<Node>,
    pub controller_id: Option<NodeId>,
    pub as_of: AsOf,
}

pub struct DescribedTopics {
    pub topics: Vec<Arc<Topic>>,
    pub unknown_topics: Vec<String>,
    pub nodes: Vec<Node>,
    pub as_of: AsOf,
}

pub struct MetadataDelta {
    /// New or changed.
    pub topics: Vec<Arc<Topic>>,
    pub deleted_topics: Vec<Arc<str>>,
    /// All of them, if any has changed.
    pub nodes: Vec<Node>,
    pub as_of: AsOf,
}

impl MetadataDelta {
    fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.deleted_topics.is_empty() && self.nodes.is_empty()
    }
}

impl ClusterMetadata {
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ControllerChannel>,
        topic_lookup: TopicLookup,
    ) -> Self {
        Self { metadata, controller, topic_lookup }
    }

    /// Creates those of the topics that do not exist, where that is allowed.
    ///
    /// # Errors
    /// Of the first that could not be created, for another reason than that it is not allowed.
    pub async fn create_missing(&self, names: &[String]) -> Result<(), Error> {
        check_topic_names(names)?;
        for name in names {
            self.topic_lookup.create_if_missing(name).await?;
        }
        Ok(())
    }

    /// As it is told at those addresses; brokers that have none there are left out.
    pub fn describe_cluster(&self, addresses: &AddressBook) -> DescribedCluster {
        let image = self.metadata.now();
        DescribedCluster {
            cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
            nodes: self.nodes(&image, addresses),
            controller_id: self.controller.active_controller(),
            as_of: self.controller.as_of(&image),
        }
    }

    /// `names` are empty: all topics.
    ///
    /// # Errors
    /// `INVALID_TOPIC`: nothing can have one of the names.
    pub fn describe_topics(
        &self,
        names: Vec<String>,
        addresses: &AddressBook,
    ) -> Result<DescribedTopics, Error> {
        check_topic_names(&names)?;
        let image = self.metadata.now();
        let (mut topics, mut unknown_topics) = (Vec::new(), Vec::new());
        if names.is_empty() {
            topics.extend(image.topics().cloned());
        }
        for name in names {
            match image.topic(&name) {
                Some(topic) => topics.push(Arc::clone(topic)),
                None => unknown_topics.push(name),
            }
        }
        let (nodes, as_of) = (self.nodes(&image, addresses), self.controller.as_of(&image));
        Ok(DescribedTopics { topics, unknown_topics, nodes, as_of })
    }

    /// First the whole image of the topics asked for, then every change as it is committed; `SHUTTING_DOWN` in the
    /// end. `names` are empty: all topics.
    ///
    /// # Errors
    /// `INVALID_TOPIC`: nothing can have one of the names.
    pub fn watch(
        self: &Arc<Self>,
        names: Vec<String>,
        addresses: &AddressBook,
    ) -> Result<impl Stream<Item = Result<MetadataDelta, Error>> + Send + use<>, Error> {
        check_topic_names(&names)?;
        let (sender, receiver) = mpsc::channel(CHANGES);
        tokio::spawn(push_changes(Arc::clone(self), addresses.clone(), names, sender));
        Ok(ReceiverStream::new(receiver))
    }

    fn nodes(&self, image: &ClusterImage, addresses: &AddressBook) -> Vec<Node> {
        let controller = self.controller.active_controller();
        let node = |broker: &Broker| {
            Some(Node {
                node_id: broker.node_id,
                endpoint: addresses.endpoint(broker)?.to_owned(),
                rack: broker.rack.clone().unwrap_or_default(),
                fenced: broker.fenced,
                is_controller: controller == Some(broker.node_id),
            })
        };
        image.brokers().filter_map(node).collect()
    }
}

async fn push_changes(
    metadata: Arc<ClusterMetadata>,
    addresses: AddressBook,
    watched: Vec<String>,
    changes: mpsc::Sender<Result<MetadataDelta, Error>>,
) {
    let mut images = metadata.metadata.image.clone();
    let mut seen: BTreeMap<Arc<str>, Arc<Topic>> = BTreeMap::new();
    let mut seen_nodes = None;
    loop {
        let image = images.borrow_and_update().clone();
        let mut delta = MetadataDelta {
            topics: Vec::new(),
            deleted_topics: Vec::new(),
            nodes: Vec::new(),
            as_of: metadata.controller.as_of(&image),
        };
        let first = seen_nodes.is_none();
        seen.retain(|name, _| {
            let kept = image.topic(name).is_some();
            if !kept {
                delta.deleted_topics.push(Arc::clone(name));
            }
            kept
        });
        for topic in image.topics() {
            let asked_for = watched.is_empty() || watched.iter().any(|name| **name == *topic.name);
            let known = seen.get(&topic.name).is_some_and(|old| Arc::ptr_eq(old, topic));
            if asked_for && !known {
                delta.topics.push(Arc::clone(topic));
                seen.insert(Arc::clone(&topic.name), Arc::clone(topic));
            }
        }
        let nodes = metadata.nodes(&image, &addresses);
        if seen_nodes.as_ref() != Some(&nodes) {
            delta.nodes.clone_from(&nodes);
            seen_nodes = Some(nodes);
        }
        if (first || !delta.is_empty()) && changes.send(Ok(delta)).await.is_err() {
            return;
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            () = changes.closed() => return,
            () = metadata.metadata.shutdown.cancelled() => {
                // The client may be gone already.
                let _ = changes.send(Err(shutting_down())).await;
                return;
            }
        }
    }
}
