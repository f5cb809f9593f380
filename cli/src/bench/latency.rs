//! Percentiles, and a task that waits for deliveries so that the sending loop does not have to.

use crate::failure::Failure;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use troupe_client::{ClientError, Delivery};

/// Latencies in microseconds, to three digits, up to a minute.
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, 60_000_000, 3);
        Latencies { histogram: histogram.expect("the bounds are constants that fit together") }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros);
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub fn ms(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1e3
    }

    pub fn view(&self) -> serde_json::Value {
        json!({
            "samples": self.count(),
            "mean": super::rounded(self.histogram.mean() / 1e3),
            "p50": self.ms(0.5),
            "p95": self.ms(0.95),
            "p99": self.ms(0.99),
            "p999": self.ms(0.999),
            "max": self.histogram.max() as f64 / 1e3,
        })
    }

    pub fn show(&self) -> String {
        format!(
            "p50 {:.3}, p95 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3} ms",
            self.ms(0.5),
            self.ms(0.95),
            self.ms(0.99),
            self.ms(0.999),
            self.histogram.max() as f64 / 1e3
        )
    }
}

/// Takes deliveries and the moments they were asked for.
pub struct Collector {
    sender: mpsc::UnboundedSender<(Instant, Delivery)>,
    task: JoinHandle<Result<Latencies, ClientError>>,
}

impl Collector {
    pub fn start() -> Collector {
        let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Delivery)>();
        let task = tokio::spawn(async move {
            let mut latencies = Latencies::default();
            let mut open = FuturesUnordered::new();
            let mut failure = None;
            let mut more = true;
            while more || !open.is_empty() {
                tokio::select! {
                    biased;
                    Some((sent, outcome)) = open.next() => match outcome {
                        Ok(_) => latencies.record(Instant::elapsed(&sent)),
                        Err(error) => failure = failure.or(Some(error)),
                    },
                    next = receiver.recv(), if more => match next {
                        Some((sent, delivery)) => open.push(async move { (sent, delivery.await) }),
                        None => more = false,
                    },
                }
            }
            failure.map_or(Ok(latencies), Err)
        });
        Collector { sender, task }
    }

    pub fn watch(&self, sent: Instant, delivery: Delivery) {
        // The task ends only after this sender is dropped.
        let _ = self.sender.send((sent, delivery));
    }

    /// A delivery that failed has ended nothing; it is told here.
    pub async fn finish(self) -> Result<Latencies, Failure> {
        drop(self.sender);
        let what = || "the benchmark failed".to_owned();
        match self.task.await {
            Ok(latencies) => latencies.map_err(|error| Failure::client(what(), &error)),
            Err(error) => Err(Failure::new(crate::failure::Exit::Failed, what(), error)),
        }
    }
}
