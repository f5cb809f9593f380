//! Who is to be told that what was acknowledged is committed, and has not been yet.
//!
//! Promise: a call is answered when its last result is decided, or in its time.

use crate::forward::SettleOutcome;
use crate::operations::subscriptions::ack_id::AckId;
use std::collections::BTreeMap;
use tokio::sync::oneshot;
use tokio::time::Instant;

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

pub struct Call {
    pub outcomes: Vec<SettleOutcome>,
    /// Results that are open.
    pub open: usize,
    pub until: Instant,
    pub reply: oneshot::Sender<Vec<SettleOutcome>>,
}

impl Call {
    pub fn answer(self) {
        // Whoever asked may be gone.
        let _ = self.reply.send(self.outcomes);
    }
}

#[derive(Default)]
pub struct Confirmations {
    open: Vec<Open>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
}

impl Confirmations {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Of a stream, under that text.
    pub fn add(&mut self, id: AckId, text: String) {
        self.open.push(Open { id, to: To::Stream(text) });
    }

    /// Of a call: these of its results are open.
    pub fn add_call(&mut self, call: Call, open: Vec<(AckId, usize)>) {
        let number = self.next_call;
        self.next_call += 1;
        self.calls.insert(number, call);
        let open = open.into_iter().map(|(id, at)| Open { id, to: To::Call { number, at } });
        self.open.extend(open);
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
    pub fn close(
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
    pub fn expire(&mut self, is_over: impl Fn(Instant) -> bool) {
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
