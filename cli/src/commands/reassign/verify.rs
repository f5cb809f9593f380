//! `troupe reassign verify`: what has become of a plan, in Kafka's words.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::reassignment::{PartitionStatus, Plan, State, states};
use clap::Args;
use troupe_client::Client;

#[derive(Debug, Args)]
pub struct Verify {
    /// The plan that was executed; `-` reads it from standard input
    #[arg(value_name = "PLAN")]
    plan: String,
}

pub async fn run(global: &Global, verify: Verify) -> Result<(), Failure> {
    let plan = Plan::read(&verify.plan)?;
    let client = global.connect().await?;
    tell(global, &client, &plan).await
}

/// Prints what has become of each partition.
///
/// # Errors
/// Not all of them are complete.
pub async fn tell(global: &Global, client: &Client, plan: &Plan) -> Result<(), Failure> {
    let what = || "cannot verify the reassignment".to_owned();
    let (states, _) = states(client, plan).await.with_context(what)?;
    let output = global.output();
    if output.format.is_json() {
        output.many("partitions", &states, || unreachable!("JSON was asked for"))?;
    } else {
        output.print(&text(&states))?;
    }
    match states.iter().all(|one| one.state == State::Completed) {
        true => Ok(()),
        // The lines say it.
        false => Err(Failure::silent(Exit::Failed)),
    }
}

fn text(states: &[PartitionStatus]) -> String {
    let mut text = "Status of partition reassignment:\n".to_owned();
    for one in states {
        text += &one.sentence();
        text.push('\n');
    }
    text
}
