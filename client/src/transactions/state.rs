//! Where a transactional producer stands, and which calls that allows. Pure.
//!
//! ```text
//!            init            begin          commit          flushed          answered
//! Fresh ----------> Ready ----------> Open -------> Flushing ------> Committing ------> Ready
//!                     ^                 |  <- failed --+                  | (abortable: back to Open, failed)
//!                     |                 +--- abort ----+--> Aborting      v
//!                     +------------------------ answered -----+        (asked again until it is answered)
//! ```
//!
//! Promises: a transaction of which something has failed is never committed; one whose commit was asked for is not
//! aborted; nothing is sent outside of one.

use super::error::TransactionError;
use crate::error::ClientError;
use crate::producer::Session;
use troupe_proto::ids::{ProducerEpoch, ProducerId};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// No producer id yet.
    #[default]
    Fresh,
    /// No transaction is open.
    Ready,
    Open,
    /// To be committed, once all that was sent is answered.
    Flushing,
    /// The coordinator has been asked to commit: it may have.
    Committing,
    Aborting,
}

/// What was asked about.
#[derive(Debug, Default)]
pub(super) struct State {
    pub phase: Phase,
    /// Of the newest transaction.
    pub number: u64,
    session: Option<Session>,
    /// Some record of the transaction, or batch, has left: there may be something to end.
    wrote: bool,
    /// The coordinator of the group has not said yet that it has the offsets.
    offsets_open: bool,
    /// Why the transaction can only be aborted.
    failure: Option<ClientError>,
    /// Nobody has looked at the failure yet.
    pub unseen: bool,
    /// Why the producer can only be closed.
    fatal: Option<ClientError>,
}

/// What has to be done for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Flush,
    End,
}

impl State {
    /// # Errors
    /// `Fatal`, once anything was.
    fn check_alive(&self) -> Result<(), TransactionError> {
        match &self.fatal {
            Some(cause) => Err(TransactionError::Fatal(cause.clone())),
            None => Ok(()),
        }
    }

    pub fn check_init(&self) -> Result<(), TransactionError> {
        self.check_alive()?;
        match self.phase {
            Phase::Fresh => Ok(()),
            _ => Err(TransactionError::illegal("init_transactions was called already")),
        }
    }

    /// From here on this is who writes.
    pub fn initialised(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        let number = self.session.map_or(1, |before| before.number + 1);
        *self = Self {
            phase: Phase::Ready,
            number: self.number,
            session: Some(Session { number, id, epoch }),
            ..Self::default()
        };
    }

    pub fn session(&self) -> Option<Session> {
        self.session
    }

    pub fn begin(&mut self) -> Result<u64, TransactionError> {
        self.check_alive()?;
        match self.phase {
            Phase::Ready => {
                self.phase = Phase::Open;
                self.number += 1;
                Ok(self.number)
            }
            Phase::Fresh => Err(TransactionError::illegal("call init_transactions first")),
            Phase::Open | Phase::Flushing => Err(TransactionError::illegal(
                "a transaction is open already: commit or abort it first",
            )),
            Phase::Committing => Err(unanswered()),
            Phase::Aborting => Err(TransactionError::illegal(
                "the transaction before is still to be aborted: call abort_transaction again",
            )),
        }
    }

    /// Whether a record may be sent now.
    pub fn check_send(&self) -> Result<(), TransactionError> {
        self.check_alive()?;
        match (self.phase, &self.failure) {
            (Phase::Open, None) => Ok(()),
            (Phase::Open, Some(cause)) => Err(TransactionError::Abortable(cause.clone())),
            _ => Err(TransactionError::illegal(
                "no transaction is open: a transactional producer sends in transactions only, begin one",
            )),
        }
    }

    /// Something of the transaction leaves.
    pub fn note_written(&mut self) {
        self.wrote = true;
    }

    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// Offsets are under way, or have arrived.
    pub fn note_offsets(&mut self, arrived: bool) {
        self.wrote = true;
        self.offsets_open = !arrived;
    }

