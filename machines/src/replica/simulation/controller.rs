//! The controller, as far as a partition sees it: one change after another, each with a new partition epoch.
//! Its memory never fails; that is another machine's proof.

use super::super::{AlterPartition, AlterPartitionError, CommittedIsr, PartitionState};
use super::chance::Violation;
use super::world::World;
use std::collections::{BTreeMap, VecDeque};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};

#[derive(Clone, Debug)]
pub enum Request {
    Alter {
        from: usize,
        life: u64,
        request: AlterPartition,
    },
    /// The replica's actor died, or can't lead in this epoch.
    ReplicaDead {
        node: NodeId,
        leader_epoch: Option<LeaderEpoch>,
    },
}

#[derive(Clone, Debug)]
pub struct Controller {
    pub state: PartitionState,
    pub registered: BTreeMap<NodeId, BrokerEpoch>,
    next_broker_epoch: u64,
    pub requests: VecDeque<Request>,
}

impl Controller {
    pub fn new(nodes: &[NodeId]) -> Controller {
        let registered: BTreeMap<_, _> = nodes.iter().map(|node| (*node, BrokerEpoch(0))).collect();
        let state = PartitionState {
            leader: Some(nodes[0]),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: nodes.to_vec(),
            isr: nodes.to_vec(),
            least_replicas: nodes.len() as u32,
            eligible: registered.clone(),
        };
        Controller { state, registered, next_broker_epoch: 1, requests: VecDeque::new() }
    }

    /// K12: a new life of the broker. What it led gets a new leader, or itself in a new epoch.
    pub fn register(&mut self, node: NodeId) -> BrokerEpoch {
        let epoch = BrokerEpoch(self.next_broker_epoch);
        self.next_broker_epoch += 1;
        self.registered.insert(node, epoch);
        self.fence(node);
        self.unfence(node);
        epoch
    }

    /// K15, R14.
    pub fn fence(&mut self, node: NodeId) {
        self.state.eligible.remove(&node);
        self.leave(node);
    }

    /// K16.
    pub fn unfence(&mut self, node: NodeId) {
        self.state.eligible.insert(node, self.registered[&node]);
        if self.state.leader.is_none() {
            self.elect();
        }
    }

    pub fn replica_dead(&mut self, node: NodeId, leader_epoch: Option<LeaderEpoch>) {
        let leads = self.state.leader == Some(node);
        if !leads || leader_epoch.is_some_and(|epoch| epoch != self.state.leader_epoch) {
            return;
        }
        self.leave(node);
        if self.state.leader.is_none() {
            self.elect();
        }
    }

    fn leave(&mut self, node: NodeId) {
        if self.state.isr.len() > 1 && self.state.isr.contains(&node) {
            self.state.isr.retain(|other| *other != node);
            self.state.partition_epoch.0 += 1;
        }
        if self.state.leader == Some(node) {
            self.state.leader = None;
            self.state.leader_epoch.0 += 1;
            self.state.partition_epoch.0 += 1;
            if !self.state.isr.contains(&node) {
                self.elect();
            }
        }
    }

    /// R12.
    fn elect(&mut self) {
        let state = &mut self.state;
        let fits = |node: &&NodeId| state.isr.contains(node) && state.eligible.contains_key(node);
        if let Some(leader) = state.replicas.iter().find(fits).copied() {
            state.leader = Some(leader);
            state.leader_epoch.0 += 1;
            state.partition_epoch.0 += 1;
        }
    }

    /// R9, checks in that order.
    pub fn alter(
        &mut self,
        from: NodeId,
        request: &AlterPartition,
    ) -> Result<CommittedIsr, AlterPartitionError> {
        let state = &mut self.state;
        if request.leader_epoch < state.leader_epoch {
            return Err(AlterPartitionError::FencedLeaderEpoch);
        }
        if state.leader != Some(from) {
            return Err(AlterPartitionError::InvalidRequest);
        }
        if request.partition_epoch < state.partition_epoch {
            return Err(AlterPartitionError::StalePartitionEpoch);
        }
        let isr: Vec<_> = request.isr.iter().map(|member| member.node).collect();
        if !isr.contains(&from) || isr.iter().any(|node| !state.replicas.contains(node)) {
            return Err(AlterPartitionError::InvalidRequest);
        }
        for member in &request.isr {
            let registered = state.eligible.get(&member.node).copied();
            let known = member.broker_epoch.is_none() && state.isr.contains(&member.node);
            if registered.is_none() || (!known && member.broker_epoch != registered) {
                return Err(AlterPartitionError::IneligibleReplica);
            }
        }
        state.isr.clone_from(&isr);
        state.partition_epoch.0 += 1;
        let (leader_epoch, partition_epoch) = (state.leader_epoch, state.partition_epoch);
        Ok(CommittedIsr { leader_epoch, partition_epoch, isr })
    }
}

impl World {
    pub fn publish(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_up) {
            node.inbox.push_back(self.controller.state.clone());
        }
    }

    pub fn deliver_news(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_paused || !self.nodes[node].is_up {
            return Ok(());
        }
        if let Some(state) = self.nodes[node].inbox.pop_front() {
            self.nodes[node].known = Some(state);
            self.apply_known(node)?;
        }
        Ok(())
    }

    pub fn apply_known(&mut self, node: usize) -> Result<(), Violation> {
        let Some(state) = self.nodes[node].known.clone() else { return Ok(()) };
        if self.nodes[node].replica.is_some() {
            let told = self.nodes[node].told_epoch;
            self.nodes[node].told_epoch = told.max(Some(state.leader_epoch));
        }
        self.drive(node, |replica, now, out| replica.on_partition_state(now, &state, out))
    }

    /// The controller takes a request, or never gets it; the answer arrives, or does not.
    pub fn serve_request(&mut self) -> Result<(), Violation> {
        let Some(request) = self.controller.requests.pop_front() else { return Ok(()) };
        let before = self.controller.state.clone();
        match request {
            Request::ReplicaDead { node, leader_epoch } => {
                self.controller.replica_dead(node, leader_epoch);
                self.note_change(&before);
            }
            Request::Alter { from, life, request } => {
                let lost = self.chance.one_in(8);
                let mut result = Err(AlterPartitionError::Unavailable);
                if !lost {
                    result = self.controller.alter(self.nodes[from].id, &request);
                    self.note_change(&before);
                    self.stats.note_alter(&result);
                }
                if lost || self.chance.one_in(6) {
                    self.stats.lost_alter_answers += 1;
                    result = Err(AlterPartitionError::Unavailable);
                }
                if self.nodes[from].life == life {
                    self.drive(from, |replica, now, out| {
                        replica.on_alter_partition_answer(now, &request, result, out);
                    })?;
                }
            }
        }
        Ok(())
    }

    pub fn note_change(&mut self, before: &PartitionState) {
        let after = &self.controller.state;
        if after == before {
            return;
        }
        let elected = after.leader_epoch != before.leader_epoch && after.leader.is_some();
        self.stats.elections += u64::from(elected);
        self.stats.shrinks += u64::from(after.isr.len() < before.isr.len());
        self.stats.expansions += u64::from(after.isr.len() > before.isr.len());
        self.publish();
    }
}
