//! Replicas that are reassigned (R34, R35): other targets among the brokers, given up again, brokers that hold nothing
//! any more and are forgotten until they come back; and what is dropped with a replica.

use crate::chance::Chance;
use crate::settings::{Bug, HostBug};
use crate::violation::Checked;
use crate::world::{At, TOPIC, World};
use troupe_log::disk::FaultDisk;
use troupe_machines::cluster::{
    AlterPartitionReassignments, ClusterImage, ClusterPolicy, PlanGoal, PlanRequest,
    ReassignPartition,
};
use troupe_machines::replica::planted::Bug as MachineBug;
use troupe_proto::ids::{NodeId, PartitionKey};
use troupe_proto::internal::v1::MetadataRecord;
use troupe_proto::internal::v1::metadata_record::Record;

/// Whether a run has reassignments; of a seed's own chance, so that whatever else is drawn stays as it was.
pub fn draw(seed: u64, bug: Option<Bug>) -> bool {
    match bug {
        Some(bug) => matches!(
            bug,
            Bug::Host(
                HostBug::CountAddedAtOnce
                    | HostBug::DropAddedAtOnce
                    | HostBug::ForgetWhoLacksTombstones
            ) | Bug::Machine(MachineBug::FillOnWithoutTombstones)
        ),
        None => Chance::new(seed ^ 0x5EA5_5160).one_in(3),
    }
}

impl World {
    /// An operator has other replicas in mind for a partition, or the same in another order.
    pub fn reassign(&mut self) -> Checked {
        let Some((site, tip, key)) = self.reassigned_partition() else { return Ok(()) };
        let mut nodes: Vec<NodeId> = tip.brokers().map(|broker| broker.node_id).collect();
        let count = self.fate.between(2, 3) as usize;
        let target = (0..count.min(nodes.len())).map(|_| {
            let at = self.fate.index(nodes.len());
            nodes.swap_remove(at)
        });
        let target = Some(target.collect());
        self.counts.reassignments += self.alter(site, &tip, key, target)?;
        Ok(())
    }

    pub fn cancel_reassignment(&mut self) -> Checked {
        let Some((site, tip, key)) = self.reassigned_partition() else { return Ok(()) };
        self.counts.reassignments_cancelled += self.alter(site, &tip, key, None)?;
        Ok(())
    }

    /// A broker is emptied and forgotten, step by step; when it is back, it is new. Also one that was never marked,
    /// if it has stopped and holds nothing (K22).
    pub fn retire(&mut self) -> Checked {
        let Some(site) = self.active_site() else { return Ok(()) };
        let Some(tip) = self.tip(site) else { return Ok(()) };
        for broker in tip.brokers() {
            if let Ok(decision) = tip.unregister_broker(broker.node_id) {
                self.counts.retired_brokers += u64::from(broker.retiring);
                self.counts.unregistered_brokers += 1;
                return self.decide(site, decision);
            }
        }
        match tip.brokers().find(|broker| broker.retiring).map(|broker| broker.node_id) {
            Some(node) => self.empty(site, &tip, node),
            None => self.mark(site, &tip),
        }
    }

    fn mark(&mut self, site: usize, tip: &ClusterImage) -> Checked {
        let nodes: Vec<NodeId> = tip.brokers().map(|broker| broker.node_id).collect();
        let Some(node) = self.fate.pick(&nodes) else { return Ok(()) };
        match tip.retire_broker(node, &[]) {
            Ok(decision) => self.decide(site, decision),
            Err(_) => Ok(()),
        }
    }

    /// What is on a marked broker goes elsewhere, then it stops; or it is kept after all.
    fn empty(&mut self, site: usize, tip: &ClusterImage, node: NodeId) -> Checked {
        if self.fate.one_in(8)
            && let Ok(decision) = tip.keep_broker(node)
        {
            self.counts.kept_brokers += 1;
            return self.decide(site, decision);
        }
        let request =
            PlanRequest { goal: PlanGoal::Empty, exclude_nodes: vec![node], ..Default::default() };
        let Ok(plan) = tip.plan_reassignment(&request) else { return Ok(()) };
        let on_it = |key| tip.partition(&key).is_some_and(|it| it.replicas.contains(&node));
        if !plan.partitions.iter().any(|planned| on_it(planned.key)) {
            let (now, site) = (self.now, self.site_of(node));
            if let Some(broker) = &mut self.sites[site].broker {
                broker.leaving.get_or_insert(now);
            }
            return Ok(());
        }
        for planned in plan.partitions {
            // each on what those before it have made
            let Some(tip) = self.tip(site) else { return Ok(()) };
            if planned.proposed != planned.current {
                let target = Some(planned.proposed);
                self.counts.reassignments += self.alter(site, &tip, planned.key, target)?;
            }
        }
        Ok(())
    }

