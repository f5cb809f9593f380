//! Reassigning the replicas of a partition (R34, R35): other replicas are added and filled, then those that are to go
//! are dropped.
//!
//! ```text
//!   original C ──► replicas = T ++ (C ∖ T), adding = T ∖ C, removing = C ∖ T ──► ISR ⊇ T ──► replicas = T
//! ```
//!
//! It is complete as soon as all of T are in sync, whatever made it so: that is looked at wherever a partition is
//! settled, so nothing has to remember it. Who is in sync has every committed record, so nothing is lost by going on
//! without the others.
//!
//! One that is cancelled goes back to C. Whoever was added and may have what others lack stays until enough of C are in
//! sync: as many as `min.insync.replicas` asks for. So no cancellation leaves fewer copies of what was acknowledged than
//! that, as no completion does; who is in sync on paper may have lost its disk, and nobody knows yet.
//!
//! ```text
//!   cancelled ──► replicas = C ++ kept, removing = kept ──► |ISR ∩ C| ≥ min(min.insync.replicas, |C|) ──► replicas = C
//! ```
//!
//! That is a reassignment whose target is C, also to a node that does not know of cancellations that wait: its
//! controller waits for all of C.
//!
//! How many are in sync is measured against the fewer of C and T (`min.insync.replicas`, R10): neither does a raised
//! replication factor stop writes before it is reached, nor does a lowered one wait for who goes. A leader hears of the
//! measure with the partition epoch that changes it, and never commits by a smaller one than the controller goes by: so
//! whoever is eligible still has every committed record (R16).
//!
//! Never here: how replicas are filled, and what becomes of their data.

use super::election::Rules;
use super::image::{ClusterImage, Partition, Topic};
use super::names::check_topic_name;
use super::partitions::changed;
use super::{
    AlterPartitionReassignments, ClusterError, ClusterPolicy, Decision, REASSIGNMENTS,
    ReassignPartition,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionEpoch, PartitionId, PartitionKey};

/// A partition as it is once a request about its replicas is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassigned {
    pub partition: Partition,
    /// As of [`Partition::cancelled_until_in_sync`].
    pub cancelled_until_in_sync: Option<u32>,
}

/// What became of each partition of a request, in the request's order.
pub type PerReassignment = Vec<Result<Reassigned, ClusterError>>;

impl Partition {
    /// Whether the replicas are to be others than they are.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas as they are to be: T. Without a reassignment, as they are.
    pub fn target(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().copied().filter(|node| !self.removing.contains(node))
    }

    /// The replicas as they were before: C. Without a reassignment, as they are.
    pub fn original(&self) -> Vec<NodeId> {
        if self.original.is_empty() { self.replicas.clone() } else { self.original.clone() }
    }

    /// At most as many can be asked to be in sync: the fewer of what was and what is to be.
    pub fn least_replicas(&self) -> usize {
        match self.original.len() {
            0 => self.replicas.len(),
            before => before.min(self.target().count()),
        }
    }

    /// Whether it is under way back to where it was, and keeps some of the others until then.
    pub fn is_cancelled(&self) -> bool {
        self.is_reassigning() && self.target().eq(self.original.iter().copied())
    }

    /// If it is cancelled: so many of the original replicas have to be in sync before the others are dropped.
    pub fn cancelled_until_in_sync(&self, min_isr: u32) -> Option<u32> {
        self.is_cancelled().then(|| self.needed_in_sync(min_isr) as u32)
    }

    /// So many of those that are to be have to be in sync before the others are dropped.
    fn needed_in_sync(&self, min_isr: u32) -> usize {
        let all = self.target().count();
        if self.is_cancelled() { all.min(min_isr as usize).max(1) } else { all }
    }

    /// Whether committed records may be nowhere else than on this node.
    fn counts(&self, node: NodeId) -> bool {
        let known = [&self.isr, &self.elr, &self.last_in_sync];
        known.iter().any(|nodes| nodes.contains(&node))
            || self.leader == Some(node)
            || self.last_known_leader == Some(node)
    }

