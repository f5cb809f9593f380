//! The image of the cluster, immutable for all who read it.

use super::configs::Overrides;
use super::is_internal_name;
use crate::config::TopicConfig;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch, PartitionId, PartitionKey,
    ProducerId, TopicId,
};

/// Everything the metadata log says up to [`ClusterImage::next_offset`]. The maps share structure, so a
/// clone is a few reference counts.
#[derive(Clone, Debug)]
pub struct ClusterImage {
    pub(super) cluster_id: Option<Arc<str>>,
    /// Which records may be in the log.
    pub(super) metadata_version: u32,
    pub(super) next_offset: MetadataOffset,
    pub(super) next_producer_id: ProducerId,
    pub(super) brokers: RedBlackTreeMapSync<NodeId, Broker>,
    /// Set for every broker that does not set it.
    pub(super) cluster_overrides: Arc<Overrides>,
    /// Set for one broker; of registered ones only, and nothing empty.
    pub(super) broker_overrides: RedBlackTreeMapSync<NodeId, Arc<Overrides>>,
    /// What holds for topics that do not set it, as far as the controller decides by it; follows from the cluster's.
    pub(super) topic_defaults: Arc<TopicConfig>,
    pub(super) topics: RedBlackTreeMapSync<Arc<str>, Arc<Topic>>,
    pub(super) names_by_id: RedBlackTreeMapSync<TopicId, Arc<str>>,
    /// Names with `.` or `_`, as [`collision_form`] makes them: the only ones that can collide (T2).
    pub(super) collision_forms: RedBlackTreeSetSync<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub node_id: NodeId,
    /// The offset of the registration: each start has its own.
    pub epoch: BrokerEpoch,
    pub incarnation: [u8; 16],
    /// host:port by which nodes reach it.
    pub endpoint: String,
    /// By the names of its listeners: host:port that those are told who come by a listener of that name. Empty if an
    /// earlier version told, or kept, one endpoint for all.
    pub listeners: BTreeMap<String, String>,
    pub http_endpoint: String,
    pub rack: Option<String>,
    /// What its logs can take: its [`super::LOG_VERSION`], or 0 if a controller of an earlier version let it in.
    pub log_version: u32,
    /// Which records it knows: its [`super::METADATA_VERSION`], or 0 as above.
    pub metadata_version: u32,
    /// Leads nothing and is in no ISR (K15).
    pub fenced: bool,
    /// On its way out (K17): leads nothing and joins no ISR, but still serves and is heard.
    pub shutting_down: bool,
    /// Everything is to move off it, and nothing is placed on it, whenever it is started, until it is removed.
    pub retiring: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    /// By partition id.
    pub partitions: Vec<Partition>,
    /// What differs from the defaults, in canonical form.
    pub overrides: BTreeMap<String, String>,
    /// The defaults, the cluster's where the controller decides by it, with the overrides.
    pub config: Arc<TopicConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The preferred leader first. While they are reassigned (R34): those that are to be, then those that are to go.
    pub replicas: Vec<NodeId>,
    /// Of the replicas, those that were none before the reassignment under way; empty without one.
    pub adding: Vec<NodeId>,
    /// Of the replicas, those that are none after it.
    pub removing: Vec<NodeId>,
    /// The replicas as they were before it, in their order; empty without one.
    pub original: Vec<NodeId>,
    /// With the leader; empty if nobody with every committed record is active.
    pub isr: Vec<NodeId>,
    /// Eligible leader replicas (R16): not in sync, but they have every committed record. Empty unless fewer
    /// are in sync than `min.insync.replicas`.
    pub elr: Vec<NodeId>,
    pub leader: Option<NodeId>,
    /// Who led last; kept while nobody is in sync.
    pub last_known_leader: Option<NodeId>,
    /// Who was in sync or eligible when a leader was heard last, and is neither any more: until a leader is heard
    /// again, nothing is committed without them.
    pub last_in_sync: Vec<NodeId>,
    /// The leader was elected though it may lack committed records, and has not said yet that it copes (R15).
    pub recovering: bool,
    /// Counts leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes of any kind.
    pub partition_epoch: PartitionEpoch,
}

