//! Who leads what, as far as this client knows.
//!
//! Nodes tell it in updates, each as of some offset of the metadata log, and in the hints of their refusals;
//! some lag behind others.
//! Promises: what is known of a partition's leader never goes back to an older leader epoch (P22). A topic
//! does not vanish, and one that was deleted does not come back, because an older update came later. What nobody uses
//! any more is forgotten (P22).
//! Never here: the decision when to ask; callers ask on errors, [`crate::watch`] keeps it fresh.

use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
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

/// One node's time as leader of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub node: NodeId,
    pub epoch: LeaderEpoch,
}

/// Where a partition's leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaderAt {
    pub topic_id: TopicId,
    pub leadership: Leadership,
    pub endpoint: Arc<str>,
}

/// What is known about a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    Known(LeaderAt),
    None,
    UnknownTopic,
}

/// How long a topic may be unknown before it counts as one that does not exist: one that was made a moment
/// ago is not known everywhere yet.
pub(crate) const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(5);

/// For so long an update that is older than one seen before is taken for that of a node that lags behind. If
/// nothing newer comes, it is the cluster that began anew.
const LAG_PATIENCE: Duration = Duration::from_secs(30);

/// What a node told.
#[derive(Debug, Default)]
pub(crate) struct MetadataUpdate {
    /// Of the metadata log: nothing that comes later in it is in the update.
    pub offset: i64,
    pub topics: Vec<wire::TopicMetadata>,
    /// Topics that do not exist.
    pub gone: Vec<String>,
    /// Empty, or all.
    pub nodes: Vec<wire::Node>,
}

/// The metadata of the cluster.
pub(crate) struct Metadata {
    began: Instant,
    state: RwLock<State>,
    /// Counts the changes.
    version: watch::Sender<u64>,
    /// Counts the topics that came and went.
    names: watch::Sender<u64>,
}

/// While it is there, its topic counts as used.
#[derive(Debug)]
pub(crate) struct InUse {
    _held: Arc<()>,
}

#[derive(Default)]
struct State {
    topics: HashMap<Arc<str>, Known>,
    held: HashMap<Arc<str>, Weak<()>>,
    /// Topics that were known and have been deleted: when that was seen, and in an update of which offset.
    gone: HashMap<Arc<str>, (Instant, i64)>,
    nodes: HashMap<NodeId, Arc<str>>,
    /// Of these, those that the cluster takes for dead.
    fenced: HashSet<NodeId>,
    /// Of those that have one.
    racks: HashMap<NodeId, Arc<str>>,
    nodes_offset: i64,
    newest_offset: i64,
    /// Since when there were only older updates than the newest.
    only_older_since: Option<Instant>,
}

struct Known {
    topic: Arc<TopicMetadata>,
    since: Instant,
    /// Of the update that it is from.
    offset: i64,
    /// When somebody wanted to know last, in milliseconds since this metadata began.
    used_ms: AtomicU64,
}

impl Metadata {
    pub(crate) fn new() -> Self {
        let (version, names) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { began: Instant::now(), state: RwLock::default(), version, names }
    }

    /// Resolves its `changed()` whenever a topic or node changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Resolves its `changed()` whenever a topic comes or goes.
    pub(crate) fn names(&self) -> watch::Receiver<u64> {
        self.names.subscribe()
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
        known.use_at(self.ms(now));
        (now.duration_since(known.since) < max_age).then(|| known.topic.clone())
    }

    /// The topic however old the description.
    pub(crate) fn topic_of_any_age(&self, name: &str) -> Option<Arc<TopicMetadata>> {
        self.state.read().topics.get(name).map(|known| known.topic.clone())
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_millis() as u64
    }

    /// Somebody wants to know of this topic.
    pub(crate) fn use_topic(&self, name: &str) {
        if let Some(known) = self.state.read().topics.get(name) {
            known.use_at(self.ms(Instant::now()));
        }
    }

    /// The topic is not forgotten as long as what is returned is there.
    pub(crate) fn hold(&self, name: &Arc<str>) -> InUse {
        let mut state = self.state.write();
        if let Some(held) = state.held.get(name).and_then(Weak::upgrade) {
            return InUse { _held: held };
        }
        let held = Arc::new(());
        state.held.retain(|_, held| held.strong_count() > 0);
        state.held.insert(name.clone(), Arc::downgrade(&held));
        InUse { _held: held }
    }

