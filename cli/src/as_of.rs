//! As of when an answer about the cluster is true, and whether anybody decides for it now.

use crate::failure::{Context, Failure};
use crate::output::{Output, Table};
use crate::quantity::show_duration;
use crate::streams::notice;
use crate::timestamp;
use serde::Serialize;
use std::time::Duration;
use troupe_client::Client;
use troupe_proto::v1::MetadataAsOf;

/// The keys are those of `troupe.v1.MetadataAsOf` in proto JSON, the time as text.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AsOf {
    /// The node that answered.
    node_id: i32,
    /// When its picture was last known to be the newest, by its clock. None: not since it started.
    time: Option<String>,
    metadata_offset: i64,
    pub controller_active: bool,
    /// None: it has heard no active controller since it started.
    controller_silence_ms: Option<i64>,
}

impl From<MetadataAsOf> for AsOf {
    fn from(as_of: MetadataAsOf) -> Self {
        AsOf {
            node_id: as_of.node_id,
            time: (as_of.time_ms > 0).then(|| timestamp::show(as_of.time_ms)),
            metadata_offset: as_of.metadata_offset,
            controller_active: as_of.controller_active,
            controller_silence_ms: Some(as_of.controller_silence_ms).filter(|ms| *ms >= 0),
        }
    }
}

/// As of when the node tells that was just asked. None: it is of a version that does not say.
///
/// # Errors
/// It does not answer any more.
pub async fn ask(client: &Client) -> Result<Option<AsOf>, Failure> {
    let described = client.describe_cluster().await;
    let described = described.with_context(|| "cannot ask as of when this is true".to_owned())?;
    Ok(described.as_of.map(AsOf::from))
}

impl AsOf {
    /// For a person, behind a table.
    pub fn line(&self) -> String {
        let AsOf { node_id, metadata_offset, .. } = self;
        let time = self.time.as_deref().unwrap_or("an unknown time");
        format!("as of {time}, as node {node_id} knows it (metadata offset {metadata_offset})\n")
    }

    /// What is told of old news, whoever reads it.
    fn warning(&self) -> Option<String> {
        if self.controller_active {
            return None;
        }
        let silence = match self.controller_silence_ms {
            Some(ms) => format!("for {}", show_duration(Duration::from_millis(ms.unsigned_abs()))),
            None => "since it started".to_owned(),
        };
        Some(format!(
            "no controller is active as far as node {} knows: it has heard none {silence}. What it tells of the \
             cluster is of then, and nothing can be changed now",
            self.node_id
        ))
    }

    /// Tells on standard error if what was printed is old.
    pub fn warn(&self) {
        if let Some(warning) = self.warning() {
            notice!("warning: {warning}");
        }
    }
}

/// A list of what the cluster consists of, and as of when: as JSON beside the list, on a terminal behind it.
///
/// # Errors
/// Those of printing.
pub fn many<T: Serialize>(
    output: &Output,
    name: &str,
    rows: &[T],
    as_of: Option<&AsOf>,
    table: impl FnOnce() -> Table,
) -> Result<(), Failure> {
    output.many_with(name, rows, as_of.map(|as_of| ("asOf", as_of)), table)?;
    if let Some(as_of) = as_of {
        if output.terminal && !output.format.is_json() {
            output.print(&format!("\n{}", as_of.line()))?;
        }
        as_of.warn();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_news_are_told_and_fresh_ones_are_not() {
        let fresh = MetadataAsOf {
            node_id: 2,
            time_ms: 1_700_000_000_000,
            metadata_offset: 7,
            controller_active: true,
            controller_silence_ms: 12,
        };
        assert_eq!(AsOf::from(fresh).warning(), None);
        assert!(AsOf::from(fresh).line().contains("2023-11-14T22:13:20.000Z"));
        let old = MetadataAsOf { controller_active: false, controller_silence_ms: 34_000, ..fresh };
        let warning = AsOf::from(old).warning().unwrap();
        assert!(warning.contains("node 2") && warning.contains("for 34.0 s"), "{warning}");
        let never = MetadataAsOf { controller_silence_ms: -1, time_ms: 0, ..old };
        assert!(AsOf::from(never).warning().unwrap().contains("since it started"));
    }
}
