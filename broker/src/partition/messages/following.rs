//! What a follower's actor hears of its leader.

use actix::Message;
use bytes::Bytes;
use std::sync::Weak;
use troupe_machines::replica::{Divergence, FollowSession, LeaderEnds};
use troupe_proto::error::Error;
use troupe_proto::ids::Offset;

/// What came from the leader on a follower's channel.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FromLeader {
    pub session: FollowSession,
    pub says: LeaderSays,
}

/// Whole batches, or none.
pub struct Slice {
    /// From where the leader has read them. `None`: it is of a version that does not say.
    pub read_from: Option<Offset>,
    pub batches: Bytes,
}

pub enum LeaderSays {
    /// Whole batches, or none, and the leader's ends.
    Batches {
        slices: Vec<Slice>,
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
    BeginAnew {
        log_start: Offset,
    },
    /// The channel is over: refused, or the stream broke.
    Closed(Error),
}

/// Bytes on their way to an actor. Dropped, the leader may push as many again.
pub struct Credit {
    source: Weak<dyn CreditSource>,
    bytes: u64,
}

/// Who grants a leader its credit.
pub trait CreditSource: Send + Sync {
    /// So many bytes have been taken.
    fn give_back(&self, bytes: u64);
}

impl Credit {
    pub fn new(source: Weak<dyn CreditSource>, bytes: u64) -> Self {
        Self { source, bytes }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(source) = self.source.upgrade() {
            source.give_back(self.bytes);
        }
    }
}
