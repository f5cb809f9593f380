//! How long each fault was felt: every value kept, so that percentiles are exact.

use super::kind::Kind;
use super::load::{Ack, Sent};
use super::rounds::Fault;
use super::verify::{Anomalies, Stored, compare};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::quantity::grouped;
use serde_json::{Value, json};
use std::time::Duration;

/// Durations, sorted.
#[derive(Clone, Debug, Default)]
struct Distribution(Vec<Duration>);

impl Distribution {
    fn new(mut values: Vec<Duration>) -> Distribution {
        values.sort();
        Distribution(values)
    }

    /// The smallest value that this share of all values does not exceed.
    fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }

    fn show(&self, share: f64) -> String {
        self.quantile(share).map_or_else(String::new, |value| format!("{:.0}", ms(value)))
    }

    fn view(&self) -> Value {
        let at = |share| self.quantile(share).map(ms);
        json!({
            "samples": self.0.len(),
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0),
            "all": self.0.iter().copied().map(ms).collect::<Vec<_>>(),
        })
    }
}

/// To a tenth.
fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e4).round() / 10.0
}

/// All rounds of one kind.
pub struct Outcome {
    kind: Kind,
    /// From the fault to the first acknowledgement of a record that the next leader wrote; for the controller,
    /// to the first change of metadata.
    recovery: Distribution,
    /// The longest time without an acknowledgement on the partition that was looked at.
    pause: Distribution,
    acknowledged: u64,
    failed: u64,
    last_error: Option<String>,
    anomalies: Anomalies,
}

impl Outcome {
    pub fn new(kind: Kind, faults: &[Fault], sent: &[Sent], stored: &[Stored]) -> Outcome {
        let mut anomalies = Anomalies::default();
        for (sent, stored) in sent.iter().zip(stored) {
            anomalies.add(compare(sent, stored));
        }
        let recovery = faults.iter().filter_map(|fault| {
            let (sent, stored) = (&sent[fault.partition], &stored[fault.partition]);
            fault.metadata.or_else(|| recovery(fault, &sent.acks, stored))
        });
        let pause = faults.iter().filter_map(|fault| pause(fault, &sent[fault.partition].acks));
        Outcome {
            kind,
            recovery: Distribution::new(recovery.collect()),
            pause: Distribution::new(pause.collect()),
            acknowledged: sent.iter().map(|sent| sent.acks.len() as u64).sum(),
            failed: sent.iter().map(|sent| sent.failed.len() as u64).sum(),
            last_error: sent.iter().find_map(|sent| sent.last_error.clone()),
            anomalies,
        }
    }

    fn view(&self) -> Value {
        json!({
            "kind": self.kind.name(),
            "recoveryMs": self.recovery.view(),
            "pauseMs": self.pause.view(),
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "lastError": self.last_error,
            "lost": self.anomalies.lost,
            "duplicated": self.anomalies.duplicated,
            "reordered": self.anomalies.reordered,
            "foreign": self.anomalies.foreign,
        })
    }
}

/// To the first acknowledgement at an offset of a later epoch.
fn recovery(fault: &Fault, acks: &[Ack], stored: &Stored) -> Option<Duration> {
    let (_, &start) = stored.epochs.range(fault.leader_epoch + 1..).next()?;
    let anew = acks.iter().filter(|ack| ack.offset >= start && ack.at > fault.at);
    anew.map(|ack| ack.at.duration_since(fault.at)).min()
}

/// The longest time between two acknowledgements, of which the second came after the fault.
fn pause(fault: &Fault, acks: &[Ack]) -> Option<Duration> {
    let mut moments: Vec<_> =
        acks.iter().map(|ack| ack.at).filter(|at| *at <= fault.over).collect();
    moments.sort();
    let after = moments.partition_point(|at| *at <= fault.at).saturating_sub(1);
    moments[after..].windows(2).map(|pair| pair[1].duration_since(pair[0])).max()
}

#[derive(Default)]
pub struct Report {
    outcomes: Vec<Outcome>,
}

impl Report {
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// # Errors
    /// Something that was acknowledged is not there, or there twice.
    pub fn print(&self, global: &Global, settings: &Value) -> Result<(), Failure> {
        let kinds: Vec<Value> = self.outcomes.iter().map(Outcome::view).collect();
        let view = json!({ "benchmark": "failover", "settings": settings, "kinds": kinds });
        let output = global.output();
        output.one(&view, || {
            let table = output.table(&self.table());
            if output.terminal { format!("{table}\n{}", show_settings(settings)) } else { table }
        })?;
        let mut anomalies = Anomalies::default();
        self.outcomes.iter().for_each(|outcome| anomalies.add(outcome.anomalies));
        if anomalies == Anomalies::default() {
            return Ok(());
        }
        let Anomalies { lost, duplicated, reordered, foreign } = anomalies;
        let cause = format!(
            "{lost} acknowledged records are lost, {duplicated} are there twice, {reordered} out of \
             order, {foreign} were never sent"
        );
        Err(Failure::new(Exit::Failed, "promises were broken", cause))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            text("FAULT"),
            number("N"),
            number("P50 MS"),
            number("P90 MS"),
            number("P99 MS"),
            number("MAX MS"),
            number("PAUSE P50"),
            number("PAUSE MAX"),
            number("ACKED"),
            number("FAILED"),
            number("LOST"),
            number("TWICE"),
        ]);
        for outcome in &self.outcomes {
            let Outcome { recovery, pause, anomalies, .. } = outcome;
            table.row(vec![
                outcome.kind.name().to_owned(),
                recovery.0.len().to_string(),
                recovery.show(0.5),
                recovery.show(0.9),
                recovery.show(0.99),
                recovery.show(1.0),
                pause.show(0.5),
                pause.show(1.0),
                grouped(outcome.acknowledged),
                outcome.failed.to_string(),
                anomalies.lost.to_string(),
                anomalies.duplicated.to_string(),
            ]);
        }
        table
    }
}

fn show_settings(settings: &Value) -> String {
    let node = settings["node"].as_array().into_iter().flatten().filter_map(Value::as_str);
    format!(
        "from the fault to the first record that the next leader acknowledged (controller: to the next \
         change of metadata);\npause: longest time without an acknowledgement on that partition (controller: on \
         one without a replica there)\nsettings nodes={} partitions={} size={} rate={}/s each, acks=all\n\
         {}\n",
        settings["nodes"],
        settings["partitions"],
        settings["recordSize"],
        settings["ratePerPartition"],
        node.collect::<Vec<_>>().join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_the_old_leader_still_acknowledged_is_no_recovery() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        let ack = |ms, offset| Ack { at: at(ms), number: offset, offset };
        let acks = [ack(90, 0), ack(101, 1), ack(350, 2), ack(360, 3)];
        let fault =
            Fault { partition: 0, leader_epoch: 4, at: at(100), over: at(400), metadata: None };
        let stored = Stored { epochs: [(4, 0), (6, 2)].into(), ..Stored::default() };
        assert_eq!(recovery(&fault, &acks, &stored), Some(Duration::from_millis(250)));
        assert_eq!(pause(&fault, &acks), Some(Duration::from_millis(249)));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values = (1..=50).rev().map(Duration::from_millis);
        let distribution = Distribution::new(values.collect());
        assert_eq!(distribution.quantile(0.5), Some(Duration::from_millis(25)));
        assert_eq!(distribution.quantile(0.99), Some(Duration::from_millis(50)));
        assert_eq!(distribution.quantile(1.0), Some(Duration::from_millis(50)));
        assert_eq!(Distribution::default().quantile(0.5), None);
    }
}
