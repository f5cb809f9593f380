//! An internal topic is created when it is first needed.

use crate::forward::{ActiveController, Call};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use troupe_machines::cluster::{ClusterImage, CreateTopic};
use troupe_proto::error::{Error, ErrorCode};

/// How long one creation is waited for before it is tried again.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);

/// Of a refusal: nodes that know nothing of such a topic. It does not pass by itself.
const NODES_BEHIND: &str = "nodes";

/// The topic as the operator would have it.
pub struct InternalTopic {
    pub name: &'static str,
    pub partitions: u32,
    pub replication_factor: u32,
    /// What that is called in the configuration.
    pub replication_factor_key: &'static str,
    pub segment_bytes: u64,
    /// Of the cluster's topics, if they say nothing else.
    pub min_insync_replicas: u32,
    /// Of this topic, if it has a number of its own.
    pub own_min_insync_replicas: Option<u32>,
}

impl InternalTopic {
    /// Creates the topic, if nobody else does meanwhile, and waits until this node knows of it (G2).
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`: it could not be created in time. `INVALID_REQUEST`: nodes have to be updated first,
    /// and are named.
    pub async fn create(
        &self,
        controller: &ActiveController,
        deadline: Instant,
    ) -> Result<(), Error> {
        let name = self.name;
        let mut images = controller.metadata.image.clone();
        if images.borrow().topic(name).is_some() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // As much of the time is kept for what follows as a call keeps for its answer.
        let call = Call::until(deadline - left / 20);
        let wanted = self.wanted(&controller.metadata.now());
        match controller.create_topic(wanted, &call).await {
            Ok(()) => {}
            // Somebody else was faster, or it may still be done.
            Err(error) if error.code == ErrorCode::TopicExists || !error.surely_not_done() => {}
            Err(error) => {
                let message = format!("`{name}` could not be created: {}", error.message);
                let code = match error.facts.contains_key(NODES_BEHIND) {
                    true => error.code,
                    false => ErrorCode::CoordinatorNotAvailable,
                };
                return Err(Error { code, message, ..error });
            }
        }
        let heard = images.wait_for(|image| image.topic(name).is_some());
        match timeout_at(deadline.min(Instant::now() + NEWS_PATIENCE), heard).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let message = format!("`{name}` is being created; try again");
                Err(Error::new(ErrorCode::CoordinatorNotAvailable, message))
            }
        }
    }

    /// Its replicas are as many as configured, or as there are brokers: one that is away for a moment must not cost a
    /// replica for ever.
    fn wanted(&self, image: &ClusterImage) -> CreateTopic {
        let brokers = u32::try_from(image.brokers().count().max(1)).unwrap_or(u32::MAX);
        let configured = self.replication_factor;
        let factor = configured.min(brokers);
        if factor < configured {
            tracing::warn!(
                configured,
                brokers,
                "{} is more than there are brokers: `{}` gets one replica on each of them",
                self.replication_factor_key,
                self.name
            );
        }
        let mut configs = BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("segment.bytes".to_owned(), self.segment_bytes.to_string()),
        ]);
        let min_isr = self.own_min_insync_replicas.unwrap_or(self.min_insync_replicas);
        if self.own_min_insync_replicas.is_some() || factor < min_isr {
            configs.insert("min.insync.replicas".to_owned(), factor.min(min_isr).to_string());
        }
        CreateTopic {
            name: self.name.to_owned(),
            partitions: i32::try_from(self.partitions).ok(),
            replication_factor: i32::try_from(factor).ok(),
            configs,
            internal: true,
            ..Default::default()
        }
    }
}
