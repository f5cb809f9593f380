//! What the cleaner counts: how far the logs are behind that it compacts, and what it does for them.

use metrics::{Counter, Gauge, counter, gauge};

pub struct CleanerMetrics {
    /// Of all logs that are compacted.
    pub max_dirty_ratio: Gauge,
    /// -1: none was carried out.
    pub seconds_since_last_run: Gauge,
    pub uncleanable: Gauge,
    pub passes: Counter,
    pub read_bytes: Counter,
    pub written_bytes: Counter,
    pub saved_bytes: Counter,
}

impl CleanerMetrics {
    pub(super) fn new(node: &str) -> Self {
        let label = || node.to_owned();
        let seconds_since_last_run =
            gauge!("troupe_cleaner_seconds_since_last_run", "node" => label());
        seconds_since_last_run.set(-1.0);
        Self {
            max_dirty_ratio: gauge!("troupe_cleaner_max_dirty_ratio", "node" => label()),
            seconds_since_last_run,
            uncleanable: gauge!("troupe_cleaner_uncleanable_partitions", "node" => label()),
            passes: counter!("troupe_cleaner_passes_total", "node" => label()),
            read_bytes: counter!("troupe_cleaner_read_bytes_total", "node" => label()),
            written_bytes: counter!("troupe_cleaner_written_bytes_total", "node" => label()),
            saved_bytes: counter!("troupe_cleaner_saved_bytes_total", "node" => label()),
        }
    }
}
