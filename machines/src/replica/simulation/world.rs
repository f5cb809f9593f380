//! The state of everything, the order of events, and when it is looked at.

use super::super::{PartitionState, Replica, ReplicaConfig, Role, Token};
use super::chance::{Chance, Stats, Violation};
use super::clients::{Client, PRODUCERS};
use super::controller::Controller;
use super::disk::DiskLog;
use super::invariants::{self, Ledger};
use super::network::Connection;
use super::transactions::TxnWorld;
use crate::config::{FlushPolicy, TopicConfig};
use crate::replica::planted::Bug;
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset};

/// A process, its disk, and the replica's actor if it lives.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    /// Counts the replica's actors.
    pub life: u64,
    pub is_up: bool,
    pub is_paused: bool,
    pub broker_epoch: BrokerEpoch,
    pub replica: Option<Replica>,
    pub log: DiskLog,
    pub flushing: Option<Offset>,
    pub high_watermark_checkpoint: Offset,
    /// News on its way, and the latest that arrived.
    pub inbox: VecDeque<PartitionState>,
    pub known: Option<PartitionState>,
    /// For the invariants, of this life: newest epoch told, log start and high watermark seen, how far its
    /// visible batches have been compared.
    pub told_epoch: Option<LeaderEpoch>,
    pub seen: (Offset, Offset),
    /// The last stable offset that was seen.
    pub stable: Offset,
    pub compared: Offset,
}

pub struct World {
    pub chance: Chance,
    pub now: Time,
    pub config: ReplicaConfig,
    pub bug: Option<Bug>,
    steps: u64,
    steps_per_fault: u64,
    pub nodes: Vec<Node>,
    pub controller: Controller,
    pub connections: Vec<Connection>,
    pub clients: Vec<Client>,
    pub txn: TxnWorld,
    /// Asked and not answered yet: by whom, of which life, and what had been acknowledged when it was asked.
    pub questions: BTreeMap<Token, (usize, u64, Offset)>,
    pub next_value: u32,
    pub next_token: u64,
    pub ledger: Ledger,
    pub stats: Stats,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut chance = Chance::new(seed);
        let topic = ReplicaConfig::from_topic(
            &TopicConfig::default(),
            ReplicaConfig::PRODUCER_ID_EXPIRATION_MS,
        );
        let flush_policy = if chance.one_in(4) { FlushPolicy::Os } else { FlushPolicy::Commit };
        let min_insync_replicas = 1 + chance.below(2) as u32;
        let config = ReplicaConfig { flush_policy, min_insync_replicas, ..topic };
        let steps_per_fault = 8 + chance.below(80);
        let ids = [NodeId(0), NodeId(1), NodeId(2)];
        let node = |id| Node {
            id,
            life: 0,
            is_up: true,
            is_paused: false,
            broker_epoch: BrokerEpoch(0),
            replica: None,
            log: DiskLog::default(),
            flushing: None,
            high_watermark_checkpoint: Offset::ZERO,
            inbox: VecDeque::new(),
            known: None,
            told_epoch: None,
            seen: (Offset::ZERO, Offset::ZERO),
            stable: Offset::ZERO,
            compared: Offset::ZERO,
        };
        let mut world = World {
            chance,
            now: Time(1_700_000_000_000),
            config,
            bug,
            steps: 0,
            steps_per_fault,
            nodes: ids.map(node).into(),
            controller: Controller::new(&ids),
            connections: Vec::new(),
            clients: vec![Client::default(); PRODUCERS + 1],
            txn: TxnWorld::new(),
            questions: BTreeMap::new(),
            next_value: 0,
            next_token: 0,
            ledger: Ledger::default(),
            stats: Stats::default(),
        };
        world.publish();
        for node in 0..ids.len() {
            world.build_replica(node).expect("nothing is there yet");
        }
        world
    }

    /// One event, by chance; then everything that has to hold is looked at.
    pub fn step(&mut self) -> Result<(), Violation> {
        let node = self.chance.index(self.nodes.len());
        if self.chance.one_in(self.steps_per_fault) {
            self.fault(node)?;
            return self.check();
        }
        match self.chance.below(120) {
            0..=39 if !self.connections.is_empty() => {
                let connection = self.chance.index(self.connections.len());
                if self.chance.one_in(2) {
                    self.deliver_to_leader(connection)?;
                } else {
                    self.deliver_to_follower(connection)?;
                }
            }
            40..=54 if !self.connections.is_empty() => {
                let connection = self.chance.index(self.connections.len());
                self.push(connection);
            }
            55..=66 => {
                let client = self.chance.index(self.clients.len());
                self.client_step(client)?;
            }
            67..=75 => self.finish_flush(node)?,
            76..=80 => self.deliver_news(node)?,
            81..=84 => self.serve_request()?,
            85..=92 => {
                let long = self.chance.one_in(12);
                let ms = self.chance.below(if long { 20_000 } else { 60 });
                self.pass_time(ms)?;
            }
            93..=95 => self.ask_a_leader()?,
            96.. => self.transaction_step()?,
            _ => {}
        }
        self.check()
    }

    pub fn check(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        self.connections.retain(|connection| !connection.is_done());
        for node in 0..self.nodes.len() {
            self.check_node(node)?;
        }
        if self.steps.is_multiple_of(16) {
            self.check_durability()?;
        }
        Ok(())
    }

    pub fn check_durability(&self) -> Result<(), Violation> {
        for (i, node) in self.nodes.iter().enumerate() {
            if self.controller.state.isr.contains(&node.id) {
                invariants::committed_is_durable(&self.ledger, i, &node.log)?;
            }
        }
        Ok(())
    }

    /// What became visible on this node, and whether it may be.
    pub fn check_node(&mut self, node: usize) -> Result<(), Violation> {
        invariants::offsets_only_grow(&mut self.nodes[node])?;
        invariants::transactions_are_as_the_log_says(&self.nodes[node])?;
        let visible = self.nodes[node].seen.1;
        if self.nodes[node].replica.is_none() || self.nodes[node].compared >= visible {
            return Ok(());
        }
        let isr = &self.controller.state.isr;
        let policy = self.config.flush_policy;
        invariants::in_sync_replicas_have_what_is_committed(visible, isr, &self.nodes, policy)?;
        let from = self.nodes[node].compared;
        for batch in &self.nodes[node].log.batches {
            if batch.base_offset >= from
                && batch.end_offset() <= visible
                && !invariants::committed_never_changes(&self.ledger, batch)?
            {
                invariants::no_record_twice_and_in_order(&mut self.ledger, batch)?;
                invariants::transactions_stay_apart(&mut self.ledger, batch)?;
                self.ledger.committed.insert(batch.base_offset, *batch);
            }
        }
        self.nodes[node].compared = visible;
        Ok(())
    }

    pub fn leads(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        !node.is_paused && node.replica.as_ref().is_some_and(|r| r.role() == Role::Leader)
    }

    pub fn is_awake(&self, node: usize) -> bool {
        self.nodes[node].replica.is_some() && !self.nodes[node].is_paused
    }

    pub fn pass_time(&mut self, ms: u64) -> Result<(), Violation> {
        self.now = self.now.plus(ms);
        for node in 0..self.nodes.len() {
            let now = self.now;
            let is_due = |replica: &Replica| replica.next_tick().is_some_and(|at| at <= now);
            if self.is_awake(node) && self.nodes[node].replica.as_ref().is_some_and(is_due) {
                self.drive(node, |replica, now, out| replica.on_tick(now, out))?;
            }
        }
        Ok(())
    }
}
