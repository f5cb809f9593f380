//! Who is in sync (R6–R9): the leader asks, the controller decides, and only what is committed counts; only
//! the high watermark waits for a replica from the moment that it may be in the ISR.

use super::leading::Leadership;
use super::planted::Bug;
use super::{
    AlterPartition, AlterPartitionError, CommittedIsr, Effect, Effects, IsrMember, Replica,
    ReplicationEffect,
};
use crate::time::Time;
use troupe_proto::ids::{NodeId, PartitionEpoch};

/// How long a leader waits before it asks an unavailable controller again.
const RETRY_MS: u64 = 100;
/// How long a leader keeps a refusal in mind. The news that lifts it may have come before the refusal did.
const REFUSED_MS: u64 = 1_000;

/// A request that may come into effect.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub request: AlterPartition,
    state: PendingState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingState {
    /// The actor has it.
    InFlight,
    RetryAt(Time),
    /// It was refused as stale, perhaps because it had been committed before: news will tell.
    AwaitingNews,
}

impl Leadership {
    /// The ISR that was asked for, as long as it may come into effect.
    pub fn requested(&self) -> Option<&AlterPartition> {
        let pending = self.managed.as_ref()?.pending.as_ref()?;
        Some(&pending.request)
    }

    fn request(&mut self, isr: Vec<NodeId>, out: &mut Effects) {
        let member = |node: NodeId| IsrMember {
            node,
            broker_epoch: self.followers.get(&node).and_then(|progress| progress.broker_epoch()),
        };
        let isr = isr.into_iter().map(member).collect();
        let leader_epoch = self.state.leader_epoch;
        let Some(managed) = &mut self.managed else { return };
        assert!(managed.pending.is_none(), "one request at a time");
        let partition_epoch = managed.partition_epoch;
        let request = AlterPartition { leader_epoch, partition_epoch, isr };
        managed.pending = Some(Pending { request: request.clone(), state: PendingState::InFlight });
        out.push(Effect::Replication(ReplicationEffect::AlterPartition(request)));
    }

    fn may_request(&self) -> bool {
        self.managed
            .as_ref()
            .is_some_and(|managed| managed.pending.is_none() && managed.refused_until.is_none())
    }
}

impl Replica {
    /// The controller's answer to the request with these epochs. Answers to requests that are settled
    /// already are ignored.
    pub fn on_alter_partition_answer(
        &mut self,
        now: Time,
        request: &AlterPartition,
        result: Result<CommittedIsr, AlterPartitionError>,
        out: &mut Effects,
    ) {
        let forgets = self.bugs.has(Bug::ForgetStaleRequest);
        let Some(leadership) = self.leadership_mut() else { return };
        if leadership.requested() != Some(request) {
            return;
        }
        let Some(managed) = &mut leadership.managed else { return };
        match result {
            Ok(committed) => leadership.adopt(&committed),
            Err(AlterPartitionError::FencedLeaderEpoch) => {
                self.resign(out);
                return;
            }
            // Checked after the partition epoch, so the request has not been done before either.
            Err(AlterPartitionError::IneligibleReplica | AlterPartitionError::InvalidRequest) => {
                managed.pending = None;
                managed.refused_until = Some(now.plus(REFUSED_MS));
            }
            Err(AlterPartitionError::StalePartitionEpoch) if forgets => managed.pending = None,
            Err(AlterPartitionError::StalePartitionEpoch) => {
                managed.set_pending(PendingState::AwaitingNews);
            }
            Err(AlterPartitionError::Unavailable) => {
                managed.set_pending(PendingState::RetryAt(now.plus(RETRY_MS)));
            }
        }
        self.answer_if_too_few(out);
        self.expand_isr(now, None, out);
        self.progress(now, out);
    }

