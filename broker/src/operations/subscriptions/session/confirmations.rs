//! Who is to be told that what was acknowledged is committed: on the stream, or as the answer of a call.
//!
//! Promises: ACCEPTED is said when the group knows of it, or where it cannot, as a record before is not acknowledged;
//! what came to nothing is said too; a call is answered in its time, whatever becomes of the commit.

use super::super::ack_id::AckId;
use super::super::deliveries::Deliveries;
use super::super::ledger::Action;
use super::super::sessions::Settlements;
use super::Session;
use std::collections::BTreeMap;
use tokio::sync::oneshot;
use tokio::time::Instant;
use troupe_proto::ids::PartitionKey;
use troupe_proto::v1::SettleOutcome;

/// Settled, not committed yet, and to be confirmed.
struct Open {
    id: AckId,
    to: To,
}

enum To {
    /// Under this text.
    Stream(String),
    /// The result of that call at this place.
    Call { number: u64, at: usize },
}

struct Call {
    outcomes: Vec<SettleOutcome>,
    /// Results that are open.
    open: usize,
    until: Instant,
    reply: oneshot::Sender<Vec<SettleOutcome>>,
}

impl Call {
    fn answer(self) {
        // Whoever asked may be gone.
        let _ = self.reply.send(self.outcomes);
    }
}

#[derive(Default)]
pub(super) struct Confirmations {
    open: Vec<Open>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
}

impl Confirmations {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// When the first call has to be answered.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.until).min()
    }

    /// Takes out what is decided, with what is to be told on the stream; the calls whose last result it was are
    /// answered.
    fn close(
        &mut self,
        decide: impl Fn(&AckId) -> Option<SettleOutcome>,
    ) -> Vec<(String, SettleOutcome)> {
        let mut told = Vec::new();
        for Open { id, to } in std::mem::take(&mut self.open) {
            match (decide(&id), to) {
                (None, to) => self.open.push(Open { id, to }),
                (Some(outcome), To::Stream(text)) => told.push((text, outcome)),
                (Some(outcome), To::Call { number, at }) => self.note(number, at, outcome),
            }
        }
        told
    }

    fn note(&mut self, number: u64, at: usize, outcome: SettleOutcome) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if let Some(result) = call.outcomes.get_mut(at) {
            *result = outcome;
        }
        call.open -= 1;
        if call.open == 0
            && let Some(call) = self.calls.remove(&number)
        {
            call.answer();
        }
    }

    /// Answers the calls whose time is over: what is open of them is not committed, as far as is known.
    fn expire(&mut self, is_over: impl Fn(Instant) -> bool) {
        let over =
            self.calls.extract_if(.., |_, call| is_over(call.until) || call.reply.is_closed());
        let mut over: BTreeMap<u64, Call> = over.collect();
        if over.is_empty() {
            return;
        }
        self.open.retain(|open| match &open.to {
            To::Call { number, at } if over.contains_key(number) => {
                if let Some(result) = over.get_mut(number).and_then(|it| it.outcomes.get_mut(*at)) {
                    *result = SettleOutcome::NotCommitted;
                }
                false
            }
            _ => true,
        });
        over.into_values().for_each(Call::answer);
    }
}

/// Everything up to the record is settled, and the group does not know it yet.
fn waits(deliveries: &Deliveries, id: &AckId) -> bool {
    deliveries.place(id).is_some_and(|place| place.waits_for_commit(id.offset))
}

impl Session {
    /// An acknowledgement was taken: whether it is confirmed later, with its commit.
    pub(super) fn confirms_later(&mut self, id: &AckId, ack_id: &str) -> bool {
        let later = self.options.confirm && waits(&self.deliveries, id);
        if later {
            let to = To::Stream(ack_id.to_owned());
            self.commits.confirmations.open.push(Open { id: *id, to });
        }
        later
    }

    /// Settles what another call brings. It is answered when what it acknowledges is committed, if it is to be.
    pub(super) fn settle_for_call(&mut self, asked: Settlements, now: Instant) {
        let Settlements { settlements, confirm, reply } = asked;
        let (mut outcomes, mut open) = (Vec::with_capacity(settlements.len()), Vec::new());
        for (id, action) in settlements {
            self.receipts.arrived(&id);
            let outcome = self.deliveries.settle(&id, action, now);
            let is_taken = outcome == SettleOutcome::Accepted && action == Action::Ack;
            if confirm.is_some() && is_taken && waits(&self.deliveries, &id) {
                open.push((id, outcomes.len()));
            }
            outcomes.push(outcome);
        }
        let until = confirm.unwrap_or(now);
        let call = Call { outcomes, open: open.len(), until, reply };
        if open.is_empty() {
            return call.answer();
        }
        let confirmations = &mut self.commits.confirmations;
        let number = confirmations.next_call;
        confirmations.next_call += 1;
        confirmations.calls.insert(number, call);
        let open = open.into_iter().map(|(id, at)| Open { id, to: To::Call { number, at } });
        confirmations.open.extend(open);
    }

    /// Confirms what is committed by now. What was given up before that may be delivered again.
    pub(super) fn confirm_settled(&mut self, now: Instant) {
        let deliveries = &self.deliveries;
        let told = self.commits.confirmations.close(|id| match deliveries.place(id) {
            Some(place) if place.waits_for_commit(id.offset) => None,
            Some(_) => Some(SettleOutcome::Accepted),
            None => Some(SettleOutcome::LeaseLost),
        });
        self.tell_outcomes(told);
        self.commits.confirmations.expire(|until| until <= now);
    }

    /// What waits for a commit of this partition waits in vain: it is another's, or gone.
    pub(super) fn refuse_confirmations(&mut self, key: &PartitionKey) {
        let deliveries = &self.deliveries;
        let is_lost = |id: &AckId| deliveries.is_of(id, key) && waits(deliveries, id);
        let told =
            self.commits.confirmations.close(|id| is_lost(id).then_some(SettleOutcome::LeaseLost));
        self.tell_outcomes(told);
    }

    /// Nothing is committed any more: whoever still waits is told so.
    pub(super) fn end_confirmations(&mut self) {
        self.commits.confirmations.expire(|_| true);
    }

    fn tell_outcomes(&mut self, told: Vec<(String, SettleOutcome)>) {
        for (text, outcome) in told {
            self.tell_outcome(text, outcome);
        }
    }
}
