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
//! A commit that nobody waits for ([`State::start_commit`]) leads from Open to Ready at once. What it takes stands among
//! the `commits` until it is answered, and the next transaction is begun meanwhile:
//!
//! ```text
//! oldest                                              newest
//! | decided together: records leave, then one end | waiting: records are kept | open: records are kept |
//!                                         leaving ^
//! ```
//!
//! Promises: a transaction of which something has failed is never committed, nor one that was sent behind it; one whose
//! commit was asked for is not aborted with a later one; nothing is sent outside of one.

mod commits;

pub(super) use commits::Told;

use super::error::TransactionError;
use crate::error::ClientError;
use crate::producer::Session;
use commits::Commits;
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
    /// Commits that nobody waited for have failed, and nothing was begun since. To be aborted.
    Failed,
}

/// What was asked about.
#[derive(Debug, Default)]
pub(super) struct State {
    pub phase: Phase,
    /// Of the newest transaction.
    pub number: u64,
    session: Option<Session>,
    /// Commits that were asked for and are not answered yet, oldest first.
    commits: Commits,
    /// The newest transaction of which anything may leave: of commits that are not answered, the last that is decided with
    /// the first of them.
    leaving: u64,
    /// What the newest transaction has been sent, in bytes.
    bytes: usize,
    /// Some record, or batch, has left in this session: there may be something to end.
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
            leaving: self.number,
            session: Some(Session { number, id, epoch }),
            commits: std::mem::take(&mut self.commits),
            ..Self::default()
        };
    }

    /// Who writes, and of which transactions: up to this one.
    pub fn writes(&self) -> (Option<Session>, u64) {
        (self.session, self.leaving)
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
                self.bytes = 0;
                self.let_leave();
                Ok(self.number)
            }
            Phase::Failed => Err(self.failed()),
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
            (Phase::Open | Phase::Failed, Some(cause)) => {
                Err(TransactionError::Abortable(cause.clone()))
            }
            _ => Err(TransactionError::illegal(
                "no transaction is open: a transactional producer sends in transactions only, begin one",
            )),
        }
    }

    /// A record of so many bytes is sent. The number of its transaction.
    pub fn take(&mut self, bytes: usize) -> Result<u64, TransactionError> {
        self.check_send()?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(self.number)
    }

    pub fn give_back(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Something leaves.
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

    /// Something of this transaction has failed, or of the one that is open. What concerns none that is open, or asked to
    /// be committed, changes nothing.
    pub fn fail(&mut self, error: TransactionError, of: Option<u64>) {
        match error {
            TransactionError::Fatal(cause) => self.fail_for_good(cause),
            TransactionError::Abortable(cause) if of.is_some_and(|of| of <= self.last_asked()) => {
                // Those that are decided together fail together; what is decided before them does not.
                let is_decided_later = of.is_some_and(|of| of > self.leaving);
                self.fail_commits(cause, if is_decided_later { self.leaving } else { 0 });
            }
            TransactionError::Abortable(cause)
                if of.is_none_or(|of| of == self.number)
                    && matches!(self.phase, Phase::Open | Phase::Flushing | Phase::Committing) =>
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

    /// Why nothing of the transactions behind this one need be sent any more.
    pub fn doom(&self) -> Option<(&ClientError, u64)> {
        let cause = self.fatal.as_ref().or(self.failure.as_ref())?;
        Some((cause, self.last_asked()))
    }

    fn failed(&self) -> TransactionError {
        match &self.failure {
            Some(cause) => TransactionError::Abortable(cause.clone()),
            None => none_open("go on with"),
        }
    }

    pub fn begin_commit(&mut self) -> Result<Step, TransactionError> {
        self.check_alive()?;
        if self.phase == Phase::Committing {
            return Ok(Step::End);
        }
        self.check_commit()?;
        self.phase = Phase::Flushing;
        Ok(Step::Flush)
    }

    /// Whether the transaction that is open may be asked to be committed.
    fn check_commit(&mut self) -> Result<(), TransactionError> {
        match self.phase {
            Phase::Open | Phase::Flushing => {}
            Phase::Failed => return Err(self.failed()),
            Phase::Committing => return Err(unanswered()),
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
        Ok(())
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
            Phase::Open | Phase::Flushing | Phase::Aborting | Phase::Failed => {
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
        let is_open = match self.phase {
            Phase::Open | Phase::Flushing => self.fatal.is_none(),
            Phase::Failed => number.is_none() && self.fatal.is_none(),
            _ => false,
        };
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
mod tests;
