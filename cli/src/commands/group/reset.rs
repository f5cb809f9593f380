//! `troupe group reset`: shows what would be moved where, asks, and moves it. Partitions succeed or fail each
//! for itself.

mod target;

use crate::confirm::confirm;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Format, Output, Table, number, text};
use crate::quantity::plural;
use crate::streams::{notice, write_notice};
use crate::timestamp;
use crate::topic_selection::TopicSelection;
use clap::Args;
use serde::Serialize;
use target::Target;
use troupe_proto::error::Error;
use troupe_proto::log::v1::{OffsetReset, ResetGroupOffsetsRequest};

#[derive(Debug, Args)]
pub struct Reset {
    group: String,
    /// Topics, or some of their partitions [default: all that the group has committed]
    #[arg(long, visible_alias = "topic", value_name = "TOPIC[:PARTITION,..],..")]
    topics: Vec<TopicSelection>,
    /// Where to: earliest, latest, 42, =42, +100 or -100 from what is committed, @TIME, or -1h
    #[arg(long, value_name = "TARGET")]
    to: Target,
    /// Show it, do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResetsView {
    group_id: String,
    dry_run: bool,
    /// Records that will be read again, and that will never be read.
    repeated: i64,
    skipped: i64,
    resets: Vec<ResetView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResetView {
    topic: String,
    partition: i32,
    /// None: none was committed.
    old_offset: Option<i64>,
    /// None: it failed.
    new_offset: Option<i64>,
    repeated: i64,
    skipped: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

impl From<OffsetReset> for ResetView {
    fn from(reset: OffsetReset) -> Self {
        let at = reset.partition.unwrap_or_default();
        let error = reset.error.map(Error::from);
        let old_offset = (reset.old_offset >= 0).then_some(reset.old_offset);
        let new_offset = error.is_none().then_some(reset.new_offset);
        let moved = match (old_offset, new_offset) {
            (Some(old), Some(new)) => new.saturating_sub(old),
            _ => 0,
        };
        ResetView {
            topic: at.topic,
            partition: at.partition,
            old_offset,
            new_offset,
            repeated: moved.saturating_neg().max(0),
            skipped: moved.max(0),
            reason: error.as_ref().map(|error| error.code.reason()),
            message: error.map_or_else(String::new, |error| error.message),
        }
    }
}

impl ResetsView {
    fn new(group: &str, resets: Vec<OffsetReset>, dry_run: bool) -> ResetsView {
        let mut resets: Vec<ResetView> = resets.into_iter().map(ResetView::from).collect();
        resets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        ResetsView {
            group_id: group.to_owned(),
            dry_run,
            repeated: resets.iter().map(|reset| reset.repeated).sum(),
            skipped: resets.iter().map(|reset| reset.skipped).sum(),
            resets,
        }
    }

    fn failed(&self) -> usize {
        self.resets.iter().filter(|reset| reset.reason.is_some()).count()
    }

    /// Where what was asked for is not there: the nearest is taken.
    fn clamped(&self, to: Target) -> Vec<String> {
        let clamped = self.resets.iter().filter_map(|reset| {
            let (asked, new) = (to.asked(reset.old_offset)?, reset.new_offset?);
            let ResetView { topic, partition, .. } = reset;
            (asked != new).then(|| {
                format!(
                    "{topic}:{partition} has no offset {asked}: {new} is the nearest that there is"
                )
            })
        });
        clamped.collect()
    }

    /// How many, and what comes of it, in one line.
    fn summary(&self) -> String {
        let moved = self.resets.len() - self.failed();
        let (repeated, skipped) = (self.repeated, self.skipped);
        let (moved, repeated) = (plural(moved, "offset"), plural(repeated, "record"));
        format!("{moved}: {repeated} will be repeated, {skipped} skipped")
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            text("TOPIC"),
            number("PARTITION"),
            number("OLD"),
            number("NEW"),
            number("REPEATED"),
            number("SKIPPED"),
            text("ERROR"),
        ]);
        let shown = |number: Option<i64>| number.map_or_else(String::new, |n| n.to_string());
        for reset in &self.resets {
            table.row(vec![
                reset.topic.clone(),
                reset.partition.to_string(),
                shown(reset.old_offset),
                shown(reset.new_offset),
                reset.repeated.to_string(),
                reset.skipped.to_string(),
                reset
                    .reason
                    .map_or_else(String::new, |reason| format!("{reason}: {}", reset.message)),
            ]);
        }
        table
    }
}

