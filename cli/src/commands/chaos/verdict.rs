//! How a scenario came out: held, or broken and by what.

use super::feeling;
use super::report::Report as Injected;
use crate::exit::{Exit, Signal};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, text};
use crate::quantity::plural;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use troupe_chaos::report::{Held, Report, junit};

/// How far it came.
pub enum Outcome {
    Ended,
    /// It was not as it should be before there was any fault.
    NotSteady(Held),
    Aborted(Held),
    /// Something that was waited for did not come.
    StepFailed {
        line: usize,
        held: Held,
    },
    Interrupted(Signal),
}

pub struct Verdict {
    pub name: String,
    pub seed: u64,
    pub outcome: Outcome,
    pub expected: Vec<Held>,
    pub injected: Injected,
    pub felt: Report,
}

impl Verdict {
    fn word(&self) -> &'static str {
        match &self.outcome {
            Outcome::Ended if self.failure().is_none() => "held",
            Outcome::Ended => "broken",
            Outcome::NotSteady(_) => "not steady",
            Outcome::Aborted(_) => "aborted",
            Outcome::StepFailed { .. } => "stuck",
            Outcome::Interrupted(_) => "interrupted",
        }
    }

    /// Why it did not come to its end.
    fn cut_short(&self) -> Option<String> {
        Some(match &self.outcome {
            Outcome::Ended => return None,
            Outcome::NotSteady(held) => {
                format!("not steady: {} was not so ({})", held.condition.text(), held.actual)
            }
            Outcome::Aborted(held) => {
                format!("aborted, as {} ({})", held.condition.text(), held.actual)
            }
            Outcome::StepFailed { line, held } => {
                format!("line {line}: {} did not come ({})", held.condition.text(), held.actual)
            }
            Outcome::Interrupted(_) => "interrupted".to_owned(),
        })
    }

    /// The first thing that is not as it should be.
    fn failure(&self) -> Option<String> {
        if let Some(why) = self.cut_short() {
            return Some(why);
        }
        let broken: Vec<&Held> = self.expected.iter().filter(|one| !one.held).collect();
        if let Some(first) = broken.first() {
            let of = plural(self.expected.len() as u64, "expectation");
            let (first, actual) = (first.condition.text(), &first.actual);
            return Some(format!("{} of {of} did not hold: {first} ({actual})", broken.len()));
        }
        // Where nothing is said of what has to be so, nothing may be lost.
        if self.expected.is_empty() && self.felt.records.is_some() {
            return self.felt.nothing_lost().err();
        }
        None
    }

    pub fn view(&self) -> Value {
        json!({
            "name": self.name,
            "verdict": self.word(),
            "why": self.failure(),
            "seed": self.seed,
            "expectations": self.expected.iter().map(Held::view).collect::<Vec<_>>(),
            "kinds": self.injected.kinds(),
            "faults": self.injected.faults(),
            "felt": self.felt.view(),
        })
    }

    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, report: Option<&Path>, junit_file: Option<&Path>) -> Result<(), Failure> {
        let write = |path: &Path, text: String| {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        if let Some(path) = report {
            write(path, format!("{:#}\n", self.view()))?;
        }
        if let Some(path) = junit_file {
            let why = match self.expected.is_empty() {
                true => self.failure(),
                false => self.cut_short(),
            };
            write(path, junit(&self.name, self.felt.length, &self.expected, why.as_deref()))?;
        }
        Ok(())
    }

    /// # Errors
    /// Of writing it.
    pub fn print(&self, global: &Global) -> Result<(), Failure> {
        let output = global.output();
        output.one(&self.view(), || {
            let mut table = Table::new(&[text("EXPECTED"), text("HELD"), text("ACTUAL")]);
            for one in &self.expected {
                let held = if one.held { "yes" } else { "no" };
                let (expected, actual) = (one.condition.text().to_owned(), one.actual.clone());
                table.row(vec![expected, held.to_owned(), actual]);
            }
            let expected = match self.expected.is_empty() {
                true => String::new(),
                false => format!("{}\n", output.table(&table)),
            };
            let felt = feeling::told(&output, &self.felt);
            format!("{}, seed {}\n\n{felt}\n{expected}{}\n", self.name, self.seed, self.word())
        })
    }

    /// # Errors
    /// It did not hold.
    pub fn result(&self) -> Result<(), Failure> {
        match (&self.outcome, self.failure()) {
            (Outcome::Interrupted(signal), _) => Err(Failure::interrupted(*signal)),
            (_, Some(why)) => Err(Failure::new(Exit::Failed, "", why)),
            (_, None) => Ok(()),
        }
    }
}
