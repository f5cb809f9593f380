//! What a run has felt: as values, as JSON with timestamps, and as JUnit has it for CI.

use crate::condition::Condition;
use crate::measure::{FaultRecord, Gap, Place, Role, Verdict};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Report {
    /// Milliseconds since 1970. All other times are spans since then.
    pub began_ms: u64,
    pub length: Duration,
    pub acknowledgements: SideReport,
    /// None: nobody read.
    pub deliveries: Option<SideReport>,
    pub errors: Vec<ErrorTally>,
    /// None: the run sent none itself.
    pub records: Option<Verdict>,
    /// Whether lost, duplicated and out of order were looked for in the log.
    pub read_back: bool,
    pub faults: Vec<FaultReport>,
    /// What happened to the cluster, in order.
    pub moments: Vec<Moment>,
}

#[derive(Clone, Debug)]
pub struct SideReport {
    pub count: u64,
    /// Of any partition.
    pub longest: Option<GapReport>,
    /// The longest time without a success of any partition at all.
    pub silence: GapReport,
    /// Of each partition the longest.
    pub partitions: Vec<GapReport>,
}

#[derive(Clone, Debug)]
pub struct GapReport {
    pub place: Option<Place>,
    pub gap: Gap,
}

#[derive(Clone, Debug)]
pub struct ErrorTally {
    pub who: &'static str,
    pub kind: String,
    pub count: u64,
    pub first: Duration,
    pub last: Duration,
}

#[derive(Clone, Debug)]
pub struct FaultReport {
    pub kind: String,
    pub whom: String,
    pub role: Role,
    pub at: Duration,
    pub until: Option<Duration>,
    pub error: Option<String>,
    pub new_leader_after: Option<Duration>,
    pub whole_after: Option<Duration>,
    pub ack_gap: Option<GapReport>,
    pub delivery_gap: Option<GapReport>,
}

#[derive(Clone, Debug)]
pub struct Moment {
    pub at: Duration,
    pub what: String,
}

/// A condition that was to hold, and whether it did.
#[derive(Clone, Debug)]
pub struct Held {
    pub condition: Condition,
    /// What was true instead, or as well.
    pub actual: String,
    pub held: bool,
}

impl GapReport {
    pub fn new(place: Option<&Place>, gap: Gap) -> GapReport {
        GapReport { place: place.cloned(), gap }
    }
}

impl FaultReport {
    pub fn new(fault: &FaultRecord, delivers: bool) -> FaultReport {
        let gap = |kept: &Option<(Place, Gap)>| {
            kept.as_ref().map(|(place, gap)| GapReport::new(Some(place), *gap))
        };
        FaultReport {
            kind: fault.kind.clone(),
            whom: fault.whom.clone(),
            role: fault.role.clone(),
            at: fault.at,
            until: fault.until,
            error: fault.error.clone(),
            new_leader_after: fault.new_leader_after,
            whole_after: fault.whole_after,
            ack_gap: gap(&fault.ack_gap),
            delivery_gap: gap(&fault.delivery_gap).filter(|_| delivers),
        }
    }
}

/// To a thousandth of a millisecond.
fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

impl Report {
    /// With `lengthMs` and the like for spans, and `…TimestampMs` since 1970 for moments.
    pub fn view(&self) -> Value {
        let stamp = |at: Duration| self.began_ms + at.as_millis() as u64;
        let gap = |one: &GapReport| {
            json!({
                "topic": one.place.as_ref().map(|place| &*place.topic),
                "partition": one.place.as_ref().map(|place| place.partition),
                "gapMs": ms(one.gap.length()),
                "fromTimestampMs": stamp(one.gap.from),
                "toTimestampMs": stamp(one.gap.to),
            })
        };
        let side = |side: &SideReport| {
            json!({
                "count": side.count,
                "longest": side.longest.as_ref().map(gap),
                "silence": json!({
                    "gapMs": ms(side.silence.gap.length()),
                    "fromTimestampMs": stamp(side.silence.gap.from),
                    "toTimestampMs": stamp(side.silence.gap.to),
                }),
                "partitions": side.partitions.iter().map(gap).collect::<Vec<_>>(),
            })
        };
        let faults = self.faults.iter().map(|fault| {
            json!({
                "fault": fault.kind,
                "address": fault.whom,
                "role": fault.role.to_string(),
                "atTimestampMs": stamp(fault.at),
                "lastedMs": fault.until.map(|until| ms(until.saturating_sub(fault.at))),
                "newLeaderMs": fault.new_leader_after.map(ms),
                "wholeMs": fault.whole_after.map(ms),
                "ackGap": fault.ack_gap.as_ref().map(gap),
                "deliveryGap": fault.delivery_gap.as_ref().map(gap),
                "error": fault.error,
            })
        });
        let errors = self.errors.iter().map(|error| {
            json!({
                "who": error.who,
                "kind": error.kind,
                "count": error.count,
                "firstTimestampMs": stamp(error.first),
                "lastTimestampMs": stamp(error.last),
            })
        });
        let moments = self.moments.iter();
        let moments =
            moments.map(|moment| json!({ "timestampMs": stamp(moment.at), "what": moment.what }));
        json!({
            "beganTimestampMs": self.began_ms,
            "lengthMs": ms(self.length),
            "acknowledgements": side(&self.acknowledgements),
            "deliveries": self.deliveries.as_ref().map(side),
            "errors": errors.collect::<Vec<_>>(),
            "records": self.records,
            "readBack": self.read_back,
            "faults": faults.collect::<Vec<_>>(),
            "moments": moments.collect::<Vec<_>>(),
        })
    }

