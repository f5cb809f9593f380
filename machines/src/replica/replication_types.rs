//! The types of replication: what leaders, followers and the controller tell each other about a partition.

use super::ReplicaEnd;
use std::collections::BTreeMap;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch};

/// What the controller says of a partition, to every node that has a replica of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub replicas: Vec<NodeId>,
    pub isr: Vec<NodeId>,
    /// `min.insync.replicas` asks for so many at most: while replicas are reassigned, the fewer of those before and after.
    pub least_replicas: u32,
    /// Of the replicas, those that may join the ISR: registered, not fenced, not shutting down. May change
    /// without the partition epoch.
    pub eligible: BTreeMap<NodeId, BrokerEpoch>,
}

/// Whom to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerState {
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
}

/// Names one stream between a follower and a leader, for the replica that gave the name. It outlives neither
/// the stream nor the replica, so what another life of the replica has sent is never taken for this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FollowSession(pub u64);

/// Where a follower stands when it opens a stream (R21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The leader epoch that the follower believes in.
    pub leader_epoch: LeaderEpoch,
    pub end: ReplicaEnd,
    /// The epoch of the follower's last batch; `None` if its log is empty.
    pub last_epoch: Option<LeaderEpoch>,
    /// As its log says, also behind its end; `None` from a follower of an earlier version, which does not begin anew.
    pub tombstones_gone_below: Option<Offset>,
}

/// Who opens a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    pub node: NodeId,
    pub broker_epoch: BrokerEpoch,
    /// It answers [`super::Replica::round`]s; earlier versions do not.
    pub answers_rounds: bool,
}

/// How a leader answers a follower that opens a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The follower's log is the beginning of the leader's. Batches from `from` on are pushed.
    Stream { session: FollowSession, from: Offset, ends: LeaderEnds },
    /// It is not (R21). The follower truncates its log and opens again.
    Diverging(Divergence),
    /// It ends outside of the leader's (R25).
    OutOfRange { log_start: Offset, log_end: Offset },
    /// It needs tombstones that this leader has not got any more. The follower drops its log, and is filled anew.
    BeginAnew { log_start: Offset },
}

/// The last point where a follower's log can agree with its leader's, as far as the leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The leader's largest epoch that is not above the follower's last. `None`: it has none of those left,
    /// and `end_offset` is where its log starts.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Where that epoch ends in the leader's log.
    pub end_offset: Offset,
}

/// What a leader says of its log with every slice, or alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderEnds {
    pub high_watermark: Offset,
    pub log_start: Offset,
    /// [`super::Replica::everyone_has`]; zero from a leader of an earlier version.
    pub everyone_has: Offset,
    /// See the module `refill`; zero also from a leader of an earlier version.
    pub tombstones_gone_below: Offset,
}

/// Why a leader gives a follower no stream. The follower tries again, or hears of another leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the replica is offline after a disk failure")]
    Offline,
    #[error("leader epoch {expected} is over; the partition is at {current}")]
    FencedLeaderEpoch { expected: LeaderEpoch, current: LeaderEpoch },
    #[error("leader epoch {expected} is not known here yet; this node is at {current}")]
    UnknownLeaderEpoch { expected: LeaderEpoch, current: LeaderEpoch },
    #[error("node {node} has no replica of the partition")]
    NotAReplica { node: NodeId },
    #[error(
        "node {node} needs tombstones that are gone, and cannot begin anew while it counts as in sync"
    )]
    NeedsTombstones { node: NodeId },
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        let code = match error {
            OpenError::NotLeader => ErrorCode::NotLeader,
            OpenError::Offline => ErrorCode::StorageFailure,
            OpenError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            OpenError::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            OpenError::NotAReplica { .. } | OpenError::NeedsTombstones { .. } => {
                ErrorCode::IneligibleReplica
            }
        };
        Error::new(code, error.to_string())
    }
}

/// Why a follower does not take a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// Nothing is wrong: the slice is of a stream that this replica has given up. Drop it.
    #[error("a slice of a stream that is over")]
    StaleSession,
    /// Close the stream and tell [`super::Replica::on_stream_closed`].
    #[error("what begins at offset {given} does not continue a log that ends at {expected}")]
    NotNext { expected: Offset, given: Offset },
    /// Close the stream and tell [`super::Replica::on_stream_closed`].
    #[error("a batch of leader epoch {given} after one of {previous}")]
    EpochWentBack { previous: LeaderEpoch, given: LeaderEpoch },
    /// Close the stream and tell [`super::Replica::on_stream_closed`].
    #[error("a batch of leader epoch {given} from the leader of {current}")]
    EpochFromTheFuture { current: LeaderEpoch, given: LeaderEpoch },
}

/// Asks the controller for another ISR (R9). Sent again, it is the same request: the partition epoch lets
/// the controller do it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<IsrMember>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrMember {
    pub node: NodeId,
    /// As the member itself said when it opened its stream; always there for one that joins. `None`: the
    /// leader, or a member from before this leader epoch.
    pub broker_epoch: Option<BrokerEpoch>,
}

/// What the controller has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedIsr {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<NodeId>,
}

/// Why the ISR was not altered, or what is not known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterPartitionError {
    /// Another replica leads, or none does: this one stops at once.
    #[error("the leader epoch is over")]
    FencedLeaderEpoch,
    /// The partition has changed. Perhaps by this very request, whose answer was lost: so the replicas it
    /// would have added count until the news comes.
    #[error("the partition epoch is over")]
    StalePartitionEpoch,
    #[error("a member is fenced, shutting down, or has been registered anew")]
    IneligibleReplica,
    #[error("the controller refuses the request")]
    InvalidRequest,
    /// No answer, or one that decides nothing: not the controller, stale broker epoch, timed out.
    #[error("the controller gave no answer")]
    Unavailable,
}

/// What the actor has to do with other nodes, or with its log on their account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicationEffect {
    /// Ask the controller, then tell [`super::Replica::on_alter_partition_answer`]. At most one is under way
    /// that can still come into effect.
    AlterPartition(AlterPartition),
    /// The controller takes this replica for the leader of an epoch in which it can't lead: its disk failed,
    /// or it was rebuilt and its log may lack what it wrote in that epoch. Report the replica as dead.
    ElectionNeeded { leader_epoch: LeaderEpoch },
    /// Open a stream to the leader with [`super::Replica::position`].
    Open { leader: NodeId, session: FollowSession },
    /// Close the stream, if it is open yet or still.
    Close { session: FollowSession },
    /// Tell the leader how far this follower is.
    ReportEnd { session: FollowSession, end: ReplicaEnd },
    /// Tell the leader that this replica still follows it, as it asked in this round, and how far it is.
    Confirm { session: FollowSession, round: u64, end: ReplicaEnd },
    /// Truncate the log, tell [`super::Replica::on_truncated`], replay what it says there, then tell
    /// [`super::Replica::continue_following`].
    Truncate { to: Offset },
    /// Drop the whole log, start it again at `offset`, tell [`super::Replica::on_reset`], then
    /// [`super::Replica::continue_following`].
    ResetTo { offset: Offset },
    /// The leader's log starts here now (R26), or this leader was asked to delete so much (S19): delete the records
    /// below, durably, then tell [`super::Replica::on_log_start`]; if that can't be written now,
    /// [`super::Replica::on_log_start_kept`].
    DeleteBefore { offset: Offset },
}
