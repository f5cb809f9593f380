//! A follower: it takes over its leader's log, batch for batch, and truncates what its leader does not have.
//!
//! ```text
//!           Open                       a slice, perhaps empty
//!  Closed -------> Opening ---------------------------------> Streaming
//!    ^                |  Diverging, OutOfRange, BeginAnew         |
//!    |                v                                           |
//!    |             Truncating -- continue_following --> Opening   |
//!    +--------------------- the stream closes --------------------+
//! ```
//!
//! The leader's log may have gaps, where cleaning has removed whole batches. So a slice says from where it was
//! read: a gap behind that is the leader's own, anything else a slice that got lost. A log in which nothing can be
//! read yet takes for its first batch the one that holds its start: that of the leader may begin within a batch.
//!
//! Truncation goes by leader epochs (R20–R24), never by the high watermark: a record above the follower's
//! own high watermark may be committed already, and this follower its last copy.

use super::planted::Bug;
use super::role::RoleState;
use super::{
    Divergence, Effect, Effects, FollowSession, FollowerState, LeaderEnds, Position, Replica,
    ReplicaEnd, ReplicationEffect, SliceError,
};
use crate::time::Time;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset};

/// How long a follower waits before it opens a broken stream again: at first hardly, since a new leader may
/// hear of its leadership a moment after its followers; then twice as long each time, up to the second.
const FIRST_REOPEN_MS: u64 = 2;
const LAST_REOPEN_MS: u64 = 100;

#[derive(Clone, Debug)]
pub(super) struct Following {
    state: FollowerState,
    stream: Stream,
    /// Where the leader's log starts, as far as the actor was told (R26).
    leader_log_start: Offset,
    /// What the leader has said of its high watermark, which may lie beyond the end of this log.
    pub leader_high_watermark: Offset,
    /// What the leader has said of [`Replica::everyone_has`].
    pub everyone_has: Offset,
    /// How long to wait after the next failure.
    reopen_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Closed {
        reopen_at: Time,
    },
    Opening(FollowSession),
    Streaming(FollowSession, ReplicaEnd),
    /// The actor is truncating the log.
    Truncating,
}

impl Following {
    /// The leader has taken this log, as it is, for the beginning of its own.
    pub fn is_accepted(&self) -> bool {
        matches!(self.stream, Stream::Streaming(..))
    }

    pub fn session(&self) -> Option<FollowSession> {
        match self.stream {
            Stream::Opening(session) | Stream::Streaming(session, _) => Some(session),
            Stream::Closed { .. } | Stream::Truncating => None,
        }
    }
}

impl Replica {
    pub(super) fn start_following(&mut self, now: Time, state: FollowerState, out: &mut Effects) {
        let stream = Stream::Closed { reopen_at: now };
        self.role = RoleState::Following(Following {
            state,
            stream,
            leader_log_start: Offset::ZERO,
            leader_high_watermark: Offset::ZERO,
            everyone_has: Offset::ZERO,
            reopen_ms: FIRST_REOPEN_MS,
        });
        if self.bugs.has(Bug::TruncateByHighWatermark) && self.high_watermark < self.log_end {
            self.begin_truncating(ReplicationEffect::Truncate { to: self.high_watermark }, out);
            return;
        }
        self.open(out);
    }

    /// What to open a stream with. `last_epoch` is the epoch of the log's last batch, which is not always
    /// the newest that the log has been told of.
    pub fn position(&self, last_epoch: Option<LeaderEpoch>) -> Option<Position> {
        let following = self.following()?;
        assert!(
            last_epoch.is_some() || self.log_start == self.log_end,
            "a log with batches knows the epoch of the last"
        );
        let leader_epoch = following.state.leader_epoch;
        let tombstones_gone_below = Some(self.tombstones_gone_below);
        Some(Position { leader_epoch, end: self.own_end(), last_epoch, tombstones_gone_below })
    }

    /// Whether batches may be appended to this follower's log as they are: those of the stream that is open,
    /// read by the leader from where this log ends, in the order of their offsets and epochs. Changes nothing.
    ///
    /// `read_from` is the leader's word for that; `None` from one of an earlier version, whose log has no gaps.
    ///
    /// # Errors
    /// Nothing of the slice is appended then.
    pub fn check_slice(
        &self,
        session: FollowSession,
        read_from: Option<Offset>,
        batches: &[BatchHeader],
    ) -> Result<(), SliceError> {
        let following = self
            .following()
            .filter(|following| following.session() == Some(session))
            .ok_or(SliceError::StaleSession)?;
        let current = following.state.leader_epoch;
        let (mut expected, mut previous) = (self.log_end, LeaderEpoch(0));
        if let Some(given) = read_from.filter(|given| *given != expected) {
            return Err(SliceError::NotNext { expected, given });
        }
        for batch in batches {
            let (given, epoch) = (batch.base_offset, batch.leader_epoch);
            let continues = match read_from {
                Some(_) => given >= expected,
                None => given == expected,
            };
            let begins = expected == self.log_end && self.begins_with(batch);
            if !continues && !begins {
                return Err(SliceError::NotNext { expected, given });
            }
            if epoch < previous {
                return Err(SliceError::EpochWentBack { previous, given: epoch });
            }
            if epoch > current {
                return Err(SliceError::EpochFromTheFuture { current, given: epoch });
            }
            (expected, previous) = (batch.end_offset(), epoch);
        }
        Ok(())
    }

