//! How much in what time.

use crate::quantity::{grouped, rounded, show_rate};
use std::time::Duration;

/// Records and bytes of values in a time.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    pub records: u64,
    pub bytes: u64,
    pub elapsed: Duration,
}

impl Throughput {
    pub fn records_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// Millions of bytes, not mebibytes.
    pub fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }

    pub fn view(&self) -> serde_json::Value {
        serde_json::json!({
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "recordsPerSecond": self.records_per_second().round(),
            "mbPerSecond": rounded(self.mb_per_second()),
        })
    }

    pub fn show(&self) -> String {
        format!(
            "{} records in {:.2} s: {} records/s, {:.1} MB/s",
            grouped(self.records),
            self.elapsed.as_secs_f64(),
            show_rate(self.records_per_second()),
            self.mb_per_second()
        )
    }
}
