//! Decisions about leaders and in-sync replicas that somebody asks for (R9, R15, R17).

use super::election::{Rules, prefer};
use super::image::{ClusterImage, Partition, Topic};
use super::replay::partition_record;
use super::{AlterPartition, ClusterError, Decision, Election, IsrMember, LeaderBalance, wrap};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionId, PartitionKey, TopicId,
};
use troupe_proto::internal::v1::MetadataRecord;
use troupe_proto::internal::v1::metadata_record::Record;

/// What became of each partition of a request, in the request's order.
pub type PerPartition = Vec<Result<Partition, ClusterError>>;

impl ClusterImage {
    /// R9: what a leader wants its ISR to be. Answers with the partition as it will be; the same request
    /// again is refused as stale, so that it counts once.
    pub fn alter_partition(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        request: &AlterPartition,
    ) -> Result<Decision<Partition>, ClusterError> {
        self.known_broker(node_id, epoch)?;
        let (topic, before) = self.known_partition(&request.key)?;
        check_epochs(node_id, before, request)?;
        let isr: Vec<NodeId> = request.isr.iter().map(|member| member.node).collect();
        check_members(before, &isr, node_id)?;
        if before.recovering && !request.recovered && isr.len() > 1 {
            let reason = "nobody joins a leader that is still recovering";
            return Err(ClusterError::InvalidIsr { reason });
        }
        for member in &request.isr {
            self.check_eligible(member)?;
        }
        let cleared =
            Partition { recovering: before.recovering && !request.recovered, ..before.clone() };
        // Whoever asks is heard.
        let silent = BTreeSet::new();
        let rules = Rules::of(&topic.config, |node| self.is_active(node));
        let rules = Rules { silent: Some(&silent), ..rules };
        let settled = rules.settle(&cleared, isr, None);
        let after = settled.or_else(|| {
            let partition_epoch = PartitionEpoch(before.partition_epoch.0 + 1);
            (cleared != *before).then_some(Partition { partition_epoch, ..cleared })
        });
        Ok(changed(&request.key, before, after))
    }

    /// Each on its own, on what those before it have made.
    pub fn alter_partitions(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        requests: &[AlterPartition],
    ) -> Result<Decision<PerPartition>, ClusterError> {
        self.known_broker(node_id, epoch)?;
        Ok(self
            .one_by_one(requests, |image, request| image.alter_partition(node_id, epoch, request)))
    }

    /// What leads on this node is dead there, or cannot lead: its actor was killed, or its disk failed. Where
    /// another active replica is in sync, the first of those leads and the node leaves the ISR, but keeps every
    /// committed record (R12, R16). Elsewhere the node leads again in a new leader epoch, with the ISR as it
    /// was. A report about a leader epoch that is over changes nothing.
    pub fn fail_replicas(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        reports: &[(PartitionKey, LeaderEpoch)],
    ) -> Result<Decision<()>, ClusterError> {
        self.known_broker(node_id, epoch)?;
        let reported: BTreeSet<_> = reports.iter().copied().collect();
        let mut records = Vec::new();
        for (key, leader_epoch) in reported {
            let Ok((topic, before)) = self.known_partition(&key) else { continue };
            if before.leader != Some(node_id) || before.leader_epoch != leader_epoch {
                continue;
            }
            let rules = Rules::of(&topic.config, |node| self.is_active(node));
            let rules = Rules { unclean: false, ..rules };
            let after = rules.without(before, node_id, false);
            let after = after.filter(|after| after.leader.is_some());
            let after = after.unwrap_or_else(|| lead_again(before));
            records.extend(changed(&key, before, Some(after)).records);
        }
        Ok(Decision { records, answer: () })
    }

    /// These replicas on this node lack what they had acknowledged: their logs were found damaged. They are in no
    /// ISR and ELR until they have been filled again, and lead only where nobody is left who has more (R15). Whoever
    /// leads does so in a new leader epoch: what it has heard of such a replica, and may be asking for by it just now,
    /// was before.
    pub fn lose_replicas(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        keys: &[PartitionKey],
    ) -> Result<Decision<()>, ClusterError> {
        self.without_replicas(node_id, epoch, keys, |topic, before| {
            let rules = Rules::of(&topic.config, |node| self.is_active(node));
            let patient =
                Rules { unclean: false, ..Rules::of(&topic.config, |node| self.is_active(node)) };
            let gone = patient.without(before, node_id, true);
            let back = rules.with(gone.as_ref().unwrap_or(before));
            Some(in_new_leader_epoch(before, back.or(gone)))
        })
    }

    /// These replicas on this node are out of reach: the disk they are on has failed, or is not there. They are in no
    /// ISR and lead nothing until they have caught up again; what they hold still counts as committed (R16).
    pub fn withdraw_replicas(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        keys: &[PartitionKey],
    ) -> Result<Decision<()>, ClusterError> {
        self.without_replicas(node_id, epoch, keys, |topic, before| {
            let rules = Rules::of(&topic.config, |node| self.is_active(node));
            rules.without(before, node_id, false)
        })
    }

