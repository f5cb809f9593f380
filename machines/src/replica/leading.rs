//! A leader and its followers: where each of them is, and whether its log is the beginning of the leader's.

use super::confirm::Confirmations;
use super::isr::Pending;
use super::role::RoleState;
use super::{
    AlterPartition, CommittedIsr, Divergence, Effects, FollowSession, Follower, LeaderEnds,
    LeaderState, OpenError, Opening, PartitionState, Position, Replica, ReplicaEnd,
};
use crate::time::Time;
use std::collections::BTreeMap;
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch};

#[derive(Clone, Debug)]
pub(super) struct Leadership {
    pub state: LeaderState,
    /// Where the log ended when this leader epoch began. All that earlier leaders committed lies below.
    pub epoch_start: Offset,
    /// `None`: nobody manages the ISR.
    pub managed: Option<ManagedIsr>,
    /// The ISR of when the epoch began, and followers that have opened a stream since.
    pub followers: BTreeMap<NodeId, Progress>,
    pub confirmations: Confirmations,
    /// See [`Replica::everyone_has`].
    pub everyone_has: Offset,
}

/// What a leader needs to change the ISR.
#[derive(Clone, Debug)]
pub(super) struct ManagedIsr {
    pub partition_epoch: PartitionEpoch,
    /// See [`PartitionState::least_replicas`].
    pub least_replicas: u32,
    pub eligible: BTreeMap<NodeId, BrokerEpoch>,
    pub pending: Option<Pending>,
    /// The controller has refused: nobody asks again before this time, or before it says anything new.
    pub refused_until: Option<Time>,
    pub next_check: Time,
}

/// How far a follower is, and since when it has been behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The stream whose reports count. `None`: none is open.
    session: Option<FollowSession>,
    broker_epoch: Option<BrokerEpoch>,
    /// Of the stream: it answers rounds, and the newest that it has answered.
    answers_rounds: bool,
    pub confirmed: u64,
    end: ReplicaEnd,
    /// The last time at which the follower is known to have had all that the leader had (R6).
    last_caught_up: Option<Time>,
    /// Where the leader's log ended at some time since then.
    mark: (Time, Offset),
}

impl Leadership {
    /// R2: whoever is in sync counts as caught up now, the others as never.
    pub fn new(
        now: Time,
        log_end: Offset,
        state: LeaderState,
        managed: Option<&PartitionState>,
    ) -> Leadership {
        let in_sync = |node: &NodeId| (*node, Progress::new(now, log_end, Some(now)));
        let followers = state.isr.iter().map(in_sync).collect();
        let managed = managed.map(|partition| ManagedIsr {
            partition_epoch: partition.partition_epoch,
            least_replicas: partition.least_replicas,
            eligible: partition.eligible.clone(),
            pending: None,
            refused_until: None,
            next_check: now,
        });
        let confirmations = Confirmations::default();
        let everyone_has = Offset::ZERO;
        Leadership { state, epoch_start: log_end, managed, followers, confirmations, everyone_has }
    }

    /// The leader epoch, if the controller manages the ISR.
    pub fn managed_epoch(&self) -> Option<LeaderEpoch> {
        self.managed.as_ref().map(|_| self.state.leader_epoch)
    }

    /// News of the leader epoch that goes on.
    pub fn learn(&mut self, partition: &PartitionState) {
        let Some(managed) = &mut self.managed else { return };
        if partition.partition_epoch < managed.partition_epoch {
            return;
        }
        managed.eligible.clone_from(&partition.eligible);
        managed.refused_until = None;
        managed.least_replicas = partition.least_replicas;
        self.learn_replicas(&partition.replicas);
        self.adopt(&CommittedIsr {
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.clone(),
        });
    }

