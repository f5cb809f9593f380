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
    /// A timer is set that goes on with those that are held back.
    pub is_paced: bool,
}

pub struct FollowerStream {
    pub session: FollowSession,
    pub sink: FollowerSink,
    /// First offset that was not pushed yet.
    pub next: Offset,
    pub told: LeaderEnds,
    /// The newest round that it was told of.
    pub asked: u64,
    /// What begins here is being read from the disk, on another thread.
    awaited: Option<Offset>,
    /// What begins here was, and is not waited for again.
    fetched: Option<Offset>,
}

impl FollowerStream {
    pub fn new(session: FollowSession, sink: FollowerSink, from: Offset, told: LeaderEnds) -> Self {
        Self { session, sink, next: from, told, asked: 0, awaited: None, fetched: None }
    }

    /// Whether what is next is on its way from the disk.
    pub fn waits(&self) -> bool {
        self.awaited == Some(self.next)
    }

    /// Whether what is next has to be waited for, as it `is_resident` or not; from then on it is.
    pub fn begins_to_wait(&mut self, is_resident: bool) -> bool {
        let waits = !is_resident && self.fetched != Some(self.next);
        if waits {
            self.awaited = Some(self.next);
        }
        waits
    }
}

impl Followers {
    /// The stream of that name; one that has been replaced has another.
    pub fn of(&self, node: NodeId, name: ChannelName) -> Option<&FollowerStream> {
        self.streams.get(&node).filter(|stream| stream.sink.name() == name)
    }

    /// What begins there has come from the disk.
    pub fn fetched(&mut self, node: NodeId, from: Offset) {
        if let Some(stream) = self.streams.get_mut(&node)
            && stream.awaited == Some(from)
        {
            (stream.awaited, stream.fetched) = (None, Some(from));
        }
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
