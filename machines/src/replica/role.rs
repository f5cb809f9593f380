//! What a replica is for: leading, following, neither. News of it comes from the controller, late and
//! perhaps in the wrong order, so the leader epoch decides which counts.

use super::confirm::fail_questions;
use super::following::Following;
use super::leading::Leadership;
use super::planted::Bug;
use super::{
    AppendError, DeletionError, Effect, Effects, FollowerState, LeaderState, PartitionState,
    Replica, ReplicationEffect,
};
use crate::time::Time;
use troupe_proto::ids::LeaderEpoch;

#[derive(Clone, Debug)]
pub(super) enum RoleState {
    Idle,
    Leading(Leadership),
    Following(Following),
    Offline,
}

impl Replica {
    /// Starts a new leader epoch here, or brings a new ISR in the current one. An older epoch is news that
    /// has been overtaken and changes nothing. For a partition whose ISR nobody manages; in a cluster, see
    /// [`Replica::on_partition_state`].
    pub fn become_leader(&mut self, now: Time, state: LeaderState, out: &mut Effects) {
        if self.ignores(state.leader_epoch) {
            return;
        }
        match &mut self.role {
            RoleState::Leading(leadership)
                if leadership.state.leader_epoch == state.leader_epoch =>
            {
                leadership.state = state;
            }
            _ => self.start_leading(now, Leadership::new(now, self.log_end, state, None), out),
        }
        self.answer_if_too_few(out);
        self.progress(now, out);
    }

    /// What the controller has committed about the partition, or newly thinks of its replicas. The one entry
    /// for a node of a cluster. Anything older than what is known already is ignored.
    ///
    /// The controller gives a leader epoch to one life of a replica only: a node that registers anew and a
    /// replica that was reported as dead lead in a new epoch or not at all. So a log that has lost its
    /// unflushed end never goes on in the epoch of what is lost, where no follower could tell (R22). Without
    /// followers there is nobody to tell, and the epoch goes on.
    pub fn on_partition_state(&mut self, now: Time, state: &PartitionState, out: &mut Effects) {
        let leader_epoch = state.leader_epoch;
        match state.leader {
            Some(leader) if leader == self.node_id => self.lead(now, state, out),
            Some(leader) => self.become_follower(now, FollowerState { leader, leader_epoch }, out),
            None => self.become_idle(leader_epoch, out),
        }
    }

    fn lead(&mut self, now: Time, state: &PartitionState, out: &mut Effects) {
        let leader_epoch = state.leader_epoch;
        if self.ignores(leader_epoch) {
            return;
        }
        match &mut self.role {
            RoleState::Leading(leadership) if leadership.state.leader_epoch == leader_epoch => {
                leadership.learn(state);
            }
            // A sole replica has no follower that could take a lost end for the log's.
            _ if self.newest_epoch == Some(leader_epoch) && state.replicas.len() > 1 => {
                out.push(Effect::Replication(ReplicationEffect::ElectionNeeded { leader_epoch }));
                return;
            }
            _ => {
                let told = LeaderState {
                    leader_epoch,
                    replicas: state.replicas.clone(),
                    isr: state.isr.clone(),
                };
                self.start_leading(now, Leadership::new(now, self.log_end, told, Some(state)), out);
            }
        }
        self.answer_if_too_few(out);
        self.expand_isr(now, None, out);
        self.progress(now, out);
    }

    fn start_leading(&mut self, now: Time, leadership: Leadership, out: &mut Effects) {
        let leader_epoch = leadership.state.leader_epoch;
        // Who leads on in a new epoch has lost nothing: what is parked waits on.
        match self.leadership_mut() {
            Some(before) => fail_questions(&mut before.confirmations, out),
            None => self.leave_role(out),
        }
        self.newest_epoch = Some(leader_epoch);
        if self.bugs.has(Bug::ForgetOpenTransactions) {
            self.producers.forget_transactions();
        }
        self.role = RoleState::Leading(leadership);
        self.cut_tombstones_gone();
        self.schedule_isr_check(now);
        let start_offset = self.log_end;
        out.push(Effect::LeaderEpochStarted { leader_epoch, start_offset });
    }

    /// Follows another replica. News of the leader that is followed already changes nothing.
    pub fn become_follower(&mut self, now: Time, state: FollowerState, out: &mut Effects) {
        assert_ne!(state.leader, self.node_id, "nobody follows itself");
        if self.ignores(state.leader_epoch) {
            return;
        }
        match &self.role {
            // One leader per epoch: the same epoch is the same news.
            RoleState::Leading(_) | RoleState::Following(_)
                if self.newest_epoch == Some(state.leader_epoch) =>
            {
                return;
            }
            RoleState::Leading(_) if self.bugs.has(Bug::ServeAfterEpochEnded) => return,
            _ => {}
        }
        self.leave_role(out);
        self.newest_epoch = Some(state.leader_epoch);
        self.start_following(now, state, out);
        self.check();
    }

    /// Nobody leads in this epoch.
    fn become_idle(&mut self, leader_epoch: LeaderEpoch, out: &mut Effects) {
        if self.ignores(leader_epoch) || self.newest_epoch == Some(leader_epoch) {
            return;
        }
        self.newest_epoch = Some(leader_epoch);
        self.resign(out);
    }

    /// Stops leading or following, because this node stops or nobody leads: what is parked may still be
    /// committed by the next leader.
    pub fn resign(&mut self, out: &mut Effects) {
        self.leave_role(out);
        self.check();
    }

    /// A write or a flush failed: what is parked may or may not be on disk, and nothing more is promised.
    pub fn on_storage_failure(&mut self, out: &mut Effects) {
        let leads_in = self.leadership().and_then(Leadership::managed_epoch);
        self.fail_parked(AppendError::StorageFailure, out);
        self.fail_deletions(DeletionError::StorageFailure, out);
        self.leave_role(out);
        self.role = RoleState::Offline;
        if let Some(leader_epoch) = leads_in {
            out.push(Effect::Replication(ReplicationEffect::ElectionNeeded { leader_epoch }));
        }
        self.check();
    }

    fn leave_role(&mut self, out: &mut Effects) {
        match std::mem::replace(&mut self.role, RoleState::Idle) {
            RoleState::Idle => {}
            RoleState::Leading(mut leadership) => {
                self.verifying.clear();
                fail_questions(&mut leadership.confirmations, out);
                self.fail_parked(AppendError::OutcomeUnknown, out);
                self.fail_deletions(DeletionError::OutcomeUnknown, out);
            }
            RoleState::Following(following) => {
                if let Some(session) = following.session() {
                    out.push(Effect::Replication(ReplicationEffect::Close { session }));
                }
            }
            RoleState::Offline => self.role = RoleState::Offline,
        }
    }

    fn ignores(&self, leader_epoch: LeaderEpoch) -> bool {
        matches!(self.role, RoleState::Offline)
            || self.newest_epoch.is_some_and(|newest| leader_epoch < newest)
    }

    pub(super) fn leadership(&self) -> Option<&Leadership> {
        match &self.role {
            RoleState::Leading(leadership) => Some(leadership),
            RoleState::Idle | RoleState::Following(_) | RoleState::Offline => None,
        }
    }

    pub(super) fn leadership_mut(&mut self) -> Option<&mut Leadership> {
        match &mut self.role {
            RoleState::Leading(leadership) => Some(leadership),
            RoleState::Idle | RoleState::Following(_) | RoleState::Offline => None,
        }
    }
}
