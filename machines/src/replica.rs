//! One replica of one partition, as a step machine: facts in, effects out.
//!
//! Owns what a replica knows beside its log: role, ISR, offsets, producers, and the answers that wait for
//! a commit. The actor owns the log, carries out the [`Effect`]s and reports what became of them.
//!
//! ```text
//!  log_start        high_watermark        flushed_end        log_end
//!      |  readable        |    replicating     |   not flushed   |  next offset
//!      +------------------+--------------------+-----------------+
//!  log_start <= last_stable_offset <= high_watermark <= log_end;  flushed_end <= log_end
//!  a leader with flush policy `commit` and itself in the ISR: high_watermark <= flushed_end
//! ```
//!
//! By subject: `role` (who leads, and stale news of it), `leading` (followers' streams), `isr` (who is in
//! sync, by agreement with the controller), `confirm` (whether it still leads), `following` (the leader's
//! log, taken over), `refill` (a log that cannot be filled on), `append_decision` (what may be appended), `deletion` (records deleted on request), `commit` (the high watermark, flushes, answers),
//! `reading` (which replica serves a reader), `producers` (duplicates), `transactions` (which are open), `verifying`
//! (how one opens), `marking` (how it ends), `last_stable` (up to where all have ended), `repair` (a damaged log, beside the machine). Their types: `append_types`, `replication_types`.
//!
//! Promises: a batch's offsets are fixed by [`Replica::decide_append`]; the high watermark moves back only
//! where a follower's log is truncated below it, which takes an unclean election, or begun anew (`refill`); every parked answer is given
//! exactly once, those of one partition in offset order.
//! Never here: I/O, a clock, the bytes of a record.

mod append_decision;
mod append_types;
mod commit;
mod confirm;
mod deletion;
mod following;
mod isr;
mod last_stable;
mod leading;
mod marking;
mod parked;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
#[cfg(feature = "planted-bugs")]
pub mod planted;
mod producers;
mod reading;
mod refill;
mod repair;
mod replication_types;
mod role;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod transactions;
mod verifying;

pub use append_types::{
    Acks, AppendDecision, AppendError, AppendFacts, Appended, Duplicate, Origin, ReplicaConfig,
    Token,
};
pub use confirm::ConfirmError;
pub use deletion::{DeleteUpTo, DeletionError};
pub use marking::MarkerDecision;
pub use producers::ProducerState;
pub use reading::{ReadDecision, ReadFacts, Reader, ServeError};
pub use repair::{Conclusion, Repair, has_others};
pub use replication_types::{
    AlterPartition, AlterPartitionError, CommittedIsr, Divergence, FollowSession, Follower,
    FollowerState, IsrMember, LeaderEnds, OpenError, Opening, PartitionState, Position,
    ReplicationEffect, SliceError,
};

pub use transactions::Completed;
pub use verifying::Verification;

use crate::time::Time;
use deletion::Deletion;
use parked::{Parked, Waiting};
use planted::Bugs;
use producers::Producers;
use role::RoleState;
use std::collections::BTreeSet;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset, PartitionKey};
use troupe_proto::log::v1::ProducerSnapshot;
use verifying::Verifying;

/// What the actor has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Give the answer that waits under this token.
    Answer { token: Token, result: Result<Appended, AppendError> },
    /// The answer to [`Replica::confirm`]: this replica led when it was asked, or why nobody knows.
    Confirmed { token: Token, result: Result<(), ConfirmError> },
    /// The answer to [`Replica::delete_records`]: the lowest log start of the in-sync replicas, or why it is not known
    /// that all of them have deleted the records.
    Deleted { token: Token, result: Result<Offset, DeletionError> },
    /// Flush the log, then tell [`Replica::on_flushed`]. At most one is under way.
    Flush,
    /// Readers may see records below this offset now; those of committed records, up to
    /// [`Replica::last_stable_offset`] of now.
    HighWatermark(Offset),
    /// Readers of committed records may see those below this offset now. The high watermark has not moved.
    LastStable(Offset),
    /// A transaction has ended by a marker that stands in the log now. If it was aborted, the log notes it.
    Completed(Completed),
    /// The log keeps where each leader epoch starts (R2).
    LeaderEpochStarted { leader_epoch: LeaderEpoch, start_offset: Offset },
    /// Between replicas, or with the controller. A leader that was told by [`Replica::become_leader`] and
    /// has no followers gives none of these.
    Replication(ReplicationEffect),
}