pub async fn run(global: &Global, reset: Reset) -> Result<(), Failure> {
    let client = global.connect().await?;
    let group = &reset.group;
    let what = || format!("cannot reset the offsets of group {group}");
    // Asked for once: what was shown is what is done.
    let request = ResetGroupOffsetsRequest {
        group_id: group.clone(),
        partitions: TopicSelection::to_wire(&reset.topics),
        to: Some(reset.to.to_wire(timestamp::now_ms())),
        validate_only: true,
    };
    let ask = async |validate_only: bool| {
        let request = ResetGroupOffsetsRequest { validate_only, ..request.clone() };
        let resets = client.admin().reset_group_offsets(request).await.with_context(what)?;
        Ok::<_, Failure>(ResetsView::new(group, resets, validate_only))
    };
    if reset.dry_run {
        return print(global, &ask(true).await?, reset.to);
    }
    if !reset.yes {
        let preview = ask(true).await?;
        if preview.resets.is_empty() || preview.failed() == preview.resets.len() {
            return print(global, &preview, reset.to);
        }
        let seen = Output { format: Format::Table, terminal: true };
        write_notice(format_args!("{}", seen.table(&preview.table())));
        preview.clamped(reset.to).iter().for_each(|note| notice!("note: {note}"));
        confirm(
            &what(),
            &format!("Move {}?", preview.summary()),
            "--yes moves them without a question, --dry-run only shows what would be moved",
        )?;
    }
    print(global, &ask(false).await?, reset.to)
}

fn print(global: &Global, view: &ResetsView, to: Target) -> Result<(), Failure> {
    let output = global.output();
    output.one(view, || output.table(&view.table()))?;
    view.clamped(to).iter().for_each(|note| notice!("note: {note}"));
    if view.resets.is_empty() {
        let cause = format!("group {} has committed nothing", view.group_id);
        return Err(Failure::new(Exit::NotFound, "nothing was moved", cause)
            .with_hint("name the topics: --topics orders"));
    }
    match (view.dry_run, output.format.is_json()) {
        (true, false) => notice!("dry run, nothing was moved; it would be {}", view.summary()),
        (false, false) if output.terminal => notice!("moved {}", view.summary()),
        _ => {}
    }
    match view.failed() {
        0 => Ok(()),
        failed => {
            let cause =
                format!("{failed} of {} cannot be moved", plural(view.resets.len(), "offset"));
            Err(Failure::new(Exit::Refused, "", cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::error::ErrorCode;
    use troupe_proto::log::v1::TopicPartition;

    fn reset(partition: i32, old_offset: i64, new_offset: i64) -> OffsetReset {
        let at = TopicPartition { topic: "t".into(), partition, ..TopicPartition::default() };
        OffsetReset { partition: Some(at), old_offset, new_offset, error: None }
    }

    #[test]
    fn the_preview_tells_what_is_repeated_and_what_is_skipped() {
        let error = Error::new(ErrorCode::NoCommittedOffset, "none is committed");
        let refused = OffsetReset { error: Some(error.into()), ..reset(3, -1, -1) };
        let resets = vec![refused, reset(1, 5, 40), reset(0, 10, 3), reset(2, -1, 7)];
        let view = ResetsView::new("g", resets, true);
        let output = Output { format: Format::Table, terminal: false };
        assert_eq!(
            output.table(&view.table()),
            "t\t0\t10\t3\t7\t0\t-\n\
             t\t1\t5\t40\t0\t35\t-\n\
             t\t2\t-\t7\t0\t0\t-\n\
             t\t3\t-\t-\t0\t0\tNO_COMMITTED_OFFSET: none is committed\n"
        );
        assert_eq!((view.repeated, view.skipped, view.failed()), (7, 35, 1));
        assert_eq!(view.summary(), "3 offsets: 7 records will be repeated, 35 skipped");
        let notes = view.clamped("40".parse().unwrap());
        assert_eq!(notes[0], "t:0 has no offset 40: 3 is the nearest that there is");
        assert_eq!(notes.len(), 2, "{notes:?}");
        let notes = view.clamped("-7".parse().unwrap());
        assert_eq!(notes, ["t:1 has no offset -2: 40 is the nearest that there is"]);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["resets"][2]["oldOffset"], serde_json::Value::Null);
        assert_eq!(json["resets"][3]["reason"], "NO_COMMITTED_OFFSET");
    }
}
