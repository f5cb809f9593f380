//! What was done to whom, and how long it took to get over it.

use super::fault::Fault;
use super::feeling;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::latency::Latencies;
use crate::output::{Table, number, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use troupe_chaos::report::Report as Felt;
use troupe_client::ClientError;

/// A fault that was asked for.
pub struct Injected {
    pub fault: Fault,
    pub address: String,
    /// From the order, or from the end of a fault that lasts, to the moment the actor served again.
    pub recovery: Result<Duration, ClientError>,
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.fault.name(), self.address)?;
        match &self.recovery {
            Ok(recovery) => write!(f, "serves again after {:.1} ms", recovery.as_secs_f64() * 1e3),
            Err(error) => write!(f, "{error}"),
        }
    }
}

#[derive(Default)]
struct Tally {
    injected: u64,
    failed: u64,
    recovery: Latencies,
}

pub struct Report {
    seed: u64,
    pattern: String,
    tallies: BTreeMap<Fault, Tally>,
    faults: Vec<Value>,
    /// What clients felt.
    pub felt: Option<Felt>,
    /// Why it ended early.
    pub aborted: Option<String>,
}

impl Report {
    pub fn new(seed: u64, pattern: &str) -> Report {
        let pattern = pattern.to_owned();
        Report {
            seed,
            pattern,
            tallies: BTreeMap::new(),
            faults: Vec::new(),
            felt: None,
            aborted: None,
        }
    }

    pub fn add(&mut self, injected: Injected) {
        let tally = self.tallies.entry(injected.fault).or_default();
        let (recovery, error) = match &injected.recovery {
            Ok(recovery) => {
                tally.injected += 1;
                tally.recovery.record(*recovery);
                (Some(recovery.as_micros()), None)
            }
            Err(error) => {
                tally.failed += 1;
                (None, Some(error.to_string()))
            }
        };
        self.faults.push(json!({
            "fault": injected.fault.name(),
            "address": injected.address,
            "recoveryMicros": recovery.map(|micros| u64::try_from(micros).unwrap_or(u64::MAX)),
            "error": error,
        }));
    }

    /// By kind: how many, and how long they took to get over it.
    pub fn kinds(&self) -> Vec<Value> {
        (self.tallies.iter())
            .map(|(fault, tally)| {
                json!({
                    "fault": fault.name(),
                    "injected": tally.injected,
                    "failed": tally.failed,
                    "recoveryMs": tally.recovery.view(),
                })
            })
            .collect()
    }

    pub fn faults(&self) -> &[Value] {
        &self.faults
    }

    /// # Errors
    /// Some faults were refused or their outcome is not known; or records are not as they should be.
    pub fn print(&self, global: &Global) -> Result<(), Failure> {
        let felt = self.felt.as_ref().filter(|felt| feeling::was_felt(felt));
        let view = json!({
            "seed": self.seed, "pattern": self.pattern, "kinds": self.kinds(), "faults": self.faults,
            "aborted": self.aborted, "felt": felt.map(Felt::view),
        });
        let output = global.output();
        output.one(&view, || {
            let seed =
                if output.terminal { format!("seed {}\n\n", self.seed) } else { String::new() };
            let told = felt.map(|felt| "\n".to_owned() + &feeling::told(&output, felt));
            seed + &output.table(&self.table()) + &told.unwrap_or_default()
        })?;
        felt.map_or(Ok(()), feeling::check)?;
        let failed: u64 = self.tallies.values().map(|tally| tally.failed).sum();
        let last = self.faults.iter().rev().find_map(|fault| fault["error"].as_str());
        match last {
            None => Ok(()),
            Some(error) => {
                let all = self.faults.len();
                let cause = format!("{failed} of {all} faults failed, the last one with: {error}");
                Err(Failure::new(Exit::Failed, "", cause))
            }
        }
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new(&[
            text("FAULT"),
            number("INJECTED"),
            number("FAILED"),
            number("P50 MS"),
            number("P99 MS"),
            number("MAX MS"),
        ]);
        for (fault, tally) in &self.tallies {
            let recovery = |quantile| match tally.injected {
                0 => String::new(),
                _ => format!("{:.1}", tally.recovery.ms(quantile)),
            };
            table.row(vec![
                fault.name().to_owned(),
                tally.injected.to_string(),
                tally.failed.to_string(),
                recovery(0.5),
                recovery(0.99),
                recovery(1.0),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_counted_for_itself() {
        let mut report = Report::new(1, "*");
        for (fault, ms) in [(Fault::Kill, 2), (Fault::Kill, 4), (Fault::Stall, 8)] {
            let recovery = Ok(Duration::from_millis(ms));
            report.add(Injected { fault, address: "node/1/controller".to_owned(), recovery });
        }
        assert_eq!(report.tallies[&Fault::Kill].injected, 2);
        assert_eq!(report.tallies[&Fault::Stall].injected, 1);
        assert_eq!(report.faults.len(), 3);
    }
}