    /// Forgets the topics that nobody has used for so long, and nobody holds (P22).
    pub(crate) fn forget_idle(&self, now: Instant, max_idle: Duration) {
        let now = self.ms(now);
        let mut state = self.state.write();
        let State { topics, held, .. } = &mut *state;
        let known = topics.len();
        topics.retain(|name, known| {
            let idle_ms = u128::from(now.saturating_sub(known.used_ms.load(Ordering::Relaxed)));
            let is_held = || held.get(name).is_some_and(|held| held.strong_count() > 0);
            idle_ms < max_idle.as_millis() || is_held()
        });
        let forgotten = known - topics.len();
        drop(state);
        if forgotten > 0 {
            tracing::debug!(forgotten, "topics that nobody uses");
            self.names.send_modify(|version| *version += 1);
            self.version.send_modify(|version| *version += 1);
        }
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
        known.use_at(self.ms(Instant::now()));
        let Some(found) = known.topic.partitions.get(partition.0 as usize) else {
            return Leader::None;
        };
        match found.leader.and_then(|node| Some((node, state.nodes.get(&node)?))) {
            Some((node, endpoint)) => Leader::Known(LeaderAt {
                topic_id: known.topic.topic_id,
                leadership: Leadership { node, epoch: found.leader_epoch },
                endpoint: endpoint.clone(),
            }),
            None => Leader::None,
        }
    }

    /// Who leads, if that is known.
    pub(crate) fn leadership(&self, topic: &str, partition: PartitionId) -> Option<Leadership> {
        match self.leader(topic, partition) {
            Leader::Known(at) => Some(at.leadership),
            Leader::None | Leader::UnknownTopic => None,
        }
    }

    pub(crate) fn endpoint(&self, node: NodeId) -> Option<Arc<str>> {
        self.state.read().nodes.get(&node).cloned()
    }

    /// Where a follower of the partition is, if it is in sync, alive and in this rack.
    pub(crate) fn follower(
        &self,
        topic: &str,
        partition: PartitionId,
        node: NodeId,
        rack: &str,
    ) -> Option<Arc<str>> {
        let state = self.state.read();
        let partition = state.topics.get(topic)?.topic.partitions.get(partition.0 as usize)?;
        let counts = partition.in_sync_replicas.contains(&node)
            && !state.fenced.contains(&node)
            && state.racks.get(&node).is_some_and(|its| **its == *rack);
        state.nodes.get(&node).filter(|_| counts).cloned()
    }

    /// Where the nodes are: those that are alive, and those that the cluster takes for dead.
    pub(crate) fn nodes(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let state = self.state.read();
        let (mut alive, mut fenced) = (Vec::new(), Vec::new());
        for (node, endpoint) in &state.nodes {
            let list = if state.fenced.contains(node) { &mut fenced } else { &mut alive };
            list.push(endpoint.clone());
        }
        (alive, fenced)
    }

