//! What of one partition is delivered, settled and to be delivered again.
//!
//! ```text
//!      prefix                  cursor              frontier
//!  ─────┼───────────────────────┼───────────────────┼──────────►  offsets
//!   done│ out, acked, recalled  │ delivered before, │ never delivered
//!       │                       │ some of it recalled
//! ```
//!
//! `prefix <= frontier`, `prefix <= cursor <= frontier`; what is recalled is at the cursor or after it. The prefix is
//! what is committed, and only grows. A record that was acknowledged is never delivered again here.

use crate::forward::{SettleAction, SettleOutcome};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::ids::Offset;

/// Records that may be acknowledged while one before them is not.
pub const MAX_ACKED_BEYOND: usize = 10_000;
/// Records that took more than one delivery and are done, of which is remembered which delivery counted.
const MAX_REPEATED: usize = 1_000;

/// What becomes of a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// To be delivered; that many times with this one.
    Deliver(u32),
    /// It is out already, or done.
    Pass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Delivered and not settled, until then.
    Out(Instant),
    /// A transaction acknowledges it; out until then, if that comes to nothing.
    Pledged(Instant),
    Acked,
    /// To be delivered again.
    Recalled,
}

#[derive(Clone, Debug)]
struct Entry {
    offset: Offset,
    bytes: usize,
    attempt: u32,
    state: State,
}

#[derive(Clone, Debug)]
pub struct Ledger {
    start: Offset,
    prefix: Offset,
    cursor: Offset,
    frontier: Offset,
    /// From the prefix on, by offset; the first is not acknowledged.
    entries: VecDeque<Entry>,
    acked: usize,
    out: usize,
    /// No lease ends before.
    next_expiry: Option<Instant>,
    /// After a negative acknowledgement with a delay.
    held_until: Option<Instant>,
    repeated: BTreeMap<Offset, u32>,
}

/// Why a transaction cannot acknowledge deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The one with that number is not out: as an acknowledgement would be told.
    Lost(usize, SettleOutcome),
    /// The record there, which was delivered before them, is not settled.
    Gap(Offset),
}

/// What came back to the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The sizes of the records that are not out any more.
    pub bytes: Vec<usize>,
}

impl Ledger {
    /// Nothing before `start` is delivered.
    pub fn new(start: Offset) -> Ledger {
        Ledger {
            start,
            prefix: start,
            cursor: start,
            frontier: start,
            entries: VecDeque::new(),
            acked: 0,
            out: 0,
            next_expiry: None,
            held_until: None,
            repeated: BTreeMap::new(),
        }
    }

    /// Every record before it is acknowledged: the offset to commit.
    pub fn prefix(&self) -> Offset {
        self.prefix
    }

    /// What is to be read next.
    pub fn cursor(&self) -> Offset {
        self.cursor
    }

    /// Every record before it has been delivered.
    pub fn frontier(&self) -> Offset {
        self.frontier
    }

    /// Records that are delivered and not settled.
    pub fn out(&self) -> usize {
        self.out
    }

    /// So many records are acknowledged behind one that is not that no more are delivered.
    pub fn is_gap_full(&self) -> bool {
        self.acked >= MAX_ACKED_BEYOND
    }

    /// Whether anything may be delivered now. What is recalled may also when the gap is full: it closes the gap.
    pub fn is_open(&self, now: Instant) -> bool {
        let held = self.held_until.is_some_and(|until| until > now);
        !held && (!self.is_gap_full() || self.cursor < self.frontier)
    }

