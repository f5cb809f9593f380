//! What transactions ask of a coordinator of groups.

use super::partitions::PartitionMarker;
use crate::forward::Call;
use crate::group::{GroupHandle, GroupRoute};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

/// The offsets of a transaction are decided. Answered when that is on every in-sync replica.
///
/// # Errors
/// `NOT_COORDINATOR`, `COORDINATOR_LOADING`, `COORDINATOR_FENCED`, `OUTCOME_UNKNOWN`.
pub async fn decide_offsets(
    coordinator: &GroupHandle,
    _marker: PartitionMarker,
) -> Result<(), Error> {
    coordinator.check_serves()
}

/// Offsets that are to stand when the transaction is committed, which the group is part of.
///
/// # Errors
/// Those of the group's coordinator.
pub async fn commit_in_transaction(
    _route: &GroupRoute,
    _request: &pb::CommitTransactionOffsetsRequest,
    _call: Call,
) -> Result<pb::CommitTransactionOffsetsResponse, Error> {
    let message = "offsets cannot be part of a transaction";
    Err(Error::new(ErrorCode::CoordinatorNotAvailable, message))
}
