//! The figures of `bench limits`, as a table and as JSON.

use crate::commands::bench::median::median;
use crate::commands::bench::raw::Mode;
use crate::commands::bench::throughput::Throughput;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::quantity::{rounded, show_rate, show_size};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is measured through the broker, and what it is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    ProduceOs,
    ProduceFsync,
    Consume,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::ProduceOs => "produce, flush.policy=os",
            Operation::ProduceFsync => "produce, flush.policy=commit",
            Operation::Consume => "consume",
        }
    }

    fn raw(self) -> Mode {
        match self {
            Operation::ProduceOs => Mode::Write,
            Operation::ProduceFsync => Mode::Sync,
            Operation::Consume => Mode::Discard,
        }
    }
}

/// Processor seconds for each 10^9 bytes of values.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    pub client: Option<f64>,
    pub server: Option<f64>,
}

pub struct Round {
    pub throughput: Throughput,
    /// Of the raw measurement just before, in MB/s.
    pub raw_mb: f64,
    pub cpu: Cpu,
}

pub struct Measurement {
    operation: Operation,
    size: u64,
    partitions: u32,
    pub rounds: Vec<Round>,
}

#[derive(Default)]
pub struct RawFigure {
    /// MB/s.
    pub rounds: Vec<f64>,
}

impl Measurement {
    pub fn new(operation: Operation, size: u64, partitions: u32, first: Round) -> Measurement {
        Measurement { operation, size, partitions, rounds: vec![first] }
    }

    pub fn is(&self, operation: Operation, size: u64, partitions: u32) -> bool {
        (self.operation, self.size, self.partitions) == (operation, size, partitions)
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    fn records_per_second(&self) -> f64 {
        self.median(|round| round.throughput.records_per_second())
    }

    fn mb_per_second(&self) -> f64 {
        self.median(|round| round.throughput.mb_per_second())
    }

    fn ratio(&self) -> f64 {
        self.median(|round| round.throughput.mb_per_second() / round.raw_mb)
    }

    fn cpu(&self, of: fn(&Cpu) -> Option<f64>) -> Option<f64> {
        let known: Vec<f64> = self.rounds.iter().filter_map(|round| of(&round.cpu)).collect();
        (!known.is_empty()).then(|| median(known.into_iter()))
    }

    fn view(&self) -> Value {
        let rounds: Vec<Value> = self
            .rounds
            .iter()
            .map(|round| {
                json!({
                    "recordsPerSecond": round.throughput.records_per_second().round(),
                    "mbPerSecond": rounded(round.throughput.mb_per_second()),
                    "rawMbPerSecond": rounded(round.raw_mb),
                })
            })
            .collect();
        json!({
            "operation": self.operation.name(),
            "recordSize": self.size,
            "partitions": self.partitions,
            "recordsPerSecond": self.records_per_second().round(),
            "mbPerSecond": rounded(self.mb_per_second()),
            "against": self.operation.raw().name(),
            "rawMbPerSecond": rounded(self.median(|round| round.raw_mb)),
            "ratio": rounded(self.ratio()),
            "clientCpuSecondsPerGb": self.cpu(|cpu| cpu.client).map(rounded),
            "serverCpuSecondsPerGb": self.cpu(|cpu| cpu.server).map(rounded),
            "rounds": rounds,
        })
    }
}

pub fn print(
    global: &Global,
    settings: &Value,
    raw: &BTreeMap<Mode, RawFigure>,
    measurements: &[Measurement],
) -> Result<(), Failure> {
    let raw_views: Vec<Value> = raw
        .iter()
        .map(|(mode, figure)| {
            let rounds: Vec<f64> = figure.rounds.iter().copied().map(rounded).collect();
            let middle = rounded(median(figure.rounds.iter().copied()));
            json!({ "name": mode.name(), "mbPerSecond": middle, "rounds": rounds })
        })
        .collect();
    let view = json!({
        "benchmark": "limits",
        "settings": settings,
        "raw": raw_views,
        "measurements": measurements.iter().map(Measurement::view).collect::<Vec<_>>(),
    });
    let output = global.output();
    output.one(&view, || {
        let mut out = output.table(&raw_table(raw));
        out.push('\n');
        out += &output.table(&table(measurements));
        out + &format!("\nsettings {settings}\n")
    })
}

fn raw_table(raw: &BTreeMap<Mode, RawFigure>) -> Table {
    let mut table = Table::new(&[
        text("RAW, 1 MIB WRITES"),
        number("MB/S"),
        number("LOWEST"),
        number("HIGHEST"),
    ]);
    for (mode, figure) in raw {
        let rounds = || figure.rounds.iter().copied();
        table.row(vec![
            mode.name().to_owned(),
            format!("{:.0}", median(rounds())),
            format!("{:.0}", rounds().fold(f64::INFINITY, f64::min)),
            format!("{:.0}", rounds().fold(0.0, f64::max)),
        ]);
    }
    table
}

fn table(measurements: &[Measurement]) -> Table {
    let mut table = Table::new(&[
        text("THROUGH THE BROKER"),
        text("RECORD"),
        number("PARTITIONS"),
        number("RECORDS/S"),
        number("MB/S"),
        number("OF RAW"),
        number("CLIENT S/GB").wide(),
        number("SERVER S/GB").wide(),
    ]);
    let order = [Operation::ProduceOs, Operation::ProduceFsync, Operation::Consume];
    let in_order = order.iter().flat_map(|operation| {
        measurements.iter().filter(move |measurement| measurement.operation == *operation)
    });
    for measurement in in_order {
        let seconds = |cpu: Option<f64>| cpu.map_or_else(String::new, |cpu| format!("{cpu:.2}"));
        table.row(vec![
            measurement.operation.name().to_owned(),
            show_size(measurement.size),
            measurement.partitions.to_string(),
            show_rate(measurement.records_per_second()),
            format!("{:.0}", measurement.mb_per_second()),
            format!("{:.0} %", measurement.ratio() * 100.0),
            seconds(measurement.cpu(|cpu| cpu.client)),
            seconds(measurement.cpu(|cpu| cpu.server)),
        ]);
    }
    table
}
