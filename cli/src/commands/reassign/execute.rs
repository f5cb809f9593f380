//! `troupe reassign execute`: checked as a whole first, then begun.

use super::verify;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::placement::watch;
use crate::reassignment::throttle::{self, ThrottleRate, Throttled};
use crate::reassignment::{self, Plan, is_cancelled, is_reassigning, name, states};
use clap::Args;
use serde::Serialize;

const SAVE_THIS: &str = "Save this to use as the --reassignment-json-file option during rollback: troupe reassign execute FILE";
const ANOTHER_RUNS: &str = "Cannot execute because there is an existing partition assignment.  Use --additional to override \
                            this and create a new partition assignment in addition to the existing one";

#[derive(Debug, Args)]
pub struct Execute {
    /// The plan; `-` reads it from standard input
    #[arg(value_name = "PLAN")]
    plan: String,
    /// Also if other partitions are being reassigned; those of the plan that are get the new target
    #[arg(long)]
    additional: bool,
    #[command(flatten)]
    throttle: ThrottleRate,
    /// Wait until all is complete
    #[arg(short, long)]
    wait: bool,
    /// All checks, nothing done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Executed {
    /// What there was before.
    current_assignment: Plan,
    /// What was begun, or is complete already.
    started: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<Throttled>,
    dry_run: bool,
}

pub async fn run(global: &Global, execute: Execute) -> Result<(), Failure> {
    let what = "cannot reassign replicas";
    let plan = Plan::read(&execute.plan)?;
    let client = global.connect().await?;
    let targets = reassignment::targets(&plan);
    reassignment::check(&client, what, targets.clone()).await?;
    let (_, known) = states(&client, &plan).await.with_context(|| what.to_owned())?;
    // What is cancelled is not meant to get anywhere.
    let another_runs = known.values().any(|one| is_reassigning(one) && !is_cancelled(one));
    if another_runs && !execute.additional {
        let hint = "`troupe reassign list` shows what is under way, `troupe reassign cancel --all` ends it";
        return Err(Failure::new(Exit::Refused, what, ANOTHER_RUNS).with_hint(hint));
    }
    let keys = plan.partitions.iter().map(|one| (one.topic.clone(), one.partition));
    let before: Vec<_> = keys.filter_map(|key| known.get(&key)).collect();
    let current_assignment = Plan::of_states(before.into_iter());
    let throttle = match execute.throttle.rate() {
        Some(rate) => throttle::set(&client, what, &plan, rate, execute.dry_run).await?,
        None => None,
    };
    if !execute.dry_run {
        reassignment::begin(&client, what, targets).await?;
    }
    let started = plan.partitions.iter().map(|one| name(&one.topic, one.partition)).collect();
    let executed = Executed { current_assignment, started, throttle, dry_run: execute.dry_run };
    global.output().one(&executed, || text(&executed, execute.wait))?;
    if !execute.wait || execute.dry_run {
        return Ok(());
    }
    let planned = plan.keys();
    watch(global, &client, |one| planned.contains(&(one.topic.clone(), one.partition))).await;
    verify::tell(global, &client, Some(&plan), false).await
}

fn text(executed: &Executed, wait: bool) -> String {
    let Executed { current_assignment, started, throttle, dry_run } = executed;
    let plural = if started.len() == 1 { "" } else { "s" };
    let begun = match dry_run {
        true => format!("Would start partition reassignment{plural} for {}", started.join(",")),
        false => {
            format!("Successfully started partition reassignment{plural} for {}", started.join(","))
        }
    };
    let current = current_assignment.to_json();
    let throttle =
        throttle.as_ref().filter(|_| !dry_run).map_or_else(String::new, |it| it.text(wait));
    format!("Current partition replica assignment\n\n{current}\n\n{SAVE_THIS}\n{throttle}{begun}\n")
}
