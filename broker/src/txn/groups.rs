//! What transactions ask of a coordinator of groups.

use super::partitions::PartitionMarker;
use crate::coordinator::outcome_unknown;
use crate::group::{GroupHandle, OffsetsMarker};
use troupe_proto::error::Error;

/// The offsets of a transaction are decided. Answered when that is on every in-sync replica.
///
/// # Errors
/// `NOT_COORDINATOR`, `COORDINATOR_LOADING`, `COORDINATOR_FENCED`, `OUTCOME_UNKNOWN`.
pub async fn decide_offsets(
    coordinator: &GroupHandle,
    marker: PartitionMarker,
) -> Result<(), Error> {
    let PartitionMarker { producer, marker, version, .. } = marker;
    let written = coordinator.write_markers(vec![OffsetsMarker { producer, marker, version }]);
    written.await.pop().unwrap_or_else(|| Err(outcome_unknown()))
}
