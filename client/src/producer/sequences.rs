//! The sequence numbers of one partition (I1, I2, I7, I8).
//!
//! Promise: within a session every sequence stands for one record only. Where that cannot be known any
//! more (a batch was given up after it had been sent, or a leader lost what it had acknowledged), the
//! partition goes on from 0 in a higher epoch of the same producer id (I7, I8). A new id would do for the
//! order of what is sent from then on, but not for what a slow network still holds: only the epoch fences
//! that off. Other partitions keep theirs: leaders remember producer ids by partition.

use crate::metadata::Leadership;
use tokio::time::{Duration, Instant};
use troupe_proto::batch::ProducerStamp;
use troupe_proto::ids::{ProducerEpoch, ProducerId, Sequence};

/// Where an id's epochs end, as Kafka's do; then it takes a new id.
const LAST_EPOCH: ProducerEpoch = ProducerEpoch(i16::MAX as u32);

/// A leader forgets a producer that has been silent for `producer.id.expiration.ms` (I9), a day by default.
/// Nobody sets it this low.
const SURELY_REMEMBERED: Duration = Duration::from_secs(60);

/// A producer id from the cluster; later ones have higher numbers. A partition counts its epoch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub number: u64,
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// What stands on a batch, and in which session it was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub session: u64,
    pub producer: ProducerStamp,
}

/// What a batch that is about to be sent gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamping {
    Stamp(Stamp),
    /// A session newer than the one before, or the first one.
    NeedSession,
    /// Batches of the old session are still on their way.
    Wait,
}

#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// Sessions are told from outside, one for each transaction, and never counted up here.
    transactional: bool,
    session: Option<Session>,
    next: Sequence,
    /// No new stamps in this session: what the leader expects next is unknown.
    ended: bool,
    /// The leader has acknowledged a batch of this session, and has not forgotten it. Otherwise it takes any
    /// sequence as the first one (I6), so that a second batch would be accepted although the first was
    /// refused.
    established: bool,
    /// When, and to whom, a batch was sent last.
    last_sent: Option<(Instant, Leadership)>,
    /// Stamps of this session were refused with a gap before them: surely none was appended.
    void: bool,
    /// Somebody else has this producer id in a higher epoch.
    fenced: bool,
}

impl Sequences {
    pub(crate) fn new(transactional: bool) -> Self {
        Self { transactional, ..Self::default() }
    }

    /// A batch is about to be sent. `quiet`: nothing of this partition is on its way. A leader that has just
    /// been elected, out of turn perhaps (R15), or that has heard nothing for long (I9), may not know this
    /// session.
    pub(crate) fn turn_to(&mut self, leadership: Leadership, now: Instant, quiet: bool) {
        if quiet {
            self.established &= self.last_sent.is_some_and(|(at, leader)| {
                leader == leadership && now.saturating_duration_since(at) < SURELY_REMEMBERED
            });
        }
        self.last_sent = Some((now, leadership));
    }

    /// The stamp for a batch of `records` records that has `stamp` from before. `quiet`: nothing of this
    /// partition is on its way. `offered`: the newest session there is.
    pub(crate) fn stamp(
        &mut self,
        stamp: Option<Stamp>,
        records: u32,
        quiet: bool,
        offered: Option<Session>,
    ) -> Stamping {
        if !quiet && !self.established {
            return Stamping::Wait;
        }
        if let Some(stamp) = stamp
            && !self.is_void(stamp)
        {
            // Tried again under the same numbers, so that a leader that has it already says so (I4).
            return Stamping::Stamp(stamp);
        }
        if self.session.is_none() || self.ended || self.is_over(offered) {
            if !quiet {
                return Stamping::Wait;
            }
            match self.next_session(offered) {
                None => return Stamping::NeedSession,
                next => self.turn_to_session(next),
            }
        }
        let session = self.session.expect("adopted above if there was none");
        let base_sequence = self.next;
        self.next = self.next.plus(records);
        let producer = ProducerStamp { id: session.id, epoch: session.epoch, base_sequence };
        Stamping::Stamp(Stamp { session: session.number, producer })
    }

    /// The next transaction has begun.
    fn is_over(&self, offered: Option<Session>) -> bool {
        self.transactional && offered.map(|it| it.number) != self.session.map(|it| it.number)
    }

