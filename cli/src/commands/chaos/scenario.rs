//! `troupe chaos run`: a scenario file, from its steady state to its verdict.
//!
//! A step's words are those of `troupe chaos` itself. Promises: a file that makes no sense does nothing; whatever ends a
//! run, a signal or a condition, its faults are stopped and its report is given.

use super::feeling::{conclude, felt, help_on_figures};
use super::report::Report;
use super::sampler::Sampler;
use super::series::{Running, Series};
use super::verdict::{Outcome, Verdict};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_faults::NodeFaultCommand;
use crate::signals::Stop;
use crate::streams::notice;
use clap::{Args, Parser};
use futures::stream::{FuturesUnordered, StreamExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_chaos::Session;
use troupe_chaos::report::Held;
use troupe_chaos::scenario::{Action, Scenario, Step};

#[derive(Debug, Args)]
#[command(after_help = help_on_figures())]
pub struct Run {
    /// The scenario: TOML
    file: PathBuf,
    /// The report as JSON, into this file too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The verdict as JUnit has it, for CI
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// A step's words, as `troupe chaos` reads them.
#[derive(Debug, Parser)]
#[command(name = "do", no_binary_name = true, disable_help_flag = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Words {
    #[command(subcommand)]
    command: Option<NodeFaultCommand>,
    #[command(flatten)]
    series: Option<Series>,
}

/// What comes of a step's words.
fn parsed(step: &Step, words: &[String], topic: &str, group: &str) -> Result<Words, Failure> {
    let filled = words.iter().map(|word| word.replace("{topic}", topic).replace("{group}", group));
    Words::try_parse_from(filled).map_err(|error| {
        let said = error.to_string();
        let first =
            said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::usage(format!("line {}: {first}", step.line))
            .with_hint("a step's words are those of `troupe chaos`: see `troupe chaos --help`")
    })
}

pub async fn run(global: &Global, run: &Run) -> Result<(), Failure> {
    let name = run.file.display().to_string();
    let text = std::fs::read_to_string(&run.file).with_context(|| format!("cannot read {name}"))?;
    let scenario =
        Scenario::parse(&text).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    for step in &scenario.steps {
        if let Action::Do { words, .. } = &step.action {
            parsed(step, words, "topic", "group")?;
        }
    }
    let mut stop = Stop::new()?;
    let started = stop.or(felt(global, &scenario.source)).await;
    let session = started.map_err(Failure::interrupted)??;
    let client = global.connect_quietly().await?;
    let seed = scenario.seed.unwrap_or_else(rand::random);
    let report = Report::new(seed, &name);
    let running = Running::new(global, &client, Some(&session), report);
    let carried_out = stop.or(carry_out(&running, &session, &scenario, seed)).await;
    let outcome = carried_out.unwrap_or_else(Outcome::Interrupted);
    running.heal().await;
    let injected = running.report.into_inner();
    let patient = !matches!(outcome, Outcome::Interrupted(_));
    let ending = conclude(session, patient, &mut stop).await;
    let expected = scenario.expectations.iter().map(|condition| Held {
        condition: condition.clone(),
        actual: condition.actual(&ending.figures),
        held: condition.is_met(&ending.figures),
    });
    let verdict = Verdict {
        name: scenario.name.clone().unwrap_or(name),
        seed,
        outcome,
        expected: expected.collect(),
        injected,
        felt: ending.report,
    };
    // The files first: whoever reads standard output may have gone.
    let written = verdict.write(run.report.as_deref(), run.junit.as_deref());
    verdict.print(global)?;
    written?;
    verdict.result()
}

/// Until its end, or until it must not go on.
async fn carry_out(
    running: &Running<'_>,
    session: &Session,
    scenario: &Scenario,
    seed: u64,
) -> Outcome {
    if let Err(held) = session.holds(&scenario.steady_state, scenario.steady_within).await {
        return Outcome::NotSteady(held);
    }
    session.say("the steps begin");
    let met = async {
        match scenario.abort_if.is_empty() {
            true => std::future::pending().await,
            false => session.met(&scenario.abort_if).await,
        }
    };
    tokio::select! {
        outcome = steps(running, session, scenario, seed) => outcome,
        met = met => {
            session.say(format!("aborted, as {}", met.condition.text()));
            Outcome::Aborted(met)
        }
    }
}

async fn steps(
    running: &Running<'_>,
    session: &Session,
    scenario: &Scenario,
    seed: u64,
) -> Outcome {
    let began = Instant::now();
    let mut background = FuturesUnordered::new();
    let mut number = 0;
    loop {
        for step in &scenario.steps {
            number += 1;
            if scenario.repeat_for.is_some_and(|limit| began.elapsed() >= limit) {
                break;
            }
            if running.global.progress() {
                notice!("line {}: {}", step.line, step.action);
            }
            let failed = match &step.action {
                Action::Wait(span) => {
                    // What goes on meanwhile, goes on.
                    let others = async {
                        while background.next().await.is_some() {}
                        std::future::pending::<()>().await;
                    };
                    tokio::select! { () = sleep(*span) => {} () = others => {} }
                    None
                }
                Action::Until { condition, within } => {
                    let conditions = [condition.clone()];
                    let others = async {
                        while background.next().await.is_some() {}
                        std::future::pending::<()>().await;
                    };
                    tokio::select! {
                        held = session.holds(&conditions, *within) => held.err(),
                        () = others => None,
                    }
                }
                Action::Do { words, meanwhile } => {
                    let doing = act(running, session, step, words, seed.wrapping_add(number));
                    match meanwhile {
                        true => background.push(doing),
                        false => {
                            let mut doing = std::pin::pin!(doing);
                            loop {
                                tokio::select! {
                                    () = &mut doing => break,
                                    Some(()) = background.next(), if !background.is_empty() => {}
                                }
                            }
                        }
                    }
                    None
                }
            };
            if let Some(held) = failed {
                return Outcome::StepFailed { line: step.line, held };
            }
        }
        let again = scenario.repeat_for.is_some_and(|limit| began.elapsed() < limit);
        if !again {
            break;
        }
        // Steps that take no time would never let others do anything.
        sleep(Duration::from_millis(10)).await;
    }
    while background.next().await.is_some() {}
    Outcome::Ended
}

/// One step that does something; what becomes of it is in the report.
async fn act(running: &Running<'_>, session: &Session, step: &Step, words: &[String], seed: u64) {
    let (topic, group) = (session.topic().unwrap_or_default(), session.group().unwrap_or_default());
    let done = async {
        let Words { command, series } = parsed(step, words, topic, group)?;
        if let Some((kind, duration)) = command.map(NodeFaultCommand::into_kind) {
            return running.afflict(&kind, duration).await;
        }
        let Some(series) = series else { return Ok(()) };
        match series.paused_node()? {
            Some((kind, duration)) => running.afflict(&kind, duration).await,
            None => {
                running.inject_all(&series, Sampler::new(seed)).await;
                Ok(())
            }
        }
    };
    if let Err(failure) = done.await {
        session.say(format!("line {}: {failure}", step.line));
    }
}
