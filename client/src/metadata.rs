//! Who leads what, as far as this client knows.
//!
//! Promise: what is known of a partition's leader never goes back to an older leader epoch (P22).
//! Never here: the decision when to ask; callers ask on errors, [`crate::watch`] keeps the picture fresh.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use troupe_proto::error::Error as Refusal;
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionId, TopicId};
use troupe_proto::log::v1 as wire;

/// A topic as the cluster described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: String,
    pub topic_id: TopicId,
    /// Troupe keeps it for itself.
    pub internal: bool,
    /// By number, from 0, without gaps.
    pub partitions: Vec<PartitionLeader>,
}

/// Who leads a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLeader {
    pub partition: PartitionId,
    /// None while an election is under way.
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<NodeId>,
    pub in_sync_replicas: Vec<NodeId>,
}

/// Where a partition's leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaderAt {
    pub topic_id: TopicId,
    pub endpoint: Arc<str>,
}

/// What is known about a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    Known(LeaderAt),
    None,
    UnknownTopic,
}

/// The picture of the cluster.
pub(crate) struct Metadata {
    state: RwLock<State>,
    /// Counts the changes.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    topics: HashMap<Arc<str>, Known>,
    nodes: HashMap<NodeId, Arc<str>>,
}

struct Known {
    topic: Arc<TopicMetadata>,
    since: Instant,
}

impl Metadata {
    pub(crate) fn new() -> Self {
        Self { state: RwLock::default(), version: watch::Sender::new(0) }
    }

    /// Resolves its `changed()` whenever a topic or node changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// A topic that was described not longer ago than `max_age`.
    pub(crate) fn topic(
        &self,
        name: &str,
        now: Instant,
        max_age: Duration,
    ) -> Option<Arc<TopicMetadata>> {
        let state = self.state.read();
        let known = state.topics.get(name)?;
        (now.duration_since(known.since) < max_age).then(|| known.topic.clone())
    }

