//! What transactions ask of a partition: markers, and who writes there.

use super::handle::{PartitionHandle, REBUILD_PATIENCE};
use super::messages::{DescribeProducers, WriteMarker};
use super::responder::Responder;
use std::time::Instant;
use troupe_machines::replica::ProducerState;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::Marker;
use troupe_proto::error::Error;

/// A marker for [`PartitionHandle::write_marker`].
#[derive(Clone, Copy, Debug)]
pub struct MarkerRequest {
    /// In the marker's epoch.
    pub producer: Producer,
    pub marker: Marker,
    pub client_version: ClientVersion,
    /// How long in-sync replicas have.
    pub timeout_ms: u32,
    /// When it would be taken for one of the next transaction: not written any more. `None`: it never is.
    pub until: Option<Instant>,
}

impl PartitionHandle {
    /// Writes how a transaction has ended; returns when that is committed, also if it had been written before.
    ///
    /// # Errors
    /// `NOT_LEADER`, `LEADER_NOT_AVAILABLE`, `NOT_ENOUGH_REPLICAS`, `COORDINATOR_FENCED`, `REQUEST_TOO_LATE`: it was not
    /// written.
    /// `NOT_ENOUGH_REPLICAS_AFTER_APPEND`, `REQUEST_TIMED_OUT`, `OUTCOME_UNKNOWN`, `STORAGE_FAILURE`: it may be.
    pub async fn write_marker(&self, request: MarkerRequest) -> Result<(), Error> {
        let MarkerRequest { producer, marker, client_version, timeout_ms, until } = request;
        let addr = self.addr(REBUILD_PATIENCE).await?;
        let (responder, answer) = Responder::channel();
        let message =
            WriteMarker { producer, marker, client_version, timeout_ms, until, responder };
        self.post(&addr, message)?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// What is known of the partition's producers, by id.
    ///
    /// # Errors
    /// `NOT_LEADER`.
    pub async fn describe_producers(&self) -> Result<Vec<ProducerState>, Error> {
        self.ask(|reply| DescribeProducers { reply }).await?
    }
}
