//! What openraft's types are here.

use crate::metadata_log::Proposal;
use bytes::Bytes;
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
}

impl From<Proposal> for Decided {
    fn from(proposal: Proposal) -> Self {
        let base_offset = proposal.base_offset.map(|MetadataOffset(offset)| offset);
        Decided { base_offset, batch: proposal.batch }
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:?}", self.batch.len(), self.base_offset)
    }
}

/// What became of an entry when it was applied. Every node comes to the same verdict.
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
