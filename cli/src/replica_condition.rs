//! How replicas' actors are, as their nodes tell.

use crate::fan_out::fan_out;
use crate::quantity::{show_duration, show_size};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use troupe_client::Client;
use troupe_proto::admin::v1::{Replica, ReplicaCondition};

/// In one word.
pub fn name(condition: ReplicaCondition) -> &'static str {
    match condition {
        ReplicaCondition::Running => "running",
        ReplicaCondition::Restarting => "restarting",
        ReplicaCondition::Offline => "offline",
        ReplicaCondition::Paused => "paused",
        ReplicaCondition::Stalled => "stalled",
        ReplicaCondition::Damaged => "damaged",
        ReplicaCondition::Waiting => "waiting",
        ReplicaCondition::Unspecified => "unknown",
    }
}

/// In a few words: what is wrong with it, if anything is.
pub fn show(replica: &Replica) -> String {
    let mut text = name(replica.condition()).to_owned();
    if !replica.offline_reason.is_empty() {
        text += &format!(": {}", replica.offline_reason);
    }
    if let Some(range) = &replica.damaged_offsets {
        let (from, to) = (range.first_offset, range.end_offset);
        text += &format!(", damaged from offset {from} to {to}");
    }
    if let Some(waits) = waits(replica.oldest_append_wait_ms, replica.queued_bytes) {
        text += &format!(", {waits}");
    }
    if !replica.no_answer_reason.is_empty() {
        text += &format!(", no answer: {}", replica.no_answer_reason);
    }
    text
}

/// What waits for its answer, if it has waited for long.
pub fn waits(oldest_ms: i64, bytes: i64) -> Option<String> {
    let oldest = Duration::from_millis(oldest_ms.unsigned_abs());
    (oldest >= Duration::from_secs(1)).then(|| {
        let (oldest, size) = (show_duration(oldest), show_size(bytes.unsigned_abs()));
        format!("the oldest append waits for {oldest} ({size} in all)")
    })
}

/// The replicas of these nodes whose actors are not well, by topic and partition: node and condition.
pub async fn unhealthy_replicas(
    client: &Client,
    topic: Option<&str>,
    nodes: BTreeSet<i32>,
) -> UnhealthyReplicas {
    let answers = fan_out(nodes, async |node| {
        client.admin_of(node).await?.list_replicas_briefly(topic).await
    });
    let mut found = UnhealthyReplicas::default();
    for (node, answer) in answers.await {
        match answer {
            Err(why) => drop(found.silent.insert(node, why)),
            Ok(replicas) => {
                for replica in replicas {
                    let condition = replica.condition();
                    if !matches!(
                        condition,
                        ReplicaCondition::Running | ReplicaCondition::Unspecified
                    ) {
                        let key = (replica.topic, replica.partition);
                        found.replicas.entry(key).or_default().push((node, name(condition)));
                    }
                }
            }
        }
    }
    found
}

#[derive(Debug, Default)]
pub struct UnhealthyReplicas {
    pub replicas: BTreeMap<(String, i32), Vec<(i32, &'static str)>>,
    /// Nodes that did not answer, and why.
    pub silent: BTreeMap<i32, String>,
}
