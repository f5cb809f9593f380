//! How a transaction ends: committed, aborted, or so that nobody knows yet; and how that is told.

use troupe_machines::txn::Producer;
use troupe_proto::error::{Error, ErrorCode};

/// In the facts of what was aborted because another producer has the id, or its time was over.
pub const FENCED: &str = "fenced";

pub enum Ended {
    /// And the producer of the next one.
    Committed(Producer),
    /// Why, and the producer of the next one where that is known.
    Aborted(Error, Option<Producer>),
    /// It may be committed, or will be, or never.
    Open(Error),
}

pub fn is_fenced(error: &Error) -> bool {
    matches!(error.code, ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping)
}

/// What is told of a transaction that was not committed and never will be: surely nothing of it was done.
pub fn aborted(cause: Error) -> Error {
    let code = match cause.code {
        // Of the transaction, of which the caller has none of its own.
        ErrorCode::OutOfOrderSequence | ErrorCode::InvalidTransactionState => {
            ErrorCode::TransactionAbortable
        }
        _ if is_fenced(&cause) || !cause.surely_not_done() => ErrorCode::TransactionAbortable,
        code => code,
    };
    let message = format!("nothing of it was done: {}", cause.message);
    let told = Error { code, message, leader: None, publication: None, ..cause.clone() };
    match is_fenced(&cause) {
        true => told.with(FENCED, true),
        false => told,
    }
}

/// What is told of one of which nobody knows yet.
pub fn unknown(has_key: bool, why: &str) -> Error {
    let what = match has_key {
        true => "the same call with the same transaction_key tells",
        false => "with a transaction_key the same call would tell",
    };
    let message = format!("all of it is done, or nothing: {what} ({why})");
    Error::new(ErrorCode::OutcomeUnknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_aborted_surely_was_not_done_whatever_the_cause() {
        for (cause, told) in [
            (ErrorCode::OutcomeUnknown, ErrorCode::TransactionAbortable),
            (ErrorCode::NotEnoughReplicasAfterAppend, ErrorCode::TransactionAbortable),
            (ErrorCode::ProducerFenced, ErrorCode::TransactionAbortable),
            (ErrorCode::NotEnoughReplicas, ErrorCode::NotEnoughReplicas),
            (ErrorCode::RecordTooLarge, ErrorCode::RecordTooLarge),
        ] {
            let error = aborted(Error::new(cause, "why"));
            assert!(error.code == told && error.surely_not_done(), "{error:?}");
            assert!(error.message.ends_with("why"));
            assert_eq!(error.facts.contains_key(FENCED), cause == ErrorCode::ProducerFenced);
        }
    }
}
