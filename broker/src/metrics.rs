//! What the node counts. Names and labels are Prometheus'; counters are resolved once, not per record.

mod calls;
mod cleaner;
mod help;
mod produce_times;
mod stages;
mod topics;
mod transactions;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use topics::ByTopic;

pub use calls::{CallMetrics, CallUnderWay};
pub use cleaner::CleanerMetrics;
pub use produce_times::ProduceTimes;
pub use stages::Stages;
pub use topics::{DiskFull, TopicMetrics};
pub use transactions::TransactionMetrics;

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
                .inspect(|_| help::describe())
        })
        .as_ref()
}

/// The counters of one node.
pub struct NodeMetrics {
    node: String,
    flush_seconds: Histogram,
    produce_times: ProduceTimes,
    pub actor_restarts: Counter,
    /// Logs that lacked something that they had been known to hold, when they were opened.
    pub log_damages: Counter,
    /// Files and directories that were set aside, or made again from the records.
    pub log_notices: Counter,
    /// Bytes of logs that were looked through for rot.
    pub scrubbed_bytes: Counter,
    /// Work on a log that was put off for want of descriptors, memory or space.
    pub storage_waits: Counter,
    /// Replicas here that lack something that they had acknowledged, and were not filled again yet, or never can be.
    pub damaged_replicas: Gauge,
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
    /// Of those led here: one fewer in sync, and acks=all is refused.
    pub at_min_isr_partitions: Gauge,
    /// Of those led here: acks=all is refused.
    pub under_min_isr_partitions: Gauge,
    /// Records that the slowest follower of a partition led here has not been sent.
    pub replication_lag: Gauge,
    pub active_controller: Gauge,
    pub fenced_brokers: Gauge,
    pub active_brokers: Gauge,
    /// Of the whole cluster.
    pub cluster_topics: Gauge,
    pub cluster_partitions: Gauge,
    /// Of the whole cluster: led by another than the first of their replicas.
    pub not_preferred_partitions: Gauge,
    /// Of the metadata log, what this node has applied.
    pub metadata_offset: Gauge,
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
    pub transactions: TransactionMetrics,
    /// Of the whole process, whichever of its nodes had something to say.
    pub log_lines_lost: Counter,
    /// Replicas of this node that were taken offline.
    pub offline_replicas: Gauge,
    /// Replicas of this node whose actors handle nothing though something waits, or because of a fault.
    pub stalled_replicas: Gauge,
    /// How long the oldest append that waits for its answer has waited, of all replicas.
    pub oldest_append_wait_seconds: Gauge,
    /// Bytes of appends that wait for their answers.
    pub queued_bytes: Gauge,
    /// How long ago an active controller was heard.
    pub controller_silence_seconds: Gauge,
    /// How often what this node keeps of the metadata log was found damaged.
    pub metadata_log_damages: Counter,
    /// 1: this controller lost its log, and votes for nobody until the others have filled it again.
    pub metadata_log_recovering: Gauge,
    /// On the fullest of the file systems of the log directories.
    pub disk_free_bytes: Gauge,
    /// Log directories that have failed, or could not be opened.
    pub offline_log_directories: Gauge,
    pub open_descriptors: Gauge,
    pub threads: Gauge,
    pub resident_bytes: Gauge,
    /// Appends that were refused for want of space.
    pub disk_full: DiskFull,
    pub cleaner: CleanerMetrics,
    pub calls: Arc<CallMetrics>,
    by_topic: ByTopic,
}