impl Default for ClusterImage {
    fn default() -> Self {
        ClusterImage {
            cluster_id: None,
            metadata_version: 0,
            next_offset: MetadataOffset(0),
            next_producer_id: ProducerId(1),
            brokers: RedBlackTreeMapSync::new_sync(),
            cluster_overrides: Arc::default(),
            broker_overrides: RedBlackTreeMapSync::new_sync(),
            topic_defaults: Arc::default(),
            topics: RedBlackTreeMapSync::new_sync(),
            names_by_id: RedBlackTreeMapSync::new_sync(),
            collision_forms: RedBlackTreeSetSync::new_sync(),
        }
    }
}

impl PartialEq for ClusterImage {
    /// What the records say; the two indexes follow from the topics, topics' defaults from the cluster's settings.
    fn eq(&self, other: &Self) -> bool {
        self.cluster_id == other.cluster_id
            && self.metadata_version == other.metadata_version
            && self.next_offset == other.next_offset
            && self.next_producer_id == other.next_producer_id
            && self.brokers == other.brokers
            && self.cluster_overrides == other.cluster_overrides
            && self.broker_overrides == other.broker_overrides
            && self.topics == other.topics
    }
}

impl ClusterImage {
    /// `None` before the first decision of a new cluster.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The offset of the next metadata record.
    pub fn next_offset(&self) -> MetadataOffset {
        self.next_offset
    }

    /// Producer ids below this have been given out.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(self.names_by_id.get(&id)?)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The topics whose names come after `name`, by name: the next page.
    pub fn topics_after<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Topic>> {
        let after = (Bound::Excluded(Arc::<str>::from(name)), Bound::Unbounded);
        self.topics.range::<Arc<str>, _>(after).map(|(_, topic)| topic)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.size()
    }

    pub fn partition(&self, key: &PartitionKey) -> Option<&Partition> {
        self.topic_by_id(key.topic_id)?.partition(key.partition)
    }

    pub fn broker(&self, node_id: NodeId) -> Option<&Broker> {
        self.brokers.get(&node_id)
    }

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    pub(super) fn is_retiring(&self, node_id: NodeId) -> bool {
        self.broker(node_id).is_some_and(|broker| broker.retiring)
    }

    pub(super) fn is_active(&self, node_id: NodeId) -> bool {
        self.broker(node_id).is_some_and(Broker::is_active)
    }
}

impl Broker {
    /// R12: whether it may lead and be in sync.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.shutting_down
    }

    /// host:port that those are told who come by a listener of that name; none if it has no such listener. Who has
    /// told one endpoint is reached there by all.
    pub fn endpoint_at(&self, listener: &str) -> Option<&str> {
        match self.listeners.is_empty() {
            true => Some(&self.endpoint),
            false => self.listeners.get(listener).map(String::as_str),
        }
    }
}

impl Partition {
    /// The replicas that it has, or is about to have.
    pub fn target_replicas(&self) -> &[NodeId] {
        &self.replicas[..self.replicas.len() - self.removing.len()]
    }
}

impl Topic {
    /// Whether Troupe keeps this topic for itself.
    pub fn is_internal(&self) -> bool {
        is_internal_name(&self.name)
    }

    /// Replicas of the first partition; all have as many unless somebody reassigned them otherwise.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.target().count())
    }

    pub fn partition(&self, partition: PartitionId) -> Option<&Partition> {
        self.partitions.get(partition.0 as usize)
    }

    /// If its reassignment is cancelled: so many of its original replicas have to be in sync before the others go.
    pub fn cancelled_until_in_sync(&self, partition: &Partition) -> Option<u32> {
        partition.cancelled_until_in_sync(self.config.min_insync_replicas)
    }

    pub fn key(&self, partition: PartitionId) -> PartitionKey {
        PartitionKey { topic_id: self.id, partition }
    }
}

/// T2: `a.b` and `a_b` have the same form. `None`: the name can collide with no other.
pub(super) fn collision_form(name: &str) -> Option<Arc<str>> {
    name.contains(['.', '_']).then(|| name.replace('.', "_").into())
}
