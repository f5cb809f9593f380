//! The figures of `bench replication`, as tables and as JSON.

use super::catch_up::CaughtUp;
use super::latency::Answers;
use crate::commands::bench::median::median;
use crate::commands::bench::throughput::Throughput;
use crate::commands::bench::workload::FlushPolicy;
use crate::failure::Failure;
use crate::global::Global;
use crate::latency::Latencies;
use crate::output::{Table, number, text};
use crate::quantity::rounded;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the figures mean, for whoever reads them later.
const BULK_MEANING: [&str; 4] = [
    "alone: acks=all, replication factor 1. catch-up: a follower that was away takes over the same bytes, page",
    "cache to page cache, from the first record seen in its log to the last; its start does not count, and nobody",
    "else sends. three replicas: acks=all; three nodes and the client share the processors. OF ALONE: the",
    "median of the ratios within rounds.",
];
const LATENCY_MEANING: [&str; 5] = [
    "one at a time, kinds in turn, all leaders on one node. call: ListReplicas of one replica, a unary gRPC call",
    "answered from memory. MORE: p50 above that of one replica with the same flush.policy. IN CALLS: that in p50s",
    "of the call. IN ROUND TRIPS: that in p50s of one replica with flush.policy=os, which is what a follower does",
    "for its leader too: a batch on a stream that stands, appended, answered. Both of the same round, then the",
    "median.",
];

/// One round of one number of partitions.
pub struct Bulk {
    pub alone: Throughput,
    pub caught_up: CaughtUp,
    pub everywhere: Throughput,
}

impl Bulk {
    /// Of what one node takes from a client.
    fn catch_up_ratio(&self) -> f64 {
        self.caught_up.throughput.mb_per_second() / self.alone.mb_per_second()
    }

    fn everywhere_ratio(&self) -> f64 {
        self.everywhere.mb_per_second() / self.alone.mb_per_second()
    }
}

#[derive(Default)]
pub struct Figures {
    /// By number of partitions.
    bulk: BTreeMap<u32, Vec<Bulk>>,
    latencies: [Vec<Answers>; 2],
}

/// Percentiles of one kind of call, and what it takes more than another.
struct Row<'a> {
    policy: FlushPolicy,
    /// None: the call that does nothing.
    replicas: Option<usize>,
    rounds: &'a [Answers],
    /// The same rounds with `flush.policy=os`.
    os_rounds: &'a [Answers],
}

impl Row<'_> {
    fn of(&self, answers: &Answers, quantile: f64) -> f64 {
        let latencies: &Latencies = match self.replicas {
            None => &answers.call,
            Some(replicas) => &answers.produce[replicas - 1],
        };
        latencies.ms(quantile)
    }

    fn ms(&self, quantile: f64) -> f64 {
        median(self.rounds.iter().map(|answers| self.of(answers, quantile)))
    }

    /// Milliseconds above one replica, in units of the round; None where there is nothing to compare.
    fn more(&self, unit: impl Fn(&Answers, &Answers) -> f64) -> Option<f64> {
        self.replicas.filter(|replicas| *replicas > 1)?;
        let pairs = self.rounds.iter().zip(self.os_rounds);
        let more = pairs.map(|(answers, os)| {
            (self.of(answers, 0.5) - answers.one_replica()) / unit(answers, os)
        });
        Some(median(more))
    }

    fn more_ms(&self) -> Option<f64> {
        self.more(|_, _| 1.0)
    }

    fn in_calls(&self) -> Option<f64> {
        self.more(|answers, _| answers.call.ms(0.5))
    }

    fn in_round_trips(&self) -> Option<f64> {
        self.more(|_, os| os.one_replica())
    }

    fn name(&self) -> String {
        match self.replicas {
            None => "call that does nothing".to_owned(),
            Some(1) => "acks=all, one replica".to_owned(),
            Some(replicas) => format!("acks=all, {replicas} replicas"),
        }
    }

    fn view(&self) -> Value {
        let samples = self.rounds.iter().map(|answers| answers.call.count()).sum::<u64>();
        let p50s: Vec<f64> = self.rounds.iter().map(|answers| self.of(answers, 0.5)).collect();
        json!({
            "kind": if self.replicas.is_some() { "produce" } else { "call" },
            "replicas": self.replicas,
            "flushPolicy": self.policy.name(),
            "samples": samples,
            "p50Ms": rounded(self.ms(0.5)),
            "p90Ms": rounded(self.ms(0.9)),
            "p99Ms": rounded(self.ms(0.99)),
            "moreMs": self.more_ms().map(rounded),
            "inCalls": self.in_calls().map(rounded),
            "inRoundTrips": self.in_round_trips().map(rounded),
            "p50MsOfRounds": p50s,
        })
    }
}