    /// Something has failed. What concerns no transaction that is open changes nothing.
    pub fn fail(&mut self, error: TransactionError) {
        match error {
            TransactionError::Fatal(cause) => {
                self.fatal.get_or_insert(cause);
                self.unseen = true;
            }
            TransactionError::Abortable(cause)
                if matches!(self.phase, Phase::Open | Phase::Flushing | Phase::Committing) =>
            {
                if self.failure.is_none() {
                    self.failure = Some(cause);
                    self.unseen = true;
                }
                if self.phase == Phase::Committing {
                    self.phase = Phase::Open;
                }
            }
            TransactionError::Abortable(_)
            | TransactionError::Retriable(_)
            | TransactionError::IllegalState { .. } => {}
        }
    }

    /// Why nothing of the transaction need be sent any more.
    pub fn doom(&self) -> Option<&ClientError> {
        self.fatal.as_ref().or(self.failure.as_ref())
    }

    pub fn begin_commit(&mut self) -> Result<Step, TransactionError> {
        self.check_alive()?;
        match self.phase {
            Phase::Committing => return Ok(Step::End),
            Phase::Open | Phase::Flushing => {}
            Phase::Fresh | Phase::Ready | Phase::Aborting => return Err(none_open("commit")),
        }
        if self.offsets_open && self.failure.is_none() {
            let what = "the coordinator of the group has not said that it has the offsets";
            self.failure = Some(ClientError::outcome_unknown(what));
        }
        if let Some(cause) = &self.failure {
            self.phase = Phase::Open;
            return Err(TransactionError::Abortable(cause.clone()));
        }
        self.phase = Phase::Flushing;
        Ok(Step::Flush)
    }

    /// All that was sent is answered. False: nothing was, so there is nothing to end.
    pub fn flushed(&mut self) -> Result<bool, TransactionError> {
        self.check_alive()?;
        if let Some(cause) = &self.failure {
            self.phase = Phase::Open;
            return Err(TransactionError::Abortable(cause.clone()));
        }
        self.phase = if self.wrote { Phase::Committing } else { Phase::Ready };
        Ok(self.wrote)
    }

    pub fn begin_abort(&mut self) -> Result<(), TransactionError> {
        self.check_alive()?;
        match self.phase {
            Phase::Open | Phase::Flushing | Phase::Aborting => {
                self.phase = Phase::Aborting;
                Ok(())
            }
            Phase::Committing => Err(unanswered()),
            Phase::Fresh | Phase::Ready => Err(none_open("abort")),
        }
    }

    /// Nothing of it has left.
    pub fn aborted_unwritten(&mut self) {
        (self.phase, self.failure, self.unseen) = (Phase::Ready, None, false);
        self.offsets_open = false;
    }

    /// Whoever had this transaction is gone: it is to be aborted, if it is still open.
    pub fn abandon(&mut self, number: Option<u64>) -> bool {
        let is_open = matches!(self.phase, Phase::Open | Phase::Flushing) && self.fatal.is_none();
        let is_meant = number.is_none_or(|number| number == self.number);
        if is_open && is_meant {
            self.phase = Phase::Aborting;
        }
        is_open && is_meant
    }
}

fn none_open(what: &str) -> TransactionError {
    TransactionError::illegal(format!("there is no transaction to {what}: begin one first"))
}

