//! A transaction is decided (X4, X8): the record of it is the point from which on it is so.

use super::partition::{ClientVersion, Producer};
use super::planted::Bug;
use super::state::{Event, Outcome, State, path};
use super::transaction::Transaction;
use super::{Decision, Transactions, TxnError, check_transactional_id};
use crate::time::Time;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub struct EndRequest<'a> {
    pub transactional_id: &'a str,
    pub producer: Producer,
    pub outcome: Outcome,
}

impl Transactions {
    /// The transaction is committed, or aborted. The answer is what the producer is in its next one: the same epoch for
    /// clients of the first version, a new one for the others (X19). Who asks again is told the same again, when all
    /// markers are written.
    ///
    /// # Errors
    /// `ConcurrentTransactions`: it is decided, and being completed; `InvalidTransactionState`: none is open, or it was
    /// decided otherwise; `Overtaken`: the request is of one before.
    pub fn end(
        &self,
        now: Time,
        began: Time,
        request: EndRequest<'_>,
    ) -> Result<Decision<Producer>, TxnError> {
        check_transactional_id(request.transactional_id)?;
        let (id, known, asks_again) = self.of_end(request)?;
        let (state, outcome) = (known.state, request.outcome);
        let refuse = |reason| Err(TxnError::cannot_end(outcome, state, reason));
        if path(Some(state), Event::End(outcome)).is_some() {
            if known.version == ClientVersion::First {
                self.check_end_order(now, began, id)?;
            }
            return self.decide(now, id, known, outcome);
        }
        if let Some(decided) = state.prepared() {
            // In an epoch of its own the next one has not begun yet; in the same epoch it may be this one's retry.
            if decided == outcome || (!asks_again && known.version == ClientVersion::Second) {
                return Err(TxnError::concurrent(id));
            }
            if self.bugs.has(Bug::DecideAgain) {
                let undone = Transaction { state: State::Ongoing, ..known.clone() };
                return self.decide(now, id, &undone, outcome);
            }
        }
        if asks_again || known.version == ClientVersion::First {
            if state.completed() == Some(outcome) {
                return Ok(Decision::unchanged(known.identity()));
            }
            if state != State::Empty {
                return refuse("it was decided otherwise");
            }
        }
        refuse("nothing was written in it; begin one by writing")
    }

    /// The transaction that is to be ended, and whether its producer asks again.
    fn of_end(&self, request: EndRequest<'_>) -> Result<(&Arc<str>, &Transaction, bool), TxnError> {
        let EndRequest { transactional_id, producer, .. } = request;
        if let Some((id, known)) = self.get(transactional_id) {
            let is_decided = known.state.prepared().or(known.state.completed()).is_some();
            let has_moved_on = known.version == ClientVersion::Second && is_decided;
            if has_moved_on && known.previous == Some(producer) {
                return Ok((id, known, true));
            }
        }
        let (id, known) = self.owned(transactional_id, producer)?;
        Ok((id, known, false))
    }

    fn decide(
        &self,
        now: Time,
        id: &Arc<str>,
        known: &Transaction,
        outcome: Outcome,
    ) -> Result<Decision<Producer>, TxnError> {
        let moves_on = known.version == ClientVersion::Second && known.producer.is_exhausted();
        let fresh = moves_on.then(|| self.spare_id()).transpose()?;
        let mut ended = known.ended(now, outcome, fresh);
        if self.bugs.has(Bug::EndInTheSameEpoch) {
            ended.producer = known.producer;
        }
        let mut draft = self.draft(now);
        draft.decide(id, &ended);
        Ok(draft.answer(ended.identity()))
    }
}
