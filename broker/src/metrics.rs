//! What the node counts. Names and labels are Prometheus'; counters are resolved once, not per record.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::cmp::Ordering;
use std::sync::OnceLock;
use std::time::Duration;
use troupe_proto::error::Error;

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
    node: String,
    flush_seconds: Histogram,
    produce_seconds: Histogram,
    pub actor_restarts: Counter,
    isr_shrinks: Counter,
    isr_expands: Counter,
    pub topics: Gauge,
    /// Replicas of this node.
    pub partitions: Gauge,
    pub led_partitions: Gauge,
    /// Without a leader that serves.
    pub offline_partitions: Gauge,
    /// Of those led here.
    pub under_replicated_partitions: Gauge,
    /// Of those led here: acks=all is refused.
    pub under_min_isr_partitions: Gauge,
    /// Records that the slowest follower of a partition led here has not been sent.
    pub replication_lag: Gauge,
    pub active_controller: Gauge,
    pub fenced_brokers: Gauge,
    /// Consumer groups that this node coordinates.
    pub groups: Gauge,
    /// Of those groups.
    pub group_members: Gauge,
    /// Assignments that members were told.
    pub group_rebalances: Counter,
    /// Offsets of one partition each.
    pub offset_commits: Counter,
    /// From a leadership of a partition of groups until its coordinator serves.
    pub group_load_seconds: Histogram,
    /// Of the whole process, whichever of its nodes had something to say.
    pub log_lines_lost: Counter,
}

impl NodeMetrics {
    pub fn new(node_id: i32) -> Self {
        recorder();
        let node = node_id.to_string();
        let label = || node.clone();
        Self {
            flush_seconds: histogram!("troupe_log_flush_seconds", "node" => label()),
            produce_seconds: histogram!("troupe_produce_seconds", "node" => label()),
            actor_restarts: counter!("troupe_actor_restarts_total", "node" => label()),
            isr_shrinks: counter!("troupe_isr_shrinks_total", "node" => label()),
            isr_expands: counter!("troupe_isr_expands_total", "node" => label()),
            topics: gauge!("troupe_topics", "node" => label()),
            partitions: gauge!("troupe_partitions", "node" => label()),
            led_partitions: gauge!("troupe_led_partitions", "node" => label()),
            offline_partitions: gauge!("troupe_offline_partitions", "node" => label()),
            under_replicated_partitions: gauge!(
                "troupe_under_replicated_partitions", "node" => label()
            ),
            under_min_isr_partitions: gauge!("troupe_under_min_isr_partitions", "node" => label()),
            replication_lag: gauge!("troupe_replication_lag_records", "node" => label()),
            active_controller: gauge!("troupe_active_controller", "node" => label()),
            fenced_brokers: gauge!("troupe_fenced_brokers", "node" => label()),
            groups: gauge!("troupe_groups", "node" => label()),
            group_members: gauge!("troupe_group_members", "node" => label()),
            group_rebalances: counter!("troupe_group_rebalances_total", "node" => label()),
            offset_commits: counter!("troupe_offset_commits_total", "node" => label()),
            group_load_seconds: histogram!("troupe_group_load_seconds", "node" => label()),
            log_lines_lost: counter!("troupe_log_lines_lost_total"),
            node,
        }
    }

    /// The counters of one topic.
    pub fn topic(&self, topic: &str) -> TopicMetrics {
        let (node, topic) = (self.node.as_str(), topic.to_owned());
        let of = |name: &'static str| counter!(name, "node" => node.to_owned(), "topic" => topic.clone());
        TopicMetrics {
            records_in: of("troupe_records_in_total"),
            batches_in: of("troupe_batches_in_total"),
            bytes_in: of("troupe_bytes_in_total"),
            bytes_out: of("troupe_bytes_out_total"),
            records_replicated: of("troupe_records_replicated_total"),
            bytes_replicated: of("troupe_bytes_replicated_total"),
            produce_seconds: self.produce_seconds.clone(),
            node: self.node.clone(),
            topic,
        }
    }

    /// The ISR of a partition led here was changed, by so many members.
    pub fn isr_changed(&self, before: usize, after: usize) {
        match after.cmp(&before) {
            Ordering::Less => self.isr_shrinks.increment(1),
            Ordering::Greater => self.isr_expands.increment(1),
            Ordering::Equal => {}
        }
    }

    /// A flush took this long, waiting for a thread included.
    pub fn flushed(&self, took: Duration) {
        self.flush_seconds.record(took);
    }
}

/// The counters of one topic on one node.
pub struct TopicMetrics {
    records_in: Counter,
    batches_in: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    records_replicated: Counter,
    bytes_replicated: Counter,
    produce_seconds: Histogram,
    node: String,
    topic: String,
}

impl TopicMetrics {
    /// A batch was appended.
    pub fn appended(&self, records: u32, bytes: usize) {
        self.records_in.increment(records.into());
        self.batches_in.increment(1);
        self.bytes_in.increment(bytes as u64);
    }

    /// Batches came from the leader.
    pub fn replicated(&self, records: u32, bytes: usize) {
        self.records_replicated.increment(records.into());
        self.bytes_replicated.increment(bytes as u64);
    }

    /// Batches left for a reader.
    pub fn bytes_out(&self, bytes: usize) {
        self.bytes_out.increment(bytes as u64);
    }

    /// A batch was answered this long after it had been checked.
    pub fn answered(&self, took: Duration, error: Option<&Error>) {
        match error {
            None => self.produce_seconds.record(took),
            Some(error) => counter!(
                "troupe_produce_errors_total",
                "node" => self.node.clone(),
                "topic" => self.topic.clone(),
                "reason" => error.code.reason()
            )
            .increment(1),
        }
    }
}
