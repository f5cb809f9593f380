//! Producers and states as messages have them.

use troupe_machines::txn::{Producer, State};
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{ProducerEpoch, ProducerId};

/// # Errors
/// `INVALID_REQUEST`: ids start at 1.
pub fn producer(id: u64, epoch: u32) -> Result<Producer, Error> {
    match ProducerId::from_wire(id) {
        Some(id) => Ok(Producer { id, epoch: ProducerEpoch(epoch) }),
        None => {
            let message =
                "the request names no producer: producer_id is 0; InitProducerId gives one";
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    }
}

pub fn state_to_wire(state: State) -> TransactionState {
    match state {
        State::Empty => TransactionState::Empty,
        State::Ongoing => TransactionState::Ongoing,
        State::PrepareCommit => TransactionState::PrepareCommit,
        // What comes from a fence.
        State::PrepareAbort | State::PrepareEpochFence => TransactionState::PrepareAbort,
        State::CompleteCommit => TransactionState::CompleteCommit,
        State::CompleteAbort => TransactionState::CompleteAbort,
        State::Dead => TransactionState::Unspecified,
    }
}

/// `None`: unspecified.
pub fn state_from_wire(state: TransactionState) -> Option<State> {
    Some(match state {
        TransactionState::Unspecified => return None,
        TransactionState::Empty => State::Empty,
        TransactionState::Ongoing => State::Ongoing,
        TransactionState::PrepareCommit => State::PrepareCommit,
        TransactionState::PrepareAbort => State::PrepareAbort,
        TransactionState::CompleteCommit => State::CompleteCommit,
        TransactionState::CompleteAbort => State::CompleteAbort,
    })
}
