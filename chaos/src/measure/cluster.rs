//! A picture of the cluster, as its freshest node told it, and who somebody is in it.

use super::Place;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// None: none at the moment.
    pub controller: Option<i32>,
    /// Where the run's group is coordinated, if that is known.
    pub coordinator: Option<i32>,
    /// Of the whole cluster.
    pub offline: u64,
    pub under_replicated: u64,
    /// Nodes that the controller does not hear, or that are stopping.
    pub fenced: u64,
    /// Nodes that answered none of the last questions.
    pub unreachable: u64,
    /// Of the topics that the run looks at.
    pub partitions: BTreeMap<Place, PartitionState>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    pub leader: Option<i32>,
    pub epoch: u32,
    pub replicas: u32,
    pub in_sync: u32,
}

impl ClusterState {
    /// All nodes there, everything led and in sync.
    pub fn is_whole(&self) -> bool {
        let in_sync = |one: &PartitionState| one.leader.is_some() && one.in_sync >= one.replicas;
        self.controller.is_some()
            && (self.offline, self.under_replicated, self.fenced, self.unreachable) == (0, 0, 0, 0)
            && self.partitions.values().all(in_sync)
    }

    fn led_by(&self, node: i32) -> impl Iterator<Item = (&Place, &PartitionState)> {
        self.partitions.iter().filter(move |(_, state)| state.leader == Some(node))
    }
}

/// Whom a fault hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victim {
    Replica {
        node: i32,
        place: Place,
    },
    Controller {
        node: i32,
    },
    Coordinator {
        node: i32,
    },
    Replication {
        node: i32,
    },
    Node {
        node: i32,
    },
    /// What lies between nodes, or something that this does not know.
    Other,
}

/// What the victim is at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Controller,
    StandbyController,
    Coordinator,
    Replication,
    Node { controller: bool, coordinator: bool, leads: usize },
    Unknown,
}

impl Victim {
    /// By an actor's address, `node/1/shard/0/partition/orders/3`, or a node's, `node/1`.
    pub fn of_address(address: &str) -> Victim {
        let parts: Vec<&str> = address.split('/').collect();
        let Some(node) = parts.get(1).and_then(|node| node.parse().ok()) else {
            return Victim::Other;
        };
        if parts[0] != "node" {
            return Victim::Other;
        }
        match parts[2..] {
            [] => Victim::Node { node },
            [.., "partition", topic, number] => match number.parse() {
                Ok(number) => Victim::Replica { node, place: Place::new(Arc::from(topic), number) },
                Err(_) => Victim::Other,
            },
            ["controller"] => Victim::Controller { node },
            [.., "group-coordinator" | "transaction-coordinator", _, _] => {
                Victim::Coordinator { node }
            }
            [.., "replication", _] => Victim::Replication { node },
            _ => Victim::Other,
        }
    }

    pub fn role(&self, state: &ClusterState) -> Role {
        match self {
            Victim::Replica { node, place } => match state.partitions.get(place) {
                Some(partition) if partition.leader == Some(*node) => Role::Leader,
                Some(_) => Role::Follower,
                None => Role::Unknown,
            },
            Victim::Controller { node } if state.controller == Some(*node) => Role::Controller,
            Victim::Controller { .. } => Role::StandbyController,
            Victim::Coordinator { .. } => Role::Coordinator,
            Victim::Replication { .. } => Role::Replication,
            Victim::Node { node } => Role::Node {
                controller: state.controller == Some(*node),
                coordinator: state.coordinator == Some(*node),
                leads: state.led_by(*node).count(),
            },
            Victim::Other => Role::Unknown,
        }
    }

    /// What it leads, with the epoch in which it does.
    pub fn leads(&self, state: &ClusterState) -> Vec<(Place, u32)> {
        let own = |node: i32| state.led_by(node).map(|(place, one)| (place.clone(), one.epoch));
        match self {
            Victim::Replica { node, place } => own(*node).filter(|(led, _)| led == place).collect(),
            Victim::Node { node } => own(*node).collect(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Leader => f.write_str("leader"),
            Role::Follower => f.write_str("follower"),
            Role::Controller => f.write_str("controller"),
            Role::StandbyController => f.write_str("standby controller"),
            Role::Coordinator => f.write_str("coordinator"),
            Role::Replication => f.write_str("replication"),
            Role::Unknown => f.write_str("unknown"),
            Role::Node { controller, coordinator, leads } => {
                let mut roles = Vec::new();
                if *controller {
                    roles.push("controller".to_owned());
                }
                if *coordinator {
                    roles.push("coordinator".to_owned());
                }
                match leads {
                    0 => roles.push("follower".to_owned()),
                    1 => roles.push("leader of 1".to_owned()),
                    many => roles.push(format!("leader of {many}")),
                }
                f.write_str(&roles.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> ClusterState {
        let led =
            |leader| PartitionState { leader: Some(leader), epoch: 4, replicas: 3, in_sync: 3 };
        ClusterState {
            controller: Some(2),
            coordinator: Some(1),
            partitions: (0..3).map(|n| (Place::new("orders", n), led(1 + n as i32 % 2))).collect(),
            ..ClusterState::default()
        }
    }

    #[test]
    fn a_victim_has_the_role_that_it_has_at_that_moment() {
        let role = |address: &str| Victim::of_address(address).role(&state()).to_string();
        assert_eq!(role("node/1/shard/0/partition/orders/0"), "leader");
        assert_eq!(role("node/2/shard/1/partition/orders/0"), "follower");
        assert_eq!(role("node/2/controller"), "controller");
        assert_eq!(role("node/1/controller"), "standby controller");
        assert_eq!(role("node/3/group-coordinator/__consumer_offsets/7"), "coordinator");
        assert_eq!(role("node/1"), "coordinator, leader of 2");
        assert_eq!(role("node/2"), "controller, leader of 1");
        assert_eq!(role("node/3"), "follower");
        assert_eq!(role("between nodes"), "unknown");
    }

    #[test]
    fn a_cluster_is_whole_when_all_are_there_and_in_sync() {
        assert!(state().is_whole());
        assert!(!ClusterState { controller: None, ..state() }.is_whole());
        assert!(!ClusterState { unreachable: 1, ..state() }.is_whole());
        let mut behind = state();
        behind.partitions.entry(Place::new("orders", 1)).and_modify(|one| one.in_sync = 2);
        assert!(!behind.is_whole());
    }
}
