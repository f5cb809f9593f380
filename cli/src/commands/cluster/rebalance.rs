//! `troupe cluster rebalance`: the fewest moves for even replicas, leaderships and bytes, shown, or carried out.

use crate::failure::Failure;
use crate::global::Global;
use crate::placement::{Manner, SharesView, carry_out, propose, shares};
use crate::reassignment::throttle::ThrottleRate;
use clap::Args;
use serde::Serialize;
use troupe_proto::admin::v1::{PlanGoal, PlanReassignmentRequest};

#[derive(Debug, Args)]
#[command(mut_arg("throttle", |throttle| throttle.requires("execute")))]
pub struct Rebalance {
    /// Show what would move, and what each node has before and after; the default
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Carry it out
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    throttle: ThrottleRate,
    /// Wait until it is complete
    #[arg(short, long, requires = "execute")]
    wait: bool,
    /// Replicas of a partition need not be in different racks
    #[arg(long)]
    disable_rack_aware: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RebalanceView {
    #[serde(flatten)]
    shares: SharesView,
    executed: bool,
    complete: bool,
}

pub async fn run(global: &Global, rebalance: Rebalance) -> Result<(), Failure> {
    let what = "cannot rebalance the cluster";
    let Rebalance { execute, throttle, wait, disable_rack_aware, .. } = rebalance;
    let client = global.connect().await?;
    let request = PlanReassignmentRequest {
        goal: PlanGoal::Even.into(),
        disable_rack_aware,
        ..PlanReassignmentRequest::default()
    };
    let proposal = propose(&client, what, request).await?;
    let (shares, plan) = (shares(&proposal), proposal.changes());
    if execute {
        carry_out(global, &client, what, &plan, Manner::new(&throttle, wait)).await?;
    }
    let complete = plan.partitions.is_empty() || wait;
    let view = RebalanceView { shares, executed: execute, complete };
    let output = global.output();
    output.one(&view, || {
        let then = match (plan.partitions.is_empty(), execute, wait) {
            (true, ..) => "",
            (false, false, _) => "nothing was done: `troupe cluster rebalance --execute` does it\n",
            (false, true, true) => "it is done\n",
            (false, true, false) => "it has begun: `troupe reassign list` shows how far it is\n",
        };
        view.shares.render(&output) + then
    })
}
