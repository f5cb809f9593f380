//! What the cluster proposes, as a plan that can be carried out.

use crate::reassignment::{Plan, PlannedPartition};
use troupe_proto::admin::v1::{
    PlanReassignmentResponse, PlannedNode, PlannedPartition as Proposed,
};

pub struct Proposal {
    partitions: Vec<Proposed>,
    pub nodes: Vec<PlannedNode>,
}

impl Proposal {
    pub fn new(response: PlanReassignmentResponse) -> Proposal {
        Proposal { partitions: response.partitions, nodes: response.nodes }
    }

    /// As it is, of all partitions that were looked at.
    pub fn current(&self) -> Plan {
        let one = |one: &Proposed| planned(one, &one.current_replicas);
        Plan::new(self.partitions.iter().map(one).collect())
    }

    /// As it is proposed, of all partitions that were looked at.
    pub fn proposed(&self) -> Plan {
        let one = |one: &Proposed| planned(one, &one.proposed_replicas);
        Plan::new(self.partitions.iter().map(one).collect())
    }

    /// Only what changes.
    pub fn changes(&self) -> Plan {
        let one = |one: &Proposed| planned(one, &one.proposed_replicas);
        Plan::new(self.changed().map(one).collect())
    }

    fn changed(&self) -> impl Iterator<Item = &Proposed> {
        self.partitions.iter().filter(|one| one.current_replicas != one.proposed_replicas)
    }

    /// Partitions that change in nothing but who is preferred as leader.
    pub fn reordered(&self) -> usize {
        self.changed().filter(|one| added(one) == 0).count()
    }

    /// Replicas that have to be copied.
    pub fn copies(&self) -> usize {
        self.changed().map(added).sum()
    }

    /// Bytes that have to be copied, as far as sizes are known.
    pub fn copied_bytes(&self) -> u64 {
        let bytes = |one: &Proposed| added(one) as u64 * one.size_bytes.max(0).unsigned_abs();
        self.changed().map(bytes).sum()
    }

    /// Partitions whose replicas remain in fewer racks than there are.
    pub fn in_one_rack(&self) -> usize {
        self.partitions.iter().filter(|one| !one.rack_aware).count()
    }
}

fn added(one: &Proposed) -> usize {
    one.proposed_replicas.iter().filter(|node| !one.current_replicas.contains(node)).count()
}

fn planned(one: &Proposed, replicas: &[i32]) -> PlannedPartition {
    PlannedPartition {
        topic: one.topic.clone(),
        partition: one.partition,
        replicas: replicas.to_vec(),
        log_dirs: vec!["any".to_owned(); replicas.len()],
    }
}
