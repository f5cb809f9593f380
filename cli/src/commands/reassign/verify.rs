//! `troupe reassign verify`: what has become of a plan, in Kafka's words.

use super::which::Which;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::reassignment::{Kept, PartitionStatus, Plan, State, states, throttle};
use clap::Args;
use troupe_client::Client;

#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    which: Which,
    /// Throttles stay as they are, though nothing is under way any more
    #[arg(long)]
    preserve_throttles: bool,
}

const WHAT: &str = "cannot verify the reassignment";

pub async fn run(global: &Global, verify: Verify) -> Result<(), Failure> {
    let plan = verify.which.plan()?;
    let client = global.connect().await?;
    tell(global, &client, plan.as_ref(), verify.preserve_throttles).await
}

/// Prints what has become of each partition of a plan, or of all that is under way, and takes throttles away when nothing
/// is, unless they are to be preserved.
///
/// # Errors
/// Not all of them are complete.
pub async fn tell(
    global: &Global,
    client: &Client,
    plan: Option<&Plan>,
    preserve_throttles: bool,
) -> Result<(), Failure> {
    let states = match plan {
        Some(plan) => states(client, plan).await.with_context(|| WHAT.to_owned())?.0,
        None => under_way(client).await?,
    };
    let output = global.output();
    if output.format.is_json() {
        output.many("partitions", &states, || unreachable!("JSON was asked for"))?;
    } else {
        output.print(&text(&states))?;
    }
    if !preserve_throttles && states.iter().all(|one| one.state != State::InProgress) {
        let cleared = throttle::clear_if_over(client, WHAT, plan.map(Plan::topics)).await?;
        if !output.format.is_json() {
            output.print(&cleared.text())?;
        }
    }
    match states.iter().all(|one| one.state == State::Completed) {
        true => Ok(()),
        // The lines say it.
        false => Err(Failure::silent(Exit::Failed)),
    }
}

/// By what the cluster is to become.
async fn under_way(client: &Client) -> Result<Vec<PartitionStatus>, Failure> {
    let active = client.admin().list_partition_reassignments(&[]).await;
    let active = active.with_context(|| WHAT.to_owned())?;
    let status = active.into_iter().map(|one| PartitionStatus {
        planned_replicas: {
            let stays = |node: &&i32| !one.removing_replicas.contains(node);
            one.replicas.iter().filter(stays).copied().collect()
        },
        state: match one.cancelled_until_in_sync {
            Some(_) => State::Cancelled,
            None => State::InProgress,
        },
        kept: Kept::of(&one.replicas, &one.removing_replicas, one.cancelled_until_in_sync),
        topic: one.topic,
        partition: one.partition,
        replicas: one.replicas,
    });
    Ok(status.collect())
}

fn text(states: &[PartitionStatus]) -> String {
    let mut text = "Status of partition reassignment:\n".to_owned();
    for one in states {
        text += &one.sentence();
        text.push('\n');
    }
    text
}
