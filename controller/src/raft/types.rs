//! What openraft's types are here.

use crate::metadata_log::{Base, Proposal};
use bytes::Bytes;
use openraft::alias::VoteOf;
use openraft::raft::VoteRequest;
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};
use std::fmt;
use troupe_proto::ids::MetadataOffset;

/// openraft's test suite makes node ids out of numbers; ours are never negative.
pub(super) type RaftNodeId = u64;

/// A [`Proposal`] as an entry of the Raft log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub base_offset: Option<u64>,
    pub batch: Bytes,
    /// Of the base; 0 without one.
    pub term: u64,
}

impl Decided {
    pub fn base(&self) -> Option<Base> {
        let offset = MetadataOffset(self.base_offset?);
        Some(Base { term: self.term, offset })
    }
}

impl From<Proposal> for Decided {
    fn from(Proposal { base, batch }: Proposal) -> Self {
        let base_offset = base.map(|base| base.offset.0);
        Decided { base_offset, batch, term: base.map_or(0, |base| base.term) }
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:?}", self.batch.len(), self.base())
    }
}

/// What became of an entry when it was applied. Every node comes to the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Applied,
    Superseded,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Decided,
        R = Verdict,
        NodeId = RaftNodeId,
        Node = openraft::impls::BasicNode,
);

/// The vote of the voter that was elected in that term.
pub(super) fn leader_vote(term: u64, id: RaftNodeId) -> VoteOf<TypeConfig> {
    VoteOf::<TypeConfig> { leader_id: RaftLeaderId::new(term, id), committed: true }
}

/// Asks a voter how it stands: too low to be granted, so that it changes nothing, and the answer says what it has.
pub(super) fn question(asks: RaftNodeId) -> VoteRequest<TypeConfig> {
    let vote = VoteOf::<TypeConfig> { leader_id: RaftLeaderId::new(0, asks), committed: false };
    VoteRequest::new(vote, None)
}
