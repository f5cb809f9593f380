//! `troupe topic purge`: shows which records would go, asks, and deletes them. What can't be done of one partition is
//! done of none.

use crate::confirm::confirm;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::offset_range::{Bounds, OffsetRange, Position};
use crate::output::{Format, Output, Table, number, text};
use crate::quantity::plural;
use crate::streams::write_notice;
use crate::timestamp;
use crate::topic_selection::TopicSelection;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use troupe_client::{Client, ClientError, OffsetSpec};
use troupe_proto::admin::v1::{DeleteRecordsRequest, RecordsDeletion, RecordsDeletionResult};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;

#[derive(Debug, Args)]
pub struct Purge {
    /// Topics, or some of their partitions
    #[arg(required = true, value_name = "TOPIC[:PARTITION,..]")]
    topics: Vec<TopicSelection>,
    /// The first record that stays: 42, @TIME, @-7d, end, +100 or -100; none of `end`
    #[arg(long, value_name = "OFFSET")]
    before: Position,
    /// Check everything, show it, do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PurgeView {
    dry_run: bool,
    /// Offsets that go, over all partitions.
    records: u64,
    partitions: Vec<PartitionView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionView {
    topic: String,
    partition: i32,
    /// Where the log starts, and where what is committed ends, before.
    log_start_offset: u64,
    high_watermark: u64,
    /// The first record that stays.
    before_offset: u64,
    records: u64,
    /// No in-sync replica has a record below this. None: it failed.
    low_watermark: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip)]
    error: Option<Error>,
}

impl PartitionView {
    fn new(topic: &str, partition: PartitionId, bounds: &Bounds, before: Position) -> Self {
        let range = OffsetRange { from: before, until: None };
        // An exact one that is not there is refused: what would be deleted is not what was meant.
        let before_offset = match before {
            Position::Exact(offset) => offset,
            _ => range.resolve(bounds).0,
        };
        PartitionView {
            topic: topic.to_owned(),
            partition: i32::try_from(partition.0).unwrap_or(i32::MAX),
            log_start_offset: bounds.earliest,
            high_watermark: bounds.latest,
            before_offset,
            records: before_offset.min(bounds.latest).saturating_sub(bounds.earliest),
            low_watermark: None,
            reason: None,
            message: String::new(),
            error: None,
        }
    }

    fn learn(&mut self, result: RecordsDeletionResult) {
        let error = result.error.map(Error::from);
        self.low_watermark = error.is_none().then_some(result.low_watermark);
        self.reason = error.as_ref().map(|error| error.code.reason());
        self.message = error.as_ref().map_or_else(String::new, |error| error.message.clone());
        self.error = error;
    }

    fn deletion(&self) -> RecordsDeletion {
        RecordsDeletion {
            topic: self.topic.clone(),
            partition: self.partition,
            topic_id: Vec::new().into(),
            before_offset: i64::try_from(self.before_offset).unwrap_or(i64::MAX),
        }
    }
}

impl PurgeView {
    fn new(partitions: Vec<PartitionView>) -> PurgeView {
        let records = partitions.iter().map(|partition| partition.records).sum();
        PurgeView { dry_run: true, records, partitions }
    }

    fn summary(&self) -> String {
        let partitions = plural(self.partitions.len(), "partition");
        format!("{} of {partitions}", plural(self.records, "record"))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            text("TOPIC"),
            number("PARTITION"),
            number("START"),
            number("END"),
            number("BEFORE"),
            number("RECORDS"),
            number("LOW-WATERMARK"),
            text("ERROR"),
        ]);
        for partition in &self.partitions {
            let (low, message) = (partition.low_watermark, &partition.message);
            table.row(vec![
                partition.topic.clone(),
                partition.partition.to_string(),
                partition.log_start_offset.to_string(),
                partition.high_watermark.to_string(),
                partition.before_offset.to_string(),
                partition.records.to_string(),
                low.map_or_else(String::new, |low| low.to_string()),
                partition.reason.map_or_else(String::new, |reason| format!("{reason}: {message}")),
            ]);
        }
        table
    }

    /// The first failure, and of how many partitions.
    fn failure(&self, verb: &str) -> Option<Failure> {
        let failed: Vec<_> = self.partitions.iter().filter(|it| it.error.is_some()).collect();
        let first = failed.first()?;
        let error = ClientError::from(first.error.clone()?);
        let what = format!("cannot purge topic {} partition {}", first.topic, first.partition);
        let mut failure = Failure::client(what, &error);
        if error.reason() == ErrorCode::InvalidTopic {
            failure = failure
                .with_hint("`troupe topic list` shows the topics that records can be deleted from");
        }
        let (failed, all) = (failed.len(), self.partitions.len());
        Some(failure.with_note(&format!("{verb} ({failed} of {all} partitions failed)")))
    }
}

pub async fn run(global: &Global, purge: Purge) -> Result<(), Failure> {
    let client = global.connect().await?;
    let now_ms = timestamp::now_ms();
    let mut partitions = Vec::new();
    for (topic, only) in purge.topics.iter().flat_map(TopicSelection::topics) {
        partitions.extend(resolve(&client, topic, only, purge.before, now_ms).await?);
    }
    // Resolved once: what was shown is what is done.
    let mut view = PurgeView::new(partitions);
    ask(&client, &mut view, true).await?;
    if purge.dry_run || view.failure("").is_some() {
        print(global, &view)?;
        return view.failure("nothing was deleted").map_or(Ok(()), Err);
    }
    if !purge.yes {
        let seen = Output { format: Format::Table, terminal: true };
        write_notice(format_args!("{}", seen.table(&view.table())));
        confirm(
            "cannot purge",
            &format!("Delete {}, for good?", view.summary()),
            "--yes deletes them without a question, --dry-run only shows what would be deleted",
        )?;
    }
    ask(&client, &mut view, false).await?;
    print(global, &view)?;
    view.failure("the others are purged").map_or(Ok(()), Err)
}

