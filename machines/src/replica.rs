//! One replica of one partition, as a step machine: facts in, effects out.
//!
//! Owns what a replica knows beside its log: role, ISR, offsets, producers, and the answers that wait for
//! a commit. The actor owns the log, carries out the [`Effect`]s and reports what became of them.
//!
//! ```text
//!  log_start        high_watermark        flushed_end        log_end
//!      |  readable        |    replicating     |   not flushed   |  next offset
//!      +------------------+--------------------+-----------------+
//!  log_start <= high_watermark <= log_end;  flushed_end <= log_end
//!  a leader with flush policy `commit` and itself in the ISR: high_watermark <= flushed_end
//! ```
//!
//! Promises: a batch's offsets are fixed by [`Replica::decide_append`]; the high watermark never moves back
//! on a leader; every parked answer is given exactly once, those of one partition in offset order.
//! Never here: I/O, a clock, the bytes of a record.

mod append;
mod decide;
mod parked;
mod producers;
#[cfg(test)]
mod tests;

pub use append::{
    Acks, AppendDecision, AppendError, AppendFacts, Appended, Duplicate, Origin, ReplicaConfig,
    Token,
};

use crate::config::{FlushPolicy, TimestampType};
use crate::time::Time;
use parked::{Parked, Waiting};
use producers::Producers;
use std::collections::BTreeMap;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset, PartitionKey};
use troupe_proto::log::v1::ProducerSnapshot;

/// What the actor has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Give the answer that waits under this token.
    Answer { token: Token, result: Result<Appended, AppendError> },
    /// Flush the log, then tell [`Replica::on_flushed`]. At most one is under way.
    Flush,
    /// Readers may see records below this offset now.
    HighWatermark(Offset),
    /// The log keeps where each leader epoch starts (R2).
    LeaderEpochStarted { leader_epoch: LeaderEpoch, start_offset: Offset },
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nobody has said yet who leads, or another node does.
    Idle,
    Leader,
    /// The disk failed. Only a new replica, made from the disk, can do anything again.
    Offline,
}

#[derive(Clone, Debug)]
struct Leadership {
    state: LeaderState,
    /// Followers that have reported in this leader epoch.
    followers: BTreeMap<NodeId, ReplicaEnd>,
}

#[derive(Clone, Debug)]
pub struct Replica {
    key: PartitionKey,
    node_id: NodeId,
    config: ReplicaConfig,
    leadership: Option<Leadership>,
    offline: bool,
    log_start: Offset,
    high_watermark: Offset,
    flushed_end: Offset,
    log_end: Offset,
    flush_in_flight: bool,
    producers: Producers,
    parked: Parked,
}

impl Replica {
    /// A replica of an empty log; [`Replica::restore`] comes next if there is one on disk.
    pub fn new(key: PartitionKey, node_id: NodeId, config: ReplicaConfig) -> Replica {
        Replica {
            key,
            node_id,
            config,
            leadership: None,
            offline: false,
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            flushed_end: Offset::ZERO,
            log_end: Offset::ZERO,
            flush_in_flight: false,
            producers: Producers::default(),
            parked: Parked::default(),
        }
    }

    /// Takes over what recovery found, before anything else. Batches behind the snapshot follow through
    /// [`Replica::on_recovered_batch`].
    pub fn restore(&mut self, ends: LogEnds, snapshot: Option<&ProducerSnapshot>) {
        assert!(self.leadership.is_none(), "a leader's log is not replaced");
        assert!(ends.log_start <= ends.log_end, "a log starts before it ends");
        self.log_start = ends.log_start;
        self.log_end = ends.log_end;
        self.flushed_end = ends.flushed_end.clamp(ends.log_start, ends.log_end);
        self.high_watermark = ends.high_watermark.clamp(ends.log_start, ends.log_end);
        self.producers = snapshot.map(Producers::from_snapshot).unwrap_or_default();
        self.check();
    }

    /// A batch of the log, read back. `now` counts as the time of its append, because the batch's own
    /// timestamps are the producer's: a producer gets its day again rather than too little (I9, I10).
    pub fn on_recovered_batch(&mut self, now: Time, header: &BatchHeader) {
        assert!(header.end_offset() <= self.log_end, "a batch beyond the end of its log");
        self.producers.record(now, header);
    }