pub type Effects = Vec<Effect>;

/// The log's offsets as recovery found them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    pub log_start: Offset,
    /// As checkpointed; it may lie outside of the log after a crash and is then put inside.
    pub high_watermark: Offset,
    pub flushed_end: Offset,
    pub log_end: Offset,
}

/// What the controller says of a partition that this node leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderState {
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<NodeId>,
    pub isr: Vec<NodeId>,
}

/// How far another replica has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaEnd {
    pub log_end: Offset,
    pub flushed_end: Offset,
    /// Where its log starts. None: nothing was heard of it, or it is of an earlier version, which does not say.
    pub log_start: Option<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nobody leads, or nobody has said yet who does.
    Idle,
    Leader,
    Follower,
    /// The disk failed. Only a new replica, made from the disk, can do anything again.
    Offline,
}

#[derive(Clone, Debug)]
pub struct Replica {
    key: PartitionKey,
    node_id: NodeId,
    config: ReplicaConfig,
    role: RoleState,
    /// The newest leader epoch that this replica has been told of or has found in its log (R1).
    newest_epoch: Option<LeaderEpoch>,
    /// Names the next stream, of either direction.
    next_session: u64,
    log_start: Offset,
    high_watermark: Offset,
    flushed_end: Offset,
    log_end: Offset,
    flush_in_flight: bool,
    /// As the log says: see `refill`.
    tombstones_gone_below: Offset,
    producers: Producers,
    /// Of this leadership.
    verifying: Verifying,
    parked: Parked,
    deletions: Vec<Deletion>,
    bugs: Bugs,
}

impl Replica {
    /// A replica of an empty log; [`Replica::restore`] comes next if there is one on disk.
    pub fn new(key: PartitionKey, node_id: NodeId, config: ReplicaConfig) -> Replica {
        Replica {
            key,
            node_id,
            config,
            role: RoleState::Idle,
            newest_epoch: None,
            next_session: 1,
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            flushed_end: Offset::ZERO,
            log_end: Offset::ZERO,
            flush_in_flight: false,
            tombstones_gone_below: Offset::ZERO,
            producers: Producers::default(),
            verifying: Verifying::default(),
            parked: Parked::default(),
            deletions: Vec::new(),
            bugs: Bugs::NONE,
        }
    }

    /// Takes over what recovery found, before anything else. Batches behind the snapshot follow through
    /// [`Replica::on_recovered_batch`].
    pub fn restore(&mut self, ends: LogEnds, snapshot: Option<&ProducerSnapshot>) {
        assert!(self.leadership().is_none(), "a leader's log is not replaced");
        assert!(ends.log_start <= ends.log_end, "a log starts before it ends");
        self.log_start = ends.log_start;
        self.log_end = ends.log_end;
        self.flushed_end = ends.flushed_end.clamp(ends.log_start, ends.log_end);
        self.high_watermark = ends.high_watermark.clamp(ends.log_start, ends.log_end);
        self.restore_producers(snapshot);
        self.check();
    }

    fn restore_producers(&mut self, snapshot: Option<&ProducerSnapshot>) {
        let known = snapshot.filter(|snapshot| Producers::knows(snapshot));
        self.producers = known.map(Producers::from_snapshot).unwrap_or_default();
        self.producers.on_committed(self.high_watermark);
    }

    /// Whether this version knows all that a snapshot says. One that it does not know counts as none: the log is
    /// replayed from before it.
    pub fn knows_snapshot(snapshot: &ProducerSnapshot) -> bool {
        Producers::knows(snapshot)
    }