    /// Of partitions that have a replica on this node, each once: what becomes of it, if anything.
    fn without_replicas(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        keys: &[PartitionKey],
        after: impl Fn(&Topic, &Partition) -> Option<Partition>,
    ) -> Result<Decision<()>, ClusterError> {
        self.known_broker(node_id, epoch)?;
        let reported: BTreeSet<_> = keys.iter().copied().collect();
        let mut records = Vec::new();
        for key in reported {
            let Ok((topic, before)) = self.known_partition(&key) else { continue };
            if !before.replicas.contains(&node_id) {
                continue;
            }
            records.extend(changed(&key, before, after(topic, before)).records);
        }
        Ok(Decision { records, answer: () })
    }

    /// Partitions that get a leader by these records, decided on this image, that may lack committed records: as
    /// `topic:partition`.
    pub fn unclean_elections(&self, records: &[MetadataRecord]) -> Vec<String> {
        let elections = records.iter().filter_map(|record| match &record.record {
            Some(Record::Partition(record)) if record.leader_recovering => Some(record),
            _ => None,
        });
        let named = elections.filter_map(|record| {
            let topic_id = TopicId::from_wire(&record.topic_id)?;
            let key = PartitionKey { topic_id, partition: PartitionId(record.partition) };
            let (topic, before) = self.known_partition(&key).ok()?;
            let is_new = record.leader_epoch > before.leader_epoch.0;
            is_new.then(|| format!("{}:{}", topic.name, key.partition))
        });
        named.collect()
    }

    /// Of itself from time to time: where the leader is heard, whoever left before is last in sync no more.
    /// Answers with how many partitions that concerned.
    pub fn confirm_leaders(&self, silent: &BTreeSet<NodeId>) -> Decision<usize> {
        let records = self.change_partitions(|partition, _| {
            let leader = partition.leader.filter(|leader| self.is_active(*leader))?;
            let outdated = !partition.last_in_sync.is_empty() && !silent.contains(&leader);
            outdated.then(|| Partition {
                last_in_sync: Vec::new(),
                partition_epoch: PartitionEpoch(partition.partition_epoch.0 + 1),
                ..partition.clone()
            })
        });
        let answer = records.len();
        Decision { records, answer }
    }

    /// An election that an operator asks for.
    pub fn elect_leader(
        &self,
        key: &PartitionKey,
        election: Election,
    ) -> Result<Decision<Partition>, ClusterError> {
        let (topic, before) = self.known_partition(key)?;
        let is_active = |node| self.is_active(node);
        let stays = |node| self.is_active(node) && !self.is_retiring(node);
        let after = match election {
            Election::Preferred => prefer(before, stays)
                .map_err(|preferred| ClusterError::PreferredNotAvailable { preferred })?,
            Election::Unclean if before.leader.is_some() => None,
            Election::Unclean => {
                let rules = Rules { unclean: true, ..Rules::of(&topic.config, is_active) };
                let after = rules.with(before).filter(|after| after.leader.is_some());
                Some(after.ok_or(ClusterError::NoActiveReplica { key: *key })?)
            }
        };
        let after = after.ok_or(ClusterError::ElectionNotNeeded { key: *key })?;
        Ok(changed(key, before, Some(after)))
    }

    /// Each on its own, on what those before it have made.
    pub fn elect_leaders(
        &self,
        keys: &[PartitionKey],
        election: Election,
    ) -> Decision<PerPartition> {
        self.one_by_one(keys, |image, key| image.elect_leader(key, election))
    }

    /// R17, of itself from time to time: brokers that lead too few of the partitions they are preferred for
    /// get back those they can. Answers with how many moved.
    pub fn balance_leaders(&self, balance: LeaderBalance) -> Decision<usize> {
        let mut preferred: BTreeMap<NodeId, (usize, usize)> = BTreeMap::new();
        for partition in self.topics().flat_map(|topic| &topic.partitions) {
            if let Some(first) = partition.replicas.first() {
                let (all, elsewhere) = preferred.entry(*first).or_default();
                *all += 1;
                *elsewhere += usize::from(partition.leader != Some(*first));
            }
        }
        let imbalanced = |node: &NodeId| {
            preferred.get(node).is_some_and(|(all, elsewhere)| {
                elsewhere * 100 > *all * balance.percentage_per_broker as usize
            })
        };
        let mut records = self.change_partitions(|partition, _| {
            partition.replicas.first().filter(|node| imbalanced(node))?;
            // What a broker that is being retired would get back, it had to give away again.
            prefer(partition, |node| self.is_active(node) && !self.is_retiring(node)).ok().flatten()
        });
        records.truncate(balance.max_elections);
        let answer = records.len();
        Decision { records, answer }
    }