    fn turn_to_session(&mut self, next: Option<Session>) {
        let is_same_id = self.session.map(|it| it.id) == next.map(|it| it.id);
        *self = Self {
            transactional: self.transactional,
            session: next,
            last_sent: self.last_sent,
            // Who remembers an id takes nothing of a higher epoch before its first batch (I6).
            established: self.transactional && self.established && is_same_id,
            ..Self::default()
        };
    }

    /// Another topic of the same name: its leaders know nothing of what was sent.
    pub(crate) fn begin_anew(&mut self) {
        match self.transactional {
            true => *self = Self::new(true),
            false => self.given_up(),
        }
    }

    /// None: it has to be asked for.
    fn next_session(&self, offered: Option<Session>) -> Option<Session> {
        match self.session {
            None => offered,
            Some(session) if self.transactional => {
                offered.filter(|offered| offered.number > session.number)
            }
            Some(session) if !self.fenced && session.epoch < LAST_EPOCH => {
                Some(Session { epoch: ProducerEpoch(session.epoch.0 + 1), ..session })
            }
            Some(session) => offered.filter(|offered| offered.number > session.number),
        }
    }

    /// The leader has a batch with this stamp.
    pub(crate) fn placed(&mut self, stamp: Stamp) {
        self.established |= self.is_current(stamp);
    }

    /// A stamped batch was given up (I8).
    pub(crate) fn given_up(&mut self) {
        self.ended = true;
    }

    /// The leader refused the oldest unanswered batch as out of order, or fenced the producer id (I7).
    pub(crate) fn refused(&mut self, stamp: Stamp, fenced: bool) {
        if self.is_current(stamp) {
            self.ended = true;
            self.void = true;
            self.fenced = fenced;
        }
    }

    fn is_void(&self, stamp: Stamp) -> bool {
        // An older session was left only after all its batches were answered or void.
        if self.is_current(stamp) { self.void } else { true }
    }