    /// When something happens here without anybody's doing.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.next_expiry, self.held_until].into_iter().flatten().min()
    }

    /// When the first lease ends, at the earliest.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// A record was read at the cursor or after it, and there is none between.
    pub fn offer(&self, offset: Offset) -> Offer {
        match self.find(offset) {
            Ok(at) if self.entries[at].state == State::Recalled => {
                Offer::Deliver(self.entries[at].attempt + 1)
            }
            Err(_) if offset >= self.frontier => Offer::Deliver(1),
            _ => Offer::Pass,
        }
    }

    /// The record that was offered goes out.
    pub fn deliver(&mut self, offset: Offset, bytes: usize, until: Instant) {
        debug_assert!(offset >= self.cursor, "a record before what was to be read");
        self.pass(offset);
        match self.find(offset) {
            Ok(at) => {
                let entry = &mut self.entries[at];
                debug_assert_eq!(entry.state, State::Recalled, "out twice");
                entry.attempt += 1;
                (entry.bytes, entry.state) = (bytes, State::Out(until));
            }
            Err(at) => {
                debug_assert_eq!(at, self.entries.len(), "a new record among old ones");
                self.entries.push_back(Entry {
                    offset,
                    bytes,
                    attempt: 1,
                    state: State::Out(until),
                });
            }
        }
        self.out += 1;
        self.expire_by(until);
        self.cursor = offset.plus(1);
        self.frontier = self.frontier.max(self.cursor);
    }

    /// Whether a transaction may acknowledge these deliveries, each named once: the offset that it commits then.
    ///
    /// # Errors
    /// What hinders it.
    pub fn covered_by(&self, wanted: &[(Offset, u32)]) -> Result<Offset, Hindrance> {
        let mut last = 0;
        for (number, (offset, attempt)) in wanted.iter().enumerate() {
            let Ok(at) = self.find(*offset) else {
                // Whatever was acknowledged cannot be once more.
                let nothing = SettleAction::Extend(Duration::ZERO);
                let outcome = self.settled_before(*offset, *attempt, nothing);
                return Err(Hindrance::Lost(number, outcome));
            };
            let entry = &self.entries[at];
            match entry.state {
                State::Out(_) if entry.attempt == *attempt => last = last.max(at),
                _ if (1..=entry.attempt).contains(attempt) => {
                    return Err(Hindrance::Lost(number, SettleOutcome::LeaseLost));
                }
                _ => return Err(Hindrance::Lost(number, SettleOutcome::UnknownId)),
            }
        }
        let open = self.entries.range(..=last).filter(|entry| entry.state != State::Acked);
        match open.count() > wanted.len() {
            true => Err(Hindrance::Gap(self.prefix)),
            false => Ok(self.entries.get(last + 1).map_or(self.frontier, |entry| entry.offset)),
        }
    }

    /// Everything that is out before `end` waits for the end of a transaction.
    pub fn pledge(&mut self, end: Offset) {
        for entry in self.entries.iter_mut().take_while(|entry| entry.offset < end) {
            if let State::Out(until) = entry.state {
                entry.state = State::Pledged(until);
            }
        }
    }

    /// The transaction has ended: what was pledged is acknowledged, or it is out as before.
    pub fn redeem(&mut self, committed: bool) -> Released {
        let (mut released, mut first) = (Released::default(), None::<Instant>);
        for entry in &mut self.entries {
            let State::Pledged(until) = entry.state else { continue };
            match committed {
                true => {
                    entry.state = State::Acked;
                    released.bytes.push(entry.bytes);
                }
                false => {
                    entry.state = State::Out(until);
                    first = Some(first.map_or(until, |first| first.min(until)));
                }
            }
        }
        self.out -= released.bytes.len();
        self.acked += released.bytes.len();
        if let Some(first) = first {
            self.expire_by(first);
        }
        self.close_prefix();
        released
    }

    /// Everything before `next` was read. A recalled record that was not among it is gone from the log.
    pub fn pass(&mut self, next: Offset) {
        let read = self.entries.partition_point(|entry| entry.offset < self.cursor);
        for entry in self.entries.range_mut(read..).take_while(|entry| entry.offset < next) {
            if entry.state == State::Recalled {
                entry.state = State::Acked;
                self.acked += 1;
            }
        }
        self.cursor = self.cursor.max(next);
        self.frontier = self.frontier.max(next);
        self.close_prefix();
    }

    /// What a client says of a delivery, and what that gives back.
    pub fn settle(
        &mut self,
        offset: Offset,
        attempt: u32,
        action: SettleAction,
        now: Instant,
    ) -> (SettleOutcome, Released) {
        let none = Released::default();
        let at = match self.find(offset) {
            Ok(at) => at,
            Err(_) => return (self.settled_before(offset, attempt, action), none),
        };
        let entry = &mut self.entries[at];
        if attempt != entry.attempt {
            let known = (1..entry.attempt).contains(&attempt);
            let outcome = if known { SettleOutcome::LeaseLost } else { SettleOutcome::UnknownId };
            return (outcome, none);
        }
        match (entry.state, action) {
            (State::Out(_), SettleAction::Ack) => {
                entry.state = State::Acked;
                let bytes = vec![entry.bytes];
                self.out -= 1;
                self.acked += 1;
                self.close_prefix();
                (SettleOutcome::Accepted, Released { bytes })
            }
            (State::Out(_), SettleAction::Extend(by)) => {
                let until = now + by;
                entry.state = State::Out(until);
                self.expire_by(until);
                (SettleOutcome::Accepted, none)
            }
            (State::Pledged(_), SettleAction::Extend(by)) => {
                entry.state = State::Pledged(now + by);
                (SettleOutcome::Accepted, none)
            }
            (State::Out(_), SettleAction::Nack(delay)) => {
                let released = self.recall(|entry| entry.offset >= offset);
                self.held_until = (!delay.is_zero()).then_some(now + delay).max(self.held_until);
                (SettleOutcome::Accepted, released)
            }
            // Said twice.
            (State::Acked, SettleAction::Ack) => (SettleOutcome::Accepted, none),
            (State::Pledged(_) | State::Acked | State::Recalled, _) => {
                (SettleOutcome::LeaseLost, none)
            }
        }
    }

    fn settled_before(&self, offset: Offset, attempt: u32, action: SettleAction) -> SettleOutcome {
        let was_here = (self.start..self.prefix).contains(&offset) && attempt > 0;
        let counted = self.repeated.get(&offset).copied().unwrap_or(1);
        match action {
            SettleAction::Ack if was_here && attempt == counted => SettleOutcome::Accepted,
            _ if was_here && attempt <= counted => SettleOutcome::LeaseLost,
            _ => SettleOutcome::UnknownId,
        }
    }

    /// Takes back what has been out for too long, each record for itself.
    pub fn expire(&mut self, now: Instant) -> Released {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
        }
        if self.next_expiry.is_none_or(|expiry| expiry > now) {
            return Released::default();
        }
        self.recall(|entry| matches!(entry.state, State::Out(until) if until <= now))
    }

    /// Takes back everything that is out.
    pub fn recall_all(&mut self) -> Released {
        self.recall(|_| true)
    }

    /// Takes back one delivery, if it is out.
    pub fn recall_one(&mut self, offset: Offset, attempt: u32) -> Released {
        self.recall(|entry| entry.offset == offset && entry.attempt == attempt)
    }

    fn recall(&mut self, is_meant: impl Fn(&Entry) -> bool) -> Released {
        let (mut released, mut expiry) = (Released::default(), None::<Instant>);
        for entry in &mut self.entries {
            let State::Out(until) = entry.state else { continue };
            if is_meant(entry) {
                entry.state = State::Recalled;
                self.cursor = self.cursor.min(entry.offset);
                released.bytes.push(entry.bytes);
            } else {
                expiry = Some(expiry.map_or(until, |expiry| expiry.min(until)));
            }
        }
        self.out -= released.bytes.len();
        self.next_expiry = expiry;
        released
    }

    fn expire_by(&mut self, until: Instant) {
        self.next_expiry = Some(self.next_expiry.map_or(until, |expiry| expiry.min(until)));
    }

    fn find(&self, offset: Offset) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&offset, |entry| entry.offset)
    }

    fn close_prefix(&mut self) {
        while let Some(entry) = self.entries.front().filter(|entry| entry.state == State::Acked) {
            if entry.attempt > 1 {
                self.repeated.insert(entry.offset, entry.attempt);
                if self.repeated.len() > MAX_REPEATED {
                    self.repeated.pop_first();
                }
            }
            self.acked -= 1;
            self.entries.pop_front();
        }
        self.prefix = self.entries.front().map_or(self.frontier, |entry| entry.offset);
        // What was delivered again, and acknowledged before it was read over, needs no reading.
        self.cursor = self.cursor.max(self.prefix);
        if self.entries.is_empty() {
            self.next_expiry = None;
            // What a burst needed is not kept.
            self.entries.shrink_to(64);
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
