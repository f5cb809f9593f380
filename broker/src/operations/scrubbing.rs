//! Looking for rot in what nobody reads: all replicas of this node in turn, slowly and again and again, and those that
//! somebody asks for, at once.
//!
//! Promise: of a pass over all, no more bytes are read in a second than is set, and none begins sooner after the one
//! before than is set. Where it was is not remembered: after a start it begins anew.

use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::node_settings::NodeSettings;
use crate::partition::{PartitionHandle, ScrubResult, scrub};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::error::Error;

/// A node that has just started has more urgent things to do.
const FIRST_AFTER: Duration = Duration::from_secs(60);

pub struct Scrubbing {
    pub metadata: Arc<MetadataCache>,
    pub metrics: Arc<NodeMetrics>,
}

impl Scrubbing {
    /// Pass after pass, as it is set by then, until the node stops.
    pub async fn run(self, settings: Arc<NodeSettings>) {
        let shutdown = self.metadata.shutdown.clone();
        let _stopped = shutdown.run_until_cancelled(self.pass_after_pass(&settings)).await;
    }

    async fn pass_after_pass(&self, settings: &NodeSettings) {
        let mut changes = settings.watch();
        let (mut began, mut is_first) = (Instant::now(), true);
        loop {
            let (rate, interval) = {
                let config = changes.borrow_and_update();
                (config.scrub_bytes_per_second.0, config.scrub_interval.duration())
            };
            let rest = if is_first { interval.min(FIRST_AFTER) } else { interval };
            tokio::select! {
                () = tokio::time::sleep_until(began + rest), if rate > 0 => {}
                // Fails only if the node is gone.
                changed = changes.changed() => if changed.is_err() { return } else { continue },
            }
            (began, is_first) = (Instant::now(), false);
            let (mut bytes, mut damaged) = (0, 0);
            let replicas = self.of("", &[]).unwrap_or_default();
            for handle in &replicas {
                let rate = settings.now().scrub_bytes_per_second.0;
                if rate == 0 {
                    break;
                }
                match self.one(handle, rate).await {
                    Ok(result) => {
                        bytes += result.bytes;
                        damaged += result.damages;
                    }
                    Err(error) => {
                        tracing::debug!(partition = %handle, %error, "was not looked through");
                    }
                }
            }
            let replicas = replicas.len();
            tracing::debug!(replicas, bytes, damaged, "all replicas were looked through for rot");
        }
    }

    /// One replica.
    ///
    /// # Errors
    /// Those of [`scrub`].
    pub async fn one(
        &self,
        handle: &PartitionHandle,
        bytes_per_second: u64,
    ) -> Result<ScrubResult, Error> {
        let result = scrub(handle, bytes_per_second, self.metadata.shutdown.clone()).await?;
        self.metrics.scrubbed_bytes.increment(result.bytes);
        Ok(result)
    }

    /// The replicas of this node that are asked for. Without a topic, all; without partitions, all of the topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `UNKNOWN_PARTITION`.
    pub fn of(&self, topic: &str, partitions: &[i32]) -> Result<Vec<Arc<PartitionHandle>>, Error> {
        if topic.is_empty() {
            let topics = self.metadata.registry.topics();
            return Ok(topics.values().flat_map(|topic| topic.replicas().cloned()).collect());
        }
        let topic = self.metadata.registry.topic(topic)?;
        if partitions.is_empty() {
            return Ok(topic.replicas().cloned().collect());
        }
        let mut found = Vec::new();
        for partition in partitions {
            found.extend(topic.partition(*partition)?.1.cloned());
        }
        Ok(found)
    }
}
