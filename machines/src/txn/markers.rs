//! What partitions are told of a decision, until all of them have heard it (X5, X6).
//!
//! A decision opens a *round*: every partition of the transaction owes a word that it has its marker. What a partition
//! says counts in the round that it was asked in, by the round's ticket. In an epoch that stays, a word about one
//! transaction could be taken for the next otherwise, and that partition would never be told. A partition that is
//! deleted owes nothing.
//! Markers are told again until the round is over; whoever carries them knows which are still under way.

use super::partition::{ClientVersion, Producer, TxnPartition};
use super::planted::Bug;
use super::state::Outcome;
use super::transaction::Transaction;
use super::{Change, Decision, Transactions};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use troupe_proto::ids::PartitionKey;

/// How soon a partition is told again that has not said that it has its marker.
pub(super) const RETRY_MS: u64 = 1_000;

/// One round of markers, unique in the life of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

impl Ticket {
    pub(super) fn next(self) -> Ticket {
        Ticket(self.0 + 1)
    }
}

/// What partitions are to be told. Who carries it adds the epoch in which it coordinates: a partition takes nothing
/// from an older one (X5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub ticket: Ticket,
    pub transactional_id: Arc<str>,
    pub producer: Producer,
    /// Of the second version: the marker's epoch is newer than that of everything in its transaction. Where a
    /// transaction is open in just this epoch, it is the next one, and the marker comes late.
    pub version: ClientVersion,
    pub outcome: Outcome,
    pub partitions: Vec<TxnPartition>,
}

#[derive(Clone, Debug)]
pub(super) struct Round {
    ticket: Ticket,
    done: BTreeSet<PartitionKey>,
}

impl Round {
    pub fn new(ticket: Ticket) -> Round {
        Round { ticket, done: BTreeSet::new() }
    }
}

/// A decision under way.
pub(super) struct Draft<'a> {
    transactions: &'a Transactions,
    now: Time,
    last_ticket: Ticket,
    decision: Decision<()>,
}

impl Draft<'_> {
    /// The transaction is prepared, as it is here. Where nothing owes a marker it is complete at once.
    pub fn decide(&mut self, id: &Arc<str>, prepared: &Transaction) {
        self.last_ticket = self.last_ticket.next();
        self.decision.changes.push(Change::put(id, prepared));
        let round = Round::new(self.last_ticket);
        match self.transactions.marker(id, prepared, &round) {
            Some(marker) => self.decision.markers.push(marker),
            None => self.complete(id, prepared),
        }
    }

    pub fn complete(&mut self, id: &Arc<str>, prepared: &Transaction) {
        self.decision.changes.push(Change::put(id, &prepared.completed(self.now)));
    }

    pub fn tell(&mut self, marker: Marker) {
        self.decision.markers.push(marker);
    }

    pub fn expire(&mut self, id: &Arc<str>) {
        self.decision.changes.push(Change::remove(id));
    }

    pub fn answer<T>(self, answer: T) -> Decision<T> {
        let Decision { changes, markers, .. } = self.decision;
        Decision { changes, answer, markers }
    }
}

impl Transactions {
    /// A decision that has to know which tickets it hands out: the next ones, in order of its changes.
    pub(super) fn draft(&self, now: Time) -> Draft<'_> {
        let (last_ticket, decision) = (self.last_ticket, Decision::default());
        Draft { transactions: self, now, last_ticket, decision }
    }

    /// The partition has the marker of that round. When all have theirs, the transaction is complete. What belongs to no
    /// round of now says nothing.
    pub fn marked(
        &mut self,
        now: Time,
        transactional_id: &str,
        ticket: Ticket,
        partition: PartitionKey,
    ) -> Decision<()> {
        let any = self.bugs.has(Bug::AnyWordCounts);
        let round = self.rounds.get_mut(transactional_id);
        let Some(round) = round.filter(|round| round.ticket == ticket || any) else {
            return Decision::default();
        };
        round.done.insert(partition);
        let mut draft = self.draft(now);
        if let Some((id, known)) = self.get(transactional_id)
            && (self.owed(id, known).is_none() || self.bugs.has(Bug::CompleteAtTheFirstMarker))
        {
            draft.complete(id, known);
        }
        draft.answer(())
    }

    /// Topics have come, grown or gone: partitions that are gone owe no marker.
    pub fn catalog_changed(&self, now: Time) -> Decision<()> {
        let mut draft = self.draft(now);
        for id in self.rounds.keys() {
            if let Some((id, known)) = self.get(id)
                && self.owed(id, known).is_none()
            {
                draft.complete(id, known);
            }
        }
        draft.answer(())
    }

    /// What is still to be told of a transaction that is prepared. `None`: all partitions know.
    pub(super) fn owed(&self, id: &Arc<str>, prepared: &Transaction) -> Option<Marker> {
        self.rounds.get(id).and_then(|round| self.marker(id, prepared, round))
    }

    fn marker(&self, id: &Arc<str>, prepared: &Transaction, round: &Round) -> Option<Marker> {
        let outcome = prepared.state.prepared()?;
        let is_owed = |it: &&TxnPartition| self.exists(it) && !round.done.contains(&it.key());
        let partitions: Vec<_> = prepared.partitions.iter().filter(is_owed).cloned().collect();
        (!partitions.is_empty()).then(|| Marker {
            ticket: round.ticket,
            transactional_id: Arc::clone(id),
            producer: prepared.producer,
            version: prepared.version,
            outcome,
            partitions,
        })
    }
}
