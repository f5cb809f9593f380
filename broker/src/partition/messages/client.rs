//! What is asked on behalf of clients, and the answers.

use super::transactions::AbortedTransaction;
use crate::metrics::Stages;
use crate::partition::chain::Chain;
use crate::partition::responder::Responder;
use actix::Message;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_actor::Budget;
use troupe_log::Candidate;
use troupe_machines::replica::{self, Reader, Role};
use troupe_machines::replica::{Acks, DeleteUpTo};
use troupe_proto::batch::{ProducedBatch, Verified};
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset};
use troupe_proto::v1::IsolationLevel;

/// Payload bytes that may wait for one partition's actor.
pub const QUEUE_BYTES: usize = 64 << 20;
/// Messages that may wait: more than the budget lets in, so the mailbox never refuses.
pub const MAILBOX_CAPACITY: usize = 2 * QUEUE_BYTES / Budget::UNIT;

/// Append one batch. Answered when the acks asked for are in.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    pub batch: ProducedBatch,
    pub verified: Verified,
    pub acks: Acks,
    pub timeout_ms: u32,
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub chain: Option<Arc<Chain>>,
    /// Whose transaction the batch belongs to.
    pub transactional_id: Option<Arc<str>>,
    pub responder: Responder<Appended>,
    pub stages: Arc<Stages>,
    /// The share of the partition's byte budget that the payload takes until it is written.
    pub budget: OwnedSemaphorePermit,
}

/// The answer to [`Append`].
#[derive(Clone, Debug)]
pub struct Appended {
    /// None with acks none.
    pub base_offset: Option<Offset>,
    /// The leader's clock, if the topic's timestamps are the leader's.
    pub log_append_time_ms: Option<i64>,
    pub log_start: Offset,
    pub duplicate: bool,
}

impl From<replica::Appended> for Appended {
    fn from(appended: replica::Appended) -> Self {
        Self {
            base_offset: Some(appended.base_offset),
            log_append_time_ms: appended.log_append_time,
            log_start: appended.log_start,
            duplicate: appended.duplicate,
        }
    }
}

/// Which records of transactions a reader is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All, up to the high watermark.
    #[default]
    Uncommitted,
    /// All, up to the last stable offset, and with them word of what was aborted.
    Committed,
}

impl Isolation {
    /// Of a reader of the log service.
    pub fn from_wire(level: i32) -> Self {
        match IsolationLevel::try_from(level) {
            Ok(IsolationLevel::ReadCommitted) => Self::Committed,
            Ok(IsolationLevel::ReadUncommitted | IsolationLevel::Unspecified) | Err(_) => {
                Self::Uncommitted
            }
        }
    }

    pub fn to_wire(self) -> i32 {
        match self {
            Self::Uncommitted => IsolationLevel::ReadUncommitted.into(),
            Self::Committed => IsolationLevel::ReadCommitted.into(),
        }
    }
}

/// Read whole batches from `from` up to where this reader may go, of a replica that serves it. Answered at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Read {
    pub from: Offset,
    pub max_bytes: usize,
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub reader: Reader,
    pub isolation: Isolation,
    pub reply: oneshot::Sender<Result<ReadAnswer, Error>>,
}

/// Whole batches; the first may begin before the offset asked for. Empty at the end of what the reader may see.
#[derive(Clone, Debug)]
pub struct ReadAnswer {
    pub bytes: Bytes,
    /// Where to read on.
    pub next: Offset,
    pub high_watermark: Offset,
    pub last_stable: Offset,
    pub log_start: Offset,
    /// For readers of committed records: those that have records among the batches, by first offset.
    pub aborted: Vec<AbortedTransaction>,
    /// The replica follows.
    pub by_follower: bool,
    /// Nothing is handed out, for this replica has it and is nearer.
    pub preferred_replica: Option<NodeId>,
}

impl ReadAnswer {
    /// Whether everything was read that the reader may see.
    pub fn is_at_end(&self, isolation: Isolation) -> bool {
        let end = match isolation {
            Isolation::Uncommitted => self.high_watermark,
            Isolation::Committed => self.last_stable,
        };
        self.next >= end
    }
}

/// Find an offset by position or time, as far as it can be told without unpacking anything. The answer says in which
/// leader epoch it was found.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FindOffset {
    pub at: OffsetQuery,
    /// Of a search by time: what comes before this has been looked at.
    pub from: Offset,
    pub isolation: Isolation,
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub reply: oneshot::Sender<Result<(LeaderEpoch, Finding), Error>>,
}

/// How far the actor has come.
#[derive(Debug)]
pub enum Finding {
    Found(FoundOffset),
    /// The first record at or after this time may be in this batch; else the search goes on behind it.
    Candidate(Box<Candidate>, i64),
    /// The largest timestamp that is known, and the batches whose records have to be asked.
    Largest(Option<i64>, Vec<Candidate>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    Earliest,
    Latest,
    /// The first record at or after this time, in milliseconds since 1970.
    Timestamp(i64),
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// Where this leader epoch ends, or else the largest below it that the log has.
    EndOfEpoch(LeaderEpoch),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: Option<Offset>,
    pub timestamp_ms: Option<i64>,
    pub leader_epoch: LeaderEpoch,
}

/// Delete records from the front of the log. Answered with the lowest log start when every in-sync replica has, or
/// when the time is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DeleteRecords {
    pub up_to: DeleteUpTo,
    pub timeout_ms: u32,
    pub expected_leader_epoch: Option<LeaderEpoch>,
    /// Only say where the log would start.
    pub validate_only: bool,
    pub responder: Responder<Offset>,
}

/// Tell whether the replica leads, in that epoch. Answered when its followers have said so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Confirm {
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub reply: oneshot::Sender<Result<(), Error>>,
}

/// Tell what the replica holds.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Describe {
    pub reply: oneshot::Sender<Description>,
}

#[derive(Clone, Debug)]
pub struct Description {
    pub role: Role,
    /// In which the replica leads or follows.
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub high_watermark: Offset,
    pub flushed_end: Offset,
    pub log_end: Offset,
    pub size_bytes: u64,
    pub segment_count: usize,
    /// What operators should know of how old records are found to be; empty: nothing.
    pub retention_notice: String,
    /// What is damaged and lies within the log: nothing is read from its start on.
    pub damaged: Option<Range<Offset>>,
}
