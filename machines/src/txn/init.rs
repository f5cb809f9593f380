//! A producer is initialised (X9, KIP-360): it gets an epoch that fences whoever had the transactional id before, when
//! what that one left open is settled.

use super::partition::{ClientVersion, LAST_EPOCH, Producer};
use super::planted::Bug;
use super::state::{Event, Outcome, path};
use super::transaction::Transaction;
use super::{Change, Decision, Transactions, TxnError, check_transactional_id};
use crate::time::Time;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub struct InitRequest<'a> {
    pub transactional_id: &'a str,
    /// How long each of its transactions may last (X10).
    pub timeout_ms: u32,
    pub version: ClientVersion,
    /// What the producer has: it wants an epoch in which nothing is under way. `None`: a new instance.
    pub known: Option<Producer>,
    /// What the id stands for is done once: not at all, if its last transaction was committed.
    pub once: bool,
}

impl Transactions {
    /// The producer that the instance is from now on. What is open is aborted first: then the answer is a refusal beside
    /// changes, `ConcurrentTransactions`, and so it is until all markers are written. A producer that asks again with
    /// what it had before is told what it was told then.
    ///
    /// # Errors
    /// `ProducerFenced`: another instance has come; `InvalidTransactionState`: what is to be done once is committed;
    /// `Overtaken`: another request about the id was carried out after this
    /// one began.
    pub fn init(
        &self,
        now: Time,
        began: Time,
        request: InitRequest<'_>,
    ) -> Result<Decision<Result<Producer, TxnError>>, TxnError> {
        let id = request.transactional_id;
        check_transactional_id(id)?;
        let (asked, max) = (request.timeout_ms, self.settings.max_timeout_ms);
        if asked == 0 || asked > max {
            return Err(TxnError::InvalidTransactionTimeout { asked, max });
        }
        let Some((id, known)) = self.get(id) else {
            // Also of one that has expired: who had it goes on with another producer id.
            let producer = Producer::first(self.spare_id()?);
            return Ok(self.initialised(now, &id.into(), producer, request));
        };
        let asks_again = request.known.is_some() && request.known == known.previous;
        match request.known {
            Some(producer) if !asks_again && producer != known.identity() => {
                return Err(TxnError::fenced(id, producer));
            }
            _ => {}
        }
        if known.state.prepared().is_some() {
            return Err(TxnError::concurrent(id));
        }
        // The one epoch that no client has is left by a fence.
        if asks_again && known.producer.epoch <= LAST_EPOCH {
            return Ok(Decision::unchanged(Ok(known.producer)));
        }
        if request.once && known.state.completed() == Some(Outcome::Commit) {
            return Err(TxnError::InvalidTransactionState {
                asked: "a transaction that is to be committed once",
                state: known.state,
                reason: "it was committed before",
            });
        }
        if request.known.is_none() {
            self.check_order(now, began, id)?;
        }
        if path(Some(known.state), Event::Fence).is_some() {
            let mut draft = self.draft(now);
            draft.decide(id, &known.fenced(now, request.known));
            return Ok(draft.answer(Err(TxnError::concurrent(id))));
        }
        let producer = if self.bugs.has(Bug::InitWithoutFence) {
            known.producer
        } else if known.producer.is_exhausted() {
            Producer::first(self.spare_id()?)
        } else {
            known.producer.next_epoch()
        };
        Ok(self.initialised(now, id, producer, request))
    }

    fn initialised(
        &self,
        now: Time,
        id: &Arc<str>,
        producer: Producer,
        request: InitRequest<'_>,
    ) -> Decision<Result<Producer, TxnError>> {
        let previous = match self.by_id.get(id) {
            Some(known) if self.bugs.has(Bug::OldInstanceAsksAgain) => Some(known.producer),
            _ => request.known,
        };
        let settled = (request.timeout_ms, request.version);
        let transaction = Transaction::empty(now, producer, previous, settled);
        let changes = vec![Change::put(id, &transaction)];
        Decision { changes, ..Decision::unchanged(Ok(producer)) }
    }
}
