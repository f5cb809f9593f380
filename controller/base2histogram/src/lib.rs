//! Stands in for the crate of this name, as far as openraft uses it: a histogram that counts nothing.
//!
//! openraft counts the sizes of its batches whether anybody reads them or not, and the real crate builds
//! its tables for all of its 16 resolutions at the first use: 26 MB that stay, where a whole idle node may
//! take 40, and tens of milliseconds of its start. Nobody here reads those statistics; the controller has
//! its own metrics. To be dropped when the real crate builds only the table that is used.

use std::fmt;
use std::marker::PhantomData;

/// Takes values and forgets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    pub fn new() -> Self {
        Histogram(PhantomData)
    }

    pub fn record(&mut self, _value: u64) {}

    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// All zero: no samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[not counted]")
    }
}

/// An empty chart.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    pub fn new() -> Self {
        AsciiChart
    }

    #[must_use]
    pub fn add(self, _label: &str, _histogram: Histogram) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}
