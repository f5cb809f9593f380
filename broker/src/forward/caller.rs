//! What the senders of one caller share: its turn, and whether something of it has failed.

use super::route::no_leader;
use crate::partition::Chain;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;
use troupe_machines::admission::FlowId;
use troupe_proto::error::{Error, ErrorCode};

#[derive(Clone)]
pub struct Caller {
    /// Whose turn it is when there is more than the node can carry.
    pub(super) flow: FlowId,
    /// Nothing more is sent, and nothing that was sent is appended any more, as far as that can be helped.
    halted: CancellationToken,
    cause: Arc<OnceLock<Error>>,
    /// Something may be done that cannot be taken back.
    handed_over: CancellationToken,
}

impl Caller {
    /// `handed_over` is cancelled as soon as something of what it sends may be appended.
    pub fn new(flow: FlowId, handed_over: CancellationToken) -> Self {
        Self { flow, halted: CancellationToken::new(), cause: Arc::default(), handed_over }
    }

    /// Nothing more is sent. The first cause counts.
    pub fn halt(&self, cause: &Error) {
        self.cause.get_or_init(|| cause.clone());
        self.halted.cancel();
    }

    /// What failed first.
    pub fn cause(&self) -> Option<&Error> {
        self.cause.get()
    }

    pub(super) fn halted(&self) -> &CancellationToken {
        &self.halted
    }

    /// What is told of a batch that is not sent any more.
    pub(super) fn refusal(&self) -> Option<Error> {
        let cause = self.cause.get()?;
        let message =
            format!("not sent, as something before or beside it failed: {}", cause.message);
        Some(match cause.code {
            // Whoever repeats this unseen adds to what there is too much of.
            ErrorCode::Throttled => Error::new(ErrorCode::Throttled, message),
            _ => no_leader(&message),
        })
    }

    /// Broken as soon as the caller is halted, wherever the batches are by then.
    pub(super) fn chain(&self) -> Arc<Chain> {
        Arc::new(Chain::new(self.handed_over.clone()).broken_by(self.halted.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halted_by(code: ErrorCode) -> (Caller, Error) {
        let caller = Caller::new(FlowId(1), CancellationToken::new());
        caller.halt(&Error::new(code, "why"));
        caller.halt(&Error::new(ErrorCode::Internal, "later"));
        let refusal = caller.refusal().unwrap();
        (caller, refusal)
    }

    #[test]
    fn nothing_under_way_is_appended_once_something_beside_it_failed() {
        let caller = Caller::new(FlowId(1), CancellationToken::new());
        let (one, other) = (caller.chain(), caller.clone().chain());
        one.sever();
        assert!(one.is_broken() && !other.is_broken());
        caller.halt(&Error::new(ErrorCode::NotEnoughReplicas, "why"));
        assert!(other.is_broken() && caller.chain().is_broken());
    }

    #[test]
    fn what_an_overload_keeps_back_is_not_repeated_unseen() {
        let (_, refusal) = halted_by(ErrorCode::Throttled);
        assert_eq!(refusal.code, ErrorCode::Throttled);
        let (_, refusal) = halted_by(ErrorCode::OutcomeUnknown);
        assert_eq!(refusal.code, ErrorCode::LeaderNotAvailable);
        assert!(refusal.surely_not_done() && refusal.message.ends_with("why"));
    }
}