    /// The same, but with T alone if enough of T are in sync. The epochs stay: see [`Partition::succeeding`].
    pub(super) fn with_reassignment_completed(
        self,
        min_isr: u32,
        is_active: impl Fn(NodeId) -> bool,
    ) -> Partition {
        let Some(before) = self.leader.filter(|_| self.is_reassigning()) else { return self };
        let target: Vec<NodeId> = self.target().collect();
        let stay = |nodes: &[NodeId]| {
            nodes.iter().copied().filter(|node| target.contains(node)).collect::<Vec<_>>()
        };
        let isr = stay(&self.isr);
        if isr.len() < self.needed_in_sync(min_isr) {
            return self;
        }
        let kept = Some(before).filter(|leader| isr.contains(leader));
        let may_lead = |node: &NodeId| isr.contains(node) && is_active(*node);
        let leader = kept.or_else(|| target.iter().copied().find(may_lead));
        if leader.is_none() {
            return self;
        }
        // With so many in sync nobody else is eligible.
        let (elr, last_in_sync) = (Vec::new(), stay(&self.last_in_sync));
        Partition { leader, isr, elr, last_in_sync, ..self.only(target) }
    }

    /// These replicas, and no reassignment.
    fn only(&self, replicas: Vec<NodeId>) -> Partition {
        Partition {
            replicas,
            adding: Vec::new(),
            removing: Vec::new(),
            original: Vec::new(),
            ..self.clone()
        }
    }

    /// The same after `before`: in the next partition epoch, and in the next leader epoch if another one leads, the
    /// same leads `again`, or somebody is no replica any more, who is not to be taken for one.
    pub(super) fn succeeding(self, before: &Partition, again: bool) -> Partition {
        let dropped = before.replicas.iter().any(|node| !self.replicas.contains(node));
        let new_epoch = again || dropped || self.leader != before.leader;
        Partition {
            leader_epoch: LeaderEpoch(before.leader_epoch.0 + u32::from(new_epoch)),
            partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
            ..self
        }
    }

    /// On the way to `target`. Who was to be added and is to be no longer goes at once, unless it counts already.
    fn reassigned_to(&self, target: &[NodeId]) -> Partition {
        let original = self.original();
        let stays = |node: &NodeId| original.contains(node) || self.counts(*node);
        let leaves = |node: &NodeId| !target.contains(node) && stays(node);
        let removing: Vec<_> = self.replicas.iter().copied().filter(leaves).collect();
        let is_new = |node: &NodeId| !original.contains(node);
        let adding: Vec<_> = target.iter().copied().filter(is_new).collect();
        let replicas = target.iter().chain(&removing).copied().collect();
        if adding.is_empty() && removing.is_empty() {
            return self.only(replicas);
        }
        Partition { replicas, adding, removing, original, ..self.clone() }
    }
}

impl ClusterImage {
    /// R34: what the replicas of these partitions are to be, or that it is given up. Each succeeds or fails for itself,
    /// on what those before it have made. Answers with each partition as it will be.
    ///
    /// # Errors
    /// A node of the cluster, or one of `voters_behind`, is too old to know of it.
    pub fn alter_partition_reassignments(
        &self,
        policy: &ClusterPolicy,
        request: &AlterPartitionReassignments,
        voters_behind: &[NodeId],
    ) -> Result<Decision<PerReassignment>, ClusterError> {
        let raised = self.require_metadata_version(REASSIGNMENTS, voters_behind)?;
        let mut named: BTreeMap<(&str, i32), usize> = BTreeMap::new();
        for one in &request.partitions {
            *named.entry((&one.topic, one.partition)).or_default() += 1;
        }
        let factor_may_change = request.allow_replication_factor_change;
        let Decision { mut records, answer } =
            self.one_by_one(&request.partitions, |image, one| {
                if named.get(&(one.topic.as_str(), one.partition)).is_some_and(|times| *times > 1) {
                    let reason = "the request names the partition more than once".to_owned();
                    return Err(ClusterError::InvalidAssignment { reason });
                }
                image.reassign(policy, one, factor_may_change)
            });
        if request.validate_only {
            records.clear();
        } else if !records.is_empty() {
            records.splice(..0, raised);
        }
        let reassigned = |topic: &str, partition| {
            let known = self.topic(topic);
            let cancelled_until_in_sync =
                known.and_then(|topic| topic.cancelled_until_in_sync(&partition));
            Reassigned { partition, cancelled_until_in_sync }
        };
        let answer = request.partitions.iter().zip(answer);
        let answer = answer.map(|(one, after)| after.map(|after| reassigned(&one.topic, after)));
        Ok(Decision { records, answer: answer.collect() })
    }

    /// Every partition whose replicas are being reassigned.
    pub fn reassignments(&self) -> impl Iterator<Item = (&Arc<Topic>, PartitionId, &Partition)> {
        self.topics().flat_map(|topic| {
            let partitions = (0..).map(PartitionId).zip(&topic.partitions);
            let reassigned = partitions.filter(|(_, partition)| partition.is_reassigning());
            reassigned.map(move |(at, partition)| (topic, at, partition))
        })
    }

