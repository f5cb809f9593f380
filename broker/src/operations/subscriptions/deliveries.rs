//! Everything that one session has delivered: a ledger for each partition, and the window over all of them.
//!
//! Pure: time is an argument. Never here: the log, the group, the stream.

use super::ack_id::{AckId, SessionId};
use super::ledger::{Hindrance, Ledger, Offer, Released};
use super::pledged::{Pledged, Unpledged};
use super::request::WindowBounds;
use super::window::Window;
use crate::forward::{SettleAction, SettleOutcome, Target};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::error::Error;
use troupe_proto::ids::{NodeId, Offset, PartitionKey};

/// How records are given out.
pub struct Terms {
    pub node: NodeId,
    pub session: SessionId,
    pub max_processing: Duration,
    /// What is sent counts as acknowledged.
    pub auto_ack: bool,
}

/// What becomes of a record that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out, under this id.
    Deliver(AckId),
    /// Nobody needs it.
    Pass,
    /// Not before the window has room.
    Wait,
    /// Nothing of its partition goes out now.
    Closed,
}

/// A partition of the session.
pub struct Held {
    pub target: Target,
    pub ledger: Ledger,
    /// What the group knows of.
    committed: Option<Offset>,
    /// Given up: nothing more of it goes out.
    revoked: bool,
    /// Where it ended when it was assigned, until everything before has been delivered.
    behind: Option<Offset>,
    told_gap: bool,
    /// A transaction is about to commit more than what is acknowledged.
    pledged: bool,
}

/// How far a partition is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    prefix: Offset,
    committed: Option<Offset>,
}

impl Place {
    /// Everything up to this record is settled, and the group does not know it.
    pub fn waits_for_commit(&self, offset: Offset) -> bool {
        offset < self.prefix && self.committed.is_none_or(|committed| committed <= offset)
    }
}

pub struct Deliveries {
    terms: Terms,
    window: Window,
    held: BTreeMap<u32, Held>,
    slots: HashMap<PartitionKey, u32>,
    next_slot: u32,
    /// Of these, what is to be read may be another than was.
    moved: BTreeSet<u32>,
    /// Nothing goes out any more.
    closed: bool,
}

impl Deliveries {
    pub fn new(terms: Terms, window: Window) -> Deliveries {
        Deliveries {
            terms,
            window,
            held: BTreeMap::new(),
            slots: HashMap::new(),
            next_slot: 1,
            moved: BTreeSet::new(),
            closed: false,
        }
    }

    /// A partition is delivered from `start` on; `committed` is what the group knows of, `latest` its end now.
    pub fn hold(
        &mut self,
        target: Target,
        start: Offset,
        committed: Option<Offset>,
        latest: Offset,
    ) {
        self.release(&target.key);
        let slot = self.next_slot;
        self.next_slot += 1;
        self.slots.insert(target.key, slot);
        let behind = (start < latest).then_some(latest);
        let ledger = Ledger::new(start);
        let held = Held {
            target,
            ledger,
            committed,
            revoked: false,
            behind,
            told_gap: false,
            pledged: false,
        };
        self.held.insert(slot, held);
        self.moved.insert(slot);
    }

    /// Forgets a partition: what is out of it is lost.
    pub fn release(&mut self, key: &PartitionKey) {
        let held = self.slots.remove(key).and_then(|slot| self.held.remove(&slot));
        if let Some(mut held) = held {
            held.ledger.redeem(false);
            let released = held.ledger.recall_all();
            self.give_back(released);
        }
    }

    /// What was read of the partition from `divergence` on is not there any more; it ends at `latest` now. What is out
    /// of it is lost, and it goes on with what is not settled, there at the latest. Some: where that was, if beyond it.
    pub fn go_back(
        &mut self,
        key: &PartitionKey,
        divergence: Offset,
        latest: Offset,
    ) -> Option<Offset> {
        let held = self.get(key)?;
        let (target, committed, revoked) = (held.target.clone(), held.committed, held.revoked);
        let settled = held.ledger.prefix();
        self.hold(target, settled.min(divergence), committed, latest);
        self.set_revoked(key, revoked);
        (settled > divergence).then_some(settled)
    }

