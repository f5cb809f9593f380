//! `__consumer_offsets` is created when the first group needs it.

use super::coordinators::OFFSETS_TOPIC;
use crate::context::Context;
use crate::forward::Call;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use troupe_machines::cluster::CreateTopic;
use troupe_proto::error::{Error, ErrorCode};

/// Whether this node knows of the topic.
pub(super) fn is_there(context: &Context) -> bool {
    context.metadata.image.borrow().topic(OFFSETS_TOPIC).is_some()
}

/// Creates the topic, if nobody else does meanwhile, and waits until this node knows of it (G2).
///
/// # Errors
/// `COORDINATOR_NOT_AVAILABLE`: it could not be created in time.
pub(super) async fn offsets_topic(context: &Context, deadline: Instant) -> Result<(), Error> {
    if is_there(context) {
        return Ok(());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    // As much of the time is kept for what follows as a call keeps for its answer.
    let call = Call::until(deadline - left / 20);
    match context.active_controller.create_topic(wanted(context), &call).await {
        Ok(()) => {}
        // Somebody else was faster, or it may still be done.
        Err(error) if error.code == ErrorCode::TopicExists || !error.surely_not_done() => {}
        Err(error) => {
            let message = format!("`{OFFSETS_TOPIC}` could not be created: {}", error.message);
            return Err(Error::new(ErrorCode::CoordinatorNotAvailable, message));
        }
    }
    let mut images = context.metadata.image.clone();
    let heard = images.wait_for(|image| image.topic(OFFSETS_TOPIC).is_some());
    match timeout_at(deadline.min(Instant::now() + NEWS_PATIENCE), heard).await {
        Ok(Ok(_)) => Ok(()),
        _ => {
            let message = format!("`{OFFSETS_TOPIC}` is being created; try again");
            Err(Error::new(ErrorCode::CoordinatorNotAvailable, message))
        }
    }
}

/// How long one creation is waited for before it is tried again.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);

/// The topic as this node would have it. Its replicas are as many as configured, or as there are brokers: one that
/// is away for a moment must not cost a replica for ever.
fn wanted(context: &Context) -> CreateTopic {
    let config = &context.config;
    let brokers = context.metadata.image.borrow().brokers().count().max(1);
    let brokers = u32::try_from(brokers).unwrap_or(u32::MAX);
    let configured = config.offsets_topic_replication_factor;
    let factor = configured.min(brokers);
    if factor < configured {
        tracing::warn!(
            configured,
            brokers,
            "offsets.topic.replication.factor is more than there are brokers: `{OFFSETS_TOPIC}` gets one \
             replica on each of them"
        );
    }
    let mut configs = BTreeMap::from([
        ("cleanup.policy".to_owned(), "compact".to_owned()),
        ("segment.bytes".to_owned(), config.offsets_topic_segment_bytes.0.to_string()),
    ]);
    if factor < config.min_insync_replicas {
        configs.insert("min.insync.replicas".to_owned(), factor.to_string());
    }
    CreateTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: i32::try_from(config.offsets_topic_partitions).ok(),
        replication_factor: i32::try_from(factor).ok(),
        configs,
        internal: true,
        ..Default::default()
    }
}
