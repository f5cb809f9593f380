//! What a consumer has done so far.

use super::Consumer;
use crate::telemetry::ConsumerTelemetry;
use std::sync::atomic::Ordering;
use tokio::time::{Duration, Instant};

/// How often recorders of metrics are told.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Counters since the consumer was made, and its lag at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMetrics {
    /// Returned to the application; of batches, what they hold.
    pub records: u64,
    /// Of the batches that they were in, as they are in the log.
    pub bytes: u64,
    /// Records between the positions and the ends of the partitions, as far as nodes have said.
    pub lag: u64,
    /// Assignments that were taken up.
    pub rebalances: u64,
    /// How often everything was lost.
    pub losses: u64,
    pub commits: u64,
    pub commits_failed: u64,
}

/// What recorders are told, and when next.
pub(super) struct Told {
    telemetry: ConsumerTelemetry,
    next: Instant,
}

impl Told {
    pub(super) fn new(client_id: &str, group: &str) -> Self {
        Self { telemetry: ConsumerTelemetry::new(client_id, group), next: Instant::now() }
    }
}

impl Consumer {
    pub fn metrics(&self) -> ConsumerMetrics {
        let mut metrics = self.metrics;
        metrics.lag = self.assigned.partitions.keys().filter_map(|at| self.current_lag(at)).sum();
        if let Some(group) = &self.group {
            metrics.commits = group.commits.outcomes.commits.load(Ordering::Relaxed);
            metrics.commits_failed = group.commits.outcomes.failures.load(Ordering::Relaxed);
        }
        metrics
    }

    /// Tells recorders, if it is time.
    pub(super) fn tell_recorders(&mut self) {
        let now = Instant::now();
        if now >= self.told.next {
            self.told.next = now + TOLD_EVERY;
            self.tell_recorders_now();
        }
    }

    pub(super) fn tell_recorders_now(&self) {
        let (metrics, told) = (self.metrics(), &self.told.telemetry);
        told.consumed.absolute(metrics.records);
        told.bytes.absolute(metrics.bytes);
        told.lag.set(metrics.lag as f64);
        told.assigned.set(self.assigned.partitions.len() as f64);
        told.rebalances.absolute(metrics.rebalances);
        told.losses.absolute(metrics.losses);
        told.commits.absolute(metrics.commits);
        told.commits_failed.absolute(metrics.commits_failed);
    }
}
