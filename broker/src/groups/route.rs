//! The way to a group's coordinator, wherever it is.

use crate::context::Context;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

/// A membership of a group, through its coordinator. `host`: the address that the member came from.
///
/// # Errors
/// Those of `GroupService.RunMember`, before anything of the membership came to be.
pub async fn run_member(
    context: &Arc<Context>,
    host: String,
    requests: BoxStream<'static, pb::RunMemberRequest>,
) -> Result<BoxStream<'static, Result<pb::RunMemberResponse, Error>>, Error> {
    let _ = (context, host, requests);
    Err(no_coordinator())
}

/// Commits offsets; answered when they are on every in-sync replica.
///
/// # Errors
/// `OUTCOME_UNKNOWN` if they may be committed: to commit the same again does no harm.
pub async fn commit_offsets(
    context: &Arc<Context>,
    request: pb::CommitOffsetsRequest,
    deadline: Instant,
) -> Result<pb::CommitOffsetsResponse, Error> {
    let _ = (context, request, deadline);
    Err(no_coordinator())
}

/// What is committed. An unknown group has no offsets.
pub async fn fetch_offsets(
    context: &Arc<Context>,
    request: pb::FetchOffsetsRequest,
    deadline: Instant,
) -> Result<pb::FetchOffsetsResponse, Error> {
    let _ = (context, request, deadline);
    Err(no_coordinator())
}

/// Whether a refusal says only that the coordinator is elsewhere, will be, or could not be reached: worth
/// another try, by a member with its id and epoch.
#[allow(dead_code, reason = "subscriptions ask by it")]
pub fn is_elsewhere_for_now(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoading
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::OutcomeUnknown
            | ErrorCode::ShuttingDown
    )
}

fn no_coordinator() -> Error {
    let message = "the group has no coordinator at the moment; try again";
    Error::new(ErrorCode::CoordinatorNotAvailable, message)
}
