//! Deleting records on request (S19): the leader decides up to where, moves its log start, and answers once every
//! in-sync replica has moved its own.
//!
//! ```text
//!   request ──► DeleteBefore here ──► followers hear of the new start (R26) ──► each reports its own ──► answer
//! ```
//!
//! Who is out of sync is not waited for: it can't lead before it is in sync again, and follows the leader's start until
//! then. While fewer are in sync than `min.insync.replicas` that is not so: who left may be eligible, and is waited for.
//! Promises: never above the high watermark, so that nothing is deleted that could still be lost or changed; who
//! asks for what is deleted already changes nothing; every request is answered once.
//! Never here: files; and whether the topic may be deleted from.

use super::planted::Bug;
use super::{Effect, Effects, Replica, ReplicationEffect, Token};
use crate::time::Time;
use thiserror::Error;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{NodeId, Offset};

/// Up to where records are to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteUpTo {
    /// Those below this one.
    Offset(Offset),
    /// All that is committed.
    HighWatermark,
}

/// Why records were not deleted, or what is not known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DeletionError {
    #[error("this node does not lead the partition; refresh metadata")]
    NotLeader,
    #[error("the replica is offline after a disk failure")]
    Offline,
    #[error(
        "the leader is new and does not know yet how far the partition is committed: not enough in-sync replicas have \
         told it what they hold; try again"
    )]
    CommitsNotKnown,
    #[error(
        "offset {requested} is above the high watermark: only what is committed can be deleted, now below offset \
         {latest}; the log starts at {earliest}"
    )]
    OffsetOutOfRange { requested: Offset, earliest: Offset, latest: Offset },
    #[error(
        "the node lacks room or file descriptors to note where the log starts: nothing was deleted; try again"
    )]
    NotWritten,
    #[error(
        "deleted on the leader, but not on every in-sync replica in time, or fewer are in sync than \
         min.insync.replicas; the lowest log start that is known is {low_watermark}; the others follow by themselves"
    )]
    TimedOut { low_watermark: Offset },
    #[error(
        "the replica stopped leading before every in-sync replica had deleted the records: they may be there again; \
         ask again"
    )]
    OutcomeUnknown,
    #[error("the disk failed before the records were deleted everywhere")]
    StorageFailure,
}

impl From<DeletionError> for WireError {
    fn from(error: DeletionError) -> Self {
        let code = match error {
            DeletionError::NotLeader => ErrorCode::NotLeader,
            DeletionError::Offline | DeletionError::CommitsNotKnown => {
                ErrorCode::LeaderNotAvailable
            }
            DeletionError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            DeletionError::NotWritten => ErrorCode::StorageUnavailable,
            DeletionError::TimedOut { .. } => ErrorCode::RequestTimedOut,
            DeletionError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            DeletionError::StorageFailure => ErrorCode::StorageFailure,
        };
        let wire = WireError::new(code, error.to_string());
        match error {
            DeletionError::OffsetOutOfRange { requested, earliest, latest } => {
                wire.with("requested", requested).with("earliest", earliest).with("latest", latest)
            }
            DeletionError::TimedOut { low_watermark } => wire.with("low_watermark", low_watermark),
            DeletionError::NotLeader
            | DeletionError::Offline
            | DeletionError::CommitsNotKnown
            | DeletionError::NotWritten
            | DeletionError::OutcomeUnknown
            | DeletionError::StorageFailure => wire,
        }
    }
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deletion {
    token: Token,
    /// Every in-sync replica's log is to start here, or later.
    before: Offset,
    deadline: Time,
}

impl Replica {
    /// Deletes the records below an offset; answered by [`Effect::Deleted`], with the lowest log start of the in-sync
    /// replicas. What lies below the log's start is deleted already.
    pub fn delete_records(
        &mut self,
        token: Token,
        up_to: DeleteUpTo,
        deadline: Time,
        out: &mut Effects,
    ) {
        let before = match self.deletable(up_to) {
            Ok(before) => before,
            Err(error) => {
                out.push(Effect::Deleted { token, result: Err(error) });
                return;
            }
        };
        self.deletions.push(Deletion { token, before, deadline });
        if before > self.log_start {
            out.push(Effect::Replication(ReplicationEffect::DeleteBefore { offset: before }));
        } else {
            self.settle_deletions(out);
        }
    }

    /// Where the log would start after that. Changes nothing.
    ///
    /// # Errors
    /// Why nothing would be deleted.
    pub fn check_deletion(&self, up_to: DeleteUpTo) -> Result<Offset, DeletionError> {
        self.deletable(up_to).map(|before| before.max(self.log_start))
    }

