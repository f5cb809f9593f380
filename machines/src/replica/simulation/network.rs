//! Streams between a follower and a leader: in order, each on its own time, and they break.

use super::super::{Divergence, LeaderEnds, Position, ReplicaEnd, Session};
use std::collections::VecDeque;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;

/// One end of a stream: a node, the life of its replica, and the name that this one gave the stream.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub node: usize,
    pub life: u64,
    pub session: Session,
}

#[derive(Clone, Debug)]
pub struct Link {
    pub follower: Peer,
    pub leader_node: usize,
    /// Once it has accepted.
    pub leader: Option<Peer>,
    /// What the leader pushes next, and the ends it has told.
    pub next: Offset,
    pub told: Option<LeaderEnds>,
    pub broken: bool,
    pub to_leader: VecDeque<ToLeader>,
    pub to_follower: VecDeque<ToFollower>,
}

#[derive(Clone, Debug)]
pub enum ToLeader {
    Open(Position),
    Report(ReplicaEnd),
    Closed,
}

#[derive(Clone, Debug)]
pub enum ToFollower {
    Slice(Vec<BatchHeader>, LeaderEnds),
    Diverging(Divergence),
    OutOfRange(Offset, Offset),
    Closed,
}

impl Link {
    pub fn new(follower: Peer, leader_node: usize, position: Position) -> Link {
        Link {
            follower,
            leader_node,
            leader: None,
            next: position.end.log_end,
            told: None,
            broken: false,
            to_leader: [ToLeader::Open(position)].into(),
            to_follower: VecDeque::new(),
        }
    }

    /// Nothing more is sent; what is under way arrives, if `delivers`.
    pub fn break_off(&mut self, delivers: bool) {
        if self.broken {
            return;
        }
        self.broken = true;
        if !delivers {
            self.to_leader.clear();
            self.to_follower.clear();
        }
        self.to_leader.push_back(ToLeader::Closed);
        self.to_follower.push_back(ToFollower::Closed);
    }

    pub fn is_done(&self) -> bool {
        self.broken && self.to_leader.is_empty() && self.to_follower.is_empty()
    }
}
