//! Which requests are of the past.
//!
//! An epoch tells a request of one transaction from those of the next, where each has its own. Two kinds of requests
//! have none that would: a new instance says nothing but its transactional id, and a client of the first version keeps
//! its epoch. What the network kept of those would fence who has come since, or end a transaction that has begun since.
//! So of each id it is remembered when a producer was initialised or a transaction decided last, and when something
//! became part of one. Who writes begins after it was told of the former, and who ends a transaction after it was told of
//! the latter too; a request that began before is of the past. An end that is asked again before its answer came would
//! pass for one of the next transaction otherwise.
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
    /// When something became part of a transaction.
    added: Latest<Arc<str>>,
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
            let (Some(state), Ok(id)) = (state, change.transactional_id()) else { continue };
            if state == State::Ongoing {
                self.boundaries.added.note(now, id.into());
            } else if state == State::Empty || state.prepared().is_some() {
                self.boundaries.passed.note(now, id.into());
            }
        }
    }

    /// Whether a request that began then may be of the transaction of now.
    pub(super) fn check_order(&self, now: Time, began: Time, id: &str) -> Result<(), TxnError> {
        let passed = self.boundaries.passed.of(&Arc::from(id));
        let was_there = self.boundaries.loaded.filter(|_| self.by_id.contains_key(id));
        self.check_after(now, began, passed.or(was_there))
    }

    /// Whether one that began then may end the transaction of now.
    pub(super) fn check_end_order(&self, now: Time, began: Time, id: &str) -> Result<(), TxnError> {
        self.check_order(now, began, id)?;
        self.check_after(now, began, self.boundaries.added.of(&Arc::from(id)))
    }

    fn check_after(&self, now: Time, began: Time, boundary: Option<Time>) -> Result<(), TxnError> {
        let is_past =
            boundary.is_some_and(|boundary| began < boundary) || began.plus(KEPT_MS) < now;
        match is_past && !self.bugs.has(Bug::LateRequestsCount) {
            true => Err(TxnError::Overtaken),
            false => Ok(()),
        }
    }
}
