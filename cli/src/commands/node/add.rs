//! `troupe node add`: a node that has come gets its share, from those that have more.

use super::lookup::find;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::placement::{Manner, SharesView, carry_out, propose, shares};
use crate::reassignment::throttle::ThrottleRate;
use clap::Args;
use serde::Serialize;
use troupe_proto::admin::v1::{PlanGoal, PlanReassignmentRequest};

#[derive(Debug, Args)]
pub struct Add {
    /// Number of the node; it runs already
    #[arg(value_name = "ID")]
    node: i32,
    /// Show what would move, and do nothing
    #[arg(long, conflicts_with_all = ["wait", "throttle"])]
    dry_run: bool,
    #[command(flatten)]
    throttle: ThrottleRate,
    /// Wait until it has its share
    #[arg(short, long)]
    wait: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AddView {
    node_id: i32,
    #[serde(flatten)]
    shares: SharesView,
    complete: bool,
    dry_run: bool,
}

pub async fn run(global: &Global, add: Add) -> Result<(), Failure> {
    let Add { node, dry_run, throttle, wait } = add;
    let what = format!("cannot fill node {node}");
    let client = global.connect().await?;
    let view = find(&client, node).await.map_err(|failure| match failure.exit() {
        Exit::NotFound => failure.with_hint(format!(
            "start it first, with node.id={node} and the controllers of this cluster: it registers by itself"
        )),
        _ => failure,
    })?;
    if view.fenced {
        let failure = Failure::new(Exit::Refused, what, format!("node {node} is not alive"));
        return Err(failure.with_hint("start it; `troupe node list` shows when it is active"));
    }
    let request = PlanReassignmentRequest {
        goal: PlanGoal::Fill.into(),
        to_node_ids: vec![node],
        ..PlanReassignmentRequest::default()
    };
    let proposal = propose(&client, &what, request).await?;
    let plan = proposal.changes();
    if !dry_run {
        carry_out(global, &client, &what, &plan, Manner::new(&throttle, wait)).await?;
    }
    let nothing = plan.partitions.is_empty();
    let complete = nothing || (wait && !dry_run);
    let view = AddView { node_id: node, shares: shares(&proposal), complete, dry_run };
    let output = global.output();
    output.one(&view, || {
        let then = match (nothing, dry_run, wait) {
            (true, ..) => format!("node {node} has its share\n"),
            (_, true, _) => "nothing was done\n".to_owned(),
            (_, _, true) => format!("node {node} has its share\n"),
            (_, _, false) => {
                "it has begun: `troupe reassign list` shows how far it is\n".to_owned()
            }
        };
        view.shares.render(&output) + &then
    })
}
