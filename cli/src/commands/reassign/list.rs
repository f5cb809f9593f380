//! `troupe reassign list`: what is under way, once or as it goes on.

use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_view::ids;
use crate::output::{Output, Table, number, text};
use crate::quantity::{show_duration, show_rate, show_size};
use crate::reassignment::{Kept, Progress, Sample, sample};
use crate::watch::Watch;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// Between two looks at the sizes, for a rate.
const APART: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReassignmentView {
    topic: String,
    partition: i32,
    leader_id: Option<i32>,
    replicas: Vec<i32>,
    adding_replicas: Vec<i32>,
    removing_replicas: Vec<i32>,
    in_sync_replicas: Vec<i32>,
    original_replicas: Vec<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_until_in_sync: Option<u32>,
    /// None: its leader does not tell.
    #[serde(flatten)]
    progress: Option<Progress>,
}

#[derive(Debug, Serialize)]
struct ReassignmentsView {
    reassignments: Vec<ReassignmentView>,
}

pub async fn run(global: &Global, list: List) -> Result<(), Failure> {
    let client = global.connect().await?;
    let what = || "cannot list the reassignments".to_owned();
    let output = global.output();
    let mut earlier: Option<Sample> = None;
    let ask = async || {
        if earlier.is_none() {
            let first = sample(&client).await.with_context(what)?;
            if !first.reassignments.is_empty() {
                tokio::time::sleep(APART).await;
            }
            earlier = Some(first);
        }
        let now = sample(&client).await.with_context(what)?;
        let view = view(&now, earlier.as_ref());
        earlier = Some(now);
        Ok(view)
    };
    let once = |view: &ReassignmentsView| {
        output.many("reassignments", &view.reassignments, || table(view))
    };
    list.watch.show(&output, ask, once, |view| render(&output, view)).await
}

fn view(now: &Sample, earlier: Option<&Sample>) -> ReassignmentsView {
    let reassignments = now.reassignments.iter().map(|one| ReassignmentView {
        topic: one.topic.clone(),
        partition: one.partition,
        leader_id: one.leader_id,
        replicas: one.replicas.clone(),
        adding_replicas: one.adding_replicas.clone(),
        removing_replicas: one.removing_replicas.clone(),
        in_sync_replicas: one.in_sync_replicas.clone(),
        original_replicas: one.original_replicas.clone(),
        cancelled_until_in_sync: one.cancelled_until_in_sync,
        progress: now.progress(one, earlier),
    });
    ReassignmentsView { reassignments: reassignments.collect() }
}

fn render(output: &Output, view: &ReassignmentsView) -> String {
    match view.reassignments.is_empty() {
        true => "No partition reassignments found.\n".to_owned(),
        false => output.table(&table(view)),
    }
}

fn table(view: &ReassignmentsView) -> Table {
    let mut table = Table::new(&[
        text("TOPIC"),
        number("PARTITION"),
        text("LEADER"),
        text("REPLICAS"),
        text("ADDING"),
        text("REMOVING"),
        text("IN SYNC"),
        number("DONE"),
        text("COPIED"),
        text("LEFT"),
        text("RATE"),
        text("TIME LEFT"),
        text("CANCELLED"),
    ]);
    for one in &view.reassignments {
        let told = |show: &dyn Fn(&Progress) -> String| {
            one.progress.as_ref().map_or_else(String::new, show)
        };
        table.row(vec![
            one.topic.clone(),
            one.partition.to_string(),
            one.leader_id.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            ids(&one.replicas),
            ids(&one.adding_replicas),
            ids(&one.removing_replicas),
            ids(&one.in_sync_replicas),
            told(&|progress| format!("{} %", progress.percent())),
            told(&|progress| show_size(progress.bytes_done)),
            told(&|progress| show_size(progress.bytes_left)),
            told(&|progress| progress.bytes_per_second.map_or_else(String::new, show_rate)),
            told(&|progress| {
                let span = progress.seconds_left.map(Duration::from_secs);
                span.map_or_else(String::new, show_duration)
            }),
            Kept::of(&one.replicas, &one.removing_replicas, one.cancelled_until_in_sync)
                .map_or_else(String::new, |kept| kept.to_string()),
        ]);
    }
    table
}
