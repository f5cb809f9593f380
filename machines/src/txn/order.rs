//! Which requests are of the past.
//!
//! An epoch tells a request of one transaction from those of the next, where each has its own. Two kinds of requests
//! have none that would: a new instance says nothing but its transactional id, and a client of the first version keeps
//! its epoch. What the network kept of those would fence who has come since, or end a transaction that has begun since.
//! So of each id it is remembered when a producer was initialised or a transaction decided last. Whoever asks for more
//! begins after it was told of that; a request that began before is of the past.
//!
//! When the log was written that a coordinator begins with, it cannot tell: all of it counts as written when it was
//! loaded. Whoever is refused for that asks once more.

use super::planted::Bug;
use super::{Change, State, Transactions, TxnError};
use crate::latest::{KEPT_MS, Latest};
use crate::time::Time;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct Boundaries {
    passed: Latest<Arc<str>>,
    /// What the log held then was written before, nobody knows when.
    loaded: Option<Time>,
}

impl Boundaries {
    pub fn loaded(&mut self, now: Time) {
        self.loaded = Some(now);
    }
}

impl Transactions {
    /// These were decided now, and are replayed. For requests that come later, and began before.
    pub fn note_decided(&mut self, now: Time, changes: &[Change]) {
        if self.boundaries.loaded.is_some_and(|loaded| loaded.plus(KEPT_MS) < now) {
            self.boundaries.loaded = None;
        }
        for change in changes {
            let state = change.value.as_ref().and_then(|value| State::from_id(value.state));
            let is_boundary = state.is_some_and(|it| it == State::Empty || it.prepared().is_some());
            if let (true, Ok(id)) = (is_boundary, change.transactional_id()) {
                self.boundaries.passed.note(now, id.into());
            }
        }
    }

    /// Whether a request that began then may be of the transaction of now.
    pub(super) fn check_order(&self, now: Time, began: Time, id: &str) -> Result<(), TxnError> {
        if self.bugs.has(Bug::LateRequestsCount) {
            return Ok(());
        }
        let passed = self.boundaries.passed.of(&Arc::from(id));
        let was_there = self.boundaries.loaded.filter(|_| self.by_id.contains_key(id));
        let is_past = passed.or(was_there).is_some_and(|boundary| began < boundary);
        match is_past || began.plus(KEPT_MS) < now {
            true => Err(TxnError::Overtaken),
            false => Ok(()),
        }
    }
}
