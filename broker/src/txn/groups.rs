//! What transactions ask of a coordinator of groups.

use super::partitions::PartitionMarker;
use crate::forward::Call;
use crate::group::{GroupHandle, GroupRoute, OffsetsMarker};
use troupe_proto::error::Error;
use troupe_proto::log::v1 as pb;

/// The offsets of a transaction are decided. Answered when that is on every in-sync replica.
///
/// # Errors
/// `NOT_COORDINATOR`, `COORDINATOR_LOADING`, `COORDINATOR_FENCED`, `OUTCOME_UNKNOWN`.
pub async fn decide_offsets(
    coordinator: &GroupHandle,
    marker: PartitionMarker,
) -> Result<(), Error> {
    let PartitionMarker { producer, marker, version, .. } = marker;
    let answers =
        coordinator.write_markers(vec![OffsetsMarker { producer, marker, version }]).await;
    answers.into_iter().collect()
}

/// Offsets that are to stand when the transaction is committed, which the group is part of.
///
/// # Errors
/// Those of the group's coordinator.
pub async fn commit_in_transaction(
    route: &GroupRoute,
    request: &pb::CommitTransactionOffsetsRequest,
    call: Call,
) -> Result<pb::CommitTransactionOffsetsResponse, Error> {
    route.commit_in_transaction(request, call).await
}