    /// The longest of acknowledgements and deliveries.
    pub fn longest_gap(&self) -> Duration {
        let sides = [Some(&self.acknowledgements), self.deliveries.as_ref()];
        let gaps = sides.into_iter().flatten().filter_map(|side| side.longest.as_ref());
        gaps.map(|gap| gap.gap.length()).max().unwrap_or_default()
    }

    /// # Errors
    /// What is wrong with the records that the run has sent, in words; or that they were not looked at.
    pub fn nothing_lost(&self) -> Result<(), String> {
        let Some(records) = self.records else {
            return Err("the run has sent nothing that it could look for".to_owned());
        };
        let Verdict { lost, duplicated, out_of_order, unexpected, undelivered, .. } = records;
        if !self.read_back {
            return Err("the log could not be read back".to_owned());
        }
        match (lost, duplicated, out_of_order, unexpected, undelivered) {
            (0, 0, 0, 0, 0) => Ok(()),
            _ => Err(format!(
                "of {} records acknowledged, {lost} lost, {duplicated} duplicated, {out_of_order} out of order, \
                 {unexpected} there that should not be, {undelivered} in the log and not delivered",
                records.acknowledged
            )),
        }
    }
}

impl Held {
    pub fn view(&self) -> Value {
        json!({ "condition": self.condition.text(), "held": self.held, "actual": self.actual })
    }
}

/// One test case for each condition, as CI servers read it.
pub fn junit(name: &str, length: Duration, held: &[Held], failure: Option<&str>) -> String {
    let broken = held.iter().filter(|one| !one.held).count() + usize::from(failure.is_some());
    let tests = held.len() + 1;
    let (name, seconds) = (escaped(name), length.as_secs_f64());
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{tests}\" failures=\"{broken}\">\n  \
         <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{broken}\" time=\"{seconds:.3}\">\n"
    );
    let mut case = |title: &str, time: f64, failure: Option<&str>| {
        let title = escaped(title);
        let head =
            format!("    <testcase classname=\"{name}\" name=\"{title}\" time=\"{time:.3}\"");
        // Writing to a string does not fail.
        let _ = match failure {
            None => writeln!(out, "{head}/>"),
            Some(why) => {
                let why = escaped(why);
                writeln!(out, "{head}>\n      <failure message=\"{why}\"/>\n    </testcase>")
            }
        };
    };
    case("the scenario runs to its end", seconds, failure);
    for one in held {
        let why = format!("it was {}", one.actual);
        case(one.condition.text(), 0.0, (!one.held).then_some(&why));
    }
    out + "  </testsuite>\n</testsuites>\n"
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(' '),
            // XML has no way to say them.
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_has_a_case_for_each_condition_and_what_was_true_instead() {
        let held = |text: &str, held| Held {
            condition: text.parse().unwrap(),
            actual: "2".to_owned(),
            held,
        };
        let all = [held("lost == 0", true), held("ack_gap < 5s", false)];
        let text = junit("a \"quoted\" & <odd> name", Duration::from_secs(90), &all, None);
        assert!(text.contains("tests=\"3\" failures=\"1\" time=\"90.000\""), "{text}");
        assert!(text.contains("name=\"a &quot;quoted&quot; &amp; &lt;odd&gt; name\""), "{text}");
        assert!(
            text.contains(
                "name=\"ack_gap &lt; 5s\" time=\"0.000\">\n      <failure message=\"it was 2\"/>"
            ),
            "{text}"
        );
        assert!(text.contains("name=\"lost == 0\" time=\"0.000\"/>"), "{text}");
        let aborted = junit("x", Duration::ZERO, &[], Some("aborted"));
        assert!(aborted.contains("failures=\"1\"") && aborted.contains("message=\"aborted\""));
    }
}
