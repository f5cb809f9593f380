//! `--describe`: a line for each topic, and one for each partition.

use super::selection::{failed, found, refused};
use crate::compat::ended::Ended;
use crate::compat::errors::message;
use crate::compat::link::{connect, print};
use crate::compat::options::Given;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use troupe_proto::admin::v1::{ConfigSource, PartitionFilter, PartitionState, Topic};
use troupe_proto::error::ErrorCode;

/// Each shows only some partitions, and no lines of topics.
pub const FILTERS: [&str; 4] = [
    "under-replicated-partitions",
    "unavailable-partitions",
    "under-min-isr-partitions",
    "at-min-isr-partitions",
];

pub async fn run(given: &Given) -> Result<(), Ended> {
    let client = connect(given).await?;
    let mut topics = found(&client, given).await?;
    if let Some(id) = given.value("topic-id")? {
        let wanted = URL_SAFE_NO_PAD
            .decode(id)
            .map_err(|_| failed(&format!("Input string `{id}` is no base64-encoded UUID")))?;
        if wanted.len() != 16 {
            return Err(failed(&format!(
                "Input string `{id}` decoded as {} bytes, which is not equal to the expected 16 bytes of a base64-encoded \
                 UUID",
                wanted.len()
            )));
        }
        topics.retain(|topic| topic.topic_id == wanted.as_slice());
        if topics.is_empty() && !given.has("if-exists") {
            return Err(failed(&format!("TopicId '{id}' does not exist as expected")));
        }
    }
    let states = client.admin().list_partitions(None, PartitionFilter::Unspecified).await;
    let mut states: BTreeMap<(String, i32), PartitionState> = states
        .map_err(|error| refused(&error))?
        .into_iter()
        .map(|state| ((state.topic.clone(), state.partition), state))
        .collect();
    let filter = FILTERS.into_iter().find(|filter| given.has(filter));
    let mut text = String::new();
    for topic in topics {
        let topic = match client.admin().get_topic(&topic.name).await {
            // It went meanwhile.
            Err(error) if error.reason() == ErrorCode::UnknownTopic => continue,
            found => found.map_err(|error| failed(&message(&error)))?,
        };
        let own = own_configs(&topic);
        if filter.is_none() && (!given.has("topics-with-overrides") || !own.is_empty()) {
            text += &head(&topic, &own);
        }
        if given.has("topics-with-overrides") {
            continue;
        }
        for partition in 0..topic.partitions.len() as i32 {
            let Some(state) = states.remove(&(topic.name.clone(), partition)) else { continue };
            if shown(&state, filter) {
                text += &line(&state);
            }
        }
    }
    print(&text)
}

/// What the topic itself has set.
fn own_configs(topic: &Topic) -> Vec<String> {
    let own = topic.configs.iter().filter(|config| config.source() == ConfigSource::Topic);
    own.map(|config| format!("{}={}", config.name, config.value)).collect()
}

fn head(topic: &Topic, own: &[String]) -> String {
    format!(
        "Topic: {}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}\n",
        topic.name,
        URL_SAFE_NO_PAD.encode(&topic.topic_id),
        topic.partitions.len(),
        topic.replication_factor,
        own.join(",")
    )
}

fn shown(state: &PartitionState, filter: Option<&str>) -> bool {
    let in_sync = state.in_sync_replicas.len();
    // More than there are is not asked of a partition.
    let least = (state.min_in_sync_replicas as usize).min(state.replicas.len());
    match filter {
        None => true,
        // While a replica is being added it is no fault that it is not in sync.
        Some("under-replicated-partitions") => {
            in_sync + state.adding_replicas.len() < state.replicas.len()
        }
        Some("unavailable-partitions") => state.leader_id.is_none(),
        Some("under-min-isr-partitions") => in_sync < least,
        Some(_) => in_sync == least,
    }
}

fn line(state: &PartitionState) -> String {
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let leader = state.leader_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let mut line = format!(
        "\tTopic: {}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
        state.topic,
        state.partition,
        ids(&state.replicas),
        ids(&state.in_sync_replicas)
    );
    if !state.adding_replicas.is_empty() {
        line += &format!("\tAdding Replicas: {}", ids(&state.adding_replicas));
    }
    if !state.removing_replicas.is_empty() {
        line += &format!("\tRemoving Replicas: {}", ids(&state.removing_replicas));
    }
    line + &format!("\tElr: {}\tLastKnownElr: \n", ids(&state.eligible_leader_replicas))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(in_sync: &[i32], adding: &[i32]) -> PartitionState {
        PartitionState {
            topic: "t".to_owned(),
            leader_id: in_sync.first().copied(),
            replicas: vec![1, 2, 3],
            in_sync_replicas: in_sync.to_vec(),
            adding_replicas: adding.to_vec(),
            min_in_sync_replicas: 2,
            ..PartitionState::default()
        }
    }

    /// A2.
    #[test]
    fn a_partition_is_a_line_with_tabs() {
        assert_eq!(
            line(&state(&[1, 2], &[])),
            "\tTopic: t\tPartition: 0\tLeader: 1\tReplicas: 1,2,3\tIsr: 1,2\tElr: \tLastKnownElr: \n"
        );
        let none = line(&state(&[], &[3]));
        assert!(none.contains("\tLeader: none\t") && none.contains("\tAdding Replicas: 3\t"));
    }

    #[test]
    fn filters_show_what_they_say() {
        let [under, without, below, at] = FILTERS.map(Some);
        assert!(shown(&state(&[1, 2], &[]), under) && !shown(&state(&[1, 2], &[3]), under));
        assert!(shown(&state(&[], &[]), without) && !shown(&state(&[1], &[]), without));
        assert!(shown(&state(&[1], &[]), below) && !shown(&state(&[1, 2], &[]), below));
        assert!(shown(&state(&[1, 2], &[]), at) && !shown(&state(&[1], &[]), at));
    }
}
