//! What the cleaner's threads share: what they know of logs, and which of them is next.

use super::candidates::Found;
use super::pacer::Throttle;
use super::table::CleaningTable;
use crate::clock::now;
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::node_settings::NodeSettings;
use crate::partition::{Beside, PartitionHandle};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use troupe_machines::cleaning::{Ended, Haste, Schedule, Standing};
use troupe_proto::ids::PartitionKey;

/// What the threads share.
pub struct Work {
    pub metadata: Arc<MetadataCache>,
    pub table: Arc<CleaningTable>,
    pub metrics: Arc<NodeMetrics>,
    pub throttle: Throttle,
    pub schedule: Mutex<Schedule>,
    /// Cancelled when the node begins to stop.
    pub stop: CancellationToken,
    /// `log.cleaner.backoff.ms` and others, as they are set now.
    pub settings: Arc<NodeSettings>,
    pub beside: Arc<Beside>,
}

impl Work {
    /// Looks at all logs, tells how they stand, and gives the one to clean now; or whether it is worth while to look
    /// again soon.
    pub async fn choose(&self) -> Result<Task, Soon> {
        // Held while it looks: no pass ends in between, so that none is begun for what has just been done.
        let mut schedule = self.schedule.lock().await;
        let found = Found::look(&self.metadata).await;
        let is_here = |key| found.handles.contains_key(&key);
        self.table.forget_others(is_here);
        schedule.forget_others(is_here);
        schedule.set_backoff(self.settings.now().cleaner_backoff.0);
        for (candidate, waits) in &found.logs {
            let dirty_ratio = candidate.standing.dirty_ratio();
            self.table.looked_at(candidate.key, dirty_ratio, waits.clone());
        }
        let candidates = found.candidates();
        let key = schedule.next(now(), &candidates).ok_or(Soon(found.rolled))?;
        let standing = candidates.iter().find(|it| it.key == key).map(|it| it.standing);
        let handle = found.handles.get(&key).map(Arc::clone);
        let (handle, standing) = handle.zip(standing).ok_or(Soon(false))?;
        Ok(Task { handle, standing, haste: schedule.haste(now(), key, &standing) })
    }

    pub async fn ended(&self, key: PartitionKey, how: Ended) {
        self.schedule.lock().await.ended(now(), key, how);
    }
}

/// The log to clean now.
pub struct Task {
    pub handle: Arc<PartitionHandle>,
    /// As it was found.
    pub standing: Standing,
    pub haste: Haste,
}

/// There is nothing to clean now; whether there will be in a moment.
pub struct Soon(pub bool);