    /// Who comes has nothing, and who goes is not heard any more (R34).
    fn learn_replicas(&mut self, replicas: &[NodeId]) {
        if replicas.iter().any(|node| !self.state.replicas.contains(node)) {
            self.everyone_has = Offset::ZERO;
        }
        self.followers.retain(|node, _| replicas.contains(node));
        self.state.replicas = replicas.to_vec();
    }

    /// A newer partition epoch settles what is pending: either it came of the request, or the controller
    /// refuses the request when it comes.
    pub fn adopt(&mut self, committed: &CommittedIsr) {
        let Some(managed) = &mut self.managed else { return };
        if committed.leader_epoch == self.state.leader_epoch
            && committed.partition_epoch > managed.partition_epoch
        {
            managed.partition_epoch = committed.partition_epoch;
            managed.pending = None;
            self.state.isr.clone_from(&committed.isr);
        }
    }

    pub fn end_of(&self, node: NodeId) -> ReplicaEnd {
        self.followers.get(&node).map(|progress| progress.end).unwrap_or_default()
    }

    /// Not in the ISR, but the controller would let it in (R8).
    pub fn may_join(&self, node: NodeId) -> bool {
        let Some(managed) = &self.managed else { return false };
        let Some(progress) = self.followers.get(&node) else { return false };
        !self.state.isr.contains(&node)
            && self.state.replicas.contains(&node)
            && progress.session.is_some()
            && progress.broker_epoch.is_some()
            && progress.broker_epoch == managed.eligible.get(&node).copied()
    }
}

impl Leadership {
    /// In the ISR, also in one that is asked for; the controller lets it take part, and its stream is open.
    pub fn stays_in_sync(&self, node: NodeId) -> bool {
        let Some(progress) = self.followers.get(&node) else { return false };
        let managed =
            |managed: &ManagedIsr| managed.eligible.get(&node) == progress.broker_epoch.as_ref();
        let stays = |request: &AlterPartition| request.isr.iter().any(|member| member.node == node);
        self.state.isr.contains(&node)
            && progress.session.is_some()
            && self.managed.as_ref().is_none_or(managed)
            && self.requested().is_none_or(stays)
    }
}

impl Progress {
    fn new(now: Time, leader_end: Offset, last_caught_up: Option<Time>) -> Progress {
        Progress {
            session: None,
            broker_epoch: None,
            answers_rounds: false,
            confirmed: 0,
            end: ReplicaEnd::default(),
            last_caught_up,
            mark: (now, leader_end),
        }
    }

    pub fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.broker_epoch
    }

    /// It followed when that round was under way. Who cannot say so, of an earlier version, is believed.
    pub fn confirms(&self, round: u64) -> bool {
        self.session.is_some() && (!self.answers_rounds || self.confirmed >= round)
    }

    /// R6. Kafka goes by the times of fetches; here a mark is set, and once the follower has passed it, the
    /// follower was caught up when it was set.
    fn note(&mut self, now: Time, counted: Offset, leader_end: Offset) {
        if counted >= leader_end {
            self.last_caught_up = Some(now);
            self.mark = (now, leader_end);
        } else if counted >= self.mark.1 {
            self.last_caught_up = self.last_caught_up.max(Some(self.mark.0));
            self.mark = (now, leader_end);
        }
    }
}

impl Replica {
    /// A follower opens a stream. `epoch_end` is what the leader's log says of `position.last_epoch`: the
    /// largest epoch not above it, and where that ends (R21); `None` if it has none, or the follower's log is
    /// empty. A stream it had before counts no more.
    ///
    /// # Errors
    /// This replica does not lead, or not in the epoch or for the node that asks.
    pub fn on_follower_opened(
        &mut self,
        now: Time,
        follower: Follower,
        position: &Position,
        epoch_end: Option<(LeaderEpoch, Offset)>,
        out: &mut Effects,
    ) -> Result<Opening, OpenError> {
        self.check_opening(follower.node, position.leader_epoch)?;
        if let Some(refusal) = self.diverges(position, epoch_end) {
            return Ok(refusal);
        }
        if self.needs_tombstones(position) {
            return self.begin_anew(follower.node);
        }
        let session = self.take_session();
        let log_end = self.log_end;
        let from = position.end.log_end;
        if let Some(leadership) = self.leadership_mut() {
            let progress = leadership
                .followers
                .entry(follower.node)
                .or_insert_with(|| Progress::new(now, log_end, None));
            progress.session = Some(session);
            progress.broker_epoch = Some(follower.broker_epoch);
            (progress.answers_rounds, progress.confirmed) = (follower.answers_rounds, 0);
        }
        self.on_follower_end(now, follower.node, session, position.end, out);
        Ok(Opening::Stream { session, from, ends: self.leader_ends() })
    }