    fn reassigned_partition(&mut self) -> Option<(usize, ClusterImage, PartitionKey)> {
        let site = self.active_site()?;
        let tip = self.tip(site)?;
        let key = self.fate.pick(&crate::truth::keys(&tip))?;
        Some((site, tip, key))
    }

    /// 1 if that was decided, else 0.
    fn alter(
        &mut self,
        site: usize,
        tip: &ClusterImage,
        key: PartitionKey,
        target: Option<Vec<NodeId>>,
    ) -> Checked<u64> {
        if tip.cluster_id().is_none()
            && let Ok(founded) = tip.initialize("simulated")
        {
            self.decide(site, founded)?;
            return Ok(0);
        }
        let partition = key.partition.0 as i32;
        let request = AlterPartitionReassignments {
            partitions: vec![ReassignPartition { topic: TOPIC.to_owned(), partition, target }],
            allow_replication_factor_change: true,
            validate_only: false,
        };
        let policy = ClusterPolicy::default();
        let Ok(mut decision) = tip.alter_partition_reassignments(&policy, &request, &[]) else {
            return Ok(0);
        };
        if decision.records.is_empty() {
            return Ok(0);
        }
        if self.settings.has_host_bug(HostBug::CountAddedAtOnce) {
            decision.records.iter_mut().for_each(count_added);
        }
        if self.settings.has_host_bug(HostBug::DropAddedAtOnce) {
            decision.records.iter_mut().for_each(drop_added);
        }
        self.decide(site, decision)?;
        Ok(1)
    }

    /// Replicas that are other brokers' now: their disks go with them. Asked by an image in which this life of the
    /// broker is registered, as at a start.
    pub fn drop_reassigned(&mut self, site: usize) {
        let Some(broker) = &self.sites[site].broker else { return };
        let (image, node) = (broker.image.clone(), broker.node);
        let is_elsewhere = |key: &PartitionKey| {
            image.partition(key).is_some_and(|partition| !partition.replicas.contains(&node))
        };
        let gone = self.sites[site].disks.keys().copied().filter(is_elsewhere);
        for key in gone.collect::<Vec<_>>() {
            let at = (site, key);
            if self.sites[site].disks.get(&key).is_some_and(FaultDisk::has_crashed) {
                // the machine is down, and deletes it when it is up again
                continue;
            }
            self.trace.note(self.now, "drop", [site as u64, key.partition.0.into(), 0, 0]);
            self.counts.dropped_replicas += 1;
            self.drop_host(at, true);
            self.sites[site].disks.remove(&key);
            self.sites[site].remains.remove(&key);
            self.sites[site].decayed.remove(&key);
            self.sites[site].had_decayed.remove(&key);
            self.sites[site].damaged.remove(&key);
            if let Some(broker) = &mut self.sites[site].broker {
                broker.dead.remove(&key);
            }
        }
    }

    /// Whether this broker has a replica of the partition, as far as it knows.
    pub fn is_replica(&self, (site, key): At) -> bool {
        let Some(broker) = &self.sites[site].broker else { return false };
        let partition = broker.image.partition(&key);
        partition.is_some_and(|partition| partition.replicas.contains(&broker.node))
    }
}

/// The planted bug: who is added counts as in sync before it has anything.
fn count_added(record: &mut MetadataRecord) {
    if let Some(Record::Partition(partition)) = &mut record.record {
        let added = partition.adding_replicas.iter().copied();
        let added: Vec<_> =
            added.filter(|node| !partition.in_sync_replicas.contains(node)).collect();
        partition.in_sync_replicas.extend(added);
    }
}

/// The planted bug: a cancelled move keeps nobody.
fn drop_added(record: &mut MetadataRecord) {
    let Some(Record::Partition(partition)) = &mut record.record else { return };
    let original = std::mem::take(&mut partition.original_replicas);
    let left = partition.in_sync_replicas.iter().copied().filter(|node| original.contains(node));
    let left: Vec<i32> = left.collect();
    let waits = partition.adding_replicas.is_empty() && partition.replicas.starts_with(&original);
    if original.is_empty() || left.is_empty() || !waits {
        partition.original_replicas = original;
        return;
    }
    if !partition.leader_id.is_some_and(|leader| left.contains(&leader)) {
        partition.leader_id = left.first().copied();
    }
    partition.leader_epoch += 1;
    partition.replicas = original;
    partition.removing_replicas = Vec::new();
    partition.eligible_leader_replicas = Vec::new();
    partition.last_in_sync_replicas = Vec::new();
    partition.in_sync_replicas = left;
}
