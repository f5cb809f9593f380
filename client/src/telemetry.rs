//! What producers and consumers tell whoever has installed a recorder of the `metrics` crate.
//!
//! Names are `troupe_producer_` and `troupe_consumer_` before the name that Kafka's clients have, with `_` for `-`. A counter
//! here is what their `-total` is; rates, averages and maxima are for whoever reads to make, and times are in seconds.
//! Labels: `client_id`, and of a consumer `group`.
//!
//! Recorders are asked for when a producer or consumer is made: install them before. Without one, a batch costs a few
//! comparisons, and a record nothing.

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use std::time::Duration;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// One that clients tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientMetric {
    pub name: &'static str,
    /// Kafka's, that it stands for.
    pub kafka: &'static str,
    pub kind: MetricKind,
    pub unit: Unit,
    pub about: &'static str,
}

const fn metric(
    name: &'static str,
    kafka: &'static str,
    kind: MetricKind,
    unit: Unit,
    about: &'static str,
) -> ClientMetric {
    ClientMetric { name, kafka, kind, unit, about }
}

const RECORDS_SENT: &str = "troupe_producer_record_send_total";
const RECORDS_FAILED: &str = "troupe_producer_record_error_total";
const RECORDS_RETRIED: &str = "troupe_producer_record_retry_total";
const REQUESTS: &str = "troupe_producer_request_total";
const BYTES_SENT: &str = "troupe_producer_outgoing_byte_total";
const BATCH_SIZE: &str = "troupe_producer_batch_size_bytes";
const RECORDS_PER_REQUEST: &str = "troupe_producer_records_per_request";
const QUEUE_TIME: &str = "troupe_producer_record_queue_time_seconds";
const LATENCY: &str = "troupe_producer_request_latency_seconds";
const BUFFER_AVAILABLE: &str = "troupe_producer_buffer_available_bytes";
const BUFFER_TOTAL: &str = "troupe_producer_buffer_total_bytes";
const CONSUMED: &str = "troupe_consumer_records_consumed_total";
const BYTES_CONSUMED: &str = "troupe_consumer_bytes_consumed_total";
const LAG: &str = "troupe_consumer_records_lag";
const ASSIGNED: &str = "troupe_consumer_assigned_partitions";
const REBALANCES: &str = "troupe_consumer_rebalance_total";
const LOSSES: &str = "troupe_consumer_failed_rebalance_total";
const COMMITS: &str = "troupe_consumer_commit_total";
const COMMITS_FAILED: &str = "troupe_consumer_commit_failed_total";

/// All that clients tell.
pub const CLIENT_METRICS: [ClientMetric; 19] = {
    use MetricKind::{Counter, Gauge, Histogram};
    [
        metric(
            RECORDS_SENT,
            "record-send-total",
            Counter,
            Unit::Count,
            "Records that were delivered.",
        ),
        metric(
            RECORDS_FAILED,
            "record-error-total",
            Counter,
            Unit::Count,
            "Records that were given up.",
        ),
        metric(
            RECORDS_RETRIED,
            "record-retry-total",
            Counter,
            Unit::Count,
            "Records that were sent again.",
        ),
        metric(
            REQUESTS,
            "request-total",
            Counter,
            Unit::Count,
            "Batches that were sent, each attempt.",
        ),
        metric(
            BYTES_SENT,
            "outgoing-byte-total",
            Counter,
            Unit::Bytes,
            "Bytes of batches that were sent.",
        ),
        metric(
            BATCH_SIZE,
            "batch-size-avg",
            Histogram,
            Unit::Bytes,
            "Size of a batch as it is sent.",
        ),
        metric(
            RECORDS_PER_REQUEST,
            "records-per-request-avg",
            Histogram,
            Unit::Count,
            "Records of a batch.",
        ),
        metric(
            QUEUE_TIME,
            "record-queue-time-avg",
            Histogram,
            Unit::Seconds,
            "From a batch's first record until it is sent first.",
        ),
        metric(
            LATENCY,
            "request-latency-avg",
            Histogram,
            Unit::Seconds,
            "From sending a batch to its answer.",
        ),
        metric(
            BUFFER_AVAILABLE,
            "buffer-available-bytes",
            Gauge,
            Unit::Bytes,
            "Of buffer_memory, what is free.",
        ),
        metric(BUFFER_TOTAL, "buffer-total-bytes", Gauge, Unit::Bytes, "buffer_memory."),
        metric(
            CONSUMED,
            "records-consumed-total",
            Counter,
            Unit::Count,
            "Records that the application was given.",
        ),
        metric(
            BYTES_CONSUMED,
            "bytes-consumed-total",
            Counter,
            Unit::Bytes,
            "Bytes of the batches that were read.",
        ),
        metric(
            LAG,
            "records-lag",
            Gauge,
            Unit::Count,
            "Records before the ends of all partitions that are held.",
        ),
        metric(ASSIGNED, "assigned-partitions", Gauge, Unit::Count, "Partitions that are held."),
        metric(
            REBALANCES,
            "rebalance-total",
            Counter,
            Unit::Count,
            "Assignments that were taken up.",
        ),
        metric(
            LOSSES,
            "failed-rebalance-total",
            Counter,
            Unit::Count,
            "How often everything that was held was lost.",
        ),
        metric(COMMITS, "commit-total", Counter, Unit::Count, "Commits that were made."),
        metric(
            COMMITS_FAILED,
            "commit-failed-total",
            Counter,
            Unit::Count,
            "Commits that were refused or given up.",
        ),
    ]
};