impl Answers {
    fn one_replica(&self) -> f64 {
        self.produce[0].ms(0.5)
    }
}

impl Figures {
    pub fn keep_bulk(&mut self, partitions: u32, bulk: Bulk) {
        self.bulk.entry(partitions).or_default().push(bulk);
    }

    pub fn keep_latencies(&mut self, policy: FlushPolicy, answers: Answers) {
        self.latencies[place(policy)].push(answers);
    }

    pub fn print(&self, global: &Global, settings: &Value) -> Result<(), Failure> {
        let bulk: Vec<Value> =
            self.bulk.iter().map(|(partitions, rounds)| bulk_view(*partitions, rounds)).collect();
        let view = json!({
            "benchmark": "replication",
            "settings": settings,
            "bulk": { "meaning": BULK_MEANING.join(" "), "cases": bulk },
            "latency": {
                "meaning": LATENCY_MEANING.join(" "),
                "kinds": self.rows().iter().map(Row::view).collect::<Vec<_>>(),
            },
        });
        let output = global.output();
        output.one(&view, || {
            let bulk = output.table(&self.bulk_table());
            let latency = output.table(&self.latency_table());
            let (of_bulk, of_latency) = (BULK_MEANING.join("\n"), LATENCY_MEANING.join("\n"));
            format!("{bulk}{of_bulk}\n\n{latency}{of_latency}\n\nsettings {settings}\n")
        })
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let policies = [FlushPolicy::Os, FlushPolicy::Commit];
        let kinds = [None, Some(1), Some(2), Some(3)];
        let row = |policy, replicas| {
            let rounds = &self.latencies[place(policy)];
            Row { policy, replicas, rounds, os_rounds: &self.latencies[place(FlushPolicy::Os)] }
        };
        policies.into_iter().flat_map(|policy| kinds.map(|kind| row(policy, kind))).collect()
    }

    fn bulk_table(&self) -> Table {
        let mut table = Table::new(&[
            text("BYTES"),
            number("PARTITIONS"),
            number("MB/S"),
            number("LOWEST"),
            number("HIGHEST"),
            number("OF ALONE"),
            number("IN SYNC S").wide(),
            number("LEADER S/GB").wide(),
            number("FOLLOWER S/GB").wide(),
        ]);
        for (partitions, rounds) in &self.bulk {
            let mut row = |name: &str, rates: Vec<f64>, ratio: f64, more: [Option<f64>; 3]| {
                let mut cells = vec![
                    name.to_owned(),
                    partitions.to_string(),
                    format!("{:.0}", median(rates.iter().copied())),
                    format!("{:.0}", rates.iter().copied().fold(f64::INFINITY, f64::min)),
                    format!("{:.0}", rates.iter().copied().fold(0.0, f64::max)),
                    format!("{:.0} %", ratio * 100.0),
                ];
                let show = |cell: Option<f64>| cell.map_or_else(String::new, |s| format!("{s:.2}"));
                cells.extend(more.map(show));
                table.row(cells);
            };
            let middle = |of: fn(&Bulk) -> f64| median(rounds.iter().map(of));
            row("produce, alone", rates(rounds, |b| &b.alone), 1.0, [None; 3]);
            let more = [
                Some(middle(|b| b.caught_up.in_sync.as_secs_f64())),
                median_of_known(rounds, |b| b.caught_up.leader_cpu),
                median_of_known(rounds, |b| b.caught_up.follower_cpu),
            ];
            let caught_up = rates(rounds, |b| &b.caught_up.throughput);
            row("follower's catch-up", caught_up, middle(Bulk::catch_up_ratio), more);
            let everywhere = rates(rounds, |b| &b.everywhere);
            row("produce, three replicas", everywhere, middle(Bulk::everywhere_ratio), [None; 3]);
        }
        table
    }

    fn latency_table(&self) -> Table {
        let mut table = Table::new(&[
            text("ONE AT A TIME"),
            text("FLUSH.POLICY"),
            number("P50 MS"),
            number("P90 MS"),
            number("P99 MS"),
            number("MORE MS"),
            number("IN CALLS"),
            number("IN ROUND TRIPS"),
        ]);
        for row in self.rows() {
            let show = |cell: Option<f64>| cell.map_or_else(String::new, |n| format!("{n:.2}"));
            table.row(vec![
                row.name(),
                row.policy.name().to_owned(),
                format!("{:.3}", row.ms(0.5)),
                format!("{:.3}", row.ms(0.9)),
                format!("{:.3}", row.ms(0.99)),
                row.more_ms().map_or_else(String::new, |more| format!("{more:+.3}")),
                show(row.in_calls()),
                show(row.in_round_trips()),
            ]);
        }
        table
    }
}

