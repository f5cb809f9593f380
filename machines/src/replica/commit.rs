//! The high watermark, the flushes it needs, and the answers it sets free.

use super::leading::Leadership;
use super::parked::Waiting;
use super::planted::Bug;
use super::{Acks, AppendError, Effect, Effects, Replica, ReplicaEnd};
use crate::config::{FlushPolicy, TimestampType};
use crate::time::Time;
use troupe_proto::ids::{NodeId, Offset};

impl Replica {
    pub(super) fn log_append_time(&self, timestamp: i64) -> Option<i64> {
        (self.config.timestamp_type == TimestampType::LogAppendTime).then_some(timestamp)
    }

    pub(super) fn answer_or_park(&mut self, acks: Acks, waiting: Waiting, out: &mut Effects) {
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
    pub(super) fn answer_if_too_few(&mut self, out: &mut Effects) {
        let Some(Err(AppendError::NotEnoughReplicas { in_sync, required })) =
            self.leadership().map(|leadership| self.enough_replicas(leadership))
        else {
            return;
        };
        self.fail_parked(AppendError::NotEnoughReplicasAfterAppend { in_sync, required }, out);
    }

    pub(super) fn fail_parked(&mut self, error: AppendError, out: &mut Effects) {
        for waiting in self.parked.drain() {
            out.push(Effect::Answer { token: waiting.token, result: Err(error.clone()) });
        }
    }

    /// What follows from any change: a flush, a higher watermark, answers, a report to the leader.
    pub(super) fn progress(&mut self, now: Time, out: &mut Effects) {
        self.flush_if_needed(out);
        if let Some(end) = self.committed_end(now) {
            self.raise_high_watermark(end, out);
        }
        self.note_who_has_what();
        self.report_end(out);
        self.settle_questions(out);
        self.settle_deletions(out);
        self.check();
    }

    fn flush_if_needed(&mut self, out: &mut Effects) {
        let unflushed = self.flushed_end < self.log_end;
        let has_role = self.leadership().is_some() || self.following().is_some();
        if has_role && self.counts_flushed() && unflushed && !self.flush_in_flight {
            self.flush_in_flight = true;
            out.push(Effect::Flush);
        }
    }

    pub(super) fn raise_high_watermark(&mut self, end: Offset, out: &mut Effects) {
        if end <= self.high_watermark {
            return;
        }
        self.high_watermark = end;
        self.producers.on_committed(end);
        out.push(Effect::HighWatermark(end));
        while let Some(waiting) = self.parked.release(end) {
            out.push(Effect::Answer { token: waiting.token, result: Ok(waiting.appended) });
        }
    }

    pub(super) fn counts_flushed(&self) -> bool {
        self.config.flush_policy == FlushPolicy::Commit
    }

    /// The end of a replica that counts for commits, for being caught up, and for joining the ISR: with
    /// policy `commit` only what is on its disk.
    pub(super) fn counted(&self, end: ReplicaEnd) -> Offset {
        let counted = if self.counts_flushed() { end.flushed_end } else { end.log_end };
        counted.min(self.log_end)
    }

    pub(super) fn own_end(&self) -> ReplicaEnd {
        ReplicaEnd {
            log_end: self.log_end,
            flushed_end: self.flushed_end,
            log_start: Some(self.log_start),
        }
    }

    /// R3: the end that every replica has which is in sync, or may be by now. It stands still while fewer
    /// are in sync than required.
    fn committed_end(&self, now: Time) -> Option<Offset> {
        let leadership = self.leadership()?;
        let isr = &leadership.state.isr;
        if (isr.len() as u32) < self.required_replicas(leadership) {
            return None;
        }
        let requested: &[_] = match leadership.requested() {
            Some(request) if !self.bugs.has(Bug::IgnorePendingExpansion) => &request.isr,
            Some(_) | None => &[],
        };
        let maximal = isr.iter().copied().chain(requested.iter().map(|member| member.node));
        let joining = self.about_to_join(leadership, now);
        let counted = |node| {
            let end = if node == self.node_id { self.own_end() } else { leadership.end_of(node) };
            self.counted(end)
        };
        maximal.chain(joining).map(counted).min()
    }

    /// R3: who is caught up and may join the ISR is waited for, or a leader that never rests would stay
    /// ahead of it for ever.
    fn about_to_join<'a>(
        &'a self,
        leadership: &'a Leadership,
        now: Time,
    ) -> impl Iterator<Item = NodeId> + 'a {
        let followers = leadership.followers.iter().filter(move |(node, progress)| {
            leadership.may_join(**node) && self.is_caught_up(progress, now)
        });
        followers.map(|(node, _)| *node)
    }
}