    fn check_opening(&self, node: NodeId, expected: LeaderEpoch) -> Result<(), OpenError> {
        let leadership = match &self.role {
            RoleState::Offline => return Err(OpenError::Offline),
            RoleState::Leading(leadership) => leadership,
            RoleState::Idle | RoleState::Following(_) => return Err(OpenError::NotLeader),
        };
        let current = leadership.state.leader_epoch;
        if expected < current {
            return Err(OpenError::FencedLeaderEpoch { expected, current });
        }
        if expected > current {
            return Err(OpenError::UnknownLeaderEpoch { expected, current });
        }
        if node == self.node_id || !leadership.state.replicas.contains(&node) {
            return Err(OpenError::NotAReplica { node });
        }
        Ok(())
    }

    /// R21, R25: why nothing can be pushed to a follower at this position; `None` if its log is the
    /// beginning of this one, as far as both reach.
    fn diverges(
        &self,
        position: &Position,
        epoch_end: Option<(LeaderEpoch, Offset)>,
    ) -> Option<Opening> {
        let (log_start, log_end) = (self.log_start, self.log_end);
        let follower_end = position.end.log_end;
        if follower_end < log_start {
            return Some(Opening::OutOfRange { log_start, log_end });
        }
        // Where the leader's log starts, there is nothing to compare: what is below is deleted.
        if follower_end == log_start {
            return None;
        }
        match (position.last_epoch, epoch_end) {
            (Some(_), None) => {
                Some(Opening::Diverging(Divergence { leader_epoch: None, end_offset: log_start }))
            }
            (Some(last_epoch), Some((epoch, end_offset))) => {
                let diverges = epoch < last_epoch || end_offset < follower_end;
                let leader_epoch = Some(epoch);
                diverges.then_some(Opening::Diverging(Divergence { leader_epoch, end_offset }))
            }
            (None, _) => {
                (follower_end > log_end).then_some(Opening::OutOfRange { log_start, log_end })
            }
        }
    }

    /// A follower reports how far it has got, on the stream that was opened with
    /// [`Replica::on_follower_opened`]; reports of any other are ignored.
    pub fn on_follower_end(
        &mut self,
        now: Time,
        node: NodeId,
        session: FollowSession,
        end: ReplicaEnd,
        out: &mut Effects,
    ) {
        let end = ReplicaEnd { flushed_end: end.flushed_end.min(end.log_end), ..end };
        let (counted, log_end) = (self.counted(end), self.log_end);
        let Some(leadership) = self.leadership_mut() else { return };
        match leadership.followers.get_mut(&node) {
            Some(progress) if progress.session == Some(session) => {
                progress.end = end;
                progress.note(now, counted, log_end);
            }
            Some(_) | None => return,
        }
        self.expand_isr(now, Some(node), out);
        self.progress(now, out);
    }

    /// Below this, every assigned replica has told the leader of now, since it leads, that it has all of the log on
    /// disk, whatever the flush policy: nobody misses a record that is removed there. As far as this replica knows:
    /// a follower goes by what its leader has said in this epoch; zero: nothing is known. Within a leadership it
    /// goes back when a replica is added, which has nothing yet, and when one comes back with less than it had: its
    /// disk was replaced, and what it reads again must not lose its tombstones on the way.
    pub fn everyone_has(&self) -> Offset {
        match &self.role {
            RoleState::Leading(leadership) => leadership.everyone_has,
            RoleState::Following(following) => following.everyone_has.min(self.flushed_end),
            RoleState::Idle | RoleState::Offline => Offset::ZERO,
        }
    }