    /// A batch of the log, read back. `now` counts as the time of its append, because the batch's own
    /// timestamps are the producer's: a producer gets its day again rather than too little (I9, I10). Given out: the
    /// transaction that it ends, for the log to note if it was aborted.
    pub fn on_recovered_batch(&mut self, now: Time, header: &BatchHeader) -> Option<Completed> {
        assert!(header.end_offset() <= self.log_end, "a batch beyond the end of its log");
        self.newest_epoch = self.newest_epoch.max(Some(header.leader_epoch));
        let completed = self.producers.record(now, header, self.settled_end());
        self.producers.on_committed(self.high_watermark);
        completed
    }

    /// The epoch of the log's last batch: news of an older one is stale, and in this one the replica does not
    /// lead again by [`Replica::on_partition_state`]. After [`Replica::restore`].
    pub fn restore_leader_epoch(&mut self, last_epoch: Option<LeaderEpoch>) {
        self.newest_epoch = self.newest_epoch.max(last_epoch);
    }

    pub fn reconfigure(&mut self, now: Time, config: ReplicaConfig, out: &mut Effects) {
        self.config = config;
        self.progress(now, out);
    }

    /// The batch stands in the log. With acks none there is no answer: it was given before.
    pub fn on_appended(
        &mut self,
        now: Time,
        header: &BatchHeader,
        acks: Acks,
        token: Token,
        deadline: Time,
        out: &mut Effects,
    ) {
        assert_eq!(header.base_offset, self.log_end, "a batch is appended where the log ends");
        assert_eq!(Some(header.leader_epoch), self.leader_epoch(), "only the leader appends");
        self.note_caught_up_followers(now);
        self.log_end = header.end_offset();
        if let Some(stamp) = header.producer {
            if header.attributes.is_transactional() && header.marker().is_none() {
                self.verifying.end(stamp.id);
            }
            let completed = self.producers.record(now, header, self.settled_end());
            out.extend(completed.map(Effect::Completed));
        }
        let appended = Appended {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            log_append_time: self.log_append_time(header.max_timestamp),
            log_start: self.log_start,
            duplicate: false,
        };
        self.answer_or_park(acks, Waiting { token, deadline, appended }, out);
        self.progress(now, out);
    }

    /// The batch stands in the log already. It may not be committed yet: with acks all, its second answer
    /// waits just as the first.
    pub fn on_duplicate(
        &mut self,
        now: Time,
        duplicate: Duplicate,
        acks: Acks,
        token: Token,
        deadline: Time,
        out: &mut Effects,
    ) {
        assert!(duplicate.end_offset <= self.log_end, "a duplicate is in the log");
        let appended = Appended {
            base_offset: duplicate.base_offset,
            end_offset: duplicate.end_offset,
            log_append_time: self.log_append_time(duplicate.timestamp),
            log_start: self.log_start,
            duplicate: true,
        };
        self.answer_or_park(acks, Waiting { token, deadline, appended }, out);
        self.progress(now, out);
    }

    /// Everything below `flushed_end` is on disk. Ends the flush that [`Effect::Flush`] asked for, also if
    /// the log had nothing to flush.
    pub fn on_flushed(&mut self, now: Time, flushed_end: Offset, out: &mut Effects) {
        assert!(flushed_end <= self.log_end, "what is flushed was appended before");
        self.flush_in_flight = false;
        self.flushed_end = self.flushed_end.max(flushed_end);
        self.progress(now, out);
    }

    /// Records below `log_start` are gone: retention, or deleted on request. Only committed ones ever are.
    pub fn on_log_start(&mut self, now: Time, log_start: Offset, out: &mut Effects) {
        assert!(log_start <= self.high_watermark, "only committed records are deleted");
        let stable = self.last_stable_offset();
        self.log_start = self.log_start.max(log_start);
        self.flushed_end = self.flushed_end.max(self.log_start);
        self.tell_last_stable(stable, out);
        self.progress(now, out);
    }

