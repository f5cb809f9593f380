//! Why a coordinator does not answer, and whether another one would.

use super::machine::Machine;
use troupe_proto::error::{Error, ErrorCode};

pub fn not_available<M: Machine>() -> Error {
    let message =
        format!("the {}'s coordinator is not available at the moment; try again", M::SUBJECT);
    Error::new(ErrorCode::CoordinatorNotAvailable, message)
}

pub fn no_coordinator<M: Machine>() -> Error {
    let message = format!("the {} has no coordinator at the moment; try again", M::SUBJECT);
    Error::new(ErrorCode::CoordinatorNotAvailable, message)
}

pub fn not_coordinator<M: Machine>() -> Error {
    let message = format!(
        "this node does not coordinate the {} any more; ask for its coordinator",
        M::SUBJECT
    );
    Error::new(ErrorCode::NotCoordinator, message)
}

/// This node may be cut off, and another may coordinate.
pub fn unconfirmed<M: Machine>(why: &Error) -> Error {
    let message = format!(
        "this node cannot tell whether it still coordinates the {}, and answers nothing from its past: {}",
        M::SUBJECT,
        why.message
    );
    Error::new(ErrorCode::NotCoordinator, message)
}

pub fn outcome_unknown() -> Error {
    let message =
        "the coordinator stopped before it knew whether this is done; ask what is committed";
    Error::new(ErrorCode::OutcomeUnknown, message)
}

/// Whether a refusal says only that the coordinator is elsewhere, will be, or could not be reached: worth
/// another try, of what may be done twice.
pub fn is_elsewhere_for_now(error: &Error) -> bool {
    is_surely_elsewhere(error) || is_route_broken(error)
}

pub fn is_surely_elsewhere(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoading
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::ShuttingDown
    )
}

pub fn is_route_broken(error: &Error) -> bool {
    matches!(error.code, ErrorCode::OutcomeUnknown | ErrorCode::RequestTimedOut)
}
