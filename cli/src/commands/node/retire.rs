//! `troupe node retire`: everything moves off a node, and once it has stopped it is forgotten. The same again goes on
//! where it is: whatever has moved is where it belongs, and the mark stays on the node until it is gone.

use super::lookup::find;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::placement::{Manner, carry_out, propose, shares, take_throttle_away, watch};
use crate::reassignment;
use crate::reassignment::throttle::ThrottleRate;
use crate::streams::notice;
use clap::Args;
use serde::Serialize;
use std::time::Duration;
use troupe_client::Client;
use troupe_proto::admin::v1::{
    PartitionReassignment, PlanGoal, PlanReassignmentRequest, ReassignPartition, ReassignmentResult,
};
use troupe_proto::ids::NodeId;

/// Between two looks at a node that is to be stopped.
const LOOK: Duration = Duration::from_millis(500);
/// So often everything is planned anew, for what came between.
const ROUNDS: usize = 10;

#[derive(Debug, Args)]
pub struct Retire {
    /// Number of the node
    #[arg(value_name = "ID")]
    node: i32,
    /// Show what would move, and do nothing
    #[arg(long, conflicts_with_all = ["wait", "cancel", "throttle"])]
    dry_run: bool,
    #[command(flatten)]
    throttle: ThrottleRate,
    /// Wait until nothing is on it, then until it has stopped, and remove it
    #[arg(short, long, conflicts_with = "cancel")]
    wait: bool,
    /// It stays: what is under way goes back, what has moved remains where it is
    #[arg(long, conflicts_with = "throttle")]
    cancel: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct RetireView {
    node_id: i32,
    moved_leader_count: i32,
    replicas_to_copy: usize,
    bytes_to_copy: u64,
    /// Nothing is on it any more.
    empty: bool,
    removed: bool,
    cancelled: bool,
    dry_run: bool,
}

pub async fn run(global: &Global, retire: Retire) -> Result<(), Failure> {
    let client = global.connect().await?;
    let Retire { node, dry_run, throttle, wait, cancel } = retire;
    // What is waited for here is more than what was begun.
    let manner = Manner { wait: false, ..Manner::new(&throttle, wait) };
    if cancel {
        return cancel_it(global, &client, node).await;
    }
    let what = format!("cannot retire node {node}");
    if dry_run {
        return show(global, &client, &what, node).await;
    }
    let marked = client.admin().retire_node(NodeId(node)).await.with_context(|| what.clone())?;
    let mut view = RetireView {
        node_id: node,
        moved_leader_count: marked.moved_leader_count,
        ..RetireView::default()
    };
    for round in 0..ROUNDS {
        let proposal = propose(&client, &what, off(node)).await?;
        let plan = proposal.changes();
        if round == 0 {
            view.replicas_to_copy = proposal.copies();
            view.bytes_to_copy = proposal.copied_bytes();
        }
        // A partition that is on its way off it already is left as it is.
        carry_out(global, &client, &what, &plan, manner).await?;
        if wait {
            watch(global, &client, |one| concerns(one, node)).await;
        }
        let left = left(&client, &what, node).await?;
        view.empty = left == 0;
        if view.empty || !wait {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    if view.empty {
        take_throttle_away(&client, &what, manner).await?;
        view.removed = remove(global, &client, &what, node, wait).await?;
    }
    let is_voter = marked.voter_ids.contains(&node);
    global.output().one(&view, || text(&view, is_voter))
}

/// It is to be filled by this one, or goes from there.
fn concerns(one: &PartitionReassignment, node: i32) -> bool {
    one.adding_replicas.contains(&node) || one.removing_replicas.contains(&node)
}

fn off(node: i32) -> PlanReassignmentRequest {
    PlanReassignmentRequest {
        goal: PlanGoal::Empty.into(),
        exclude_node_ids: vec![node],
        ..PlanReassignmentRequest::default()
    }
}

fn text(view: &RetireView, is_voter: bool) -> String {
    let node = view.node_id;
    let mut text = match (view.removed, view.empty) {
        (true, _) => format!("node {node} is empty and removed\n"),
        (false, true) => format!(
            "node {node} is empty; stop it, then `troupe node retire {node}` again, or `troupe node remove {node}`\n"
        ),
        (false, false) => format!(
            "node {node} is being emptied: `troupe reassign list` shows how far it is; once nothing is left, \
             `troupe node retire {node}` again removes it\n"
        ),
    };
    if is_voter {
        text += &format!(
            "node {node} is a voter and remains one until controller.quorum.voters names others on every node: keep \
             it running as a controller (process.roles=controller), or change that first\n"
        );
    }
    text
}

async fn show(global: &Global, client: &Client, what: &str, node: i32) -> Result<(), Failure> {
    find(client, node).await?;
    let proposal = propose(client, what, off(node)).await?;
    let shares = shares(&proposal);
    let output = global.output();
    output.one(&shares, || shares.render(&output) + "nothing was done\n")
}

/// Replicas that are assigned to it.
async fn left(client: &Client, what: &str, node: i32) -> Result<usize, Failure> {
    let cluster = client.admin().get_cluster().await.with_context(|| what.to_owned())?;
    let found = cluster.nodes.iter().find(|one| one.node_id == node);
    Ok(found.map_or(0, |one| one.replica_count.max(0).unsigned_abs() as usize))
}

/// Forgets it, if it has stopped; with `wait` once it has.
async fn remove(
    global: &Global,
    client: &Client,
    what: &str,
    node: i32,
    wait: bool,
) -> Result<bool, Failure> {
    let mut told = false;
    loop {
        let cluster = client.admin().get_cluster().await.with_context(|| what.to_owned())?;
        let Some(known) = cluster.nodes.iter().find(|one| one.node_id == node) else {
            return Ok(true);
        };
        if known.fenced {
            let removed = client.admin().remove_node(NodeId(node)).await;
            removed.with_context(|| what.to_owned())?;
            return Ok(true);
        }
        if !wait {
            return Ok(false);
        }
        if !told && global.progress() {
            notice!("node {node} is empty: stop it, and it is removed");
            told = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is on its way off goes back; what was to come does not come.
async fn cancel_it(global: &Global, client: &Client, node: i32) -> Result<(), Failure> {
    let what = format!("cannot end the retirement of node {node}");
    client.admin().keep_node(NodeId(node)).await.with_context(|| what.clone())?;
    let active = client.admin().list_partition_reassignments(&[]).await;
    let active = active.with_context(|| what.clone())?;
    let goes_on = |one: &PartitionReassignment| one.cancelled_until_in_sync.is_none();
    let leaves =
        active.into_iter().filter(|one| one.removing_replicas.contains(&node) && goes_on(one));
    let cancel = |topic, partition| ReassignPartition {
        topic,
        partition,
        replicas: Vec::new(),
        cancel: true,
    };
    let cancelled: Vec<ReassignPartition> =
        leaves.map(|one| cancel(one.topic, one.partition)).collect();
    let count = cancelled.len();
    let mut waiting = 0;
    if count > 0 {
        let results = reassignment::alter(client, &what, cancelled).await?;
        let waits = |result: &&ReassignmentResult| {
            result.after.as_ref().is_some_and(|after| after.cancelled_until_in_sync.is_some())
        };
        waiting = results.iter().filter(waits).count();
    }
    let view = RetireView { node_id: node, cancelled: true, ..RetireView::default() };
    global.output().one(&view, || {
        let waiting = match waiting {
            0 => String::new(),
            _ => format!(
                "; {waiting} of them keep what they have added until enough others are in sync (`troupe reassign list`)"
            ),
        };
        format!("node {node} stays; {count} reassignments were cancelled{waiting}. What has moved comes back with `troupe node add {node}`\n")
    })
}
