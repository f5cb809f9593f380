//! What of a session's partitions a transaction acknowledges, and why it cannot.

use super::ack_id::AckId;
use crate::forward::{SettleOutcome, Target};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;

/// All before `end`, of one assignment of the partition.
#[derive(Debug)]
pub struct Pledged {
    pub target: Target,
    pub end: Offset,
    pub slot: u32,
}

#[derive(Debug)]
pub struct Unpledged {
    pub error: Error,
    /// It may be otherwise soon.
    pub passes: bool,
}

impl Unpledged {
    /// One that is not out.
    pub fn lost(id: AckId, outcome: SettleOutcome) -> Self {
        let (code, why) = match outcome {
            SettleOutcome::UnknownId => (ErrorCode::UnknownAckId, "was not given out here"),
            _ => (ErrorCode::LeaseLost, "is settled, or was taken back to be delivered again"),
        };
        let message = format!("the delivery `{id}` {why}");
        Self { error: Error::new(code, message).with("ack_id", id), passes: false }
    }

    /// The record there was delivered before, and is not settled.
    pub fn gap(target: &Target, first: Offset) -> Self {
        let message = format!(
            "offset {first} of {} was delivered before and is not settled: acknowledge it in the same call, or before",
            place(target)
        );
        Self::passing(ErrorCode::AckGap, message)
    }

    pub fn after_another(target: &Target) -> Self {
        let message =
            format!("another transaction is about to commit offsets of {}", place(target));
        Self::passing(ErrorCode::ConcurrentTransactions, message)
    }

    pub fn after_a_commit(target: &Target) -> Self {
        let message = format!("offsets of {} are being committed", place(target));
        Self::passing(ErrorCode::ConcurrentTransactions, message)
    }

    fn passing(code: ErrorCode, message: String) -> Self {
        Self { error: Error::new(code, message), passes: true }
    }
}

fn place(target: &Target) -> String {
    format!("partition {} of `{}`", target.number(), target.topic)
}
