//! Which partitions this node knows, by name. Written by the node when the cluster's image changes, read
//! by every request without a lock.

use crate::partition::PartitionHandle;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;
use troupe_machines::cluster::{Topic, check_topic_name};
use troupe_machines::config::TopicConfig;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{MetadataOffset, PartitionId, PartitionKey, TopicId};

/// A topic and its partitions, in order.
pub struct TopicEntry {
    pub id: TopicId,
    pub name: Arc<str>,
    /// None: this node has no replica of it.
    pub partitions: Vec<Option<Arc<PartitionHandle>>>,
    /// The topic in the image that this entry was made from.
    pub described: Arc<Topic>,
    /// Its settings, with this node's where it has none of its own.
    pub config: Arc<TopicConfig>,
}

impl TopicEntry {
    pub fn config(&self) -> &TopicConfig {
        &self.config
    }

    /// The partition's name and this node's replica of it, if there is one.
    ///
    /// # Errors
    /// `UNKNOWN_PARTITION`.
    pub fn partition(
        &self,
        partition: i32,
    ) -> Result<(PartitionKey, Option<&Arc<PartitionHandle>>), Error> {
        let number = u32::try_from(partition).ok();
        let found = number.and_then(|number| {
            let handle = self.partitions.get(number as usize)?;
            Some((self.described.key(PartitionId(number)), handle.as_ref()))
        });
        found.ok_or_else(|| {
            let count = self.partitions.len();
            let message = format!(
                "topic `{}` has no partition {partition}; it has {count}, numbered from 0",
                self.name
            );
            Error::new(ErrorCode::UnknownPartition, message).with("partitions", count)
        })
    }

    /// The replicas that this node has.
    pub fn replicas(&self) -> impl Iterator<Item = &Arc<PartitionHandle>> {
        self.partitions.iter().flatten()
    }
}

pub type Topics = HashMap<Arc<str>, Arc<TopicEntry>>;

/// The topics of this node.
pub struct Registry {
    topics: ArcSwap<Topics>,
    /// The metadata offset that `topics` reflects.
    applied: watch::Sender<Option<MetadataOffset>>,
    /// Of this node, in `topics`.
    replicas: AtomicUsize,
}

impl Default for Registry {
    fn default() -> Self {
        let applied = watch::channel(None).0;
        Self { topics: ArcSwap::default(), applied, replicas: AtomicUsize::new(0) }
    }
}

impl Registry {
    /// All topics as of now.
    pub fn topics(&self) -> Arc<Topics> {
        self.topics.load_full()
    }

    pub fn topic(&self, name: &str) -> Result<Arc<TopicEntry>, Error> {
        self.topics.load().get(name).cloned().ok_or_else(|| unknown_topic(name))
    }

    /// The partition that a request names, and this node's replica of it, if there is one; `topic_id` is
    /// empty or must be the topic's.
    pub fn partition(
        &self,
        topic: &str,
        topic_id: &[u8],
        partition: i32,
    ) -> Result<(PartitionKey, Option<Arc<PartitionHandle>>), Error> {
        let topics = self.topics.load();
        let entry = topics.get(topic).ok_or_else(|| unknown_topic(topic))?;
        if !topic_id.is_empty() && topic_id != entry.id.as_bytes() {
            let message = format!("topic `{topic}` was deleted and made again; refresh metadata");
            return Err(Error::new(ErrorCode::StaleTopicId, message));
        }
        let (key, handle) = entry.partition(partition)?;
        Ok((key, handle.cloned()))
    }

    /// How many replicas this node has.
    pub fn replica_count(&self) -> usize {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Puts the topics of a new image in force.
    pub fn replace(&self, topics: Topics, applied: MetadataOffset) {
        let replicas = topics.values().map(|topic| topic.replicas().count()).sum();
        self.replicas.store(replicas, Ordering::Relaxed);
        self.topics.store(Arc::new(topics));
        self.applied.send_replace(Some(applied));
    }

    /// Takes topics out of sight before they are deleted; nothing counts as applied yet.
    pub fn hide(&self, topics: Topics) {
        self.topics.store(Arc::new(topics));
    }

    /// The metadata offset that the image reflects, and every change of it.
    pub fn applied(&self) -> watch::Receiver<Option<MetadataOffset>> {
        self.applied.subscribe()
    }

    /// Waits until the image reflects the metadata log up to `offset`.
    pub async fn reached(&self, offset: MetadataOffset) {
        let mut applied = self.applied.subscribe();
        // Fails only if the registry is gone, and it is borrowed here.
        let _ = applied.wait_for(|applied| applied.is_some_and(|applied| applied >= offset)).await;
    }
}

/// A name that no topic can have is no reason to wait for news.
fn unknown_topic(name: &str) -> Error {
    if let Err(error) = check_topic_name(name) {
        return error.into();
    }
    let message = format!("topic `{name}` does not exist; `troupe topic create {name}` makes it");
    Error::new(ErrorCode::UnknownTopic, message).with("topic", name)
}
