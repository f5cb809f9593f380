//! What a call of a transaction can come to, told apart by what is left to do (X20).

use crate::error::ClientError;
use thiserror::Error;
use troupe_proto::error::ErrorCode;

/// Why a transaction did not go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// The calls do not go in this order. Nothing was done, and nothing has changed.
    #[error("{what}")]
    IllegalState { what: String },
    /// The producer is of no use any more: another one has its transactional id, or what it asks for can never be. Close
    /// it.
    #[error("{0}; this producer is of no use any more: close it")]
    Fatal(ClientError),
    /// The transaction cannot be committed any more. Abort it, and go on with the next.
    #[error("{0}; abort the transaction")]
    Abortable(ClientError),
    /// Not answered within `max_block`. Call the same again: it goes on where it was.
    #[error("{0}; call again")]
    Retriable(ClientError),
}

impl TransactionError {
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal(_))
    }

    pub fn is_abortable(&self) -> bool {
        matches!(self, Self::Abortable(_))
    }

    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Retriable(_))
    }

    /// None: the calls do not go in this order.
    pub fn cause(&self) -> Option<&ClientError> {
        match self {
            Self::IllegalState { .. } => None,
            Self::Fatal(cause) | Self::Abortable(cause) | Self::Retriable(cause) => Some(cause),
        }
    }

    pub(super) fn illegal(what: impl Into<String>) -> Self {
        Self::IllegalState { what: what.into() }
    }

    /// Of a coordinator that was asked until there was no time left, or refused.
    pub(super) fn of_call(call: Call, error: ClientError) -> Self {
        if may_pass(&error) {
            return Self::Retriable(error);
        }
        match (error.reason(), call) {
            (ErrorCode::ProducerFenced | ErrorCode::InvalidTransactionState, _) => {
                Self::Fatal(error)
            }
            // The next epoch, of a producer that is known anew, is asked for by the abort.
            (ErrorCode::TransactionAbortable | ErrorCode::InvalidProducerIdMapping, _)
            | (_, Call::Offsets) => Self::Abortable(error),
            (_, Call::Init | Call::End) => Self::Fatal(error),
        }
    }

    /// Of a record that was not appended. That a leader has fenced the producer is for the coordinator to say again.
    pub(super) fn of_record(error: ClientError) -> Self {
        match error.reason() {
            ErrorCode::InvalidTransactionState => Self::Fatal(error),
            _ => Self::Abortable(error),
        }
    }
}

/// What the coordinator was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Init,
    Offsets,
    End,
}

/// Whether the same request may be answered otherwise in a while. Each may be sent as often as one likes.
pub(super) fn may_pass(error: &ClientError) -> bool {
    match error.reason() {
        // The member is not what it was; it will not be again.
        ErrorCode::StaleMemberEpoch => false,
        ErrorCode::Overtaken => true,
        _ => error.is_retriable(),
    }
}

impl From<TransactionError> for ClientError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::IllegalState { what } => Self::IllegalState { what },
            TransactionError::Fatal(cause)
            | TransactionError::Abortable(cause)
            | TransactionError::Retriable(cause) => cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::error::Error as Refusal;

    fn refused(code: ErrorCode) -> ClientError {
        Refusal::new(code, "as the test wants").into()
    }

    /// X20.
    #[test]
    fn the_type_says_what_is_left_to_do() {
        use Call::{End, Init, Offsets};
        use ErrorCode as Code;
        let of = |call, code| TransactionError::of_call(call, refused(code));
        for call in [Init, Offsets, End] {
            assert!(of(call, Code::ProducerFenced).is_fatal());
            assert!(of(call, Code::InvalidTransactionState).is_fatal());
            assert!(of(call, Code::InvalidProducerIdMapping).is_abortable());
            assert!(of(call, Code::TransactionAbortable).is_abortable());
            for passing in [
                Code::ConcurrentTransactions,
                Code::CoordinatorLoading,
                Code::CoordinatorNotAvailable,
                Code::Overtaken,
                Code::RequestTooLate,
                Code::OutcomeUnknown,
            ] {
                assert!(of(call, passing).is_retriable(), "{passing:?}");
            }
        }
        assert!(of(Init, Code::InvalidTransactionTimeout).is_fatal());
        assert!(of(Init, Code::InvalidTransactionalId).is_fatal());
        for member in [Code::UnknownMember, Code::StaleMemberEpoch, Code::FencedInstanceId] {
            assert!(of(Offsets, member).is_abortable(), "{member:?}");
        }
        let of = |code| TransactionError::of_record(refused(code));
        for code in [Code::TransactionAbortable, Code::ProducerFenced, Code::RecordTooLarge] {
            assert!(of(code).is_abortable(), "{code:?}");
        }
        assert!(of(Code::InvalidTransactionState).is_fatal());
    }
}
