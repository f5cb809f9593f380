//! What the metadata log says, as nobody in the simulation can see it: everything that any voter has applied.

use crate::counts::Counts;
use crate::invariants;
use crate::violation::{Checked, Violation, ensure};
use crate::world::TOPIC;
use std::collections::BTreeMap;
use troupe_machines::cluster::{ClusterImage, ClusterSnapshot, Partition};
use troupe_proto::ids::{LeaderEpoch, MetadataOffset, NodeId, PartitionId, PartitionKey};
use troupe_proto::internal::v1::MetadataRecord;

/// Metadata on its way to a broker.
#[derive(Clone, Debug)]
pub enum News {
    Records { from: MetadataOffset, records: Vec<MetadataRecord> },
    Snapshot(ClusterSnapshot),
}

/// Somebody was elected who may lack what was committed.
#[derive(Clone, Debug)]
pub struct UncleanElection {
    pub key: PartitionKey,
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    pub before: Partition,
}

#[derive(Debug, Default)]
pub struct Truth {
    records: Vec<MetadataRecord>,
    /// After each decision.
    images: BTreeMap<MetadataOffset, ClusterImage>,
    newest: ClusterImage,
}

impl Truth {
    pub fn image(&self) -> &ClusterImage {
        &self.newest
    }

    pub fn end(&self) -> MetadataOffset {
        self.newest.next_offset()
    }

    pub fn partition(&self, key: &PartitionKey) -> Option<&Partition> {
        self.newest.partition(key)
    }

    pub fn records(&self, from: MetadataOffset, end: MetadataOffset) -> Vec<MetadataRecord> {
        let (from, end) = (from.0 as usize, end.0 as usize);
        if from >= end { Vec::new() } else { self.records[from..end].to_vec() }
    }

    /// A voter has applied a decision. I22: all apply the same ones, and what was applied once stays.
    pub fn applied(
        &mut self,
        base: MetadataOffset,
        records: &[MetadataRecord],
        counts: &mut Counts,
    ) -> Checked<Vec<UncleanElection>> {
        const I22: &str = "I22 metadata is one log";
        let end = self.end();
        ensure(base <= end, I22, || format!("applied {base} where {end} was next"))?;
        let from = base.0 as usize;
        if base < end {
            let known = self.records.get(from..from + records.len());
            invariants::records_are_the_same(base, known, records)?;
            return Ok(Vec::new());
        }
        let before = self.newest.clone();
        let replayed = self.newest.replay_all(records);
        replayed.map_err(|error| Violation::new(I22, error.to_string()))?;
        self.records.extend_from_slice(records);
        self.images.insert(self.end(), self.newest.clone());
        self.check_reassignments(&before)?;
        Ok(self.count_changes(&before, counts))
    }

    fn check_reassignments(&self, before: &ClusterImage) -> Checked {
        for topic in self.newest.topics() {
            for (partition, after) in (0..).zip(&topic.partitions) {
                if let Some(before) = before.partition(&topic.key(PartitionId(partition))) {
                    invariants::enough_copies_stay(before, topic, after)?;
                }
            }
        }
        Ok(())
    }

    /// I22: what a broker knows was the image once.
    pub fn check_image(&self, image: &ClusterImage) -> Checked {
        let offset = image.next_offset();
        if offset == MetadataOffset(0) {
            return Ok(());
        }
        invariants::image_is_a_prefix(self.images.get(&offset), image)
    }

    fn count_changes(&self, before: &ClusterImage, counts: &mut Counts) -> Vec<UncleanElection> {
        let mut unclean = Vec::new();
        for topic in self.newest.topics() {
            for (partition, after) in (0..).zip(&topic.partitions) {
                let key = topic.key(PartitionId(partition));
                let Some(before) = before.partition(&key) else { continue };
                let elected = after.leader_epoch != before.leader_epoch && after.leader.is_some();
                counts.leader_changes += u64::from(elected);
                if let Some(leader) = after.leader
                    && elected
                    && after.recovering
                {
                    counts.unclean_elections += u64::from(!before.recovering);
                    let (leader_epoch, before) = (after.leader_epoch, before.clone());
                    unclean.push(UncleanElection { key, leader, leader_epoch, before });
                }
                counts.reassignments_completed += u64::from(
                    before.is_reassigning()
                        && !after.is_reassigning()
                        && after.replicas == before.target().collect::<Vec<_>>(),
                );
                let waits = after.is_cancelled() && !before.is_cancelled();
                counts.cancellations_that_waited += u64::from(waits);
                counts.isr_expansions += u64::from(after.isr.len() > before.isr.len());
                counts.isr_shrinks += u64::from(after.isr.len() < before.isr.len());
            }
        }
        for broker in self.newest.brokers().filter(|broker| broker.fenced) {
            let known = before.broker(broker.node_id);
            let newly = known.is_some_and(|known| !known.fenced && known.epoch == broker.epoch);
            counts.fenced_brokers += u64::from(newly);
        }
        unclean
    }
}

/// All partitions of the topic.
pub fn keys(image: &ClusterImage) -> Vec<PartitionKey> {
    let Some(topic) = image.topic(TOPIC) else { return Vec::new() };
    (0..topic.partitions.len() as u32).map(|at| topic.key(PartitionId(at))).collect()
}
