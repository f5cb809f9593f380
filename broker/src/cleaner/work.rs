//! What the cleaner's threads share: what they know of logs, and which of them is next.

use super::candidates::Found;
use super::pacer::Throttle;
use super::table::CleaningTable;
use crate::clock::now;
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::partition::PartitionHandle;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use troupe_machines::cleaning::{Candidate, Schedule, Standing};

/// What the threads share.
pub struct Work {
    pub metadata: Arc<MetadataCache>,
    pub table: Arc<CleaningTable>,
    pub metrics: Arc<NodeMetrics>,
    pub throttle: Throttle,
    pub schedule: Mutex<Schedule>,
    /// Cancelled when the node begins to stop.
    pub stop: CancellationToken,
    /// `log.cleaner.backoff.ms`
    pub backoff: Duration,
}

impl Work {
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all logs, and tells how they stand.
    pub async fn look(&self) -> Found {
        let found = Found::look(&self.metadata).await;
        self.table.forget_others(|key| found.handles.contains_key(&key));
        for (candidate, waits) in &found.logs {
            let dirty_ratio = candidate.standing.dirty_ratio();
            self.table.looked_at(candidate.key, dirty_ratio, waits.clone());
        }
        found
    }

    /// The log to clean now, as it stood.
    pub fn choose(&self, found: &Found) -> Option<(Arc<PartitionHandle>, Standing)> {
        let (mut schedule, candidates) = (self.schedule(), found.candidates());
        schedule.forget_others(|key| found.handles.contains_key(&key));
        let key = schedule.next(now(), &candidates)?;
        let is_it = |candidate: &&Candidate| candidate.key == key;
        let standing = candidates.iter().find(is_it).map(|it| it.standing);
        Some((Arc::clone(found.handles.get(&key)?), standing?))
    }
}
