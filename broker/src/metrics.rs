//! What the node counts. Names and labels are Prometheus'; counters are resolved once, not per record.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use std::time::Duration;

/// The process-wide recorder: several nodes in one process share it and differ by label.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let buckets = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
            PrometheusBuilder::new()
                .set_buckets(&buckets)
                .ok()
                // Fails if the embedding program has a recorder of its own: then that one counts.
                .and_then(|builder| builder.install_recorder().ok())
        })
        .as_ref()
}

/// The counters of one node.
pub struct NodeMetrics {
    records_in: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    batches_in: Counter,
    flush_seconds: Histogram,
    pub partitions: Gauge,
    pub offline_partitions: Gauge,
    pub topics: Gauge,
}

impl NodeMetrics {
    pub fn new(node_id: i32) -> Self {
        recorder();
        let node = node_id.to_string();
        Self {
            records_in: counter!("troupe_records_in_total", "node" => node.clone()),
            bytes_in: counter!("troupe_bytes_in_total", "node" => node.clone()),
            bytes_out: counter!("troupe_bytes_out_total", "node" => node.clone()),
            batches_in: counter!("troupe_batches_in_total", "node" => node.clone()),
            flush_seconds: histogram!("troupe_log_flush_seconds", "node" => node.clone()),
            partitions: gauge!("troupe_partitions", "node" => node.clone()),
            offline_partitions: gauge!("troupe_offline_partitions", "node" => node.clone()),
            topics: gauge!("troupe_topics", "node" => node),
        }
    }

    /// A batch was appended.
    pub fn appended(&self, records: u32, bytes: usize) {
        self.records_in.increment(records.into());
        self.bytes_in.increment(bytes as u64);
        self.batches_in.increment(1);
    }

    /// Batches left for a reader.
    pub fn bytes_out(&self, bytes: usize) {
        self.bytes_out.increment(bytes as u64);
    }

    /// A flush took this long, waiting for a thread included.
    pub fn flushed(&self, took: Duration) {
        self.flush_seconds.record(took);
    }
}
