//! The followers that have a stream from this leader.

use crate::partition::follower_sink::{ChannelName, FollowerSink};
use std::collections::BTreeMap;
use troupe_machines::replica::{FollowSession, LeaderEnds};
use troupe_proto::ids::{NodeId, Offset};

#[derive(Default)]
pub struct Followers {
    pub streams: BTreeMap<NodeId, FollowerStream>,
    /// A timer is set that tells them the leader's ends.
    pub telling: bool,
}

pub struct FollowerStream {
    pub session: FollowSession,
    pub sink: FollowerSink,
    /// First offset that was not pushed yet.
    pub next: Offset,
    pub told: LeaderEnds,
    /// The newest round that it was told of.
    pub asked: u64,
}

impl Followers {
    /// The stream of that name; one that has been replaced has another.
    pub fn of(&self, node: NodeId, name: ChannelName) -> Option<&FollowerStream> {
        self.streams.get(&node).filter(|stream| stream.sink.name() == name)
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The lowest offset that some follower has not been sent.
    pub fn lag(&self, log_end: Offset) -> u64 {
        let behind = self.streams.values().map(|stream| log_end.0.saturating_sub(stream.next.0));
        behind.max().unwrap_or_default()
    }
}
