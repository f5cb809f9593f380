//! What became of each record of one partition: what its producer was told, what is in the log, what members got.
//!
//! Records have sequence numbers from 0 on, in the order of sending. What was acknowledged has to be in the log once and in
//! that order, and to reach some member; what surely was refused must not be there. A record that a member gets again
//! is no fault (a group without transactions promises at least once) and is counted for itself.

use serde::Serialize;

const ACKNOWLEDGED: u8 = 1;
const REFUSED: u8 = 1 << 1;
const UNKNOWN: u8 = 1 << 2;
const STORED: u8 = 1 << 3;
const DELIVERED: u8 = 1 << 4;

/// What a producer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// It surely is not in the log.
    Refused,
    /// It may be.
    Unknown,
}

/// One byte for each record.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    records: Vec<u8>,
    acknowledged: u64,
    refused: u64,
    stored: Order,
    delivered: Order,
    redelivered: u64,
    duplicated: u64,
    strange: u64,
}

/// The newest record that passed, and how many passed behind a newer one.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    newest: Option<u64>,
    misplaced: u64,
}

impl Order {
    fn pass(&mut self, sequence: u64) {
        if self.newest.is_some_and(|newest| sequence < newest) {
            self.misplaced += 1;
        }
        self.newest = self.newest.max(Some(sequence));
    }
}

/// How many records are as they must not be, and some that may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub sent: u64,
    pub acknowledged: u64,
    pub refused: u64,
    /// Not answered, or with an answer that leaves it open.
    pub unknown: u64,
    /// Acknowledged, and not in the log.
    pub lost: u64,
    /// In the log more than once.
    pub duplicated: u64,
    /// In the log behind a record that was sent later; or the same at a member, of those that it got first.
    pub out_of_order: u64,
    /// In the log although surely refused, or never sent.
    pub unexpected: u64,
    /// In the log, and no member got it.
    pub undelivered: u64,
    /// Got again by a member: after a change of members that is as promised.
    pub redelivered: u64,
}

impl Verdict {
    #[must_use]
    pub fn plus(self, other: Verdict) -> Verdict {
        Verdict {
            sent: self.sent + other.sent,
            acknowledged: self.acknowledged + other.acknowledged,
            refused: self.refused + other.refused,
            unknown: self.unknown + other.unknown,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            out_of_order: self.out_of_order + other.out_of_order,
            unexpected: self.unexpected + other.unexpected,
            undelivered: self.undelivered + other.undelivered,
            redelivered: self.redelivered + other.redelivered,
        }
    }
}

impl Ledger {
    /// Its sequence number.
    pub fn sending(&mut self) -> u64 {
        self.records.push(0);
        self.records.len() as u64 - 1
    }

    /// Once for each.
    pub fn answered(&mut self, sequence: u64, outcome: Outcome) {
        let mark = match outcome {
            Outcome::Acknowledged => {
                self.acknowledged += 1;
                ACKNOWLEDGED
            }
            Outcome::Refused => {
                self.refused += 1;
                REFUSED
            }
            Outcome::Unknown => UNKNOWN,
        };
        self.mark(sequence, mark);
    }

    /// A member got it. True: for the first time.
    pub fn delivered(&mut self, sequence: u64) -> bool {
        match self.mark(sequence, DELIVERED) {
            Some(before) if before & DELIVERED == 0 => {
                self.delivered.pass(sequence);
                true
            }
            Some(_) => {
                self.redelivered += 1;
                false
            }
            // Another run's, or told when the log is read back.
            None => false,
        }
    }

    /// Found in the log, which is read from its beginning to its end.
    pub fn found(&mut self, sequence: u64) {
        match self.mark(sequence, STORED) {
            Some(before) if before & STORED != 0 => self.duplicated += 1,
            Some(before) if before & REFUSED != 0 => self.strange += 1,
            Some(_) => self.stored.pass(sequence),
            None => self.strange += 1,
        }
    }

    fn mark(&mut self, sequence: u64, mark: u8) -> Option<u8> {
        let record = self.records.get_mut(usize::try_from(sequence).ok()?)?;
        let before = *record;
        *record |= mark;
        Some(before)
    }

    /// The numbers of what was acknowledged.
    pub fn acknowledged(&self) -> impl Iterator<Item = u64> {
        let told = (0..).zip(&self.records);
        told.filter(|(_, record)| **record & ACKNOWLEDGED != 0).map(|(sequence, _)| sequence)
    }

    /// `read_back`: the log was read to its end; else nothing is said of what it holds. `delivers`: there are members.
    pub fn verdict(&self, read_back: bool, delivers: bool) -> Verdict {
        // The whole of it is looked at only when it is known: this is asked many times a second.
        let count = |holds: bool, of: u8, that: u8| match holds {
            true => self.records.iter().filter(|&&record| record & of == that).count() as u64,
            false => 0,
        };
        let sent = self.records.len() as u64;
        let (acknowledged, refused) = (self.acknowledged, self.refused);
        Verdict {
            sent,
            acknowledged,
            refused,
            unknown: sent - acknowledged - refused,
            lost: count(read_back, ACKNOWLEDGED | STORED, ACKNOWLEDGED),
            duplicated: self.duplicated,
            out_of_order: self.stored.misplaced + self.delivered.misplaced,
            unexpected: self.strange,
            undelivered: count(read_back && delivers, STORED | DELIVERED, STORED),
            redelivered: self.redelivered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four were sent: two acknowledged, one refused, one without an answer.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for expected in 0..4 {
            assert_eq!(ledger.sending(), expected);
        }
        ledger.answered(0, Outcome::Acknowledged);
        ledger.answered(1, Outcome::Acknowledged);
        ledger.answered(2, Outcome::Refused);
        ledger
    }

    fn verdict(stored: &[u64], delivered: &[u64]) -> Verdict {
        let mut ledger = ledger();
        for &sequence in delivered {
            ledger.delivered(sequence);
        }
        stored.iter().for_each(|&sequence| ledger.found(sequence));
        ledger.verdict(true, true)
    }

    #[test]
    fn what_may_be_is_not_wrong() {
        let told =
            Verdict { sent: 4, acknowledged: 2, refused: 1, unknown: 1, ..Verdict::default() };
        assert_eq!(verdict(&[0, 1], &[0, 1]), told);
        assert_eq!(verdict(&[0, 1, 3], &[0, 1, 3]), told);
    }

    /// A judge that finds nothing judges nothing.
    #[test]
    fn lost_duplicated_and_out_of_order_are_found() {
        assert_eq!(verdict(&[0], &[0]).lost, 1);
        assert_eq!(verdict(&[0, 1, 0], &[0, 1]).duplicated, 1);
        assert_eq!(verdict(&[1, 0], &[0, 1]).out_of_order, 1);
        assert_eq!(verdict(&[0, 1], &[1, 0]).out_of_order, 1);
        assert_eq!(verdict(&[0, 1, 2], &[0, 1, 2]).unexpected, 1);
        assert_eq!(verdict(&[0, 1, 9], &[0, 1]).unexpected, 1);
        assert_eq!(verdict(&[0, 1], &[0]).undelivered, 1);
        let again = verdict(&[0, 1], &[0, 1, 0, 1]);
        assert_eq!((again.redelivered, again.out_of_order), (2, 0));
    }

    #[test]
    fn of_a_log_that_was_not_read_nothing_is_said() {
        let verdict = ledger().verdict(false, true);
        assert_eq!((verdict.lost, verdict.undelivered), (0, 0));
    }
}