    fn is_current(&self, stamp: Stamp) -> bool {
        self.session.is_some_and(|session| {
            (session.number, session.epoch) == (stamp.session, stamp.producer.epoch)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{LeaderEpoch, NodeId};

    fn session(number: u64) -> Session {
        Session { number, id: ProducerId(100 + number), epoch: ProducerEpoch(0) }
    }

    fn stamped(stamping: Stamping) -> Stamp {
        match stamping {
            Stamping::Stamp(stamp) => stamp,
            other => panic!("{other:?}"),
        }
    }

    /// I1, I2.
    #[test]
    fn sequences_count_records_and_wrap() {
        let mut sequences = Sequences::default();
        let need = sequences.stamp(None, 3, true, None);
        assert_eq!(need, Stamping::NeedSession);
        let first = stamped(sequences.stamp(None, 3, true, Some(session(1))));
        assert_eq!(first.producer.base_sequence, Sequence(0));
        assert_eq!(sequences.stamp(None, 2, false, None), Stamping::Wait, "not established");
        sequences.placed(first);
        let second = stamped(sequences.stamp(None, 2, false, Some(session(1))));
        assert_eq!(second.producer.base_sequence, Sequence(3));
        sequences.next = Sequence(Sequence::MODULUS - 1);
        stamped(sequences.stamp(None, 2, false, None));
        assert_eq!(sequences.next, Sequence(1));
    }

    /// I6, I9, R15: it would take the second batch without the first.
    #[test]
    fn a_leader_that_may_have_forgotten_the_session_gets_one_batch_alone() {
        let now = Instant::now();
        let leader = |epoch| Leadership { node: NodeId(1), epoch: LeaderEpoch(epoch) };
        let mut sequences = Sequences::default();
        sequences.turn_to(leader(1), now, true);
        let first = stamped(sequences.stamp(None, 3, true, Some(session(1))));
        sequences.placed(first);
        let cases = [
            (leader(1), Duration::ZERO, true, true),
            (leader(1), SURELY_REMEMBERED - Duration::from_secs(1), true, true),
            (leader(1), SURELY_REMEMBERED, false, true),
            (leader(1), SURELY_REMEMBERED, true, false),
            (leader(2), Duration::ZERO, true, false),
        ];
        for (leader, silent, quiet, remembered) in cases {
            sequences.last_sent =
                Some((now, Leadership { node: NodeId(1), epoch: LeaderEpoch(1) }));
            sequences.established = true;
            sequences.turn_to(leader, now + silent, quiet);
            stamped(sequences.stamp(None, 1, true, None));
            let second = sequences.stamp(None, 1, false, None);
            assert_eq!(second != Stamping::Wait, remembered, "{leader:?} {silent:?}");
        }
    }

    /// I4: a retry is recognised only under its own numbers.
    #[test]
    fn a_retry_keeps_its_stamp() {
        let mut sequences = Sequences::default();
        let first = stamped(sequences.stamp(None, 3, true, Some(session(1))));
        assert_eq!(stamped(sequences.stamp(Some(first), 3, true, Some(session(2)))), first);
        sequences.given_up();
        assert_eq!(stamped(sequences.stamp(Some(first), 3, true, Some(session(2)))), first);
    }

    /// I8.
    #[test]
    fn after_a_batch_was_given_up_a_higher_epoch_starts_at_zero() {
        let mut sequences = Sequences::default();
        stamped(sequences.stamp(None, 3, true, Some(session(1))));
        sequences.given_up();
        assert_eq!(sequences.stamp(None, 1, false, Some(session(2))), Stamping::Wait);
        let next = stamped(sequences.stamp(None, 1, true, Some(session(2))));
        assert_eq!((next.producer.id, next.producer.epoch), (session(1).id, ProducerEpoch(1)));
        assert_eq!(next.producer.base_sequence, Sequence(0));
    }

    /// I6: another one's epoch cannot be passed by counting, and epochs end.
    #[test]
    fn a_producer_id_that_is_fenced_or_used_up_is_replaced() {
        for epoch in [ProducerEpoch(0), LAST_EPOCH] {
            let mut sequences = Sequences::default();
            let used = Session { epoch, ..session(1) };
            let first = stamped(sequences.stamp(None, 3, true, Some(used)));
            sequences.refused(first, epoch != LAST_EPOCH);
            let need = sequences.stamp(Some(first), 3, true, Some(session(1)));
            assert_eq!(need, Stamping::NeedSession);
            let next = stamped(sequences.stamp(Some(first), 3, true, Some(session(2))));
            assert_eq!((next.session, next.producer.epoch), (2, ProducerEpoch(0)));
        }
    }

    /// Of a transaction; in the next one the epoch is higher.
    #[test]
    fn each_transaction_begins_at_zero_in_the_epoch_that_it_was_given() {
        let transaction = |number: u64| Session {
            number,
            id: ProducerId(9),
            epoch: ProducerEpoch(10 + number as u32),
        };
        let mut sequences = Sequences::new(true);
        let first = stamped(sequences.stamp(None, 3, true, Some(transaction(1))));
        assert_eq!(sequences.stamp(None, 1, false, Some(transaction(1))), Stamping::Wait);
        sequences.placed(first);
        let more = stamped(sequences.stamp(None, 1, false, Some(transaction(1))));
        assert_eq!((more.producer.epoch.0, more.producer.base_sequence.0), (11, 3));
        let next = stamped(sequences.stamp(None, 2, true, Some(transaction(2))));
        assert_eq!((next.producer.epoch.0, next.producer.base_sequence.0), (12, 0));
        let behind = stamped(sequences.stamp(None, 1, false, Some(transaction(2))));
        assert_eq!(behind.producer.base_sequence.0, 2, "the leader remembers the id");
        sequences.given_up();
        let none = sequences.stamp(None, 1, true, Some(transaction(2)));
        assert_eq!(none, Stamping::NeedSession, "nobody but the coordinator gives epochs");
        let other = Session { id: ProducerId(10), ..transaction(3) };
        stamped(sequences.stamp(None, 1, true, Some(other)));
        assert_eq!(sequences.stamp(None, 1, false, Some(other)), Stamping::Wait);
    }

    /// I7.
    #[test]
    fn void_stamps_are_replaced() {
        let mut sequences = Sequences::default();
        let first = stamped(sequences.stamp(None, 3, true, Some(session(1))));
        sequences.refused(first, false);
        let again = stamped(sequences.stamp(Some(first), 3, true, Some(session(2))));
        assert_eq!(again.producer.epoch, ProducerEpoch(1));
        assert_eq!(again.producer.base_sequence, Sequence(0));
        sequences.refused(first, false);
        assert!(!sequences.void, "an old refusal says nothing about the new session");
    }
}