    /// Starts a new leader epoch here, or brings a new ISR in the current one. An older epoch is news that
    /// has been overtaken and changes nothing.
    pub fn become_leader(&mut self, _now: Time, state: LeaderState, out: &mut Effects) {
        if self.offline || self.leader_epoch().is_some_and(|epoch| state.leader_epoch < epoch) {
            return;
        }
        match &mut self.leadership {
            Some(leadership) if leadership.state.leader_epoch == state.leader_epoch => {
                leadership.state = state;
            }
            Some(_) | None => {
                let leader_epoch = state.leader_epoch;
                self.leadership = Some(Leadership { state, followers: BTreeMap::new() });
                let start_offset = self.log_end;
                out.push(Effect::LeaderEpochStarted { leader_epoch, start_offset });
            }
        }
        self.answer_if_too_few(out);
        self.progress(out);
    }

    /// Stops leading, because another node does or this one stops: what is parked may still be committed
    /// by the next leader.
    pub fn resign(&mut self, out: &mut Effects) {
        self.leadership = None;
        self.fail_parked(AppendError::OutcomeUnknown, out);
        self.check();
    }

    pub fn reconfigure(&mut self, _now: Time, config: ReplicaConfig, out: &mut Effects) {
        self.config = config;
        self.progress(out);
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
        self.log_end = header.end_offset();
        self.producers.record(now, header);
        let appended = Appended {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            log_append_time: self.log_append_time(header.max_timestamp),
            log_start: self.log_start,
            duplicate: false,
        };
        self.answer_or_park(acks, Waiting { token, deadline, appended }, out);
        self.progress(out);
    }

    /// The batch stands in the log already. It may not be committed yet: with acks all, its second answer
    /// waits just as the first.
    pub fn on_duplicate(
        &mut self,
        _now: Time,
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
        self.progress(out);
    }

    /// Everything below `flushed_end` is on disk. Ends the flush that [`Effect::Flush`] asked for, also if
    /// the log had nothing to flush.
    pub fn on_flushed(&mut self, _now: Time, flushed_end: Offset, out: &mut Effects) {
        assert!(flushed_end <= self.log_end, "what is flushed was appended before");
        self.flush_in_flight = false;
        self.flushed_end = self.flushed_end.max(flushed_end);
        self.progress(out);
    }

    /// A follower reports how far it has got in this leader epoch.
    pub fn on_follower_end(
        &mut self,
        _now: Time,
        node: NodeId,
        end: ReplicaEnd,
        out: &mut Effects,
    ) {
        if let Some(leadership) = &mut self.leadership {
            leadership.followers.insert(node, end);
            self.progress(out);
        }
    }

    /// Records below `log_start` are gone: retention, or deleted on request. Only committed ones ever are.
    pub fn on_log_start(&mut self, log_start: Offset) {
        assert!(log_start <= self.high_watermark, "only committed records are deleted");
        self.log_start = self.log_start.max(log_start);
        self.flushed_end = self.flushed_end.max(self.log_start);
        self.check();
    }

    /// Gives up on answers whose time has come, and forgets silent producers (P16, I9).
    pub fn on_tick(&mut self, now: Time, out: &mut Effects) {
        for waiting in self.parked.expire(now) {
            let base_offset = waiting.appended.base_offset;
            let result = Err(AppendError::TimedOut { base_offset });
            out.push(Effect::Answer { token: waiting.token, result });
        }
        self.producers.expire(now, self.config.producer_id_expiration_ms);
        self.check();
    }

