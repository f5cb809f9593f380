//! The figures of `bench transactions`, and how they are told.

use crate::commands::bench::load;
use crate::commands::bench::median::median;
use crate::commands::bench::throughput::Throughput;
use crate::commands::bench::workload::Workload;
use crate::failure::Failure;
use crate::global::Global;
use crate::latency::Latencies;
use crate::quantity::{grouped, rounded};
use serde_json::json;
use troupe_client::ProducerConfig;

/// Everything that was measured, by round.
pub struct Figures {
    /// Without transactions.
    pub plain: Vec<Throughput>,
    pub sized: Vec<Sized>,
    /// One transaction of one record at a time.
    pub alone: Latencies,
}

/// With so many records in a transaction.
pub struct Sized {
    pub size: u64,
    /// In none, waiting for all answers after as many.
    pub flushed: Vec<Throughput>,
    pub written: Vec<Throughput>,
    /// From begin to committed, under this load.
    pub latencies: Latencies,
    /// Without waiting for commits; in how many transactions of the coordinator's.
    pub in_a_row: Vec<Throughput>,
    pub row_latencies: Latencies,
    pub decided: Vec<u64>,
    pub uncommitted: Vec<Throughput>,
    pub committed: Vec<Throughput>,
}

impl Figures {
    pub fn new(sizes: impl Iterator<Item = u64>) -> Figures {
        let sized = sizes.map(|size| Sized {
            size,
            flushed: Vec::new(),
            written: Vec::new(),
            latencies: Latencies::default(),
            in_a_row: Vec::new(),
            row_latencies: Latencies::default(),
            decided: Vec::new(),
            uncommitted: Vec::new(),
            committed: Vec::new(),
        });
        Figures { plain: Vec::new(), sized: sized.collect(), alone: Latencies::default() }
    }
}

/// The median of the ratios within rounds.
fn ratio(of: &[Throughput], to: &[Throughput]) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| of.records_per_second() / to.records_per_second()))
}

pub fn print(
    global: &Global,
    workload: &Workload,
    producers: u32,
    config: &ProducerConfig,
    figures: &Figures,
) -> Result<(), Failure> {
    let views = |rounds: &[Throughput]| rounds.iter().map(Throughput::view).collect::<Vec<_>>();
    let sized = figures.sized.iter().map(|sized| {
        json!({
            "transactionSize": sized.size,
            "flushedAsOften": views(&sized.flushed),
            "transactional": views(&sized.written),
            "shareOfPlain": rounded(ratio(&sized.written, &figures.plain)),
            "shareOfFlushedAsOften": rounded(ratio(&sized.written, &sized.flushed)),
            "beginToCommittedMs": sized.latencies.view(),
            "inARow": views(&sized.in_a_row),
            "inARowDecidedIn": sized.decided,
            "inARowShareOfPlain": rounded(ratio(&sized.in_a_row, &figures.plain)),
            "inARowBeginToCommittedMs": sized.row_latencies.view(),
            "readUncommitted": views(&sized.uncommitted),
            "readCommitted": views(&sized.committed),
            "readCommittedShare": rounded(ratio(&sized.committed, &sized.uncommitted)),
        })
    });
    let view = json!({
        "benchmark": "transactions",
        "settings": {
            "partitions": workload.partitions,
            "flushPolicy": workload.flush_policy.name(),
            "recordSize": workload.size,
            "records": workload.records,
            "rounds": figures.plain.len(),
            "producers": producers,
            "producer": load::describe(config),
        },
        "result": {
            "plain": views(&figures.plain),
            "sizes": sized.collect::<Vec<_>>(),
            "aloneBeginToCommittedMs": figures.alone.view(),
        },
    });
    global.output().one(&view, || {
        let (partitions, policy) = (workload.partitions, workload.flush_policy.name());
        let size = workload.size;
        let settings = format!("partitions={partitions} flush.policy={policy} size={size}");
        show(figures)
            + &format!("settings {settings} producers={producers} {}\n", load::show(config))
    })
}

fn show(figures: &Figures) -> String {
    let mut text = String::new();
    for plain in &figures.plain {
        text += &format!("plain         {}\n", plain.show());
    }
    for sized in &figures.sized {
        text += &format!("{} records in a transaction:\n", grouped(sized.size));
        for flushed in &sized.flushed {
            text += &format!("  flushed     {}\n", flushed.show());
        }
        for written in &sized.written {
            text += &format!("  written     {}\n", written.show());
        }
        for (in_a_row, decided) in sized.in_a_row.iter().zip(&sized.decided) {
            let decided = grouped(*decided);
            text += &format!("  in a row    {}, decided in {decided}\n", in_a_row.show());
        }
        text += &format!(
            "  waiting for each commit     {:.1} % of plain, {:.1} % of flushed as often (medians of the rounds)\n\
             \x20   begin to committed        {}\n\
             \x20 not waiting, in a row       {:.1} % of plain\n\
             \x20   begin to committed        {}\n\
             \x20 reader                      read_committed at {:.1} % of read_uncommitted\n",
            ratio(&sized.written, &figures.plain) * 100.0,
            ratio(&sized.written, &sized.flushed) * 100.0,
            sized.latencies.show(),
            ratio(&sized.in_a_row, &figures.plain) * 100.0,
            sized.row_latencies.show(),
            ratio(&sized.committed, &sized.uncommitted) * 100.0,
        );
    }
    text + &format!("one record alone, begin to committed  {}\n", figures.alone.show())
}
