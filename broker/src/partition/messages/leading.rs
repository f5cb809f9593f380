//! What a leader's actor hears of its followers.

use crate::partition::follower_sink::{ChannelName, FollowerSink};
use actix::Message;
use troupe_machines::replica::{Follower, Position, ReplicaEnd};
use troupe_proto::ids::NodeId;

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