impl NodeMetrics {
    pub fn new(node_id: i32) -> Self {
        recorder();
        let node = node_id.to_string();
        let label = || node.clone();
        Self {
            flush_seconds: histogram!("troupe_log_flush_seconds", "node" => label()),
            produce_times: ProduceTimes::new(&node),
            actor_restarts: counter!("troupe_actor_restarts_total", "node" => label()),
            log_damages: counter!("troupe_log_damages_total", "node" => label()),
            log_notices: counter!("troupe_log_notices_total", "node" => label()),
            scrubbed_bytes: counter!("troupe_log_scrubbed_bytes_total", "node" => label()),
            storage_waits: counter!("troupe_storage_waits_total", "node" => label()),
            damaged_replicas: gauge!("troupe_damaged_replicas", "node" => label()),
            isr_shrinks: counter!("troupe_isr_shrinks_total", "node" => label()),
            isr_expands: counter!("troupe_isr_expands_total", "node" => label()),
            topics: gauge!("troupe_topics", "node" => label()),
            partitions: gauge!("troupe_partitions", "node" => label()),
            led_partitions: gauge!("troupe_led_partitions", "node" => label()),
            offline_partitions: gauge!("troupe_offline_partitions", "node" => label()),
            under_replicated_partitions: gauge!(
                "troupe_under_replicated_partitions", "node" => label()
            ),
            at_min_isr_partitions: gauge!("troupe_at_min_isr_partitions", "node" => label()),
            under_min_isr_partitions: gauge!("troupe_under_min_isr_partitions", "node" => label()),
            replication_lag: gauge!("troupe_replication_lag_records", "node" => label()),
            active_controller: gauge!("troupe_active_controller", "node" => label()),
            fenced_brokers: gauge!("troupe_fenced_brokers", "node" => label()),
            active_brokers: gauge!("troupe_active_brokers", "node" => label()),
            cluster_topics: gauge!("troupe_cluster_topics", "node" => label()),
            cluster_partitions: gauge!("troupe_cluster_partitions", "node" => label()),
            not_preferred_partitions: gauge!("troupe_not_preferred_partitions", "node" => label()),
            metadata_offset: gauge!("troupe_metadata_offset", "node" => label()),
            groups: gauge!("troupe_groups", "node" => label()),
            group_members: gauge!("troupe_group_members", "node" => label()),
            group_rebalances: counter!("troupe_group_rebalances_total", "node" => label()),
            offset_commits: counter!("troupe_offset_commits_total", "node" => label()),
            group_load_seconds: histogram!("troupe_group_load_seconds", "node" => label()),
            transactions: TransactionMetrics::new(&node),
            log_lines_lost: counter!("troupe_log_lines_lost_total"),
            offline_replicas: gauge!("troupe_offline_replicas", "node" => label()),
            stalled_replicas: gauge!("troupe_stalled_replicas", "node" => label()),
            oldest_append_wait_seconds: gauge!(
                "troupe_oldest_append_wait_seconds", "node" => label()
            ),
            queued_bytes: gauge!("troupe_queued_bytes", "node" => label()),
            controller_silence_seconds: gauge!(
                "troupe_controller_silence_seconds", "node" => label()
            ),
            metadata_log_damages: counter!("troupe_metadata_log_damages_total", "node" => label()),
            metadata_log_recovering: gauge!("troupe_metadata_log_recovering", "node" => label()),
            disk_free_bytes: gauge!("troupe_disk_free_bytes", "node" => label()),
            offline_log_directories: gauge!(
                "troupe_offline_log_directories", "node" => label()
            ),
            open_descriptors: gauge!("process_open_fds"),
            threads: gauge!("process_threads"),
            resident_bytes: gauge!("process_resident_memory_bytes"),
            disk_full: DiskFull::default(),
            cleaner: CleanerMetrics::new(&node),
            calls: CallMetrics::new(&node),
            by_topic: ByTopic::default(),
            node,
        }
    }

    /// The counters of one topic: the same ones as long as anybody has them.
    pub fn topic(&self, topic: &str) -> Arc<TopicMetrics> {
        self.by_topic.of(topic, &self.produce_times, &self.disk_full)
    }

    /// The counters of all topics that have replicas here, in Prometheus' text.
    pub fn render_topics(&self, out: &mut String) {
        self.by_topic.render(&self.node, out);
    }

    /// A fault was injected on purpose, of this kind.
    pub fn fault_injected(&self, kind: &'static str) {
        let node = self.node.clone();
        counter!("troupe_faults_injected_total", "node" => node, "fault" => kind).increment(1);
    }

    /// Faults of the whole node of this kind that last, and how long the last of them does.
    pub fn faults_active(&self, kind: &'static str, count: usize, left: Duration) {
        let node = || self.node.clone();
        gauge!("troupe_faults_active", "node" => node(), "fault" => kind).set(count as f64);
        gauge!("troupe_fault_left_seconds", "node" => node(), "fault" => kind)
            .set(left.as_secs_f64());
    }

    /// Entries of a table of this node.
    pub fn entries(&self, of: &'static str, count: usize) {
        let node = self.node.clone();
        gauge!("troupe_entries", "node" => node, "of" => of).set(count as f64);
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
