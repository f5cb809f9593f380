//! What transactions ask of a partition's replica on this node.

use crate::partition::{MarkerRequest, PartitionHandle};
use tokio::time::Instant;
use troupe_machines::replica;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::Marker;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, Sequence};

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
    let PartitionMarker { producer, marker, version, until } = marker;
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::new(ErrorCode::RequestTooLate, "the marker came too late"));
    }
    let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    let request = MarkerRequest { producer, marker, client_version: version, timeout_ms };
    partition.write_marker(request).await
}

/// What a leader knows of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub producer: Producer,
    /// Of its last batch; `None`: it has none in this epoch.
    pub last_sequence: Option<Sequence>,
    /// Of its last batch or marker, in milliseconds since 1970.
    pub last_timestamp_ms: i64,
    /// In which the last marker was written.
    pub coordinator_epoch: Option<LeaderEpoch>,
    /// Of the first record of what is open here.
    pub transaction_start_offset: Option<Offset>,
}

/// All producers that have written, as this replica knows, which leads.
///
/// # Errors
/// `NOT_LEADER`; `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH` if it does not lead in that epoch.
pub async fn producers_here(
    partition: &PartitionHandle,
    expected_leader_epoch: Option<LeaderEpoch>,
) -> Result<Vec<ProducerState>, Error> {
    let known = partition.describe_producers(expected_leader_epoch).await?;
    let state = |known: replica::ProducerState| ProducerState {
        producer: Producer { id: known.id, epoch: known.epoch },
        last_sequence: known.last_sequence,
        last_timestamp_ms: known.last_append.as_timestamp(),
        coordinator_epoch: known.coordinator_epoch,
        transaction_start_offset: known.transaction_first_offset,
    };
    Ok(known.into_iter().map(state).collect())
}