    /// Nothing can be read yet, and this batch holds the offset where the log starts.
    fn begins_with(&self, batch: &BatchHeader) -> bool {
        self.log_start == self.log_end
            && batch.base_offset < self.log_end
            && batch.end_offset() > self.log_end
    }

    /// The batches that passed [`Replica::check_slice`] stand in the log. No batches: the leader has accepted
    /// the stream, or only tells its ends.
    pub fn on_replicated(
        &mut self,
        now: Time,
        session: FollowSession,
        batches: &[BatchHeader],
        leader: LeaderEnds,
        out: &mut Effects,
    ) {
        if self.following().and_then(Following::session) != Some(session) {
            assert!(batches.is_empty(), "a slice that was not checked");
            return;
        }
        let settled = self.settled_end();
        for batch in batches {
            let continues = batch.base_offset >= self.log_end || self.begins_with(batch);
            assert!(continues, "a slice that was not checked");
            self.log_end = batch.end_offset();
            if !self.bugs.has(Bug::ForgetProducers) {
                let completed = self.producers.record(now, batch, settled);
                out.extend(completed.map(Effect::Completed));
            }
        }
        let nothing = ReplicaEnd::default();
        if let Some(following) = self.following_mut() {
            let accepted = following.stream == Stream::Opening(session);
            if accepted {
                following.stream = Stream::Streaming(session, nothing);
            }
            // Only what comes after that proves that the stream is worth opening at once when it breaks: a
            // leader may accept, and have batches that it cannot read or that cannot be taken.
            if !accepted || !batches.is_empty() {
                following.reopen_ms = FIRST_REOPEN_MS;
            }
        }
        self.follow_ends(leader, out);
        self.progress(now, out);
    }

    /// R26, but for the high watermark, which does not move back here either: what was committed once, is.
    fn follow_ends(&mut self, leader: LeaderEnds, out: &mut Effects) {
        self.raise_high_watermark(leader.high_watermark.min(self.log_end), out);
        if let Some(following) = self.following_mut() {
            following.everyone_has = leader.everyone_has;
            following.leader_high_watermark = leader.high_watermark;
        }
        let offset = leader.log_start;
        let deletes = offset > self.log_start
            && offset <= self.high_watermark
            && !self.bugs.has(Bug::KeepOldLogStart);
        if let Some(following) = self.following_mut()
            && deletes
            && offset > following.leader_log_start
        {
            following.leader_log_start = offset;
            out.push(Effect::Replication(ReplicationEffect::DeleteBefore { offset }));
        }
    }

    /// R22: the leader's log and this one part at `divergence` or before. `own_epoch_end` is what this log
    /// says of `divergence.leader_epoch`: the largest epoch not above it, and where that ends; `None` if it
    /// has none. Truncated there and asked again, until both agree.
    pub fn on_diverged(
        &mut self,
        now: Time,
        session: FollowSession,
        divergence: Divergence,
        own_epoch_end: Option<(LeaderEpoch, Offset)>,
        out: &mut Effects,
    ) {
        let to = match (divergence.leader_epoch, own_epoch_end) {
            (Some(leader_epoch), Some((own_epoch, own_end))) if own_epoch == leader_epoch => {
                divergence.end_offset.min(own_end)
            }
            // What this log has of later epochs is none of the leader's.
            (Some(_), Some((_, own_end))) => own_end,
            (Some(_), None) => self.log_start,
            (None, _) => divergence.end_offset,
        };
        self.truncate_and_reopen(now, session, to, out);
    }

    /// R25. `log_start` and `log_end` are the leader's.
    pub fn on_out_of_range(
        &mut self,
        now: Time,
        session: FollowSession,
        log_start: Offset,
        log_end: Offset,
        out: &mut Effects,
    ) {
        if self.opening() == Some(session) && log_start > self.log_end {
            self.begin_truncating(ReplicationEffect::ResetTo { offset: log_start }, out);
        } else {
            self.truncate_and_reopen(now, session, log_end, out);
        }
    }

    /// See the module `refill`. `log_start` is the leader's.
    pub fn on_begin_anew(&mut self, session: FollowSession, log_start: Offset, out: &mut Effects) {
        if self.opening() == Some(session) {
            // what was deleted here stays deleted
            let offset = log_start.max(self.log_start);
            self.begin_truncating(ReplicationEffect::ResetTo { offset }, out);
        }
    }

