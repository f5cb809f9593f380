//! How the compaction of a topic's replicas stands, each as its node tells it.

use crate::output::{Table, number, text};
use crate::quantity::{show_duration, show_size};
use crate::timestamp;
use serde::Serialize;
use std::time::Duration;
use troupe_proto::admin::v1::{CleaningPass, CleaningState, Replica};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleaningView {
    pub node_id: i32,
    /// `idle`, `cleaning`, `waiting`, `uncleanable`; `unknown`: its node did not answer, or is older.
    pub state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<i32>,
    pub dirty_ratio: f64,
    pub pass_count: i64,
    pub saved_bytes: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<PassView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassView {
    pub ended_timestamp_ms: i64,
    pub took_ms: i64,
    pub bytes_before: i64,
    pub bytes_after: i64,
}

impl PassView {
    fn new(pass: &CleaningPass) -> PassView {
        PassView {
            ended_timestamp_ms: pass.ended_timestamp_ms,
            took_ms: pass.took_ms,
            bytes_before: pass.bytes_before,
            bytes_after: pass.bytes_after,
        }
    }

    fn show(&self) -> String {
        let size = |bytes: i64| show_size(bytes.unsigned_abs());
        let took = show_duration(Duration::from_millis(self.took_ms.unsigned_abs()));
        format!(
            "{} in {took}: {} -> {}",
            timestamp::show(self.ended_timestamp_ms),
            size(self.bytes_before),
            size(self.bytes_after)
        )
    }
}

impl CleaningView {
    /// `None`: the topic is not compacted, as far as that node knows.
    pub fn new(replica: &Replica) -> Option<CleaningView> {
        let cleaning = replica.cleaning.as_ref()?;
        let state = cleaning.state();
        Some(CleaningView {
            node_id: replica.node_id,
            state: match state {
                CleaningState::Idle => "idle",
                CleaningState::Cleaning => "cleaning",
                CleaningState::Waiting => "waiting",
                CleaningState::Uncleanable => "uncleanable",
                CleaningState::Unspecified => "unknown",
            },
            reason: cleaning.reason.clone(),
            progress_percent: (state == CleaningState::Cleaning)
                .then_some(cleaning.progress_percent),
            dirty_ratio: cleaning.dirty_ratio,
            pass_count: cleaning.pass_count,
            saved_bytes: cleaning.saved_bytes,
            last_pass: cleaning.last_pass.as_ref().map(PassView::new),
        })
    }

    /// Of a node that does not tell.
    pub fn unknown(node_id: i32, why: &str) -> CleaningView {
        CleaningView {
            node_id,
            state: "unknown",
            reason: why.to_owned(),
            progress_percent: None,
            dirty_ratio: 0.0,
            pass_count: 0,
            saved_bytes: 0,
            last_pass: None,
        }
    }

    fn show_state(&self) -> String {
        self.progress_percent.map_or_else(|| self.state.to_owned(), |it| format!("cleaning {it}%"))
    }
}

/// Partitions, each with its replicas.
pub fn table<'a>(partitions: impl Iterator<Item = (i32, &'a [CleaningView])>) -> Table {
    let mut table = Table::new(&[
        number("PARTITION"),
        number("NODE"),
        text("COMPACTION"),
        number("DIRTY"),
        number("PASSES"),
        text("SAVED"),
        text("LAST PASS"),
        text("WHY"),
    ]);
    for (partition, cleanings) in partitions {
        for cleaning in cleanings {
            table.row(vec![
                partition.to_string(),
                cleaning.node_id.to_string(),
                cleaning.show_state(),
                format!("{:.0}%", 100.0 * cleaning.dirty_ratio),
                cleaning.pass_count.to_string(),
                show_size(cleaning.saved_bytes.unsigned_abs()),
                cleaning.last_pass.as_ref().map_or_else(|| "none".to_owned(), PassView::show),
                cleaning.reason.clone(),
            ]);
        }
    }
    table
}