/// Says what each of them is, to recorders that pass that on. Once each time a client is made, as the recorder may be new.
fn describe(prefix: &str) {
    for metric in CLIENT_METRICS.iter().filter(|metric| metric.name.starts_with(prefix)) {
        let ClientMetric { name, kind, unit, about, .. } = *metric;
        match kind {
            MetricKind::Counter => metrics::describe_counter!(name, unit, about),
            MetricKind::Gauge => metrics::describe_gauge!(name, unit, about),
            MetricKind::Histogram => metrics::describe_histogram!(name, unit, about),
        }
    }
}

/// A producer's.
pub(crate) struct ProducerTelemetry {
    records_sent: Counter,
    records_failed: Counter,
    records_retried: Counter,
    requests: Counter,
    bytes_sent: Counter,
    batch_size: Histogram,
    records_per_request: Histogram,
    queue_time: Histogram,
    latency: Histogram,
    buffer_available: Gauge,
}

impl ProducerTelemetry {
    pub(crate) fn new(client_id: &str, buffer_memory: usize) -> Self {
        describe("troupe_producer_");
        let id = || client_id.to_owned();
        gauge!(BUFFER_TOTAL, "client_id" => id()).set(buffer_memory as f64);
        let buffer_available = gauge!(BUFFER_AVAILABLE, "client_id" => id());
        buffer_available.set(buffer_memory as f64);
        Self {
            records_sent: counter!(RECORDS_SENT, "client_id" => id()),
            records_failed: counter!(RECORDS_FAILED, "client_id" => id()),
            records_retried: counter!(RECORDS_RETRIED, "client_id" => id()),
            requests: counter!(REQUESTS, "client_id" => id()),
            bytes_sent: counter!(BYTES_SENT, "client_id" => id()),
            batch_size: histogram!(BATCH_SIZE, "client_id" => id()),
            records_per_request: histogram!(RECORDS_PER_REQUEST, "client_id" => id()),
            queue_time: histogram!(QUEUE_TIME, "client_id" => id()),
            latency: histogram!(LATENCY, "client_id" => id()),
            buffer_available,
        }
    }

    pub(crate) fn sent(&self, records: u32, bytes: usize, buffer_available: usize) {
        self.requests.increment(1);
        self.bytes_sent.increment(bytes as u64);
        self.batch_size.record(bytes as f64);
        self.records_per_request.record(f64::from(records));
        self.buffer_available.set(buffer_available as f64);
    }

    /// A batch went out for the first time, or again.
    pub(crate) fn left_its_queue(&self, queued: Option<Duration>, records: u32) {
        match queued {
            Some(queued) => self.queue_time.record(queued),
            None => self.records_retried.increment(u64::from(records)),
        }
    }

    pub(crate) fn answered(&self, after: Duration) {
        self.latency.record(after);
    }

    pub(crate) fn settled(&self, records: u64, delivered: bool, buffer_available: usize) {
        let counter = if delivered { &self.records_sent } else { &self.records_failed };
        counter.increment(records);
        self.buffer_available.set(buffer_available as f64);
    }
}

/// A consumer's; told from time to time, as whole numbers.
pub(crate) struct ConsumerTelemetry {
    pub consumed: Counter,
    pub bytes: Counter,
    pub lag: Gauge,
    pub assigned: Gauge,
    pub rebalances: Counter,
    pub losses: Counter,
    pub commits: Counter,
    pub commits_failed: Counter,
}

impl ConsumerTelemetry {
    pub(crate) fn new(client_id: &str, group: &str) -> Self {
        describe("troupe_consumer_");
        let labels = [("client_id", client_id.to_owned()), ("group", group.to_owned())];
        Self {
            consumed: counter!(CONSUMED, &labels),
            bytes: counter!(BYTES_CONSUMED, &labels),
            lag: gauge!(LAG, &labels),
            assigned: gauge!(ASSIGNED, &labels),
            rebalances: counter!(REBALANCES, &labels),
            losses: counter!(LOSSES, &labels),
            commits: counter!(COMMITS, &labels),
            commits_failed: counter!(COMMITS_FAILED, &labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Prometheus has it, and Kafka.
    #[test]
    fn names_say_what_they_are_and_whose() {
        for metric in CLIENT_METRICS {
            let ClientMetric { name, kafka, kind, unit, .. } = metric;
            let own =
                name.strip_prefix("troupe_producer_").or(name.strip_prefix("troupe_consumer_"));
            let own = own.unwrap();
            let stem = kafka.trim_end_matches("-avg").replace('-', "_");
            assert!(own.starts_with(&stem), "{name}: {kafka}");
            assert_eq!(name.ends_with("_total"), kind == MetricKind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), unit == Unit::Seconds, "{name}");
        }
    }
}