    /// The topic however old the description.
    pub(crate) fn topic_of_any_age(&self, name: &str) -> Option<Arc<TopicMetadata>> {
        self.state.read().topics.get(name).map(|known| known.topic.clone())
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.state.read().topics.keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    /// Topics that have to be asked for again.
    pub(crate) fn older_than(&self, now: Instant, max_age: Duration) -> Vec<String> {
        let state = self.state.read();
        let old =
            state.topics.iter().filter(|(_, known)| now.duration_since(known.since) >= max_age);
        old.map(|(name, _)| name.to_string()).collect()
    }

    pub(crate) fn leader(&self, topic: &str, partition: PartitionId) -> Leader {
        let state = self.state.read();
        let Some(known) = state.topics.get(topic) else {
            return Leader::UnknownTopic;
        };
        let leader =
            known.topic.partitions.get(partition.0 as usize).and_then(|found| found.leader);
        match leader.and_then(|node| state.nodes.get(&node)) {
            Some(endpoint) => Leader::Known(LeaderAt {
                topic_id: known.topic.topic_id,
                endpoint: endpoint.clone(),
            }),
            None => Leader::None,
        }
    }

    pub(crate) fn endpoint(&self, node: NodeId) -> Option<Arc<str>> {
        self.state.read().nodes.get(&node).cloned()
    }

    pub(crate) fn endpoints(&self) -> Vec<Arc<str>> {
        self.state.read().nodes.values().cloned().collect()
    }

    /// Takes an answer in: topics described, topics that do not exist, and all nodes if any are named.
    pub(crate) fn merge(
        &self,
        now: Instant,
        topics: Vec<wire::TopicMetadata>,
        gone: &[String],
        nodes: Vec<wire::Node>,
    ) {
        let mut changed = false;
        let mut state = self.state.write();
        for node in nodes {
            let endpoint: Arc<str> = node.endpoint.into();
            let before = state.nodes.insert(NodeId(node.node_id), endpoint.clone());
            changed |= before.as_ref() != Some(&endpoint);
        }
        for topic in topics {
            let Some(mut topic) = from_wire(topic) else { continue };
            let before = state.topics.get(topic.name.as_str()).map(|known| known.topic.clone());
            if let Some(before) = &before {
                keep_newer_leaders(&mut topic, before);
            }
            let topic = match before {
                Some(before) if *before == topic => before,
                _ => {
                    changed = true;
                    Arc::new(topic)
                }
            };
            state.topics.insert(topic.name.as_str().into(), Known { topic, since: now });
        }
        for name in gone {
            changed |= state.topics.remove(name.as_str()).is_some();
        }
        drop(state);
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// A refusal may name the leader (P21): used at once, unless it is older than what is known.
    pub(crate) fn take_hint(&self, topic: &str, partition: PartitionId, refusal: &Refusal) -> bool {
        let Some(hint) = &refusal.leader else { return false };
        if hint.node_id < 0 || hint.endpoint.is_empty() {
            return false;
        }
        let node = NodeId(hint.node_id);
        let mut state = self.state.write();
        let Some(known) = state.topics.get_mut(topic) else { return false };
        let Some(before) = known.topic.partitions.get(partition.0 as usize) else { return false };
        let epoch = hint.leader_epoch.map_or(before.leader_epoch, LeaderEpoch);
        if before.leader == Some(node) || epoch < before.leader_epoch {
            return false;
        }
        let topic = Arc::make_mut(&mut known.topic);
        let leader = &mut topic.partitions[partition.0 as usize];
        leader.leader = Some(node);
        leader.leader_epoch = epoch;
        state.nodes.insert(node, hint.endpoint.as_str().into());
        drop(state);
        self.version.send_modify(|version| *version += 1);
        true
    }
}

/// P22: an answer from a node that lags behind does not bring an old leader back.
fn keep_newer_leaders(topic: &mut TopicMetadata, before: &TopicMetadata) {
    if topic.topic_id != before.topic_id {
        return;
    }
    for (partition, known) in topic.partitions.iter_mut().zip(&before.partitions) {
        if known.leader_epoch > partition.leader_epoch {
            partition.clone_from(known);
        }
    }
    if before.partitions.len() > topic.partitions.len() {
        topic.partitions.extend_from_slice(&before.partitions[topic.partitions.len()..]);
    }
}

/// None: not an answer of this contract; such a topic is treated as unknown.
fn from_wire(topic: wire::TopicMetadata) -> Option<TopicMetadata> {
    let topic_id = TopicId::from_wire(&topic.topic_id)?;
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in topic.partitions {
        partitions.push(PartitionLeader {
            partition: PartitionId(u32::try_from(partition.partition).ok()?),
            leader: (partition.leader_id >= 0).then_some(NodeId(partition.leader_id)),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            replicas: partition.replicas.into_iter().map(NodeId).collect(),
            in_sync_replicas: partition.in_sync_replicas.into_iter().map(NodeId).collect(),
        });
    }
    partitions.sort_by_key(|partition| partition.partition);
    let contiguous = partitions.iter().zip(0..).all(|(found, number)| found.partition.0 == number);
    contiguous.then_some(TopicMetadata {
        name: topic.name,
        topic_id,
        internal: topic.internal,
        partitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use troupe_proto::error::ErrorCode;

    fn described(leader: i32, epoch: u32) -> wire::TopicMetadata {
        wire::TopicMetadata {
            name: "orders".into(),
            topic_id: Bytes::from_static(&[7; 16]),
            internal: false,
            partitions: vec![wire::PartitionMetadata {
                partition: 0,
                leader_id: leader,
                leader_epoch: epoch,
                ..Default::default()
            }],
        }
    }

    fn nodes() -> Vec<wire::Node> {
        [(1, "n1:1"), (2, "n2:1")]
            .map(|(node_id, endpoint)| wire::Node {
                node_id,
                endpoint: endpoint.into(),
                ..Default::default()
            })
            .into()
    }

    fn leader(metadata: &Metadata) -> String {
        match metadata.leader("orders", PartitionId(0)) {
            Leader::Known(at) => at.endpoint.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// P22.
    #[test]
    fn an_older_leader_epoch_is_ignored() {
        let metadata = Metadata::new();
        let now = Instant::now();
        assert_eq!(leader(&metadata), "UnknownTopic");
        metadata.merge(now, vec![described(1, 4)], &[], nodes());
        assert_eq!(leader(&metadata), "n1:1");
        metadata.merge(now, vec![described(2, 3)], &[], nodes());
        assert_eq!(leader(&metadata), "n1:1");
        metadata.merge(now, vec![described(-1, 5)], &[], nodes());
        assert_eq!(leader(&metadata), "None");
    }

    /// P21.
    #[test]
    fn a_hint_is_used_at_once_unless_it_is_old() {
        let metadata = Metadata::new();
        metadata.merge(Instant::now(), vec![described(1, 4)], &[], nodes());
        let hint = |epoch| {
            Refusal::new(ErrorCode::NotLeader, "").with_leader_of(2, "n2:9", epoch)
        };
        assert!(!metadata.take_hint("orders", PartitionId(0), &hint(3)));
        assert_eq!(leader(&metadata), "n1:1");
        assert!(metadata.take_hint("orders", PartitionId(0), &hint(5)));
        assert_eq!(leader(&metadata), "n2:9");
    }

    #[test]
    fn only_changes_are_announced() {
        let metadata = Metadata::new();
        let mut changes = metadata.changes();
        metadata.merge(Instant::now(), vec![described(1, 4)], &[], nodes());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        metadata.merge(Instant::now(), vec![described(1, 4)], &[], nodes());
        assert!(!changes.has_changed().unwrap());
        metadata.merge(Instant::now(), vec![], &["orders".to_owned()], vec![]);
        assert!(changes.has_changed().unwrap());
    }
}
