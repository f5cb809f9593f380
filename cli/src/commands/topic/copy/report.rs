//! How a copy goes, and how the offsets of both topics relate at its end.

use super::route::Route;
use super::track::Track;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Table, number};
use crate::quantity::{plural_grouped, show_duration, show_rate, show_size};
use crate::streams::notice;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use troupe_proto::ids::PartitionId;

pub struct Report {
    started: Instant,
    bar: Option<ProgressBar>,
    /// Of keys and values.
    pub bytes: u64,
}

/// A partition's records: those of the source from one offset to another, exclusive, are those of the target.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionView {
    partition: u32,
    from_start: u64,
    from_end: u64,
    to_start: u64,
    to_end: u64,
    records: u64,
    /// Offsets that hold no record: compaction has removed them.
    gaps: u64,
    /// Offsets that the source deleted before they were copied.
    deleted: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CopyView {
    from: String,
    to: String,
    /// Of the target cluster: where the copy's position is kept.
    group: String,
    records: u64,
    bytes: u64,
    seconds: f64,
    partitions: Vec<PartitionView>,
}

impl Report {
    pub fn new(global: &Global) -> Report {
        let bar = global.progress().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Report { started: Instant::now(), bar, bytes: 0 }
    }

    pub fn progress(&self, records: u64) {
        if let Some(bar) = &self.bar {
            let rate = records as f64 / self.started.elapsed().as_secs_f64();
            let (records, bytes) = (plural_grouped(records, "record"), show_size(self.bytes));
            bar.set_message(format!("{records}, {bytes}, {}/s", show_rate(rate)));
            bar.tick();
        }
    }

    /// # Errors
    /// Those of printing.
    pub fn finish(
        &mut self,
        global: &Global,
        route: &Route,
        group: &str,
        tracks: &BTreeMap<PartitionId, Track>,
    ) -> Result<(), Failure> {
        let elapsed = self.started.elapsed();
        let partitions: Vec<PartitionView> = tracks.iter().map(PartitionView::new).collect();
        let records = partitions.iter().map(|partition| partition.records).sum();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            let rate = show_rate(records as f64 / elapsed.as_secs_f64());
            let (records, took) = (plural_grouped(records, "record"), show_duration(elapsed));
            notice!("{records} in {took} ({rate} records/s, {})", show_size(self.bytes));
        }
        let output = global.output();
        let view = CopyView {
            from: route.from.clone(),
            to: route.to.clone(),
            group: group.to_owned(),
            records,
            bytes: self.bytes,
            seconds: elapsed.as_secs_f64(),
            partitions,
        };
        output.one(&view, || output.table(&table(&view.partitions)))
    }
}

impl PartitionView {
    fn new((partition, track): (&PartitionId, &Track)) -> PartitionView {
        PartitionView {
            partition: partition.0,
            from_start: track.start.source.0,
            from_end: track.acknowledged.source.0,
            to_start: track.start.target.0,
            to_end: track.acknowledged.target.0,
            records: track.records,
            gaps: track.gaps(),
            deleted: track.deleted,
        }
    }
}

fn table(partitions: &[PartitionView]) -> Table {
    let mut table = Table::new(&[
        number("PARTITION"),
        number("FROM START"),
        number("FROM END"),
        number("TO START"),
        number("TO END"),
        number("RECORDS"),
        number("GAPS"),
        number("DELETED"),
    ]);
    for view in partitions {
        let numbers = [
            u64::from(view.partition),
            view.from_start,
            view.from_end,
            view.to_start,
            view.to_end,
            view.records,
            view.gaps,
            view.deleted,
        ];
        table.row(numbers.iter().map(u64::to_string).collect());
    }
    table
}