    /// R8: who has all that is committed, and all that may have been when this epoch began, may join. The
    /// leader's own high watermark can lag behind what an earlier leader has committed (KAFKA-7128), so it
    /// alone does not do. Looked at when a follower reports; and at other times only for those that keep up,
    /// or one that stands still at the high watermark would come back as soon as it has left.
    pub(super) fn expand_isr(&mut self, now: Time, reports: Option<NodeId>, out: &mut Effects) {
        let early = self.bugs.has(Bug::JoinTooEarly);
        let high_watermark = self.high_watermark;
        let Some(leadership) = self.leadership().filter(|leadership| leadership.may_request())
        else {
            return;
        };
        let has_enough = |node: NodeId| {
            let end = self.counted(leadership.end_of(node));
            early || (end >= high_watermark && end >= leadership.epoch_start)
        };
        let is_alive = |node: NodeId| {
            let progress = leadership.followers.get(&node);
            reports == Some(node)
                || progress.is_some_and(|progress| self.is_caught_up(progress, now))
        };
        let joins =
            |node: &NodeId| leadership.may_join(*node) && is_alive(*node) && has_enough(*node);
        let joining: Vec<_> = leadership.state.replicas.iter().copied().filter(joins).collect();
        if !joining.is_empty() {
            let isr = leadership.state.isr.iter().copied().chain(joining).collect();
            self.ask_for(isr, out);
        }
    }

    /// R7: who has lagged for too long leaves. Never the leader itself.
    fn shrink_isr(&mut self, now: Time, out: &mut Effects) {
        let Some(leadership) = self.leadership().filter(|leadership| leadership.may_request())
        else {
            return;
        };
        let keeps_up = |node: &NodeId| {
            let progress = leadership.followers.get(node);
            *node == self.node_id
                || progress.is_some_and(|progress| self.is_caught_up(progress, now))
        };
        let isr: Vec<_> = leadership.state.isr.iter().copied().filter(keeps_up).collect();
        if isr.len() < leadership.state.isr.len() {
            self.ask_for(isr, out);
        }
    }

    fn ask_for(&mut self, isr: Vec<NodeId>, out: &mut Effects) {
        assert!(isr.contains(&self.node_id), "a leader is in its own ISR");
        if let Some(leadership) = self.leadership_mut() {
            leadership.request(isr, out);
        }
    }

    pub(super) fn schedule_isr_check(&mut self, now: Time) {
        let wait = self.config.replica_lag_time_max_ms / 2;
        if let Some(managed) = self.leadership_mut().and_then(|leading| leading.managed.as_mut()) {
            managed.next_check = now.plus(wait);
        }
    }

    /// R7: every half of the allowed lag, so that a follower leaves between one and one and a half of it.
    pub(super) fn tick_isr(&mut self, now: Time, out: &mut Effects) {
        let Some(managed) = self.leadership_mut().and_then(|leading| leading.managed.as_mut())
        else {
            return;
        };
        if let Some(pending) = &mut managed.pending
            && matches!(pending.state, PendingState::RetryAt(at) if at <= now)
        {
            pending.state = PendingState::InFlight;
            let request = pending.request.clone();
            out.push(Effect::Replication(ReplicationEffect::AlterPartition(request)));
        }
        let forgives = managed.refused_until.is_some_and(|until| until <= now);
        if forgives {
            managed.refused_until = None;
        }
        if managed.next_check <= now {
            self.schedule_isr_check(now);
            self.shrink_isr(now, out);
        }
        if forgives {
            self.expand_isr(now, None, out);
        }
    }

    pub(super) fn next_isr_tick(&self) -> Option<Time> {
        let leadership = self.leadership()?;
        let managed = leadership.managed.as_ref()?;
        let retry = managed.pending.as_ref().and_then(|pending| match pending.state {
            PendingState::RetryAt(at) => Some(at),
            PendingState::InFlight | PendingState::AwaitingNews => None,
        });
        let check = (leadership.state.isr.len() > 1).then_some(managed.next_check);
        [retry, managed.refused_until, check].into_iter().flatten().min()
    }

    /// The partition epoch of the ISR that this leader goes by; `None` if it does not lead, or nobody
    /// manages the ISR.
    pub fn partition_epoch(&self) -> Option<PartitionEpoch> {
        Some(self.leadership()?.managed.as_ref()?.partition_epoch)
    }

    /// The committed ISR that this leader goes by.
    pub fn isr(&self) -> Option<&[NodeId]> {
        self.leadership().map(|leadership| leadership.state.isr.as_slice())
    }
}

impl super::leading::ManagedIsr {
    fn set_pending(&mut self, state: PendingState) {
        if let Some(pending) = &mut self.pending {
            pending.state = state;
        }
    }
}