    /// Nothing more of the partition goes out. What is out may be settled.
    pub fn revoke(&mut self, key: &PartitionKey) {
        self.set_revoked(key, true);
    }

    /// It stays after all.
    pub fn keep(&mut self, key: &PartitionKey) {
        self.set_revoked(key, false);
    }

    fn set_revoked(&mut self, key: &PartitionKey, revoked: bool) {
        if let Some(slot) = self.slots.get(key)
            && let Some(held) = self.held.get_mut(slot)
            && held.revoked != revoked
        {
            held.revoked = revoked;
            self.moved.insert(*slot);
        }
    }

    /// The partition is to be read, wherever it stands.
    pub fn read_on(&mut self, key: &PartitionKey) {
        self.moved.extend(self.slots.get(key));
    }

    /// Nothing goes out any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.moved.extend(self.held.keys());
    }

    /// Takes back everything that is out.
    pub fn recall_all(&mut self) {
        let mut all = Released::default();
        for held in self.held.values_mut() {
            all.bytes.extend(held.ledger.recall_all().bytes);
        }
        self.moved.extend(self.held.keys());
        self.give_back(all);
    }

    pub fn get(&self, key: &PartitionKey) -> Option<&Held> {
        self.held.get(self.slots.get(key)?)
    }

    /// Of the partition, as it was assigned when this was given out; none if it was given up since.
    pub fn place(&self, id: &AckId) -> Option<Place> {
        let held = self.held.get(&id.slot)?;
        Some(Place { prefix: held.ledger.prefix(), committed: held.committed })
    }

    /// Whether this was given out of the partition, as it is assigned now.
    pub fn is_of(&self, id: &AckId, key: &PartitionKey) -> bool {
        self.slots.get(key) == Some(&id.slot)
    }

    /// Nothing of the partition is out.
    pub fn is_settled(&self, key: &PartitionKey) -> bool {
        self.get(key).is_none_or(|held| held.ledger.out() == 0)
    }

    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.held.values().map(|held| &held.target)
    }

    /// Other bounds from here on.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for negative bounds.
    pub fn resize(&mut self, bounds: WindowBounds) -> Result<(), Error> {
        self.window.resize(bounds)
    }

    /// Records that are out.
    pub fn out(&self) -> usize {
        self.window.records()
    }

    pub fn has_room(&self, bytes: usize) -> bool {
        self.window.has_room(bytes)
    }

    /// A record was read, of that size: whether it goes out, and if so, it is out.
    pub fn offer(
        &mut self,
        key: &PartitionKey,
        offset: Offset,
        bytes: usize,
        now: Instant,
    ) -> Verdict {
        let Some((slot, held)) = self.held_mut(key) else { return Verdict::Closed };
        if held.revoked || !held.ledger.is_open(now) {
            return Verdict::Closed;
        }
        let attempt = match held.ledger.offer(offset) {
            Offer::Deliver(attempt) => attempt,
            Offer::Pass => {
                self.pass(key, offset.plus(1));
                return Verdict::Pass;
            }
        };
        if self.closed {
            return Verdict::Closed;
        }
        if !self.window.has_room(bytes) {
            return Verdict::Wait;
        }
        let until = now + self.terms.max_processing;
        let Terms { node, session, auto_ack, .. } = self.terms;
        let id = AckId { node, session, slot, offset, attempt };
        self.window.take(bytes);
        if let Some((_, held)) = self.held_mut(key) {
            held.ledger.deliver(offset, bytes, until);
            held.catch_up();
        }
        if auto_ack {
            self.settle(&id, SettleAction::Ack, now);
        }
        Verdict::Deliver(id)
    }

    /// Everything of the partition before `next` was read.
    pub fn pass(&mut self, key: &PartitionKey, next: Offset) {
        if let Some((_, held)) = self.held_mut(key) {
            held.ledger.pass(next);
            held.catch_up();
        }
    }

    /// A record that was read is out already, or done.
    pub fn is_passed(&self, key: &PartitionKey, offset: Offset) -> bool {
        self.get(key).is_some_and(|held| held.ledger.offer(offset) == Offer::Pass)
    }

    /// What a client says of a delivery of this session.
    pub fn settle(&mut self, id: &AckId, action: SettleAction, now: Instant) -> SettleOutcome {
        let gone = self.outcome_of_none(id.slot);
        let Some(held) = self.held.get_mut(&id.slot) else { return gone };
        let was_open = held.ledger.is_open(now);
        let (outcome, released) = held.ledger.settle(id.offset, id.attempt, action, now);
        let recalled =
            matches!(action, SettleAction::Nack(_)) && outcome == SettleOutcome::Accepted;
        if recalled || held.ledger.is_open(now) != was_open {
            self.moved.insert(id.slot);
        }
        self.give_back(released);
        outcome
    }

    /// Has these deliveries wait for the end of a transaction that acknowledges them: all, or none.
    ///
    /// # Errors
    /// `LEASE_LOST`, `UNKNOWN_ACK_ID`: one is not out. Passing: `ACK_GAP`: one before them is not settled;
    /// `CONCURRENT_TRANSACTIONS`: another transaction goes before, or a commit.
    pub fn pledge(&mut self, ids: &[AckId]) -> Result<Vec<Pledged>, Unpledged> {
        let mut parts: BTreeMap<u32, Vec<AckId>> = BTreeMap::new();
        for id in ids {
            parts.entry(id.slot).or_default().push(*id);
        }
        let (mut pledged, mut waits) = (Vec::with_capacity(parts.len()), None);
        for (slot, mut wanted) in parts {
            wanted.sort_unstable_by_key(|id| (id.offset, id.attempt));
            wanted.dedup();
            match self.pledge_of(slot, &wanted) {
                Ok(one) => pledged.push(one),
                Err(unpledged) if unpledged.passes => waits = Some(unpledged),
                Err(unpledged) => return Err(unpledged),
            }
        }
        if let Some(waits) = waits {
            return Err(waits);
        }
        for Pledged { slot, end, .. } in &pledged {
            if let Some(held) = self.held.get_mut(slot) {
                held.ledger.pledge(*end);
                held.pledged = true;
            }
        }
        Ok(pledged)
    }

    fn pledge_of(&self, slot: u32, wanted: &[AckId]) -> Result<Pledged, Unpledged> {
        let Some(held) = self.held.get(&slot) else {
            return Err(Unpledged::lost(wanted[0], self.outcome_of_none(slot)));
        };
        if held.pledged {
            return Err(Unpledged::after_another(&held.target));
        }
        let given: Vec<_> = wanted.iter().map(|id| (id.offset, id.attempt)).collect();
        match held.ledger.covered_by(&given) {
            Err(Hindrance::Lost(at, outcome)) => Err(Unpledged::lost(wanted[at], outcome)),
            Err(Hindrance::Gap(first)) => Err(Unpledged::gap(&held.target, first)),
            Ok(_) if held.committed != Some(held.ledger.prefix()) => {
                Err(Unpledged::after_a_commit(&held.target))
            }
            Ok(end) => Ok(Pledged { target: held.target.clone(), end, slot }),
        }
    }

    /// The transaction has ended: what was pledged is committed, or out as before.
    pub fn redeem(&mut self, pledged: &[Pledged], committed: bool, now: Instant) {
        for Pledged { slot, end, .. } in pledged {
            let Some(held) = self.held.get_mut(slot) else { continue };
            let was_open = held.ledger.is_open(now);
            let released = held.ledger.redeem(committed);
            held.pledged = false;
            if committed {
                held.committed = Some(*end);
            }
            if held.ledger.is_open(now) != was_open {
                self.moved.insert(*slot);
            }
            self.give_back(released);
        }
    }

    /// What of this is still held as it was pledged, and to stay.
    pub fn still_pledged(&self, pledged: Vec<Pledged>) -> Vec<Target> {
        let is_held = |one: &Pledged| self.held.get(&one.slot).is_some_and(|it| it.pledged);
        pledged.into_iter().filter(is_held).map(|one| one.target).collect()
    }

    pub fn is_pledged(&self, key: &PartitionKey) -> bool {
        self.get(key).is_some_and(|held| held.pledged)
    }

    /// Nothing more of it goes out.
    pub fn is_revoked(&self, key: &PartitionKey) -> bool {
        self.get(key).is_some_and(|held| held.revoked)
    }

    /// A delivery reached nobody.
    pub fn take_back(&mut self, id: &AckId) {
        if let Some(held) = self.held.get_mut(&id.slot) {
            let released = held.ledger.recall_one(id.offset, id.attempt);
            self.moved.insert(id.slot);
            self.give_back(released);
        }
    }

    /// Takes back everything that is out of a partition.
    pub fn recall(&mut self, key: &PartitionKey) {
        if let Some((slot, held)) = self.held_mut(key) {
            let released = held.ledger.recall_all();
            self.moved.insert(slot);
            self.give_back(released);
        }
    }

    /// Takes back what has been out for too long.
    pub fn expire(&mut self, now: Instant) {
        let mut all = Released::default();
        for (slot, held) in &mut self.held {
            if held.ledger.next_deadline().is_some_and(|deadline| deadline <= now) {
                all.bytes.extend(held.ledger.expire(now).bytes);
                self.moved.insert(*slot);
            }
        }
        self.give_back(all);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.ledger.next_deadline()).min()
    }

    /// When the first of what is out of these partitions is taken back.
    pub fn first_expiry<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a PartitionKey>,
    ) -> Option<Instant> {
        keys.into_iter().filter_map(|key| self.get(key)?.ledger.next_expiry()).min()
    }

    /// Partitions of which something else is to be read than was, or of which nothing is: where they stand.
    pub fn take_moved(&mut self, now: Instant) -> Vec<(Target, Option<Offset>)> {
        let closed = self.closed;
        let place = |slot: u32| {
            let held = self.held.get(&slot)?;
            let open = !closed && !held.revoked && held.ledger.is_open(now);
            Some((held.target.clone(), open.then(|| held.ledger.cursor())))
        };
        std::mem::take(&mut self.moved).into_iter().filter_map(place).collect()
    }

    /// Partitions of which nothing more comes until the gap closes, each once as long as it is so.
    pub fn take_full_gaps(&mut self) -> Vec<Target> {
        let mut full = Vec::new();
        for held in self.held.values_mut() {
            let is_full = held.ledger.is_gap_full();
            if is_full && !held.told_gap {
                full.push(held.target.clone());
            }
            held.told_gap = is_full;
        }
        full
    }

    /// Everything has been delivered that was there when the partitions were assigned.
    pub fn is_caught_up(&self) -> bool {
        self.held.values().all(|held| held.behind.is_none() || held.revoked)
    }

    /// What the group does not know yet.
    pub fn uncommitted(&self) -> impl Iterator<Item = (&Target, Offset)> {
        self.held
            .values()
            .filter(|held| !held.pledged && held.committed != Some(held.ledger.prefix()))
            .map(|held| (&held.target, held.ledger.prefix()))
    }

    pub fn is_committed(&self, key: &PartitionKey) -> bool {
        self.get(key).is_none_or(|held| held.committed == Some(held.ledger.prefix()))
    }

    /// The group knows that everything before is done.
    pub fn committed(&mut self, key: &PartitionKey, offset: Offset) {
        if let Some((_, held)) = self.held_mut(key) {
            held.committed = Some(offset);
        }
    }

    /// Of what was given out under a slot that is not held: the partition was given up since, or there never was such
    /// an assignment.
    fn outcome_of_none(&self, slot: u32) -> SettleOutcome {
        match (1..self.next_slot).contains(&slot) {
            true => SettleOutcome::LeaseLost,
            false => SettleOutcome::UnknownId,
        }
    }

    fn held_mut(&mut self, key: &PartitionKey) -> Option<(u32, &mut Held)> {
        let slot = *self.slots.get(key)?;
        Some((slot, self.held.get_mut(&slot)?))
    }

    fn give_back(&mut self, released: Released) {
        for bytes in released.bytes {
            self.window.give_back(bytes);
        }
    }
}

impl Held {
    fn catch_up(&mut self) {
        if self.behind.is_some_and(|end| self.ledger.frontier() >= end) {
            self.behind = None;
        }
    }
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
