//! What coordinators of transactions tell a partition, and what operators ask of it.

use crate::partition::responder::Responder;
use actix::Message;
use std::time::Instant;
use tokio::sync::oneshot;
use troupe_machines::replica::{ProducerState, Verification};
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::Marker;
use troupe_proto::error::Error;

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