    /// When [`Replica::on_tick`] has something to do next; `None` for an idle replica.
    pub fn next_tick(&self) -> Option<Time> {
        [self.parked.earliest_deadline(), self.producers.next_expiry_check()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A write or a flush failed: what is parked may or may not be on disk, and nothing more is promised.
    pub fn on_storage_failure(&mut self, out: &mut Effects) {
        self.offline = true;
        self.leadership = None;
        self.fail_parked(AppendError::StorageFailure, out);
        self.check();
    }

    /// A follower's log was cut to agree with its leader's (R22). The producers start again from the
    /// newest snapshot that is left; [`Replica::on_recovered_batch`] brings the batches behind it.
    pub fn on_truncated(&mut self, log_end: Offset, snapshot: Option<&ProducerSnapshot>) {
        assert!(self.leadership.is_none(), "a leader's log is not cut");
        assert!(log_end >= self.log_start, "a log is not cut below its start");
        self.log_end = log_end.min(self.log_end);
        self.flushed_end = self.flushed_end.min(self.log_end);
        self.high_watermark = self.high_watermark.min(self.log_end);
        self.producers = snapshot.map(Producers::from_snapshot).unwrap_or_default();
        self.check();
    }

    /// What the log keeps beside its segments, so that replay need not start from the beginning.
    pub fn snapshot(&self) -> ProducerSnapshot {
        self.producers.snapshot()
    }

    fn log_append_time(&self, timestamp: i64) -> Option<i64> {
        (self.config.timestamp_type == TimestampType::LogAppendTime).then_some(timestamp)
    }

    fn answer_or_park(&mut self, acks: Acks, waiting: Waiting, out: &mut Effects) {
        match acks {
            Acks::None => {}
            Acks::Leader => {
                let result = Ok(waiting.appended);
                out.push(Effect::Answer { token: waiting.token, result });
            }
            Acks::All if waiting.appended.end_offset <= self.high_watermark => {
                let result = Ok(waiting.appended);
                out.push(Effect::Answer { token: waiting.token, result });
            }
            Acks::All => self.parked.park(waiting),
        }
    }

    /// P15: what waits while too few are in sync is in the log, and may be committed later.
    fn answer_if_too_few(&mut self, out: &mut Effects) {
        let Some(Err(AppendError::NotEnoughReplicas { in_sync, required })) =
            self.leadership.as_ref().map(|leadership| self.enough_replicas(leadership))
        else {
            return;
        };
        self.fail_parked(AppendError::NotEnoughReplicasAfterAppend { in_sync, required }, out);
    }

    fn fail_parked(&mut self, error: AppendError, out: &mut Effects) {
        for waiting in self.parked.drain() {
            out.push(Effect::Answer { token: waiting.token, result: Err(error.clone()) });
        }
    }

    /// What follows from any change: a flush, a higher watermark, answers.
    fn progress(&mut self, out: &mut Effects) {
        let unflushed = self.flushed_end < self.log_end;
        let leads = self.leadership.is_some();
        if leads && self.counts_flushed() && unflushed && !self.flush_in_flight {
            self.flush_in_flight = true;
            out.push(Effect::Flush);
        }
        if let Some(end) = self.committed_end()
            && end > self.high_watermark
        {
            self.high_watermark = end;
            out.push(Effect::HighWatermark(end));
            while let Some(waiting) = self.parked.release(end) {
                out.push(Effect::Answer { token: waiting.token, result: Ok(waiting.appended) });
            }
        }
        self.check();
    }

    fn counts_flushed(&self) -> bool {
        self.config.flush_policy == FlushPolicy::Commit
    }

    /// The end that every in-sync replica has, as the flush policy counts. It stands still while fewer are
    /// in sync than required (R3).
    fn committed_end(&self) -> Option<Offset> {
        let leadership = self.leadership.as_ref()?;
        let isr = &leadership.state.isr;
        if (isr.len() as u32) < self.required_replicas(leadership) {
            return None;
        }
        let own = ReplicaEnd { log_end: self.log_end, flushed_end: self.flushed_end };
        let counted = |node: &NodeId| {
            let end = if *node == self.node_id {
                own
            } else {
                leadership.followers.get(node).copied().unwrap_or_default()
            };
            let counted = if self.counts_flushed() { end.flushed_end } else { end.log_end };
            counted.min(self.log_end)
        };
        isr.iter().map(counted).min()
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
        match (self.offline, &self.leadership) {
            (true, _) => Role::Offline,
            (false, Some(_)) => Role::Leader,
            (false, None) => Role::Idle,
        }
    }

    /// The epoch in which this replica leads; `None` if it does not.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.leadership.as_ref().map(|leadership| leadership.state.leader_epoch)
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
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

    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }
}