    fn deletable(&self, up_to: DeleteUpTo) -> Result<Offset, DeletionError> {
        if self.role() == super::Role::Offline {
            return Err(DeletionError::Offline);
        }
        if self.leadership().is_none() {
            return Err(DeletionError::NotLeader);
        }
        if !self.knows_what_is_committed() {
            return Err(DeletionError::CommitsNotKnown);
        }
        match up_to {
            DeleteUpTo::HighWatermark => Ok(self.high_watermark),
            DeleteUpTo::Offset(requested)
                if self.bugs.has(Bug::DeleteAboveHighWatermark) && requested <= self.log_end =>
            {
                Ok(requested)
            }
            DeleteUpTo::Offset(requested) if requested > self.high_watermark => {
                let (earliest, latest) = (self.log_start, self.high_watermark);
                Err(DeletionError::OffsetOutOfRange { requested, earliest, latest })
            }
            DeleteUpTo::Offset(offset) => Ok(offset),
        }
    }

    /// Where the log starts could not be written down, and nothing was deleted. A leader says so to whoever waits for
    /// it; a follower tries again when it hears of its leader's start next.
    pub fn on_log_start_kept(&mut self, out: &mut Effects) {
        let log_start = self.log_start;
        self.forget_leader_log_start();
        let waits = |deletion: &mut Deletion| deletion.before > log_start;
        for deletion in self.deletions.extract_if(.., waits) {
            let result = Err(DeletionError::NotWritten);
            out.push(Effect::Deleted { token: deletion.token, result });
        }
    }

    /// Answers those for whom every in-sync replica has moved its log start.
    pub(super) fn settle_deletions(&mut self, out: &mut Effects) {
        if self.deletions.is_empty() {
            return;
        }
        let low_watermark = self.low_watermark();
        // Who left the ISR then is eligible still, and leads perhaps (R16): it follows before enough are in sync again.
        let enough = self.leadership().is_none_or(|leadership| {
            leadership.state.isr.len() as u32 >= self.required_replicas(leadership)
        });
        if !enough && !self.bugs.has(Bug::AnswerDeletionAlone) {
            return;
        }
        let alone = self.bugs.has(Bug::AnswerDeletionAlone);
        let log_start = self.log_start;
        let moved = if alone { log_start } else { self.moved_log_start() };
        let settled =
            |deletion: &mut Deletion| deletion.before <= log_start && deletion.before <= moved;
        for deletion in self.deletions.extract_if(.., settled) {
            out.push(Effect::Deleted { token: deletion.token, result: Ok(low_watermark) });
        }
    }

    pub(super) fn expire_deletions(&mut self, now: Time, out: &mut Effects) {
        let low_watermark = self.low_watermark();
        for deletion in self.deletions.extract_if(.., |deletion| deletion.deadline <= now) {
            let result = Err(DeletionError::TimedOut { low_watermark });
            out.push(Effect::Deleted { token: deletion.token, result });
        }
    }

    pub(super) fn fail_deletions(&mut self, error: DeletionError, out: &mut Effects) {
        for deletion in self.deletions.drain(..) {
            out.push(Effect::Deleted { token: deletion.token, result: Err(error) });
        }
    }

    pub(super) fn next_deletion_deadline(&self) -> Option<Time> {
        self.deletions.iter().map(|deletion| deletion.deadline).min()
    }

    /// Below this no in-sync replica has a record, as far as they have said.
    fn low_watermark(&self) -> Offset {
        let told = self.in_sync_followers().filter_map(|node| self.follower_log_start(node));
        told.chain([self.log_start]).min().unwrap_or(self.log_start)
    }

    /// The same, where one that has said nothing has deleted nothing. One of an earlier version, which never says it,
    /// is believed: it follows the leader's start as the others do.
    fn moved_log_start(&self) -> Offset {
        let moved = self.in_sync_followers().map(|node| match self.follower_log_start(node) {
            Some(start) => start,
            None if self.has_open_stream(node) => self.log_start,
            None => Offset::ZERO,
        });
        moved.chain([self.log_start]).min().unwrap_or(self.log_start)
    }

    /// Who is in sync beside the leader, or may be by now.
    fn in_sync_followers(&self) -> impl Iterator<Item = NodeId> + '_ {
        let leadership = self.leadership();
        let isr = leadership.map_or(&[][..], |leadership| &leadership.state.isr[..]);
        let requested = leadership.and_then(|leadership| leadership.requested());
        let requested = requested.map_or(&[][..], |request| &request.isr[..]);
        let maximal = isr.iter().copied().chain(requested.iter().map(|member| member.node));
        maximal.filter(|node| *node != self.node_id)
    }
}
