//! What transactions ask of a partition's replica on this node.

use crate::partition::{MarkerRequest, PartitionHandle};
use tokio::time::Instant;
use troupe_machines::replica::ProducerState;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::Marker;
use troupe_proto::error::Error;
use troupe_proto::ids::LeaderEpoch;

/// How a transaction has ended, for a partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionMarker {
    pub producer: Producer,
    pub marker: Marker,
    pub version: ClientVersion,
    /// Later it is not written.
    pub until: Instant,
}

/// Writes a marker. Answered when it is on every in-sync replica.
///
/// # Errors
/// `NOT_LEADER`, `LEADER_NOT_AVAILABLE`, `NOT_ENOUGH_REPLICAS`, `NOT_ENOUGH_REPLICAS_AFTER_APPEND`, `COORDINATOR_FENCED`,
/// `OUTCOME_UNKNOWN`, `REQUEST_TOO_LATE`.
pub async fn write_marker(
    partition: &PartitionHandle,
    marker: PartitionMarker,
) -> Result<(), Error> {
    let left = marker.until.saturating_duration_since(Instant::now());
    let is_confusable = marker.version == ClientVersion::First;
    let request = MarkerRequest {
        producer: marker.producer,
        marker: marker.marker,
        client_version: marker.version,
        timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        until: is_confusable.then(|| marker.until.into_std()),
    };
    partition.write_marker(request).await
}

/// All producers that have written, as this replica knows, which leads now.
///
/// # Errors
/// `NOT_LEADER`; `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH` if it does not lead in that epoch; others of
/// [`PartitionHandle::confirm`].
pub async fn producers_here(
    partition: &PartitionHandle,
    expected_leader_epoch: Option<LeaderEpoch>,
) -> Result<Vec<ProducerState>, Error> {
    let known = partition.describe_producers().await?;
    partition.confirm(expected_leader_epoch).await.map(|()| known)
}
