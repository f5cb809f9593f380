//! The seam between the decider and what makes its decisions last: Raft here, a simulator elsewhere.

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::{MetadataOffset, NodeId};
use troupe_proto::internal::v1::{MetadataBatch, MetadataRecord};

/// One decision on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// What it rests on; `None`: a barrier, true anywhere.
    pub base: Option<Base>,
    /// A `MetadataBatch`.
    pub batch: Bytes,
}

/// Where the decider believes the log ends, in the term in which it has seen all that was decided before. If one or
/// the other is not so, something may have been decided meanwhile that the decision does not know of, and it is not
/// applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub term: u64,
    pub offset: MetadataOffset,
}

impl Proposal {
    pub fn new(base: Base, records: Vec<MetadataRecord>) -> Proposal {
        let batch = MetadataBatch { records }.encode_to_vec().into();
        Proposal { base: Some(base), batch }
    }

    /// Changes nothing; when it is applied, so is all that was proposed before it.
    pub fn barrier() -> Proposal {
        Proposal { base: None, batch: Bytes::new() }
    }
}

/// Why a proposal was not applied, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Surely not applied: another node leads.
    #[error("another node leads the metadata quorum")]
    NotLeader { leader: Option<NodeId> },
    /// Surely not applied: it was decided on an image that was not the newest.
    #[error("something else was decided first")]
    Superseded,
    /// Leadership went, or the log stopped, before it was committed. It may be yet.
    #[error("leadership was lost before the decision was committed")]
    OutcomeUnknown,
}

/// Answers once the proposal is applied; a sender that is gone means [`ProposeError::OutcomeUnknown`].
pub type Proposed = oneshot::Receiver<Result<(), ProposeError>>;

/// Who leads the metadata quorum, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub leader: Option<NodeId>,
    /// Each leader has a term of its own.
    pub term: u64,
    /// This node is the one that leads.
    pub here: bool,
}

/// What became of what is kept of the log, for whoever watches over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataLogHealth {
    /// How often damage was found since the process began.
    pub damages: u64,
    /// This voter lost its log, and votes for nobody until it is filled again.
    pub recovering: bool,
    /// Why the log does not go on, until it has been opened again.
    pub failure: Option<String>,
}

/// A log of decisions that is agreed on.
pub trait MetadataLog: Send + Sync + 'static {
    /// Appends behind everything proposed here before, and applies in that order.
    fn propose(&self, proposal: Proposal) -> Proposed;

    /// The committed image. It holds a proposal before that is answered.
    fn image(&self) -> watch::Receiver<Arc<ClusterImage>>;

    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// When a node that follows has last heard the one that leads; `None`: never.
    fn leader_heard(&self) -> Option<Instant> {
        None
    }

    /// The other voters that do not know records of this version, or have not said so to this node.
    fn voters_behind(&self, _metadata_version: u32) -> Vec<NodeId> {
        Vec::new()
    }

    /// Whether what is kept of it is whole.
    fn health(&self) -> watch::Receiver<MetadataLogHealth> {
        watch::Sender::default().subscribe()
    }

    /// Stops and closes: afterwards the same directory can be opened again.
    fn shutdown(&self) -> BoxFuture<'_, ()>;

    /// The same without a word to anybody, as if the process had been killed.
    fn abandon(&self) -> BoxFuture<'_, ()> {
        self.shutdown()
    }
}