fn unanswered() -> TransactionError {
    TransactionError::illegal(
        "whether the transaction is committed is not known yet: call commit_transaction again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::error::{Error as Refusal, ErrorCode};

    fn initialised() -> State {
        let mut state = State::default();
        state.initialised(ProducerId(7), ProducerEpoch(0));
        state
    }

    fn open() -> State {
        let mut state = initialised();
        state.begin().unwrap();
        state
    }

    fn refused(code: ErrorCode) -> ClientError {
        Refusal::new(code, "as the test wants").into()
    }

    fn is_illegal<T>(result: Result<T, TransactionError>) -> bool {
        matches!(result, Err(TransactionError::IllegalState { .. }))
    }

    #[test]
    fn calls_in_the_wrong_order_change_nothing() {
        let mut fresh = State::default();
        assert!(is_illegal(fresh.begin()));
        assert!(is_illegal(fresh.begin_commit()) && is_illegal(fresh.begin_abort()));
        assert!(is_illegal(fresh.check_send()));
        let mut ready = initialised();
        assert!(is_illegal(ready.check_init()) && is_illegal(ready.check_send()));
        assert!(is_illegal(ready.begin_commit()) && is_illegal(ready.begin_abort()));
        assert_eq!(ready.begin(), Ok(1));
        assert!(is_illegal(ready.begin()));
        assert_eq!(ready.check_send(), Ok(()));
    }

    #[test]
    fn what_failed_can_only_be_aborted() {
        let mut state = open();
        state.note_written();
        let cause = refused(ErrorCode::TransactionAbortable);
        state.fail(TransactionError::Abortable(cause.clone()));
        let failed = Err(TransactionError::Abortable(cause));
        assert_eq!(state.check_send(), failed.clone());
        assert_eq!(state.begin_commit().map(drop), failed);
        assert_eq!(state.begin_abort(), Ok(()));
        state.initialised(ProducerId(7), ProducerEpoch(1));
        assert_eq!(state.begin(), Ok(2));
        assert_eq!(state.check_send(), Ok(()));
    }

    #[test]
    fn what_fails_while_it_is_flushed_is_not_committed() {
        let mut state = open();
        state.note_written();
        assert_eq!(state.begin_commit(), Ok(Step::Flush));
        state.fail(TransactionError::Abortable(refused(ErrorCode::RecordTooLarge)));
        assert!(state.flushed().unwrap_err().is_abortable());
        assert_eq!(state.begin_abort(), Ok(()));
    }

    /// The outcome may be decided: only the same can be asked again.
    #[test]
    fn who_has_asked_to_commit_cannot_abort() {
        let mut state = open();
        state.note_written();
        state.begin_commit().unwrap();
        assert_eq!(state.flushed(), Ok(true));
        state.fail(TransactionError::Retriable(refused(ErrorCode::OutcomeUnknown)));
        assert!(is_illegal(state.begin_abort()) && is_illegal(state.begin()));
        assert!(!state.abandon(None));
        assert_eq!(state.begin_commit(), Ok(Step::End));
        state.initialised(ProducerId(7), ProducerEpoch(1));
        assert_eq!(state.begin(), Ok(2));
    }

    #[test]
    fn an_empty_transaction_has_no_end() {
        let mut state = open();
        state.begin_commit().unwrap();
        assert_eq!(state.flushed(), Ok(false));
        assert_eq!(state.begin(), Ok(2));
        state.begin_abort().unwrap();
        assert!(!state.wrote());
        state.aborted_unwritten();
        assert_eq!(state.begin(), Ok(3));
    }

    /// Else it would be committed without them, and read again after.
    #[test]
    fn offsets_that_may_not_have_arrived_are_not_committed() {
        let mut state = open();
        state.note_offsets(false);
        assert!(state.begin_commit().unwrap_err().is_abortable());
        let mut state = open();
        state.note_offsets(false);
        state.note_offsets(true);
        assert_eq!(state.begin_commit(), Ok(Step::Flush));
    }

    #[test]
    fn after_what_is_fatal_nothing_goes() {
        let mut state = open();
        state.fail(TransactionError::Fatal(refused(ErrorCode::ProducerFenced)));
        assert!(state.check_send().unwrap_err().is_fatal());
        assert!(state.begin_commit().unwrap_err().is_fatal());
        assert!(state.begin_abort().unwrap_err().is_fatal());
        assert!(state.begin().unwrap_err().is_fatal());
        assert!(!state.abandon(None));
    }

    #[test]
    fn who_drops_an_old_transaction_does_not_abort_the_new_one() {
        let mut state = open();
        state.begin_commit().unwrap();
        state.flushed().unwrap();
        state.begin().unwrap();
        assert!(!state.abandon(Some(1)));
        assert_eq!(state.check_send(), Ok(()));
        assert!(state.abandon(Some(2)));
        assert!(is_illegal(state.check_send()));
    }

    #[test]
    fn an_answer_that_comes_late_fails_no_other_transaction() {
        let mut state = initialised();
        state.fail(TransactionError::Abortable(refused(ErrorCode::ProducerFenced)));
        assert!(state.doom().is_none());
        assert_eq!(state.begin(), Ok(1));
    }
}