    fn truncate_and_reopen(
        &mut self,
        now: Time,
        session: FollowSession,
        to: Offset,
        out: &mut Effects,
    ) {
        if self.opening() != Some(session) {
            return;
        }
        if to < self.log_start {
            self.begin_truncating(ReplicationEffect::ResetTo { offset: to }, out);
        } else if to < self.log_end {
            self.begin_truncating(ReplicationEffect::Truncate { to }, out);
        } else {
            // Nothing to truncate, so the leader must have changed its mind: ask again, in a while.
            self.on_stream_closed(now, session, out);
        }
    }

    /// The actor could not follow the leader's log start: it is to be told again.
    pub(super) fn forget_leader_log_start(&mut self) {
        let log_start = self.log_start;
        if let Some(following) = self.following_mut() {
            following.leader_log_start = log_start;
        }
    }

    fn begin_truncating(&mut self, effect: ReplicationEffect, out: &mut Effects) {
        if let Some(following) = self.following_mut() {
            following.stream = Stream::Truncating;
            out.push(Effect::Replication(effect));
        }
    }

    /// The log is empty and starts at `offset` (R25).
    pub fn on_reset(&mut self, offset: Offset) {
        assert!(self.leadership().is_none(), "a leader's log is not dropped");
        self.log_start = offset;
        self.high_watermark = offset;
        self.flushed_end = offset;
        self.log_end = offset;
        self.cut_tombstones_gone();
        self.producers = super::producers::Producers::default();
        self.check();
    }

    /// The log is truncated as was asked, and its producers are known again.
    pub fn continue_following(&mut self, _now: Time, out: &mut Effects) {
        if self.following().is_some_and(|following| following.stream == Stream::Truncating) {
            self.open(out);
        }
    }

    /// The stream broke, or the leader gave none; the actor has closed it. Opened again after a while, or at
    /// once when there is another leader.
    pub fn on_stream_closed(&mut self, now: Time, session: FollowSession, _out: &mut Effects) {
        if let Some(following) = self.following_mut()
            && following.session() == Some(session)
        {
            following.stream = Stream::Closed { reopen_at: now.plus(following.reopen_ms) };
            following.reopen_ms = (2 * following.reopen_ms).min(LAST_REOPEN_MS);
        }
    }

    /// Another stream is to take the place of the one there is, from where the log ends. What is still on its way on the
    /// old one is not taken any more, and comes again.
    pub fn follow_anew(&mut self, out: &mut Effects) {
        let stands = |following: &Following| {
            matches!(following.stream, Stream::Opening(_) | Stream::Streaming(..))
        };
        if self.following().is_some_and(stands) {
            self.open(out);
        }
    }

    fn open(&mut self, out: &mut Effects) {
        let session = self.take_session();
        if let Some(following) = self.following_mut() {
            following.stream = Stream::Opening(session);
            let leader = following.state.leader;
            out.push(Effect::Replication(ReplicationEffect::Open { leader, session }));
        }
    }

    pub(super) fn report_end(&mut self, out: &mut Effects) {
        let mut end = self.own_end();
        if self.bugs.has(Bug::AcknowledgeBeforeFlush) {
            end.flushed_end = end.log_end;
        }
        if let Some(Following { stream: Stream::Streaming(session, reported), .. }) =
            self.following_mut()
            && *reported != end
        {
            *reported = end;
            let session = *session;
            out.push(Effect::Replication(ReplicationEffect::ReportEnd { session, end }));
        }
    }

    pub(super) fn tick_following(&mut self, now: Time, out: &mut Effects) {
        if self.next_following_tick().is_some_and(|at| at <= now) {
            self.open(out);
        }
    }

    pub(super) fn next_following_tick(&self) -> Option<Time> {
        match self.following()?.stream {
            Stream::Closed { reopen_at } => Some(reopen_at),
            Stream::Opening(_) | Stream::Streaming(..) | Stream::Truncating => None,
        }
    }

    pub(super) fn opening(&self) -> Option<FollowSession> {
        match self.following()?.stream {
            Stream::Opening(session) => Some(session),
            Stream::Closed { .. } | Stream::Streaming(..) | Stream::Truncating => None,
        }
    }

    /// Whom this replica follows, and in which epoch; `None` if it does not follow.
    pub fn followed(&self) -> Option<(NodeId, LeaderEpoch)> {
        self.following().map(|following| (following.state.leader, following.state.leader_epoch))
    }

    pub(super) fn following(&self) -> Option<&Following> {
        match &self.role {
            RoleState::Following(following) => Some(following),
            RoleState::Idle | RoleState::Leading(_) | RoleState::Offline => None,
        }
    }

    fn following_mut(&mut self) -> Option<&mut Following> {
        match &mut self.role {
            RoleState::Following(following) => Some(following),
            RoleState::Idle | RoleState::Leading(_) | RoleState::Offline => None,
        }
    }
}