    fn reassign(
        &self,
        policy: &ClusterPolicy,
        request: &ReassignPartition,
        factor_may_change: bool,
    ) -> Result<Decision<Partition>, ClusterError> {
        let (key, topic, before) = self.named_partition(request)?;
        let after = match &request.target {
            Some(target) => {
                self.check_target(policy, before, target)?;
                let (current, asked) = (before.target().count(), target.len());
                if !factor_may_change && current != asked {
                    let (current, asked) = (current as u32, asked as u32);
                    return Err(ClusterError::ReplicationFactorWouldChange { current, asked });
                }
                self.settle_reassigned(topic, before.reassigned_to(target))
            }
            None if !before.is_reassigning() => {
                let ReassignPartition { topic, partition, .. } = request.clone();
                return Err(ClusterError::NoReassignmentInProgress { topic, partition });
            }
            None => {
                check_revertible(before)?;
                self.settle_reassigned(topic, before.reassigned_to(&before.original()))
            }
        };
        let after = (after != *before).then(|| after.succeeding(before, false));
        Ok(changed(&key, before, after))
    }

    fn named_partition(
        &self,
        request: &ReassignPartition,
    ) -> Result<(PartitionKey, &Topic, &Partition), ClusterError> {
        let ReassignPartition { topic: name, partition, .. } = request;
        check_topic_name(name)?;
        let topic = self.topic(name);
        let topic = topic.ok_or_else(|| ClusterError::UnknownTopic { name: name.clone() })?;
        let number = u32::try_from(*partition).ok().map(PartitionId);
        let found = number.and_then(|number| Some((number, topic.partition(number)?)));
        let (number, found) = found.ok_or_else(|| ClusterError::NoSuchPartition {
            topic: name.clone(),
            partition: *partition,
        })?;
        Ok((topic.key(number), topic, found))
    }

    /// Kafka's conditions of a manual assignment, and that whoever is to be filled can be.
    fn check_target(
        &self,
        policy: &ClusterPolicy,
        before: &Partition,
        target: &[NodeId],
    ) -> Result<(), ClusterError> {
        let refuse = |reason| Err(ClusterError::InvalidAssignment { reason });
        if target.is_empty() {
            return refuse(
                "the list of replicas is empty; to give up a reassignment, cancel it".into(),
            );
        }
        let original = before.original();
        for (position, node) in target.iter().enumerate() {
            if target[..position].contains(node) {
                return refuse(format!("broker {node} is in the list of replicas more than once"));
            }
            let Some(broker) = self.broker(*node) else {
                return refuse(format!("broker {node} is not registered"));
            };
            if original.contains(node) || before.replicas.contains(node) {
                continue;
            }
            if broker.fenced {
                return refuse(format!("broker {node} is fenced; start it first"));
            }
            if broker.shutting_down {
                return refuse(format!("broker {node} is drained or stopping; resume it first"));
            }
            if broker.retiring {
                return refuse(format!("broker {node} is being retired, and takes no replicas"));
            }
        }
        let new = target.iter().copied().filter(|node| !before.replicas.contains(node)).collect();
        self.check_nodes(&policy.partition_limits, &[new])
    }

    /// A leader among those that are left, and complete if it can be. Epochs as they were.
    fn settle_reassigned(&self, topic: &Topic, changed: Partition) -> Partition {
        let rules = Rules::of(&topic.config, |node| self.is_active(node));
        let rules = Rules { unclean: false, ..rules };
        let (leader_epoch, partition_epoch) = (changed.leader_epoch, changed.partition_epoch);
        match rules.with(&changed) {
            Some(settled) => Partition { leader_epoch, partition_epoch, ..settled },
            None => changed,
        }
    }
}

/// Whether one of those from before has all that is committed, if any of the others counts.
fn check_revertible(before: &Partition) -> Result<(), ClusterError> {
    let original = before.original();
    let has_all = |node: &NodeId| before.isr.contains(node) || before.elr.contains(node);
    let is_other = |node: &&NodeId| !original.contains(node);
    let counts = |node: &NodeId| before.counts(*node);
    if original.iter().any(has_all) || !before.replicas.iter().filter(is_other).any(counts) {
        return Ok(());
    }
    let reason = "it cannot be given up now: none of the replicas from before is in sync, so that it would take an \
                  unclean election; bring one of them back first";
    Err(ClusterError::InvalidAssignment { reason: reason.to_owned() })
}