    /// Gives up on answers whose time has come (P16), forgets silent producers (I9), looks for followers that
    /// lag (R7), and tries again what failed.
    pub fn on_tick(&mut self, now: Time, out: &mut Effects) {
        for waiting in self.parked.expire(now) {
            let base_offset = waiting.appended.base_offset;
            let result = Err(AppendError::TimedOut { base_offset });
            out.push(Effect::Answer { token: waiting.token, result });
        }
        self.expire_questions(now, out);
        self.expire_deletions(now, out);
        self.producers.expire(now, self.config.producer_id_expiration_ms);
        self.tick_isr(now, out);
        self.tick_following(now, out);
        self.progress(now, out);
    }

    /// When [`Replica::on_tick`] has something to do next; `None` for an idle replica.
    pub fn next_tick(&self) -> Option<Time> {
        let own = [self.parked.earliest_deadline(), self.producers.next_expiry_check()];
        let others =
            [self.next_isr_tick(), self.next_following_tick(), self.next_question_deadline()];
        let deletions = [self.next_deletion_deadline()];
        own.into_iter().chain(others).chain(deletions).flatten().min()
    }

    /// A follower's log was truncated to agree with its leader's (R22). The producers start again from the
    /// newest snapshot that is left; [`Replica::on_recovered_batch`] brings the batches behind it, and
    /// [`Replica::continue_following`] ends it.
    pub fn on_truncated(&mut self, log_end: Offset, snapshot: Option<&ProducerSnapshot>) {
        assert!(self.leadership().is_none(), "a leader's log is not cut");
        assert!(log_end >= self.log_start, "a log is not cut below its start");
        self.log_end = log_end.min(self.log_end);
        self.flushed_end = self.flushed_end.min(self.log_end);
        self.high_watermark = self.high_watermark.min(self.log_end);
        self.cut_tombstones_gone();
        self.restore_producers(snapshot);
        self.check();
    }

    /// What the log keeps beside its segments, so that replay need not start from the beginning.
    pub fn snapshot(&self) -> ProducerSnapshot {
        self.producers.snapshot()
    }

    /// The ruler at the top of this file. Held in production too.
    fn check(&self) {
        assert!(self.log_start <= self.high_watermark, "log start above the high watermark");
        assert!(self.high_watermark <= self.log_end, "high watermark above the log's end");
        assert!(self.flushed_end <= self.log_end, "flushed beyond the log's end");
    }
}

impl Replica {
    pub fn key(&self) -> &PartitionKey {
        &self.key
    }

    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    pub fn role(&self) -> Role {
        match self.role {
            RoleState::Idle => Role::Idle,
            RoleState::Leading(_) => Role::Leader,
            RoleState::Following(_) => Role::Follower,
            RoleState::Offline => Role::Offline,
        }
    }

    /// The epoch in which this replica leads; `None` if it does not.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.leadership().map(|leadership| leadership.state.leader_epoch)
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether the high watermark is the end of what is committed, and not of what this replica had heard of before
    /// it led: until the in-sync replicas have reported, earlier leaders may have committed more.
    pub fn knows_what_is_committed(&self) -> bool {
        self.leadership().is_none_or(|leadership| self.high_watermark >= leadership.epoch_start)
    }

    pub fn flushed_end(&self) -> Offset {
        self.flushed_end
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// How many answers wait.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Where the batches begin by which this replica knows its producers, or will if its log is truncated. Cleaning keeps
    /// at least their headers: who replays the log after it knows the same producers (S24).
    pub fn remembered_batches(&self) -> BTreeSet<Offset> {
        self.producers.remembered()
    }

    /// Its log never ends below, but by an unclean election: it is on disk, and committed.
    fn settled_end(&self) -> Offset {
        self.flushed_end.min(self.high_watermark)
    }

    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// What is known of the partition's producers, by id.
    pub fn producers(&self) -> impl Iterator<Item = ProducerState> {
        self.producers.states()
    }
}
