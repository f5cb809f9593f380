//! How the replicas of this node are, all together: for health and metrics.

use crate::partition::{How, PartitionHandle};
use crate::registry::Registry;
use std::sync::Arc;

#[derive(Default)]
pub struct Census {
    pub offline: Vec<Arc<PartitionHandle>>,
    /// Paused or stalled.
    pub still: Vec<Arc<PartitionHandle>>,
    /// It lacks records that it had acknowledged, however it is otherwise.
    pub damaged: Vec<Arc<PartitionHandle>>,
    /// An append has waited for long.
    pub waiting: Vec<Arc<PartitionHandle>>,
    pub oldest_wait_ms: u64,
    pub queued_bytes: u64,
}

impl Census {
    pub fn take(registry: &Registry) -> Census {
        let mut census = Census::default();
        let topics = registry.topics();
        for handle in topics.values().flat_map(|topic| topic.replicas()) {
            let condition = handle.condition();
            census.oldest_wait_ms = census.oldest_wait_ms.max(condition.oldest_wait_ms);
            census.queued_bytes += condition.queued_bytes;
            if handle.board.is_damaged() {
                census.damaged.push(Arc::clone(handle));
            }
            let those = match condition.how {
                How::Offline => &mut census.offline,
                How::Paused | How::Stalled => &mut census.still,
                How::Waiting => &mut census.waiting,
                How::Running | How::Restarting | How::Damaged => continue,
            };
            those.push(Arc::clone(handle));
        }
        census
    }
}
