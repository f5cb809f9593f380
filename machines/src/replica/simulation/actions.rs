//! Carries out what the machines ask for, as an actor would.

use super::super::{Effect, Effects, LogEnds, Replica, ReplicationEffect, Role};
use super::chance::Violation;
use super::controller::Request;
use super::invariants;
use super::network::{Connection, Peer, ToLeader};
use super::world::World;
use crate::time::Time;
use troupe_proto::ids::{Offset, PartitionId, PartitionKey, TopicId};

impl World {
    /// Runs the machine of an awake node, and carries out what it asks for.
    pub fn drive(
        &mut self,
        node: usize,
        event: impl FnOnce(&mut Replica, Time, &mut Effects),
    ) -> Result<(), Violation> {
        let mut out = Effects::new();
        if let Some(replica) = &mut self.nodes[node].replica {
            event(replica, self.now, &mut out);
        }
        self.perform(node, out)
    }

    pub fn perform(&mut self, node: usize, effects: Effects) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Answer { token, result } => self.answered(node, token, result)?,
                Effect::Confirmed { token, result } => self.confirmed(node, token, result)?,
                Effect::Flush => {
                    assert_eq!(self.nodes[node].flushing, None, "one flush is under way");
                    self.nodes[node].flushing = Some(self.nodes[node].log.end());
                }
                // The one travels with the next slice; for the other nobody asks.
                Effect::HighWatermark(_)
                | Effect::LastStable(_)
                | Effect::Completed(_)
                | Effect::Deleted { .. } => {}
                Effect::LeaderEpochStarted { leader_epoch, start_offset } => {
                    assert_eq!(start_offset, self.nodes[node].log.end());
                    self.nodes[node].log.assign_epoch(leader_epoch, start_offset);
                }
                Effect::Replication(effect) => self.replicate(node, effect)?,
            }
        }
        Ok(())
    }

    fn replicate(&mut self, node: usize, effect: ReplicationEffect) -> Result<(), Violation> {
        let (id, life) = (self.nodes[node].id, self.nodes[node].life);
        match effect {
            ReplicationEffect::AlterPartition(request) => {
                self.controller.requests.push_back(Request::Alter { from: node, life, request });
            }
            ReplicationEffect::ElectionNeeded { leader_epoch } => {
                self.stats.elections_needed += 1;
                let leader_epoch = Some(leader_epoch);
                self.controller.requests.push_back(Request::ReplicaDead { node: id, leader_epoch });
            }
            ReplicationEffect::Open { leader, session } => {
                let last_epoch = self.nodes[node].log.last_epoch();
                let replica = self.nodes[node].replica.as_ref();
                let position = replica.and_then(|replica| replica.position(last_epoch));
                let position = position.expect("who opens a stream follows");
                self.connections.push(Connection::new(
                    Peer { node, life, session },
                    leader.0 as usize,
                    position,
                ));
            }
            ReplicationEffect::Close { session } => {
                let delivers = self.chance.one_in(2);
                for connection in self.connections_of(node, session) {
                    connection.break_off(delivers);
                }
            }
            ReplicationEffect::ReportEnd { session, end } => {
                for connection in
                    self.connections_of(node, session).filter(|connection| !connection.broken)
                {
                    connection.to_leader.push_back(ToLeader::Report(end));
                }
            }
            ReplicationEffect::Confirm { session, round, end } => {
                for connection in
                    self.connections_of(node, session).filter(|connection| !connection.broken)
                {
                    connection.to_leader.push_back(ToLeader::Confirm(end, round));
                }
            }
            ReplicationEffect::Truncate { to } => self.truncate(node, to)?,
            ReplicationEffect::ResetTo { offset } => {
                self.stats.resets += 1;
                invariants::truncation_stays_above(&self.nodes[node], offset)?;
                self.nodes[node].log.reset(offset);
                self.nodes[node].flushing = self.nodes[node].flushing.map(|_| offset);
                self.nodes[node].compared = offset;
                self.drive(node, |replica, now, out| {
                    replica.on_reset(offset);
                    replica.continue_following(now, out);
                })?;
            }
            ReplicationEffect::DeleteBefore { offset } => {
                self.nodes[node].log.delete_before(offset);
                self.drive(node, |replica, now, out| replica.on_log_start(now, offset, out))?;
            }
        }
        Ok(())
    }

    fn truncate(&mut self, node: usize, to: Offset) -> Result<(), Violation> {
        self.stats.truncations += 1;
        invariants::truncation_stays_above(&self.nodes[node], to)?;
        self.nodes[node].log.truncate(to);
        let (end, batches) = (self.nodes[node].log.end(), self.nodes[node].log.batches.clone());
        self.nodes[node].flushing = self.nodes[node].flushing.map(|target| target.min(end));
        self.drive(node, |replica, now, out| {
            replica.on_truncated(end, None);
            for batch in &batches {
                replica.on_recovered_batch(now, batch);
            }
            replica.continue_following(now, out);
        })
    }

    pub fn finish_flush(&mut self, node: usize) -> Result<(), Violation> {
        if !self.is_awake(node) {
            return Ok(());
        }
        let Some(target) = self.nodes[node].flushing.take() else { return Ok(()) };
        let log = &mut self.nodes[node].log;
        log.flushed = log.flushed.max(target.min(log.end()));
        let flushed = log.flushed;
        self.drive(node, |replica, now, out| replica.on_flushed(now, flushed, out))
    }

    /// From the disk, as if nothing had been before.
    pub fn build_replica(&mut self, node: usize) -> Result<(), Violation> {
        let topic_id = TopicId::from_wire(&[7; 16]).expect("16 bytes");
        let key = PartitionKey { topic_id, partition: PartitionId(0) };
        let state = &mut self.nodes[node];
        let mut replica = Replica::new(key, state.id, self.config.clone());
        if let Some(bug) = self.bug {
            replica.plant(bug);
        }
        let ends = LogEnds {
            log_start: state.log.start,
            high_watermark: state.high_watermark_checkpoint,
            flushed_end: state.log.flushed,
            log_end: state.log.end(),
        };
        replica.restore(ends, None);
        for batch in &state.log.batches {
            replica.on_recovered_batch(self.now, batch);
        }
        replica.restore_leader_epoch(state.log.last_epoch());
        assert_eq!(replica.role(), Role::Idle);
        state.life += 1;
        state.seen = (Offset::ZERO, Offset::ZERO);
        state.stable = Offset::ZERO;
        state.compared = Offset::ZERO;
        state.told_epoch = None;
        state.replica = Some(replica);
        self.apply_known(node)
    }
}