    /// Takes in what a node told, as far as it is not older than what is known.
    pub(crate) fn merge(&self, now: Instant, update: MetadataUpdate) {
        let mut state = self.state.write();
        state.notice(now, update.offset);
        let known = state.topics.len();
        let mut changed = state.take_nodes(update.offset, update.nodes);
        let now_ms = self.ms(now);
        for topic in update.topics {
            changed |= state.take_topic(now, now_ms, update.offset, topic);
        }
        let mut came_or_went = state.topics.len() != known;
        for name in update.gone {
            came_or_went |= state.forget_topic(now, update.offset, &name);
        }
        drop(state);
        if came_or_went {
            self.names.send_modify(|version| *version += 1);
        }
        if came_or_went || changed {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// A refusal may name the leader (P21): used at once, unless it is older than what is known. True: the
    /// leadership is another one than before.
    pub(crate) fn take_hint(&self, topic: &str, partition: PartitionId, refusal: &Refusal) -> bool {
        let Some(hint) = &refusal.leader else { return false };
        // Without an epoch nobody knows whether it is news.
        let Some(epoch) = hint.leader_epoch.map(LeaderEpoch) else { return false };
        if hint.node_id < 0 || hint.endpoint.is_empty() {
            return false;
        }
        let node = NodeId(hint.node_id);
        let mut state = self.state.write();
        let State { topics, nodes, .. } = &mut *state;
        let Some(known) = topics.get_mut(topic) else { return false };
        let Some(before) = known.topic.partitions.get(partition.0 as usize) else { return false };
        if epoch > before.leader_epoch {
            let leader = &mut Arc::make_mut(&mut known.topic).partitions[partition.0 as usize];
            leader.leader = Some(node);
            leader.leader_epoch = epoch;
        } else {
            // No news, unless it says where the leader is.
            let is_leader = before.leader == Some(node) && epoch == before.leader_epoch;
            if !is_leader || nodes.contains_key(&node) {
                return false;
            }
        }
        nodes.insert(node, hint.endpoint.as_str().into());
        drop(state);
        self.version.send_modify(|version| *version += 1);
        true
    }
}

impl Known {
    fn use_at(&self, now_ms: u64) {
        self.used_ms.fetch_max(now_ms, Ordering::Relaxed);
    }
}

impl State {
    /// Keeps the newest offset, or begins anew.
    fn notice(&mut self, now: Instant, offset: i64) {
        if offset >= self.newest_offset {
            self.newest_offset = offset;
            self.only_older_since = None;
        } else if now - *self.only_older_since.get_or_insert(now) >= LAG_PATIENCE {
            tracing::warn!(offset, newest = self.newest_offset, "the cluster's metadata went back");
            self.newest_offset = offset;
            self.nodes_offset = self.nodes_offset.min(offset);
            self.topics.values_mut().for_each(|known| known.offset = known.offset.min(offset));
            self.gone.clear();
            self.only_older_since = None;
        }
    }

    fn take_nodes(&mut self, offset: i64, nodes: Vec<wire::Node>) -> bool {
        let mut changed = false;
        let newer = offset >= self.nodes_offset;
        if newer && !nodes.is_empty() {
            self.nodes_offset = offset;
            let fenced = nodes.iter().filter(|node| node.fenced);
            let fenced = fenced.map(|node| NodeId(node.node_id)).collect();
            changed |= std::mem::replace(&mut self.fenced, fenced) != self.fenced;
            let racked = nodes.iter().filter(|node| !node.rack.is_empty());
            let racks =
                racked.map(|node| (NodeId(node.node_id), node.rack.as_str().into())).collect();
            changed |= std::mem::replace(&mut self.racks, racks) != self.racks;
        }
        for node in nodes {
            let (id, endpoint) = (NodeId(node.node_id), node.endpoint);
            let differs = self.nodes.get(&id).map(|known| **known == *endpoint) != Some(true);
            if differs && (newer || !self.nodes.contains_key(&id)) {
                self.nodes.insert(id, endpoint.into());
                changed = true;
            }
        }
        changed
    }

    fn take_topic(
        &mut self,
        now: Instant,
        now_ms: u64,
        offset: i64,
        topic: wire::TopicMetadata,
    ) -> bool {
        let Some(mut topic) = from_wire(topic) else { return false };
        let name = topic.name.as_str();
        let is_older = self.topics.get(name).is_some_and(|known| known.offset > offset)
            || self.gone.get(name).is_some_and(|&(_, gone)| gone > offset);
        if is_older {
            return false;
        }
        let known = self.topics.get(name);
        let used_ms = known.map_or(now_ms, |known| known.used_ms.load(Ordering::Relaxed));
        let before = known.map(|known| known.topic.clone());
        if let Some(before) = &before {
            keep_newer_leaders(&mut topic, before);
        }
        let (changed, topic) = match before {
            Some(before) if *before == topic => (false, before),
            _ => (true, Arc::new(topic)),
        };
        let name: Arc<str> = topic.name.as_str().into();
        self.gone.remove(&name);
        let used_ms = AtomicU64::new(used_ms);
        self.topics.insert(name, Known { topic, since: now, offset, used_ms });
        changed
    }

    fn forget_topic(&mut self, now: Instant, offset: i64, name: &str) -> bool {
        if self.topics.get(name).is_none_or(|known| known.offset > offset) {
            return false;
        }
        self.topics.remove(name);
        // Nobody lags behind for longer.
        self.gone.retain(|_, (since, _)| now - *since < LAG_PATIENCE);
        self.gone.insert(name.into(), (now, offset));
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
mod tests;
