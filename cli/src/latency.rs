//! Latencies and their percentiles.

use crate::quantity::rounded;
use hdrhistogram::Histogram;
use serde_json::json;
use std::time::Duration;

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

    /// All of the other's samples too.
    pub fn add(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("the bounds of all are the same");
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub fn ms(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1e3
    }

    pub fn mean_ms(&self) -> f64 {
        self.histogram.mean() / 1e3
    }

    pub fn max_ms(&self) -> f64 {
        self.histogram.max() as f64 / 1e3
    }

    pub fn view(&self) -> serde_json::Value {
        json!({
            "samples": self.count(),
            "mean": rounded(self.mean_ms()),
            "p50": self.ms(0.5),
            "p95": self.ms(0.95),
            "p99": self.ms(0.99),
            "p999": self.ms(0.999),
            "max": self.max_ms(),
        })
    }

    pub fn show(&self) -> String {
        format!(
            "p50 {:.3}, p95 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3} ms",
            self.ms(0.5),
            self.ms(0.95),
            self.ms(0.99),
            self.ms(0.999),
            self.max_ms()
        )
    }
}
