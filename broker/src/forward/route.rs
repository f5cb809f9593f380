//! Where a partition is led, as far as this node knows, and when it is worth asking again.

use crate::metadata_cache::{LeaderAt, MetadataCache};
use crate::partition::PartitionHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionKey};
use troupe_proto::log::v1::TopicPartition;

/// How much longer than others this node may take to learn of a topic that was created through one of them.
const NEWS_LAG: Duration = Duration::from_millis(250);

/// A partition, whoever leads it.
#[derive(Clone, Debug)]
pub struct Target {
    pub topic: Arc<str>,
    pub key: PartitionKey,
}

/// Who leads, in which epoch; none: there is no such partition.
pub type Led = Option<(Option<NodeId>, LeaderEpoch)>;

/// The route to a partition's leader.
pub(super) enum Route {
    Here(Arc<PartitionHandle>),
    There(LeaderAt),
}

impl Target {
    pub fn led(&self, image: &ClusterImage) -> Led {
        image.partition(&self.key).map(|partition| (partition.leader, partition.leader_epoch))
    }

    /// # Errors
    /// `UNKNOWN_TOPIC` if it is gone; `LEADER_NOT_AVAILABLE` if that may change.
    pub(super) fn route(&self, metadata: &MetadataCache) -> Result<Route, Error> {
        let image = metadata.now();
        let Some(partition) = image.partition(&self.key) else {
            let message = format!("topic `{}` was deleted", self.topic);
            return Err(Error::new(ErrorCode::UnknownTopic, message).with("topic", &self.topic));
        };
        if partition.leader != Some(metadata.node_id) {
            let leader = metadata.leader_of(&self.key);
            let nobody = || no_leader("nobody leads the partition at the moment; try again");
            return leader.map(Route::There).ok_or_else(nobody);
        }
        let topic = metadata.registry.topic(&self.topic).ok();
        let handle = topic.and_then(|topic| {
            topic.partitions.get(self.key.partition.0 as usize).cloned().flatten()
        });
        let here = handle.filter(|handle| handle.key() == self.key).map(Route::Here);
        here.ok_or_else(|| no_leader("this node is about to lead the partition; try again"))
    }

    /// As a request names it.
    pub fn named(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.to_string(),
            partition: self.number(),
            topic_id: self.key.topic_id.to_wire(),
        }
    }

    /// The partition's number as the API has it.
    pub fn number(&self) -> i32 {
        i32::try_from(self.key.partition.0).unwrap_or(i32::MAX)
    }

    /// Whether a refusal says only that somebody else leads, or will: surely not done, and worth a try where
    /// the newest image says. A node that lags behind may not know of a topic that this one knows.
    pub(super) fn is_led_elsewhere(&self, metadata: &MetadataCache, error: &Error) -> bool {
        if metadata.shutdown.is_cancelled() {
            return false;
        }
        match error.code {
            ErrorCode::NotLeader
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::ShuttingDown => true,
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::StaleTopicId => {
                metadata.image.borrow().partition(&self.key).is_some()
            }
            _ => false,
        }
    }

    /// The same for what may be done twice, as reading may: also if the way broke, or the leader's disk did
    /// and another may lead.
    pub(super) fn is_readable_elsewhere(&self, metadata: &MetadataCache, error: &Error) -> bool {
        if metadata.shutdown.is_cancelled() {
            return false;
        }
        match error.code {
            ErrorCode::OutcomeUnknown | ErrorCode::RequestTimedOut | ErrorCode::Throttled => true,
            ErrorCode::StorageFailure => {
                let image = metadata.image.borrow();
                image.partition(&self.key).is_some_and(|partition| partition.replicas.len() > 1)
            }
            _ => self.is_led_elsewhere(metadata, error),
        }
    }

    /// Returns when somebody else leads than did, or in another epoch. May be dropped at any time.
    pub async fn moves(&self, metadata: &MetadataCache, before: Led) {
        let mut images = metadata.image.clone();
        if images.wait_for(|image| self.led(image) != before).await.is_err() {
            // Nobody writes images any more: there is no news.
            std::future::pending().await
        }
    }

    /// The same, and at `until` at the latest.
    pub async fn news(&self, metadata: &MetadataCache, before: Led, until: Instant) {
        tokio::select! {
            () = self.moves(metadata, before) => {}
            () = sleep_until(until) => {}
            () = metadata.shutdown.cancelled() => {}
        }
    }
}

/// Whether this node's image of the cluster is as wanted, or is about to be: it may lag a little behind that of
/// the node through which a topic was created.
pub async fn hears(metadata: &MetadataCache, wanted: impl Fn(&ClusterImage) -> bool) -> bool {
    let mut images = metadata.image.clone();
    let alone = images.borrow().brokers().nth(1).is_none();
    let patience = if alone { Duration::ZERO } else { NEWS_LAG };
    timeout(patience, images.wait_for(|image| wanted(image))).await.is_ok_and(|heard| heard.is_ok())
}

pub(super) fn no_leader(message: &str) -> Error {
    Error::new(ErrorCode::LeaderNotAvailable, message)
}
