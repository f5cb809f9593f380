//! The cluster at a glance: its nodes with their shares of the partitions, and how many partitions are not well.

use crate::controller_channel::AsOf;
use std::collections::HashMap;
use troupe_machines::cluster::{Broker, ClusterImage};
use troupe_proto::ids::NodeId;

pub struct ClusterOverview {
    pub cluster_id: String,
    /// None at the moment.
    pub controller_id: Option<NodeId>,
    pub nodes: Vec<ClusterNode>,
    pub topics: usize,
    pub partitions: usize,
    pub offline_partitions: usize,
    pub under_replicated_partitions: usize,
    pub as_of: AsOf,
}

pub struct ClusterNode {
    pub broker: Broker,
    pub leaders: usize,
    pub replicas: usize,
    /// Of the replicas.
    pub in_sync: usize,
}

/// What a node has of the cluster's partitions.
#[derive(Clone, Copy, Default)]
struct Share {
    leaders: usize,
    replicas: usize,
    in_sync: usize,
}

pub(super) fn of(
    image: &ClusterImage,
    controller_id: Option<NodeId>,
    as_of: AsOf,
) -> ClusterOverview {
    let shares = shares(image);
    let nodes = image.brokers().map(|broker| {
        let share = shares.get(&broker.node_id).copied().unwrap_or_default();
        let Share { leaders, replicas, in_sync } = share;
        ClusterNode { broker: broker.clone(), leaders, replicas, in_sync }
    });
    let (mut partitions, mut offline, mut under_replicated) = (0, 0, 0);
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        partitions += 1;
        offline += usize::from(partition.leader.is_none());
        under_replicated += usize::from(partition.is_under_replicated());
    }
    ClusterOverview {
        cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
        controller_id,
        nodes: nodes.collect(),
        topics: image.topic_count(),
        partitions,
        offline_partitions: offline,
        under_replicated_partitions: under_replicated,
        as_of,
    }
}

fn shares(image: &ClusterImage) -> HashMap<NodeId, Share> {
    let mut shares: HashMap<NodeId, Share> = HashMap::new();
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        if let Some(leader) = partition.leader {
            shares.entry(leader).or_default().leaders += 1;
        }
        for replica in &partition.replicas {
            shares.entry(*replica).or_default().replicas += 1;
        }
        for replica in &partition.isr {
            shares.entry(*replica).or_default().in_sync += 1;
        }
    }
    shares
}
