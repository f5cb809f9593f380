//! What is said of a run: `FIGURE OP VALUE`, joined by `and`, and with `for DURATION` how long it has to be so.
//!
//! ```text
//! offline > 0 for 10s        ack_gap < 5s        under_replicated == 0 and fenced == 0 for 5s
//! ```
//! `for` belongs to all of it. While a run goes on, gaps are those that are open at the moment; in expectations, the longest.

use crate::measure::Figures;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    all: Vec<Comparison>,
    lasting: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Comparison {
    figure: &'static Figure,
    operator: Operator,
    /// Seconds, of a figure that is a time.
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    AtMost,
    Equal,
    Unequal,
    AtLeast,
    More,
}

/// What there is to compare.
struct Figure {
    name: &'static str,
    meaning: &'static str,
    is_time: bool,
    /// Known only when the log was read back.
    at_end: bool,
    value: fn(&Figures) -> f64,
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Figure {
    fn eq(&self, other: &Figure) -> bool {
        self.name == other.name
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}`: {why}")]
pub struct ConditionError {
    text: String,
    why: String,
}

const fn count(name: &'static str, meaning: &'static str, value: fn(&Figures) -> f64) -> Figure {
    Figure { name, meaning, is_time: false, at_end: false, value }
}

const fn time(name: &'static str, meaning: &'static str, value: fn(&Figures) -> f64) -> Figure {
    Figure { name, meaning, is_time: true, at_end: false, value }
}

const fn at_end(figure: Figure) -> Figure {
    Figure { at_end: true, ..figure }
}

static FIGURES: [Figure; 18] = [
    count("offline", "partitions that nobody leads", |f| f.offline as f64),
    count("under_replicated", "partitions with a replica that is not in sync", |f| {
        f.under_replicated as f64
    }),
    count("fenced", "nodes that the controller does not hear, or that stop", |f| f.fenced as f64),
    count("unreachable", "nodes that do not answer", |f| f.unreachable as f64),
    time("gap", "the longer one of the next two", |f| f.ack_gap.max(f.delivery_gap).as_secs_f64()),
    time("ack_gap", "without an acknowledgement of some partition", |f| f.ack_gap.as_secs_f64()),
    time("delivery_gap", "without a delivery of some partition", |f| f.delivery_gap.as_secs_f64()),
    count("errors", "told to the producer or to members", |f| f.errors as f64),
    count("acknowledged", "records", |f| f.verdict.acknowledged as f64),
    count("faults", "asked for", |f| f.faults as f64),
    count("failed_faults", "refused, or with an outcome that is not known", |f| {
        f.failed_faults as f64
    }),
    time("new_leader", "the longest until all that a victim led was led again", |f| {
        f.new_leader.as_secs_f64()
    }),
    time("whole", "the longest from a fault until all were in sync again", |f| {
        f.whole.as_secs_f64()
    }),
    count("redelivered", "records that members got again", |f| f.verdict.redelivered as f64),
    count("out_of_order", "records", |f| f.verdict.out_of_order as f64),
    at_end(count("lost", "acknowledged, and not in the log", |f| f.verdict.lost as f64)),
    at_end(count("duplicated", "in the log more than once", |f| f.verdict.duplicated as f64)),
    at_end(count("undelivered", "in the log, and no member got it", |f| {
        f.verdict.undelivered as f64
    })),
];

/// Each figure and what it counts, for help texts and documentation.
pub fn figures() -> impl Iterator<Item = (&'static str, &'static str)> {
    FIGURES.iter().map(|figure| (figure.name, figure.meaning))
}

const OPERATORS: [(&str, Operator); 7] = [
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    ("<", Operator::Less),
    (">", Operator::More),
    ("=", Operator::Equal),
];

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        let parsed = parse(text);
        parsed.map_err(|why| ConditionError { text: text.trim().to_owned(), why })
    }
}

fn parse(text: &str) -> Result<Condition, String> {
    let (conditions, lasting) = match text.split_once(" for ") {
        Some((conditions, lasting)) => (conditions, span(lasting)?),
        None => (text, Duration::ZERO),
    };
    let all: Vec<Comparison> =
        conditions.split(" and ").map(comparison).collect::<Result<_, _>>()?;
    Ok(Condition { text: text.trim().to_owned(), all, lasting })
}

fn comparison(text: &str) -> Result<Comparison, String> {
    let text = text.trim();
    let form = || {
        "it is not of the form FIGURE OP VALUE [for DURATION], as `offline > 0 for 10s`; OP is one of < <= == != >= >"
            .to_owned()
    };
    let end = text.find(['<', '>', '=', '!']).ok_or_else(form)?;
    let (name, rest) = text.split_at(end);
    let name = name.trim().replace('-', "_");
    let figure = FIGURES.iter().find(|figure| figure.name == name).ok_or_else(|| {
        let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        format!("there is no figure `{name}`; there are {}", names.join(", "))
    })?;
    let (sign, operator) =
        OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(form)?;
    let value = rest[sign.len()..].trim();
    let value = match figure.is_time {
        true => span(value)?.as_secs_f64(),
        false => {
            value.parse::<u64>().map_err(|_| format!("`{value}` is no whole number from 0 on"))?
                as f64
        }
    };
    Ok(Comparison { figure, operator: *operator, value })
}

/// `500ms`, `10s`, `2m`, `1h`.
///
/// # Errors
/// It is none.
pub fn span(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let why = || format!("`{text}` is no duration, as 500ms, 10s or 2m");
    let end = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(why)?;
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(why()),
    };
    let number: f64 = number.trim().parse().map_err(|_| why())?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| why())
}

impl Condition {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How long it has to be so.
    pub fn lasting(&self) -> Duration {
        self.lasting
    }

    /// Whether it is so.
    pub fn is_met(&self, figures: &Figures) -> bool {
        self.all.iter().all(|one| one.is_met(figures))
    }

    /// It asks for what is known only at the end of a run: that one.
    pub fn known_at_end(&self) -> Option<&'static str> {
        self.all.iter().find(|one| one.figure.at_end).map(|one| one.figure.name)
    }

    /// What the figures are.
    pub fn actual(&self, figures: &Figures) -> String {
        let said: Vec<String> = self.all.iter().map(|one| one.actual(figures)).collect();
        said.join(", ")
    }
}

impl Comparison {
    fn is_met(&self, figures: &Figures) -> bool {
        let (actual, value) = ((self.figure.value)(figures), self.value);
        match self.operator {
            Operator::Less => actual < value,
            Operator::AtMost => actual <= value,
            Operator::Equal => actual == value,
            Operator::Unequal => actual != value,
            Operator::AtLeast => actual >= value,
            Operator::More => actual > value,
        }
    }

    fn actual(&self, figures: &Figures) -> String {
        let actual = (self.figure.value)(figures);
        match self.figure.is_time {
            true => format!("{} {:.3}s", self.figure.name, actual),
            false => format!("{} {actual}", self.figure.name),
        }
    }
}

/// Whether a condition has been met for as long as it says.
#[derive(Clone, Debug)]
pub struct Lasting {
    condition: Condition,
    since: Option<Duration>,
}

impl Lasting {
    pub fn new(condition: Condition) -> Lasting {
        Lasting { condition, since: None }
    }

    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    pub fn is_met(&mut self, now: Duration, figures: &Figures) -> bool {
        if !self.condition.is_met(figures) {
            self.since = None;
            return false;
        }
        now.saturating_sub(*self.since.get_or_insert(now)) >= self.condition.lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        text.parse::<Condition>().unwrap_err().to_string()
    }

    #[test]
    fn a_condition_is_met_by_figures() {
        let figures =
            Figures { offline: 1, ack_gap: Duration::from_millis(3_998), ..Figures::default() };
        let met = |text: &str| text.parse::<Condition>().unwrap().is_met(&figures);
        assert!(
            met("offline>0") && met("offline == 1") && met("offline >= 1") && met("offline != 0")
        );
        assert!(
            met("ack_gap < 4s") && met("gap > 3500ms") && met("ack-gap <= 1m") && !met("gap<3s")
        );
        assert!(met("offline > 0 and gap > 1s") && !met("offline > 0 and gap > 1m"));
        let condition: Condition = "offline > 0 and ack_gap > 1s".parse().unwrap();
        assert_eq!(condition.actual(&figures), "offline 1, ack_gap 3.998s");
    }

    #[test]
    fn a_condition_lasts_as_long_as_it_says() {
        let mut lasting = Lasting::new("offline > 0 for 10s".parse().unwrap());
        let bad = Figures { offline: 1, ..Figures::default() };
        let at = Duration::from_secs;
        assert!(!lasting.is_met(at(1), &bad) && !lasting.is_met(at(10), &bad));
        assert!(!lasting.is_met(at(10), &Figures::default()), "it was well in between");
        assert!(!lasting.is_met(at(11), &bad) && !lasting.is_met(at(20), &bad));
        assert!(lasting.is_met(at(21), &bad));
        let mut at_once = Lasting::new("errors > 0".parse().unwrap());
        assert!(at_once.is_met(at(1), &Figures { errors: 1, ..Figures::default() }));
    }

    #[test]
    fn bad_input_says_what_is_allowed() {
        assert!(
            why("ofline > 0").contains("no figure `ofline`; there are offline, under_replicated")
        );
        assert!(why("offline").contains("FIGURE OP VALUE"), "{}", why("offline"));
        assert!(why("offline ~ 0").contains("one of < <= == != >= >"));
        assert!(why("offline > many").contains("`many` is no whole number"));
        assert!(why("gap > 5").contains("no duration, as 500ms"));
        assert!(why("offline > 0 for ever").contains("`ever` is no duration"));
        assert_eq!("lost == 0".parse::<Condition>().unwrap().known_at_end(), Some("lost"));
    }
}
