//! What a partition's actor is asked and told.

use super::chain::Chain;
use super::responder::Responder;
use crate::replication::{ChannelName, Credit, FollowerSink};
use actix::Message;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_actor::Budget;
use troupe_log::Candidate;
use troupe_log::{FlushDone, LogError};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::{
    self, AlterPartition, AlterPartitionError, CommittedIsr, Divergence, Follower, LeaderEnds,
    PartitionState, Position, ReplicaEnd, Role, Session,
};
use troupe_proto::batch::{ProducedBatch, Verified};
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset, PartitionEpoch};
use troupe_proto::v1::Acks;

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
    pub responder: Responder<Appended>,
    /// The share of the partition's byte budget that the payload takes until it is written.
    pub budget: OwnedSemaphorePermit,
}

/// The controller knows that this replica lacks what it had acknowledged.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LossKnown {
    /// The first partition epoch that goes by it; `None` if the controller does not say so, as those of earlier
    /// versions, which do not know what is meant.
    pub from: Option<PartitionEpoch>,
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

/// Read whole batches from `from` up to the high watermark. Answered at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Read {
    pub from: Offset,
    pub max_bytes: usize,
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub reply: oneshot::Sender<Result<ReadAnswer, Error>>,
}

/// Whole batches; the first may begin before the offset asked for. Empty at the high watermark.
#[derive(Clone, Debug)]
pub struct ReadAnswer {
    pub bytes: Bytes,
    /// Where to read on.
    pub next: Offset,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// Find an offset by position or time, as far as it can be told without unpacking anything. The answer says in which
/// leader epoch it was found.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FindOffset {
    pub at: OffsetQuery,
    /// Of a search by time: what comes before this has been looked at.
    pub from: Offset,
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
}

/// A flush ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Flushed {
    pub result: Result<FlushDone, LogError>,
    pub started: Instant,
}

/// The topic's configuration or the partition's leadership changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Update {
    pub config: Arc<TopicConfig>,
    pub state: Arc<PartitionState>,
}

/// Write down how far the log is known to be good.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Checkpoint;

/// Nobody has used the partition for a while: give back descriptors and mappings.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Rest;

/// Delete what need not be kept.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EnforceRetention;

/// Stop for good: flush and close, or delete.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// The topic was deleted: nothing needs to reach the disk.
    pub delete: bool,
    pub done: oneshot::Sender<()>,
}

/// A follower wants the leader's log. Answered on the sink.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OpenFollower {
    pub follower: Follower,
    pub position: Position,
    pub sink: FollowerSink,
}

/// A follower's channel is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseFollower {
    pub node: NodeId,
    pub name: ChannelName,
}

/// How far a follower has got.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FollowerReport {
    pub node: NodeId,
    pub name: ChannelName,
    pub end: ReplicaEnd,
    /// Of the leader, which this answers; 0: none.
    pub round: u64,
}

/// There is credit again, or a turn.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PushOn;

/// What the controller has made of a wish for another ISR.
#[derive(Message)]
#[rtype(result = "()")]
pub struct IsrAnswer {
    pub request: AlterPartition,
    pub result: Result<CommittedIsr, AlterPartitionError>,
}

/// What came from the leader on a follower's channel.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FromLeader {
    pub session: Session,
    pub says: LeaderSays,
}

pub enum LeaderSays {
    /// Whole batches, or none, and the leader's ends.
    Batches {
        slices: Vec<Bytes>,
        ends: LeaderEnds,
        /// To be answered; 0: none.
        round: u64,
        credit: Credit,
    },
    Diverging(Divergence),
    OutOfRange {
        log_start: Offset,
        log_end: Offset,
    },
    /// The channel is over: refused, or the stream broke.
    Closed(Error),
}
