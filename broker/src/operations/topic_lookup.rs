//! A topic that records or readers name, as this node knows it; made, if that is allowed.

use crate::forward::{ActiveController, Call, Target, hears};
use crate::metadata_cache::MetadataCache;
use crate::registry::TopicEntry;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::cluster::{CreateTopic, check_topic_name, is_internal_name};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1::TopicPartition;

/// How long this node may take to learn of a topic that is there.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);
/// How long a topic may take to be made.
const CREATION_PATIENCE: Duration = Duration::from_millis(28_500);

pub struct TopicLookup {
    metadata: Arc<MetadataCache>,
    controller: Arc<ActiveController>,
    /// `auto.create.topics.enable`
    creates: bool,
}

impl TopicLookup {
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ActiveController>,
        creates: bool,
    ) -> Self {
        Self { metadata, controller, creates }
    }

    /// The topic of that name, created if that is allowed.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`; `INVALID_TOPIC` of one that clients may not write to; `LEADER_NOT_AVAILABLE` if it could not be
    /// created in time.
    pub async fn find_or_create(&self, name: &str) -> Result<Arc<TopicEntry>, Error> {
        check_writable(name)?;
        let unknown = match self.find(name).await {
            Err(unknown) if self.creates && unknown.code == ErrorCode::UnknownTopic => unknown,
            found => return found,
        };
        let creation = CreateTopic { name: name.to_owned(), ..Default::default() };
        let call = Call::until(Instant::now() + CREATION_PATIENCE);
        match self.controller.create_topic(creation, &call).await {
            Ok(()) => {}
            // Somebody else was faster, and this node is about to hear of it.
            Err(error) if error.code == ErrorCode::TopicExists => {
                let mut images = self.metadata.image.clone();
                let heard = images.wait_for(|image| image.topic(name).is_some());
                if tokio::time::timeout(NEWS_PATIENCE, heard).await.is_err() {
                    return Err(unknown);
                }
            }
            // Whether there is a topic now is open, and that nothing was published is not.
            Err(error) if !error.surely_not_done() || error.code == ErrorCode::Overtaken => {
                let message =
                    format!("topic `{name}` could not be created in time: {}", error.message);
                return Err(Error::new(ErrorCode::LeaderNotAvailable, message));
            }
            Err(error) => return Err(error),
        }
        self.find(name).await
    }

    /// As [`TopicLookup::find_or_create`], of a topic that nobody waits for: that it may not be created is no error.
    ///
    /// # Errors
    /// Why it could not be created.
    pub async fn create_if_missing(&self, name: &str) -> Result<(), Error> {
        let is_known = || self.metadata.now().topic(name).is_some();
        if !self.creates || is_internal_name(name) || is_known() {
            return Ok(());
        }
        match self.find_or_create(name).await {
            Err(error) if error.code != ErrorCode::UnknownTopic => Err(error),
            _ => Ok(()),
        }
    }

    /// The topic of that name, if this node knows of it, or is about to.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`.
    pub async fn find(&self, name: &str) -> Result<Arc<TopicEntry>, Error> {
        let unknown = match self.metadata.registry.topic(name) {
            Err(unknown) if unknown.code == ErrorCode::UnknownTopic => unknown,
            found => return found,
        };
        if !hears(&self.metadata, |image| image.topic(name).is_some()).await {
            return Err(unknown);
        }
        self.metadata.caught_up().await;
        self.metadata.registry.topic(name)
    }
}

/// The partition of that name, if this node knows of it, or is about to.
///
/// # Errors
/// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `STALE_TOPIC_ID`, `UNKNOWN_PARTITION`.
pub async fn target_of(metadata: &MetadataCache, named: &TopicPartition) -> Result<Target, Error> {
    let TopicPartition { topic: name, partition, topic_id } = named;
    if !hears(metadata, |image| image.topic(name).is_some()).await {
        return Err(unknown_topic(name));
    }
    let image = metadata.now();
    let topic = image.topic(name).ok_or_else(|| {
        let message = format!("topic `{name}` was deleted");
        Error::new(ErrorCode::UnknownTopic, message).with("topic", name)
    })?;
    if !topic_id.is_empty() && topic_id[..] != topic.id.as_bytes()[..] {
        let message = format!("topic `{name}` was deleted and made again; refresh metadata");
        return Err(Error::new(ErrorCode::StaleTopicId, message));
    }
    let count = topic.partitions.len();
    let number = u32::try_from(*partition).ok().filter(|number| (*number as usize) < count);
    let number = number.ok_or_else(|| {
        let message =
            format!("topic `{name}` has no partition {partition}; it has {count}, numbered from 0");
        Error::new(ErrorCode::UnknownPartition, message).with("partitions", count)
    })?;
    Ok(Target { topic: Arc::clone(&topic.name), key: topic.key(PartitionId(number)) })
}

/// What is answered of a name that no topic has: there is none, or there can be none.
pub fn unknown_topic(name: &str) -> Error {
    if let Err(error) = check_topic_name(name) {
        return error.into();
    }
    let message = format!("topic `{name}` does not exist; `troupe topic list` shows all");
    Error::new(ErrorCode::UnknownTopic, message).with("topic", name)
}

/// What clients may not write to: the node alone keeps its topics.
///
/// # Errors
/// `INVALID_TOPIC`.
pub fn check_writable(topic: &str) -> Result<(), Error> {
    if !is_internal_name(topic) {
        return Ok(());
    }
    let message = format!(
        "topic `{topic}` is the cluster's own, as all are whose names begin with `__`: it can be read, and only \
         brokers make it and write to it"
    );
    Err(Error::new(ErrorCode::InvalidTopic, message).with("topic", topic))
}
