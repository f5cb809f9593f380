//! What breaks, and how all is made well again.

use super::chance::Violation;
use super::controller::Request;
use super::invariants;
use super::world::World;
use crate::config::FlushPolicy;
use troupe_proto::ids::Offset;

/// Rounds of 20 ms in which everything that can happen does, until all is well.
const HEALING_ROUNDS: usize = 6_000;

impl World {
    pub fn fault(&mut self, node: usize) -> Result<(), Violation> {
        match self.chance.below(16) {
            0..=1 => self.stop_process(node),
            2..=4 => self.start_process(node)?,
            5 => self.kill_actor(node),
            6..=7 => self.rebuild(node)?,
            8 => self.fence(node),
            9..=10 => self.unfence(node),
            11 => self.break_stream(),
            12 => {
                self.stats.pauses += u64::from(!self.nodes[node].is_paused);
                self.nodes[node].is_paused = true;
            }
            13 => self.nodes[node].is_paused = false,
            14 => self.checkpoint(node),
            _ => self.delete_records(node)?,
        }
        Ok(())
    }

    /// With policy `commit` perhaps the power goes; `os` promises nothing then.
    fn stop_process(&mut self, node: usize) {
        if !self.nodes[node].is_up {
            return;
        }
        if self.config.flush_policy == FlushPolicy::Commit && self.chance.one_in(2) {
            self.stats.power_losses += 1;
            let before = self.nodes[node].log.batches.len();
            let lucky = self.chance.index(3);
            self.nodes[node].log.lose_unflushed(lucky);
            self.stats.lost_batches += (before - self.nodes[node].log.batches.len()) as u64;
        } else {
            self.stats.process_kills += 1;
        }
        self.nodes[node].is_up = false;
        self.nodes[node].is_paused = false;
        self.nodes[node].inbox.clear();
        self.nodes[node].known = None;
        self.drop_replica(node);
    }

    /// Registers anew before it learns anything.
    fn start_process(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_up {
            return Ok(());
        }
        self.nodes[node].is_up = true;
        let before = self.controller.state.clone();
        self.nodes[node].broker_epoch = self.controller.register(self.nodes[node].id);
        self.note_change(&before);
        self.build_replica(node)
    }

    /// Its process lives, tells the controller, and builds another.
    fn kill_actor(&mut self, node: usize) {
        if self.nodes[node].replica.is_none() {
            return;
        }
        self.stats.actor_kills += 1;
        self.drop_replica(node);
        let id = self.nodes[node].id;
        let dead = Request::ReplicaDead { node: id, leader_epoch: None };
        self.controller.requests.push_back(dead);
    }

    fn drop_replica(&mut self, node: usize) {
        self.nodes[node].replica = None;
        self.nodes[node].flushing = None;
        self.forget_answers(node);
        let delivers = self.chance.one_in(2);
        for connection in &mut self.connections {
            if connection.follower.node == node || connection.leader_node == node {
                connection.break_off(delivers);
            }
        }
    }

    fn rebuild(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_up && self.nodes[node].replica.is_none() {
            self.build_replica(node)?;
        }
        Ok(())
    }

    /// The node has been silent for too long, as the controller believes.
    fn fence(&mut self, node: usize) {
        let before = self.controller.state.clone();
        self.controller.fence(self.nodes[node].id);
        self.stats.fences += u64::from(self.controller.state != before);
        self.note_change(&before);
    }

    fn unfence(&mut self, node: usize) {
        let id = self.nodes[node].id;
        if self.nodes[node].is_up
            && self.controller.registered[&id] == self.nodes[node].broker_epoch
        {
            let before = self.controller.state.clone();
            self.controller.unfence(id);
            self.note_change(&before);
        }
    }

    fn break_stream(&mut self) {
        if self.connections.is_empty() {
            return;
        }
        self.stats.broken_streams += 1;
        let connection = self.chance.index(self.connections.len());
        let delivers = self.chance.one_in(2);
        self.connections[connection].break_off(delivers);
    }

    fn checkpoint(&mut self, node: usize) {
        if let Some(replica) = &self.nodes[node].replica {
            self.nodes[node].high_watermark_checkpoint = replica.high_watermark();
        }
    }

    /// Up to some batch below the high watermark, by the leader of now.
    fn delete_records(&mut self, node: usize) -> Result<(), Violation> {
        let leads = self.controller.state.leader == Some(self.nodes[node].id);
        if !leads || !self.leads(node) || self.nodes[node].seen.1 == Offset::ZERO {
            return Ok(());
        }
        let visible = self.nodes[node].seen.1;
        let log = &self.nodes[node].log;
        let ends: Vec<_> = log.batches.iter().map(|batch| batch.end_offset()).collect();
        let ends = &ends[..ends.partition_point(|end| *end <= visible)];
        if ends.is_empty() {
            return Ok(());
        }
        self.stats.deletions += 1;
        self.forget_late_markers();
        let offset = ends[self.chance.index(ends.len())];
        self.ledger.deleted_before = self.ledger.deleted_before.max(offset);
        self.nodes[node].log.delete_before(offset);
        self.drive(node, |replica, now, out| replica.on_log_start(now, offset, out))
    }

    /// Faults end, everybody comes back, and everything that was sent is acknowledged.
    pub fn heal(&mut self) -> Result<(), Violation> {
        for node in 0..self.nodes.len() {
            self.nodes[node].is_paused = false;
            self.start_process(node)?;
            self.rebuild(node)?;
            self.unfence(node);
        }
        for _ in 0..HEALING_ROUNDS {
            self.healing_round()?;
            let answered = self.clients.iter().all(|client| client.outstanding.is_none());
            let in_sync = self.controller.state.isr.len() == self.nodes.len();
            if answered
                && self.txn.is_idle()
                && in_sync
                && let Some(equal) = invariants::equal_after_healing(&self.nodes)
            {
                equal?;
                return self.check_durability();
            }
        }
        let replicas: Vec<_> = self.nodes.iter().map(|node| &node.replica).collect();
        let what = format!("{:?}, {replicas:?}, {:?}", self.controller.state, self.connections);
        Err(Violation::new("I17 progress", what))
    }

    fn healing_round(&mut self) -> Result<(), Violation> {
        for connection in 0..self.connections.len() {
            self.push(connection);
            self.deliver_to_leader(connection)?;
            self.deliver_to_follower(connection)?;
        }
        for node in 0..self.nodes.len() {
            self.finish_flush(node)?;
            self.deliver_news(node)?;
        }
        self.serve_request()?;
        for client in 0..self.clients.len() {
            if self.clients[client].outstanding.is_some() {
                self.client_step(client)?;
            }
        }
        self.heal_transactions()?;
        self.pass_time(20)?;
        self.check()
    }
}
