//! Topics and directories that live as long as a measurement.

use super::workload::FlushPolicy;
use crate::failure::{Context, Failure};
use crate::signals::Stop;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use troupe_client::Client;
use troupe_proto::admin::v1::{CreateTopicRequest, DeleteTopicRequest};

/// A directory for the nodes of a measurement that is named so: in `parent`, or where the system keeps such.
pub fn directory(parent: Option<&Path>, measurement: &str) -> Result<TempDir, Failure> {
    let place = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    // It is not made: a name with a mistake in it would have another disk measured.
    if !place.is_dir() {
        let cause = format!("--dir: there is no directory {}; make it first", place.display());
        return Err(Failure::usage(cause));
    }
    let prefix = format!("troupe-{measurement}-");
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(&place);
    made.with_context(|| format!("cannot make a directory in {}", place.display()))
}

/// For a topic or a group that nobody else has.
pub fn random_name() -> String {
    format!("troupe-bench-{:016x}", rand::random::<u64>())
}

/// A topic's settings as a request wants them.
pub fn configs(configs: &[(&str, &str)]) -> BTreeMap<String, String> {
    configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Makes a topic, runs the measurement, and deletes the topic whatever came of it.
pub async fn with_topic<T>(
    client: &Client,
    partitions: u32,
    flush_policy: FlushPolicy,
    measure: impl AsyncFnOnce(&str) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let name = random_name();
    let request = CreateTopicRequest {
        name: name.clone(),
        partitions: Some(i32::try_from(partitions).unwrap_or(i32::MAX)),
        configs: configs(&[("flush.policy", flush_policy.name()), ("file.delete.delay.ms", "0")]),
        ..CreateTopicRequest::default()
    };
    let created = client.admin().create_topic(request).await;
    created.with_context(|| "cannot create a topic for the benchmark".to_owned())?;
    let outcome = match Stop::new()?.or(measure(&name)).await {
        Ok(outcome) => outcome,
        Err(signal) => Err(Failure::interrupted(signal)),
    };
    let request = DeleteTopicRequest { name: name.clone(), validate_only: false, internal: false };
    let deleted = client.admin().delete_topic(request).await;
    let deleted = deleted.with_context(|| format!("cannot delete the benchmark's topic {name}"));
    // If both failed, the measurement's reason comes first.
    let outcome = outcome?;
    deleted?;
    Ok(outcome)
}
