//! `troupe reassign cancel`: of a plan, or of all, what is under way.

use super::which::Which;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::reassignment::{self, Kept, Plan, name, throttle};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use troupe_proto::admin::v1::{ReassignPartition, ReassignmentResult};

#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    which: Which,
    /// Throttles stay as they are
    #[arg(long)]
    preserve_throttles: bool,
}

#[derive(Debug, Serialize)]
struct Cancelled {
    cancelled: Vec<String>,
    /// Of those, what still keeps replicas that were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Waiting>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    topic: String,
    partition: i32,
    #[serde(flatten)]
    kept: Kept,
}

impl Waiting {
    fn of(result: ReassignmentResult) -> Option<Waiting> {
        let after = result.after?;
        let until = after.cancelled_until_in_sync;
        let kept = Kept::of(&after.replicas, &after.removing_replicas, until)?;
        Some(Waiting { topic: result.topic, partition: result.partition, kept })
    }
}

pub async fn run(global: &Global, cancel: Cancel) -> Result<(), Failure> {
    let what = "cannot cancel the reassignment";
    let plan = cancel.which.plan()?;
    let client = global.connect().await?;
    let listed = client.admin().list_partition_reassignments(&[]).await;
    let mut active = listed.with_context(|| what.to_owned())?;
    if let Some(plan) = &plan {
        let planned = plan.keys();
        active.retain(|one| planned.contains(&(one.topic.clone(), one.partition)));
    }
    let over: BTreeSet<(String, i32)> =
        active.iter().map(|one| (one.topic.clone(), one.partition)).collect();
    let cancelled: Vec<String> = active.iter().map(|one| name(&one.topic, one.partition)).collect();
    let mut waiting = Vec::new();
    if !active.is_empty() {
        let one = |topic, partition| ReassignPartition {
            topic,
            partition,
            replicas: Vec::new(),
            cancel: true,
        };
        let partitions = active.into_iter().map(|it| one(it.topic, it.partition)).collect();
        let results = reassignment::alter(&client, what, partitions).await?;
        waiting.extend(results.into_iter().filter_map(Waiting::of));
    }
    let cleared = match cancel.preserve_throttles {
        true => throttle::Cleared::default(),
        false => throttle::clear(&client, what, plan.as_ref().map(Plan::topics), &over).await?,
    };
    let view = Cancelled { cancelled, waiting };
    global.output().one(&view, || {
        let mut told = match view.cancelled.is_empty() {
            true => "None of the specified partition reassignments are active.\n".to_owned(),
            false => format!(
                "Successfully cancelled partition reassignments for: {}\n",
                view.cancelled.join(",")
            ),
        };
        for Waiting { topic, partition, kept } in &view.waiting {
            told += &format!("Partition {} {kept}.\n", name(topic, *partition));
        }
        told + &cleared.text()
    })
}
