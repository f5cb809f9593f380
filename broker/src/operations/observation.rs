//! What is counted when it is asked for. Sums over all nodes count everything once.

use super::census::Census;
use super::disk::Disk;
use super::subscriptions::Sessions;
use crate::cleaner::CleaningTable;
use crate::clock::wall_clock;
use crate::controller_channel::ControllerChannel;
use crate::faults::{NodeFault, NodeFaults};
use crate::forward::Leaders;
use crate::group::GroupCoordinators;
use crate::lines;
use crate::metrics::NodeMetrics;
use crate::process::Process;
use crate::replication::Replicator;
use crate::txn::TxnCoordinators;
use std::sync::Arc;
use troupe_actor::ActorState;

/// Counts the sessions that are held between calls.
pub type PullSessions = Arc<dyn Fn() -> usize + Send + Sync>;

pub struct Observation {
    pub metrics: Arc<NodeMetrics>,
    pub leaders: Arc<Leaders>,
    pub controller: Arc<ControllerChannel>,
    pub coordinators: Arc<GroupCoordinators>,
    pub txn_coordinators: Arc<TxnCoordinators>,
    pub sessions: Arc<Sessions>,
    pub pull_sessions: PullSessions,
    /// By shard.
    pub replicators: Vec<Arc<Replicator>>,
    pub disk: Arc<Disk>,
    pub cleanings: Arc<CleaningTable>,
    pub faults: Arc<NodeFaults>,
}

impl Observation {
    /// The metrics are those of now.
    pub fn observe(&self) {
        self.observe_partitions();
        self.metrics.log_lines_lost.absolute(lines::lost());
        self.observe_distress();
        self.observe_tables();
        self.observe_cleaning();
        self.observe_faults();
        self.leaders.admission.observe();
    }

    fn observe_partitions(&self) {
        let (metadata, metrics) = (&self.leaders.metadata, &self.metrics);
        let (topics, image) = (metadata.registry.topics(), metadata.now());
        let active = self.controller.active_controller() == Some(metadata.node_id);
        let (mut led, mut offline, mut under_replicated, mut under_min_isr) = (0, 0, 0, 0);
        let (mut at_min_isr, mut topic_count, mut partition_count, mut not_preferred) =
            (0, 0, 0, 0);
        for topic in image.topics() {
            topic_count += u32::from(active);
            for partition in &topic.partitions {
                let here = partition.leader == Some(metadata.node_id);
                led += u32::from(here);
                under_replicated += u32::from(here && partition.is_under_replicated());
                under_min_isr += u32::from(here && topic.is_under_min_isr(partition));
                at_min_isr += u32::from(here && topic.is_at_min_isr(partition));
                offline += u32::from(active && partition.leader.is_none());
                partition_count += u32::from(active);
                let preferred = partition.replicas.first().copied();
                not_preferred += u32::from(active && partition.leader != preferred);
            }
        }
        let mut lag = 0;
        for handle in topics.values().flat_map(|topic| topic.replicas()) {
            let leader = image.partition(&handle.key()).and_then(|partition| partition.leader);
            if leader == Some(metadata.node_id) {
                offline += u32::from(handle.board.state() == ActorState::Offline);
                lag = lag.max(handle.board.lag());
            }
        }
        let brokers = |fenced: bool| match active {
            true => image.brokers().filter(|broker| broker.fenced == fenced).count(),
            false => 0,
        };
        metrics.led_partitions.set(led);
        metrics.offline_partitions.set(offline);
        metrics.under_replicated_partitions.set(under_replicated);
        metrics.under_min_isr_partitions.set(under_min_isr);
        metrics.replication_lag.set(lag as f64);
        metrics.active_controller.set(u32::from(active));
        metrics.fenced_brokers.set(brokers(true) as f64);
        metrics.active_brokers.set(brokers(false) as f64);
        metrics.at_min_isr_partitions.set(at_min_isr);
        metrics.cluster_topics.set(topic_count);
        metrics.cluster_partitions.set(partition_count);
        metrics.not_preferred_partitions.set(not_preferred);
        metrics.metadata_offset.set(image.next_offset().0 as f64);
    }

    fn observe_distress(&self) {
        let metrics = &self.metrics;
        let census = Census::take(&self.leaders.metadata.registry);
        metrics.offline_replicas.set(census.offline.len() as f64);
        metrics.stalled_replicas.set(census.still.len() as f64);
        metrics.oldest_append_wait_seconds.set(census.oldest_wait_ms as f64 / 1e3);
        metrics.queued_bytes.set(census.queued_bytes as f64);
        let silence = self.controller.silence_ms();
        metrics.controller_silence_seconds.set(silence.map_or(f64::INFINITY, |ms| ms as f64 / 1e3));
        if let Some(health) = self.controller.metadata_health() {
            metrics.metadata_log_damages.absolute(health.damages);
            metrics.metadata_log_recovering.set(u32::from(health.recovering));
        }
        metrics.offline_log_directories.set(self.disk.offline().len() as f64);
        if let Some(free) = self.disk.free_bytes() {
            metrics.disk_free_bytes.set(free as f64);
        }
    }

    /// Only where there may be any: elsewhere there is no such metric.
    fn observe_faults(&self) {
        if !self.faults.are_enabled() {
            return;
        }
        let lasting = self.faults.list();
        for name in NodeFault::NAMES {
            let of_name = lasting.iter().filter(|it| it.fault.name() == name);
            let left = of_name.clone().map(|it| it.left).max().unwrap_or_default();
            self.metrics.faults_active(name, of_name.count(), left);
        }
    }

    fn observe_cleaning(&self) {
        let (sums, metrics) = (self.cleanings.sums(), &self.metrics.cleaner);
        metrics.max_dirty_ratio.set(sums.max_dirty_ratio.as_f64());
        metrics.uncleanable.set(sums.uncleanable as f64);
        let age_ms = sums.last_ended.map(|ended| wall_clock().0.saturating_sub(ended.0));
        metrics.seconds_since_last_run.set(age_ms.map_or(-1.0, |ms| ms as f64 / 1e3));
    }

    /// How much there is of what comes and goes: what only ever grows is a leak.
    fn observe_tables(&self) {
        let metrics = &self.metrics;
        let census = self.coordinators.led();
        let census = census.iter().map(|coordinator| coordinator.shared.counts());
        let (groups, members) = census.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        metrics.entries("groups", usize::try_from(groups).unwrap_or(usize::MAX));
        metrics.entries("group_members", usize::try_from(members).unwrap_or(usize::MAX));
        let ids = self.txn_coordinators.led();
        let ids: u64 = ids.iter().map(|coordinator| coordinator.shared.counts().0).sum();
        metrics.entries("transactional_ids", usize::try_from(ids).unwrap_or(usize::MAX));
        metrics.entries("peer_connections", self.leaders.peers.connections());
        metrics.entries("peer_streams", self.leaders.produce_streams.count());
        metrics.entries("subscriptions", self.sessions.count());
        metrics.entries("pull_sessions", (self.pull_sessions)());
        let streams = self.replicators.iter().map(|replicator| replicator.streams().len());
        metrics.entries("replication_streams", streams.sum());
        if let Some(process) = Process::look() {
            metrics.open_descriptors.set(process.descriptors as f64);
            metrics.threads.set(process.threads as f64);
            metrics.resident_bytes.set(process.resident_bytes as f64);
        }
    }
}