    /// Who was never heard in this leader epoch has reported nothing, so its end is zero.
    pub(super) fn note_who_has_what(&mut self) {
        let own = self.flushed_end;
        let node_id = self.node_id;
        let Some(leadership) = self.leadership_mut() else { return };
        let flushed = |node: &NodeId| match *node == node_id {
            true => own,
            false => leadership.end_of(*node).flushed_end.min(own),
        };
        let least = leadership.state.replicas.iter().map(flushed).min().unwrap_or_default();
        leadership.everyone_has = least;
    }

    /// What followers are told with every slice.
    pub fn leader_ends(&self) -> LeaderEnds {
        LeaderEnds {
            high_watermark: self.high_watermark,
            log_start: self.log_start,
            everyone_has: self.everyone_has(),
            tombstones_gone_below: self.tombstones_gone_here(),
        }
    }

    /// The follower's stream broke. In the ISR it still counts; outside of it, nobody waits for it now.
    pub fn on_follower_closed(
        &mut self,
        now: Time,
        node: NodeId,
        session: FollowSession,
        out: &mut Effects,
    ) {
        let Some(leadership) = self.leadership_mut() else { return };
        match leadership.followers.get_mut(&node) {
            Some(progress) if progress.session == Some(session) => progress.session = None,
            Some(_) | None => return,
        }
        self.progress(now, out);
    }

    /// Where a follower's log starts, if it has said so in this leader epoch.
    pub(super) fn follower_log_start(&self, node: NodeId) -> Option<Offset> {
        self.leadership().and_then(|leadership| leadership.end_of(node).log_start)
    }

    pub(super) fn has_open_stream(&self, node: NodeId) -> bool {
        let progress = self.leadership().and_then(|leading| leading.followers.get(&node));
        progress.is_some_and(|progress| progress.session.is_some())
    }

    /// The follower on the stream that it has in this leader epoch.
    pub(super) fn progress_of(
        &mut self,
        node: NodeId,
        session: FollowSession,
    ) -> Option<&mut Progress> {
        let progress = self.leadership_mut()?.followers.get_mut(&node);
        progress.filter(|progress| progress.session == Some(session))
    }

    /// Whether this is the stream that the follower has in this leader epoch. Nothing may be pushed on any
    /// other: the follower takes it for the log of the epoch in which it opened.
    pub fn has_stream(&self, node: NodeId, session: FollowSession) -> bool {
        let progress = self.leadership().and_then(|leading| leading.followers.get(&node));
        progress.is_some_and(|progress| progress.session == Some(session))
    }

    /// Before an append: who has everything now has been caught up until now, however long nothing came.
    pub(super) fn note_caught_up_followers(&mut self, now: Time) {
        let log_end = self.log_end;
        let counts_flushed = self.counts_flushed();
        let Some(leadership) = self.leadership_mut() else { return };
        for progress in leadership.followers.values_mut() {
            let end = progress.end;
            let counted = if counts_flushed { end.flushed_end } else { end.log_end };
            if counted >= log_end {
                progress.note(now, counted, log_end);
            }
        }
    }

    /// R6.
    pub(super) fn is_caught_up(&self, progress: &Progress, now: Time) -> bool {
        let within_lag = |last: Time| now <= last.plus(self.config.replica_lag_time_max_ms);
        self.counted(progress.end) >= self.log_end
            || progress.last_caught_up.is_some_and(within_lag)
    }

    pub(super) fn take_session(&mut self) -> FollowSession {
        self.next_session += 1;
        FollowSession(self.next_session - 1)
    }
}