    /// R15, of itself from time to time: leaders for partitions that have none and may have one by now,
    /// because a configuration has changed. Answers with how many got one.
    pub fn elect_leaderless(&self) -> Decision<usize> {
        let records = self.change_partitions(|partition, topic| {
            let rules = Rules::of(&topic.config, |node| self.is_active(node));
            let leaderless = partition.leader.is_none();
            let after = leaderless.then(|| rules.with(partition)).flatten();
            after.filter(|after| after.leader.is_some())
        });
        let answer = records.len();
        Decision { records, answer }
    }

    pub(super) fn known_partition(
        &self,
        key: &PartitionKey,
    ) -> Result<(&Arc<Topic>, &Partition), ClusterError> {
        let topic = self.topic_by_id(key.topic_id);
        let topic = topic.ok_or(ClusterError::UnknownTopicId { topic_id: key.topic_id })?;
        let partition = topic.partition(key.partition);
        Ok((topic, partition.ok_or(ClusterError::UnknownPartition { key: *key })?))
    }

    /// K15, R8: who may be in sync.
    fn check_eligible(&self, member: &IsrMember) -> Result<(), ClusterError> {
        let refuse = |reason| Err(ClusterError::IneligibleReplica { node_id: member.node, reason });
        match self.broker(member.node) {
            None => refuse("it is not registered"),
            Some(broker) if broker.fenced => refuse("it is fenced"),
            Some(broker) if broker.shutting_down => refuse("it is shutting down"),
            Some(broker) if member.broker_epoch.is_some_and(|epoch| epoch != broker.epoch) => {
                refuse("it has registered anew")
            }
            Some(_) => Ok(()),
        }
    }

    pub(super) fn one_by_one<T>(
        &self,
        requests: &[T],
        decide: impl Fn(&ClusterImage, &T) -> Result<Decision<Partition>, ClusterError>,
    ) -> Decision<PerPartition> {
        let mut image = self.clone();
        let mut records: Vec<MetadataRecord> = Vec::new();
        let mut answer = Vec::with_capacity(requests.len());
        for request in requests {
            answer.push(decide(&image, request).map(|decision| {
                image
                    .replay_all(&decision.records)
                    .expect("a decision's own records can be replayed");
                records.extend(decision.records);
                decision.answer
            }));
        }
        Decision { records, answer }
    }
}

/// The same leader, which has lost what was only in its memory.
fn lead_again(before: &Partition) -> Partition {
    Partition {
        leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
        partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
        ..before.clone()
    }
}

/// A leader takes a follower for what it was when it opened its stream, and one that has lost something since would come
/// back into the ISR by that. No stream outlives the leader epoch.
fn in_new_leader_epoch(before: &Partition, after: Option<Partition>) -> Partition {
    let after = after.unwrap_or_else(|| before.clone());
    if after.leader_epoch > before.leader_epoch {
        return after;
    }
    Partition {
        leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
        partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
        ..after
    }
}

/// R9, in its order.
fn check_epochs(
    node_id: NodeId,
    current: &Partition,
    request: &AlterPartition,
) -> Result<(), ClusterError> {
    let key = request.key;
    if request.leader_epoch > current.leader_epoch
        || request.partition_epoch > current.partition_epoch
    {
        return Err(ClusterError::EpochFromTheFuture { key });
    }
    if request.leader_epoch < current.leader_epoch {
        let current = current.leader_epoch;
        return Err(ClusterError::FencedLeaderEpoch { key, asked: request.leader_epoch, current });
    }
    if current.leader != Some(node_id) {
        return Err(ClusterError::NotTheLeader { key, node_id });
    }
    if request.partition_epoch < current.partition_epoch {
        let (asked, current) = (request.partition_epoch, current.partition_epoch);
        return Err(ClusterError::StalePartitionEpoch { key, asked, current });
    }
    Ok(())
}

fn check_members(current: &Partition, isr: &[NodeId], leader: NodeId) -> Result<(), ClusterError> {
    let refuse = |reason| Err(ClusterError::InvalidIsr { reason });
    if !isr.contains(&leader) {
        return refuse("the leader is not in it");
    }
    if isr.iter().any(|node| !current.replicas.contains(node)) {
        return refuse("somebody in it is no replica");
    }
    if isr.iter().enumerate().any(|(at, node)| isr[..at].contains(node)) {
        return refuse("somebody is in it twice");
    }
    Ok(())
}

pub(super) fn changed(
    key: &PartitionKey,
    before: &Partition,
    after: Option<Partition>,
) -> Decision<Partition> {
    let PartitionKey { topic_id, partition: PartitionId(at) } = key;
    let record = |after| {
        let record = partition_record(&topic_id.to_wire(), *at, after);
        wrap(Record::Partition(record))
    };
    let records = after.iter().map(record).collect();
    Decision { records, answer: after.unwrap_or_else(|| before.clone()) }
}