/// Which offset is meant, in each of a topic's partitions.
async fn resolve(
    client: &Client,
    topic: &str,
    only: &[i32],
    before: Position,
    now_ms: i64,
) -> Result<Vec<PartitionView>, Failure> {
    let what = || format!("cannot purge topic {topic}");
    let metadata = client.topic(topic).await.with_context(what)?;
    let known: Vec<PartitionId> = metadata.partitions.iter().map(|p| p.partition).collect();
    let asked = only.iter().map(|number| PartitionId(number.unsigned_abs()));
    let chosen: Vec<PartitionId> = if only.is_empty() { known.clone() } else { asked.collect() };
    if let Some(wrong) = chosen.iter().find(|partition| !known.contains(partition)) {
        let cause = format!(
            "there is no partition {wrong}, the topic has 0 to {}; nothing was deleted",
            known.len() - 1
        );
        return Err(Failure::new(Exit::NotFound, what(), cause));
    }
    let mut bounds: BTreeMap<PartitionId, Bounds> =
        chosen.iter().map(|partition| (*partition, Bounds::default())).collect();
    let mut specs = vec![OffsetSpec::Earliest, OffsetSpec::Latest];
    if let Position::At(moment) = before {
        specs.push(OffsetSpec::Timestamp(moment.timestamp_ms(now_ms)));
    }
    for spec in specs {
        let queries: Vec<_> = bounds.keys().map(|partition| (*partition, spec)).collect();
        for listed in client.list_offsets(topic, &queries).await.with_context(what)? {
            let Some(bounds) = bounds.get_mut(&listed.partition) else { continue };
            let offset = listed.offset.map(|offset| offset.0);
            match spec {
                OffsetSpec::Earliest => bounds.earliest = offset.unwrap_or(0),
                OffsetSpec::Latest => bounds.latest = offset.unwrap_or(0),
                _ => bounds.at_from = offset,
            }
        }
    }
    let view = |(partition, bounds): (&PartitionId, &Bounds)| {
        PartitionView::new(topic, *partition, bounds, before)
    };
    Ok(bounds.iter().map(view).collect())
}

async fn ask(client: &Client, view: &mut PurgeView, validate_only: bool) -> Result<(), Failure> {
    let request = DeleteRecordsRequest {
        partitions: view.partitions.iter().map(PartitionView::deletion).collect(),
        timeout_ms: 0,
        validate_only,
    };
    let results = client.admin().delete_records(request).await;
    let results = results.with_context(|| "cannot purge".to_owned())?;
    view.dry_run = validate_only;
    for (partition, result) in view.partitions.iter_mut().zip(results) {
        partition.learn(result);
    }
    Ok(())
}

fn print(global: &Global, view: &PurgeView) -> Result<(), Failure> {
    let output = global.output();
    output.one(view, || {
        let mut out = output.table(&view.table());
        if output.terminal && view.failure("").is_none() {
            let verb = if view.dry_run { "would delete" } else { "deleted" };
            out += &format!("{verb} {}\n", view.summary());
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(before: &str, earliest: u64, latest: u64, at_from: Option<u64>) -> PartitionView {
        let bounds = Bounds { earliest, latest, at_from, at_until: None };
        PartitionView::new("t", PartitionId(0), &bounds, before.parse().unwrap())
    }

    #[test]
    fn the_preview_counts_what_goes() {
        for (before, records, offset) in [
            ("15", 5, 15),
            ("end", 10, 20),
            ("start", 0, 10),
            ("3", 0, 3),
            ("-4", 6, 16),
            ("+4", 4, 14),
            ("@-1h", 7, 17),
            ("99", 10, 99),
        ] {
            let view = view(before, 10, 20, Some(17));
            assert_eq!((view.records, view.before_offset), (records, offset), "{before}");
        }
        let all_older = view("@-1h", 10, 20, None);
        assert_eq!((all_older.records, all_older.before_offset), (10, 20));
    }

    #[test]
    fn a_refusal_is_shown_with_its_reason_and_fails_the_command() {
        let mut refused = view("99", 10, 20, None);
        let error = Error::new(ErrorCode::OffsetOutOfRange, "offset 99 is above");
        refused.learn(RecordsDeletionResult {
            topic: "t".to_owned(),
            partition: 0,
            low_watermark: -1,
            error: Some(error.into()),
        });
        let view = PurgeView::new(vec![refused]);
        let output = Output { format: Format::Table, terminal: false };
        assert_eq!(
            output.table(&view.table()),
            "t\t0\t10\t20\t99\t10\t-\tOFFSET_OUT_OF_RANGE: offset 99 is above\n"
        );
        let failure = view.failure("nothing was deleted").unwrap();
        assert_eq!(failure.exit(), Exit::Refused);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["partitions"][0]["lowWatermark"], serde_json::Value::Null);
        assert_eq!(json["partitions"][0]["reason"], "OFFSET_OUT_OF_RANGE");
    }
}
