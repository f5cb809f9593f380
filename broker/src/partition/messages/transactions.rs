//! What coordinators of transactions tell a partition, and what operators ask of it.

use crate::partition::responder::Responder;
use actix::Message;
use std::time::Instant;
use tokio::sync::oneshot;
use troupe_log::Aborted;
use troupe_machines::replica::{ProducerState, Verification};
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::Marker;
use troupe_proto::error::Error;
use troupe_proto::ids::{Offset, ProducerId};

/// A transaction is decided. Answered when its marker is committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WriteMarker {
    pub producer: Producer,
    pub marker: Marker,
    pub client_version: ClientVersion,
    pub timeout_ms: u32,
    /// Not later.
    pub until: Option<Instant>,
    pub responder: Responder<()>,
}

/// The answer of a coordinator that was asked to add the partition.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Verified {
    pub producer: Producer,
    pub ticket: Verification,
    pub result: Result<(), Error>,
}

/// Tell what is known of the partition's producers.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DescribeProducers {
    pub reply: oneshot::Sender<Result<Vec<ProducerState>, Error>>,
}

/// What readers of committed records skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// Of its marker.
    pub last_offset: Offset,
}

impl AbortedTransaction {
    /// Something of it lies from `from` on, and something below `end`.
    pub fn overlaps(&self, from: Offset, end: Offset) -> bool {
        self.first_offset < end && self.last_offset >= from
    }
}

impl From<Aborted> for AbortedTransaction {
    fn from(Aborted { producer_id, first_offset, last_offset }: Aborted) -> Self {
        Self { producer_id, first_offset, last_offset }
    }
}