fn place(policy: FlushPolicy) -> usize {
    match policy {
        FlushPolicy::Os => 0,
        FlushPolicy::Commit => 1,
    }
}

fn rates(rounds: &[Bulk], of: fn(&Bulk) -> &Throughput) -> Vec<f64> {
    rounds.iter().map(|bulk| of(bulk).mb_per_second()).collect()
}

fn median_of_known(rounds: &[Bulk], of: fn(&Bulk) -> Option<f64>) -> Option<f64> {
    let known: Vec<f64> = rounds.iter().filter_map(of).collect();
    (!known.is_empty()).then(|| median(known.into_iter()))
}

fn bulk_view(partitions: u32, rounds: &[Bulk]) -> Value {
    let middle = |of: fn(&Bulk) -> f64| rounded(median(rounds.iter().map(of)));
    let each: Vec<Value> = rounds
        .iter()
        .map(|bulk| {
            json!({
                "alone": bulk.alone.view(),
                "catchUp": bulk.caught_up.throughput.view(),
                "inSyncSeconds": rounded(bulk.caught_up.in_sync.as_secs_f64()),
                "three": bulk.everywhere.view(),
            })
        })
        .collect();
    json!({
        "partitions": partitions,
        "aloneMbPerSecond": middle(|bulk| bulk.alone.mb_per_second()),
        "catchUpMbPerSecond": middle(|bulk| bulk.caught_up.throughput.mb_per_second()),
        "catchUpRatio": middle(Bulk::catch_up_ratio),
        "leaderCpuSecondsPerGb": median_of_known(rounds, |b| b.caught_up.leader_cpu).map(rounded),
        "followerCpuSecondsPerGb": median_of_known(rounds, |b| b.caught_up.follower_cpu).map(rounded),
        "threeMbPerSecond": middle(|bulk| bulk.everywhere.mb_per_second()),
        "threeRatio": middle(Bulk::everywhere_ratio),
        "rounds": each,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn throughput(bytes: u64, millis: u64) -> Throughput {
        let elapsed = Duration::from_millis(millis);
        Throughput { records: bytes / 1024, bytes, elapsed }
    }

    fn bulk(alone_ms: u64, caught_up_ms: u64) -> Bulk {
        let caught_up = CaughtUp {
            throughput: throughput(1 << 30, caught_up_ms),
            in_sync: Duration::from_millis(caught_up_ms),
            leader_cpu: None,
            follower_cpu: None,
        };
        let alone = throughput(1 << 30, alone_ms);
        Bulk { alone, caught_up, everywhere: throughput(1 << 30, 4 * alone_ms) }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second: the ratio is the same.
        let rounds = [bulk(1_000, 1_250), bulk(2_000, 2_500), bulk(1_000, 2_000)];
        let view = bulk_view(1, &rounds);
        assert_eq!(view["catchUpRatio"], 0.8);
        assert_eq!(view["threeRatio"], 0.25);
    }

    fn answers(call: u64, produce: [u64; 3]) -> Answers {
        let mut answers = Answers::default();
        answers.call.record(Duration::from_micros(call));
        for (latencies, micros) in answers.produce.iter_mut().zip(produce) {
            latencies.record(Duration::from_micros(micros));
        }
        answers
    }

    #[test]
    fn replicas_cost_round_trips_of_their_own_round() {
        let rounds = [answers(100, [200, 280, 300]), answers(200, [400, 560, 600])];
        let row = |replicas| Row {
            policy: FlushPolicy::Os,
            replicas,
            rounds: &rounds,
            os_rounds: &rounds,
        };
        let near = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 1e-9;
        assert!(near(row(Some(3)).in_calls(), 1.0));
        assert!(near(row(Some(3)).in_round_trips(), 0.5));
        assert!(near(row(Some(3)).more_ms(), 0.15));
        assert!(near(row(Some(2)).in_calls(), 0.8));
        assert_eq!((row(Some(1)).more_ms(), row(None).in_calls()), (None, None));
    }

    #[test]
    fn a_round_trip_has_no_disk_in_it() {
        let (os, commit) = ([answers(100, [200, 400, 400])], [answers(100, [900, 1_100, 1_300])]);
        let policy = FlushPolicy::Commit;
        let row = Row { policy, replicas: Some(3), rounds: &commit, os_rounds: &os };
        assert!((row.in_round_trips().unwrap() - 2.0).abs() < 1e-9);
    }
}
