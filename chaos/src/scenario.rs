//! A whole run as a file: the steady state that has to hold first, the steps, what is expected in the end.
//!
//! Promise: a file that makes no sense is refused before anything is done, with the line.

use crate::condition::{Condition, span};
use crate::load::LoadConfig;
use crate::reading::WatchConfig;
use crate::session::Source;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use toml::Spanned;

/// How long the steady state, and a step that waits for something, may take if nothing else is said.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub name: Option<String>,
    /// What is drawn follows from it. None: a random one.
    pub seed: Option<u64>,
    pub source: Source,
    pub steady_state: Vec<Condition>,
    pub steady_within: Duration,
    pub abort_if: Vec<Condition>,
    /// The steps come again and again, for so long.
    pub repeat_for: Option<Duration>,
    pub steps: Vec<Step>,
    pub expectations: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Where it stands in the file.
    pub line: usize,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Words of `troupe chaos`. `meanwhile`: the next step does not wait for its end.
    Do {
        words: Vec<String>,
        meanwhile: bool,
    },
    Wait(Duration),
    /// Waits for something to be so.
    Until {
        condition: Condition,
        within: Duration,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Do { words, meanwhile: false } => f.write_str(&words.join(" ")),
            Action::Do { words, meanwhile: true } => write!(f, "{}, meanwhile", words.join(" ")),
            Action::Wait(span) => write!(f, "wait {span:?}"),
            Action::Until { condition, .. } => write!(f, "until {}", condition.text()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScenarioError {
    /// With a picture of the place.
    #[error("{0}")]
    Toml(String),
    #[error("line {line}: {why}")]
    Line { line: usize, why: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    name: Option<String>,
    seed: Option<u64>,
    repeat_for: Option<Spanned<String>>,
    #[serde(default)]
    abort_if: Vec<Spanned<String>>,
    load: Option<LoadTable>,
    watch: Option<Spanned<WatchTable>>,
    steady_state: Option<SteadyTable>,
    #[serde(default)]
    step: Vec<Spanned<StepTable>>,
    expectations: Option<ExpectTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LoadTable {
    topic: Option<String>,
    partitions: Option<u32>,
    rate: Option<Spanned<f64>>,
    record_size: Option<usize>,
    members: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WatchTable {
    topics: Vec<String>,
    group: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SteadyTable {
    that: Vec<Spanned<String>>,
    within: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ExpectTable {
    that: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StepTable {
    r#do: Option<Spanned<String>>,
    #[serde(default)]
    meanwhile: bool,
    wait: Option<Spanned<String>>,
    until: Option<Spanned<String>>,
    within: Option<Spanned<String>>,
}

impl Scenario {
    /// # Errors
    /// The first thing in it that makes no sense.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let file: File =
            toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        let place = Lines(text);
        let conditions = |all: &[Spanned<String>]| -> Result<Vec<Condition>, ScenarioError> {
            all.iter().map(|one| place.condition(one)).collect()
        };
        let source = match (&file.load, &file.watch) {
            (Some(_), Some(watch)) => {
                let why = "[load] and [watch] do not go together: one run has one of them";
                return Err(place.error(watch.span().start, why));
            }
            (_, Some(watch)) => Source::Watch(WatchConfig {
                topics: watch.get_ref().topics.clone(),
                group: watch.get_ref().group.clone(),
            }),
            (load, None) => Source::Load(place.load(load.as_ref())?),
        };
        let (steady_state, steady_within) = match &file.steady_state {
            Some(steady) => {
                (conditions(&steady.that)?, place.span(steady.within.as_ref(), WITHIN)?)
            }
            None => (Vec::new(), WITHIN),
        };
        let abort_if = conditions(&file.abort_if)?;
        let expected = file.expectations.as_ref().map(|expect| &expect.that[..]);
        let scenario = Scenario {
            name: file.name,
            seed: file.seed,
            source,
            steady_state,
            steady_within,
            abort_if,
            repeat_for: match &file.repeat_for {
                Some(_) => Some(place.span(file.repeat_for.as_ref(), WITHIN)?),
                None => None,
            },
            steps: file.step.iter().map(|step| place.step(step)).collect::<Result<_, _>>()?,
            expectations: conditions(expected.unwrap_or_default())?,
        };
        if scenario.steps.is_empty() {
            return Err(ScenarioError::Line { line: 1, why: "there is no [[step]]".to_owned() });
        }
        let early = file.abort_if.iter().chain(file.steady_state.iter().flat_map(|it| &it.that));
        for (one, condition) in early.zip(scenario.abort_if.iter().chain(&scenario.steady_state)) {
            place.known_early(one, condition)?;
        }
        Ok(scenario)
    }
}

/// The text, to find lines in.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn line(&self, at: usize) -> usize {
        self.0.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
    }

    fn error(&self, at: usize, why: impl Into<String>) -> ScenarioError {
        ScenarioError::Line { line: self.line(at), why: why.into() }
    }

    fn condition(&self, text: &Spanned<String>) -> Result<Condition, ScenarioError> {
        let parsed = text.get_ref().parse();
        parsed.map_err(|error: crate::condition::ConditionError| {
            self.error(text.span().start, error.to_string())
        })
    }

    fn known_early(&self, text: &Spanned<String>, it: &Condition) -> Result<(), ScenarioError> {
        match it.known_at_end() {
            None => Ok(()),
            Some(figure) => {
                let why =
                    format!("`{figure}` is known only at the end: put it into [expectations]");
                Err(self.error(text.span().start, why))
            }
        }
    }

    fn span(
        &self,
        text: Option<&Spanned<String>>,
        default: Duration,
    ) -> Result<Duration, ScenarioError> {
        let Some(text) = text else { return Ok(default) };
        span(text.get_ref()).map_err(|why| self.error(text.span().start, why))
    }

    fn load(&self, table: Option<&LoadTable>) -> Result<LoadConfig, ScenarioError> {
        let default = LoadConfig::default();
        let Some(table) = table else { return Ok(default) };
        if let Some(rate) = &table.rate
            && !(*rate.get_ref() > 0.0 && rate.get_ref().is_finite())
        {
            return Err(self.error(rate.span().start, "`rate` is records per second, above 0"));
        }
        Ok(LoadConfig {
            topic: table.topic.clone(),
            partitions: table.partitions.unwrap_or(default.partitions),
            rate: table.rate.as_ref().map_or(default.rate, |rate| *rate.get_ref()),
            record_size: table.record_size.unwrap_or(default.record_size),
            members: table.members.unwrap_or(default.members),
        })
    }

    fn step(&self, step: &Spanned<StepTable>) -> Result<Step, ScenarioError> {
        let (at, table) = (step.span().start, step.get_ref());
        let action = match (&table.r#do, &table.wait, &table.until) {
            (Some(words), None, None) => {
                let split = words_of(words.get_ref());
                let words = split.map_err(|why| self.error(words.span().start, why))?;
                Action::Do { words, meanwhile: table.meanwhile }
            }
            (None, Some(wait), None) => Action::Wait(self.span(Some(wait), WITHIN)?),
            (None, None, Some(until)) => {
                let condition = self.condition(until)?;
                self.known_early(until, &condition)?;
                Action::Until { condition, within: self.span(table.within.as_ref(), WITHIN)? }
            }
            _ => return Err(self.error(at, "a step has one of `do`, `wait` and `until`")),
        };
        let line = match &table.r#do {
            Some(words) => self.line(words.span().start),
            None => self.line(at),
        };
        Ok(Step { line, action })
    }
}

/// As a shell splits them: at spaces that stand in no quotes.
fn words_of(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in text.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    match words.is_empty() {
        true => Err("there is nothing to do in it".to_owned()),
        false => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "leaders die"
seed = 42
repeat-for = "10m"
abort-if = ["offline > 0 for 10s"]

[load]
partitions = 3
rate = 100.0

[steady-state]
that = ["under_replicated == 0 for 2s"]

[[step]]
do = "kill '*/partition/orders/0' --every 2s -n 3"
meanwhile = true

[[step]]
wait = "5s"

[[step]]
until = "under_replicated == 0"
within = "30s"

[expectations]
that = ["lost == 0", "ack_gap < 5s"]
"#;

    #[test]
    fn a_scenario_is_steady_state_steps_and_expectations() {
        let scenario = Scenario::parse(WHOLE).unwrap();
        assert_eq!(scenario.seed, Some(42));
        assert_eq!(scenario.repeat_for, Some(Duration::from_secs(600)));
        let Source::Load(load) = &scenario.source else { panic!("{scenario:?}") };
        assert_eq!((load.partitions, load.rate, load.members), (3, 100.0, 2));
        assert_eq!(scenario.steps[0].line, 15);
        let Action::Do { words, meanwhile: true } = &scenario.steps[0].action else {
            panic!("{scenario:?}")
        };
        assert_eq!(words.join("|"), "kill|*/partition/orders/0|--every|2s|-n|3");
        assert_eq!(scenario.steps[1].action, Action::Wait(Duration::from_secs(5)));
        assert_eq!(scenario.expectations.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        let why = |from: &str, to: &str| {
            assert!(WHOLE.contains(from), "{from}");
            Scenario::parse(&WHOLE.replace(from, to)).unwrap_err().to_string()
        };
        let unknown = why("partitions = 3", "partition = 3");
        assert!(
            unknown.contains("line 8") && unknown.contains("unknown field `partition`"),
            "{unknown}"
        );
        assert!(why("name = ", "nam = ").contains("line 2"));
        assert!(
            why("offline > 0", "off > 0")
                .starts_with("line 5: `off > 0 for 10s`: there is no figure")
        );
        assert!(why("\"5s\"", "\"soon\"").starts_with("line 19: `soon` is no duration"));
        assert!(why("wait = \"5s\"", "").starts_with("line 18: a step has one of"));
        assert!(why("orders/0'", "orders/0").starts_with("line 15: a quote"));
        assert!(why("100.0", "0.0").starts_with("line 9: `rate`"));
        assert!(
            why("offline > 0 for 10s", "lost > 0")
                .starts_with("line 5: `lost` is known only at the end")
        );
        assert!(why("[load]", "[watch]\ntopics = []\n[load]").contains("do not go together"));
    }
}
