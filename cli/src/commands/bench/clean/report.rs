//! What the rounds of a measurement have come to, as it is printed.

use super::flags::BenchClean;
use super::outcome::{Deletion, Round};
use crate::commands::bench::median::median;
use crate::failure::Failure;
use crate::global::Global;
use crate::latency::Latencies;
use crate::quantity::{grouped, rounded, show_size};
use serde_json::json;
use std::time::Duration;

/// Of all rounds.
struct Sums {
    alone: Latencies,
    beside: Latencies,
    /// MB/s, each the median of the rounds.
    rate: f64,
    raw_rate: f64,
    /// The median of the rounds' own.
    share: f64,
}

impl Round {
    fn mb_per_second(&self, took: Duration) -> f64 {
        let bytes = self.cleaned.bytes_before + self.cleaned.bytes_after;
        bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
    }

    fn rate(&self) -> f64 {
        self.mb_per_second(self.cleaned.took)
    }

    fn raw_rate(&self) -> f64 {
        self.mb_per_second(self.raw)
    }

    fn view(&self) -> serde_json::Value {
        json!({
            "passes": self.cleaned.passes,
            "seconds": rounded(self.cleaned.took.as_secs_f64()),
            "bytesBefore": self.cleaned.bytes_before,
            "bytesAfter": self.cleaned.bytes_after,
            "mbPerSecond": rounded(self.rate()),
            "rawMbPerSecond": rounded(self.raw_rate()),
            "windowSeconds": rounded(self.beside.took.as_secs_f64()),
            "produceAloneMs": self.alone.latencies.view(),
            "produceBesideMs": self.beside.latencies.view(),
            "recordsLeft": self.left.records,
        })
    }
}

fn sums(rounds: &[Round]) -> Sums {
    let (mut alone, mut beside) = (Latencies::default(), Latencies::default());
    for round in rounds {
        alone.add(&round.alone.latencies);
        beside.add(&round.beside.latencies);
    }
    Sums {
        alone,
        beside,
        rate: median(rounds.iter().map(Round::rate)),
        raw_rate: median(rounds.iter().map(Round::raw_rate)),
        share: median(rounds.iter().map(|round| round.rate() / round.raw_rate())),
    }
}

pub fn print(
    global: &Global,
    bench: &BenchClean,
    rounds: &[Round],
    deletion: &Deletion,
) -> Result<(), Failure> {
    let Sums { alone, beside, rate, raw_rate, share } = sums(rounds);
    let p99 = beside.ms(0.99) / alone.ms(0.99);
    let view = json!({
        "benchmark": "clean",
        "settings": {
            "keys": bench.keys,
            "times": bench.times,
            "recordSize": bench.size,
            "segmentBytes": bench.segment,
            "rate": bench.rate,
            "set": bench.set,
        },
        "mbPerSecond": rounded(rate),
        "rawMbPerSecond": rounded(raw_rate),
        "ratio": rounded(share),
        "produceAloneMs": alone.view(),
        "produceBesideMs": beside.view(),
        "p99Ratio": rounded(p99),
        "tombstones": deletion.tombstones,
        "tombstonesGoneSeconds": rounded(deletion.took.as_secs_f64()),
        "rounds": rounds.iter().map(Round::view).collect::<Vec<_>>(),
    });
    global.output().one(&view, || {
        let mut text = String::new();
        for round in rounds {
            let cleaned = &round.cleaned;
            text += &format!(
                "cleaned  {} -> {} in {:.2} s, {} passes: {:.1} MB/s read and written; the disk {:.1} MB/s\n\
                 \x20        produce p99 {:.3} ms alone, {:.3} ms beside it\n",
                show_size(cleaned.bytes_before),
                show_size(cleaned.bytes_after),
                cleaned.took.as_secs_f64(),
                cleaned.passes,
                round.rate(),
                round.raw_rate(),
                round.alone.latencies.ms(0.99),
                round.beside.latencies.ms(0.99),
            );
        }
        text + &format!(
            "all      {rate:.1} MB/s, {share:.2} of the same bytes read from the disk and written to it\n\
             produce  {} records/s of {} with acks=all, {} of them in each\n         {}, alone\n         {}, \
             beside the cleaning: p99 {p99:.2} times\n\
             left     the last value of each of {} keys, every offset as it was; {} tombstones gone after {:.1} s\n",
            grouped(bench.rate),
            show_size(bench.size),
            grouped(beside.count()),
            alone.show(),
            beside.show(),
            grouped(bench.keys),
            grouped(deletion.tombstones),
            deletion.took.as_secs_f64(),
        )
    })
}
