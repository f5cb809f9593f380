//! `troupe group lag`: one number for each group.

use super::lookup::describe_groups;
use super::offsets_view::{self, LogBounds, OffsetsView};
use super::view::state_name;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Format, Table, number, text};
use crate::watch::Watch;
use clap::Args;
use serde::Serialize;

#[derive(Debug, Args)]
pub struct Lag {
    /// Groups [default: all]
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LagView {
    group_id: String,
    state: &'static str,
    member_count: usize,
    partition_count: usize,
    lag: i64,
    /// Partitions whose lag is not known.
    unknown_count: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LagsView {
    groups: Vec<LagView>,
    lag: i64,
}

pub async fn run(global: &Global, lag: Lag) -> Result<(), Failure> {
    let client = global.connect().await?;
    let output = global.output();
    let ask = async || {
        let mut ends = LogBounds::default();
        let mut groups = Vec::new();
        for group in describe_groups(&client, &lag.groups).await? {
            let offsets = offsets_view::gather(&client, &group, &mut ends).await?;
            let (state, members) = (state_name(group.state()), group.members.len());
            groups.push(LagView::new(&offsets, state, members));
        }
        let lag = groups.iter().map(|group| group.lag).sum();
        Ok(LagsView { groups, lag })
    };
    let once = |view: &LagsView| match output.format {
        Format::Json => output.one(view, String::new),
        _ => output.many("groups", &view.groups, || table(&view.groups)),
    };
    lag.watch.show(&output, ask, once, |view| output.table(&table(&view.groups))).await
}

impl LagView {
    fn new(offsets: &OffsetsView, state: &'static str, member_count: usize) -> LagView {
        LagView {
            group_id: offsets.group_id.clone(),
            state,
            member_count,
            partition_count: offsets.topics.iter().map(|topic| topic.partition_count).sum(),
            lag: offsets.lag,
            unknown_count: offsets.unknown_count(),
        }
    }
}

fn table(groups: &[LagView]) -> Table {
    let mut table = Table::new(&[
        text("GROUP"),
        text("STATE"),
        number("#MEMBERS"),
        number("PARTITIONS"),
        number("LAG"),
        number("LAG UNKNOWN"),
    ]);
    for group in groups {
        let unknown = group.unknown_count;
        table.row(vec![
            group.group_id.clone(),
            group.state.to_owned(),
            group.member_count.to_string(),
            group.partition_count.to_string(),
            group.lag.to_string(),
            if unknown == 0 { String::new() } else { unknown.to_string() },
        ]);
    }
    table
}
