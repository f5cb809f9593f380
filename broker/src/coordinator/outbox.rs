//! What a coordinator has decided on its way to the log, and what may be told only when it is there.
//!
//! One batch is under way at a time; what is decided meanwhile goes into the next ones. What is told without a
//! change of its own waits for all that was decided before it: it may rest on that.

use super::record::Record;
use super::refusal::outcome_unknown;
use crate::clock::wall_clock;
use crate::forward::Batch;
use std::collections::VecDeque;
use troupe_proto::batch::{BatchError, Compression, OVERHEAD, RecordSetBuilder};
use troupe_proto::error::{Error, ErrorCode};

/// Batches are not filled further than that: others that use the log wait behind them.
const BATCH_BYTES: usize = 512 << 10;
/// Of a batch's limit, what its header and the framing of a record may take.
const SLACK: usize = 2 * OVERHEAD;

/// Answers a request: done and committed, or why not.
pub type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What is told when what was decided is committed.
#[derive(Default)]
pub struct Outcome<T> {
    pub answer: Option<Answer>,
    pub told: T,
}

struct Filling {
    number: u64,
    records: RecordSetBuilder,
    /// Not less than the records take.
    bytes: usize,
}

struct Parked<T> {
    /// The first of the batches that its changes are in, if it has any.
    first: Option<u64>,
    last: u64,
    outcome: Outcome<T>,
}

/// Batches are numbered from 1.
pub struct Outbox<T> {
    /// Bytes of records that a batch may hold.
    limit: usize,
    /// What the topic is of, as clients are told.
    subject: &'static str,
    filling: VecDeque<Filling>,
    newest: u64,
    /// All up to this one are in the log.
    committed: u64,
    in_flight: bool,
    /// More is to come that shall go into the same batch.
    held: bool,
    parked: VecDeque<Parked<T>>,
    bytes: usize,
}

impl<T> Outbox<T> {
    pub fn new(max_message_bytes: u64, subject: &'static str) -> Self {
        let limit = usize::try_from(max_message_bytes).unwrap_or(usize::MAX).saturating_sub(SLACK);
        Self {
            limit,
            subject,
            filling: VecDeque::new(),
            newest: 0,
            committed: 0,
            in_flight: false,
            held: false,
            parked: VecDeque::new(),
            bytes: 0,
        }
    }

    /// No batch is taken until [`Outbox::release`].
    pub fn hold(&mut self) {
        self.held = true;
    }

    pub fn release(&mut self) {
        self.held = false;
    }

    /// Bytes that wait to be appended.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The largest record that can be written.
    pub fn check(&self, records: &[Record]) -> Result<(), Error> {
        self.check_len(records.iter().map(Record::len).max().unwrap_or(0))
    }

    /// The same, of a record of that many bytes.
    pub fn check_len(&self, largest: usize) -> Result<(), Error> {
        if largest <= self.limit {
            return Ok(());
        }
        let message = format!(
            "to remember this takes a record of {largest} bytes; max.message.bytes of the topic of \
             {}s allows {}",
            self.subject, self.limit
        );
        Err(Error::new(ErrorCode::RecordTooLarge, message)
            .with("limit", self.limit)
            .with("actual", largest))
    }

    /// Takes over what was decided. What belongs together goes into one batch if it fits into one.
    /// Returns the outcome if nothing has to be waited for.
    pub fn push(&mut self, records: &[Record], outcome: Outcome<T>) -> Option<Outcome<T>> {
        if records.is_empty() {
            if self.committed == self.newest {
                return Some(outcome);
            }
            self.parked.push_back(Parked { first: None, last: self.newest, outcome });
            return None;
        }
        let total = records.iter().map(Record::len).sum::<usize>();
        let room = self
            .filling
            .back()
            .map_or(0, |batch| BATCH_BYTES.min(self.limit).saturating_sub(batch.bytes));
        if total > room {
            self.open();
        }
        let first = Some(self.newest);
        let timestamp = wall_clock().as_timestamp();
        for record in records {
            self.add(record, timestamp);
        }
        self.bytes += total;
        self.parked.push_back(Parked { first, last: self.newest, outcome });
        None
    }

    fn open(&mut self) {
        self.newest += 1;
        self.filling.push_back(Filling {
            number: self.newest,
            records: RecordSetBuilder::new(),
            bytes: 0,
        });
    }

    fn add(&mut self, record: &Record, timestamp: i64) {
        let full = self.filling.back().is_none_or(|batch| {
            !batch.records.is_empty() && batch.bytes + record.len() > self.limit
        });
        if full {
            self.open();
        }
        if let Some(batch) = self.filling.back_mut() {
            batch.bytes += record.len();
            batch.records.push(timestamp, Some(&record.key), record.value.as_deref(), &[]);
        }
    }

    /// The next batch to append, if none is under way.
    pub fn take(&mut self) -> Option<Result<Batch, BatchError>> {
        if self.in_flight || self.held {
            return None;
        }
        let Filling { number, records, bytes } = self.filling.pop_front()?;
        debug_assert_eq!(number, self.committed + 1, "batches go in the order of their numbers");
        self.in_flight = true;
        self.bytes -= bytes;
        Some(records.finish(Compression::None, None).map(|built| Batch::new(built, false)))
    }

    /// The batch under way is on every in-sync replica: what may be told now, in order.
    pub fn committed(&mut self) -> Vec<Outcome<T>> {
        debug_assert!(self.in_flight, "only a batch that was taken can be committed");
        self.in_flight = false;
        self.committed += 1;
        let ready = self.parked.partition_point(|parked| parked.last <= self.committed);
        self.parked.drain(..ready).map(|parked| parked.outcome).collect()
    }

    /// Nothing more is appended. Everybody who waits is told `error`; who asked for something that may be in the
    /// log, or may come into it, is told so. `surely_not`: the batch under way surely is not in the log.
    pub fn fail(&mut self, error: &Error, surely_not: bool) {
        let open = self.committed + u64::from(self.in_flight && !surely_not);
        self.filling.clear();
        for Parked { first, outcome, .. } in self.parked.drain(..) {
            let Some(answer) = outcome.answer else { continue };
            let unknown = first.is_some_and(|first| first <= open);
            answer(Err(if unknown { outcome_unknown() } else { error.clone() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn records(count: usize, bytes: usize) -> Vec<Record> {
        let record = |number: usize| Record {
            key: format!("{number}").into(),
            value: Some("m".repeat(bytes).into()),
        };
        (0..count).map(record).collect()
    }

    fn outbox(max_message_bytes: u64) -> Outbox<()> {
        Outbox::new(max_message_bytes, "thing")
    }

    fn asked() -> (Outcome<()>, Receiver<Result<(), Error>>) {
        let (sender, answer) = channel();
        // Not every test listens.
        let tell: Answer = Box::new(move |result| drop(sender.send(result)));
        (Outcome { answer: Some(tell), told: () }, answer)
    }

    fn tell(outcomes: Vec<Outcome<()>>) {
        for outcome in outcomes {
            let answer = outcome.answer.expect("every outcome of these tests has an answer");
            answer(Ok(()));
        }
    }

    fn record_count(batch: Batch) -> u32 {
        batch.produced().unwrap().0.record_count
    }

    fn unavailable() -> Error {
        Error::new(ErrorCode::CoordinatorNotAvailable, "gone")
    }

    #[test]
    fn what_is_decided_during_an_append_goes_into_one_batch() {
        let mut outbox = outbox(1 << 20);
        let answers: Vec<_> = (0..5)
            .map(|_| {
                let (outcome, answer) = asked();
                assert!(outbox.push(&records(2, 10), outcome).is_none());
                if let Some(batch) = outbox.take() {
                    assert_eq!(record_count(batch.unwrap()), 2);
                }
                answer
            })
            .collect();
        assert!(outbox.take().is_none(), "one batch is under way at a time");
        tell(outbox.committed());
        assert_eq!(answers.iter().filter(|answer| answer.try_recv().is_ok()).count(), 1);
        assert_eq!(record_count(outbox.take().unwrap().unwrap()), 8);
        tell(outbox.committed());
        assert_eq!(answers.iter().filter(|answer| answer.try_recv().is_ok()).count(), 4);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn what_came_together_goes_into_one_batch() {
        let mut outbox = outbox(1 << 20);
        outbox.hold();
        for _ in 0..100 {
            outbox.push(&records(1, 10), asked().0);
            assert!(outbox.take().is_none());
        }
        outbox.release();
        assert_eq!(record_count(outbox.take().unwrap().unwrap()), 100);
        outbox.committed();
        assert!(outbox.take().is_none());
    }

    #[test]
    fn a_question_waits_for_what_was_decided_before_it() {
        let mut outbox = outbox(1 << 20);
        assert!(outbox.push(&[], asked().0).is_some(), "nothing to wait for");
        assert!(outbox.push(&records(1, 10), asked().0).is_none());
        assert!(outbox.take().is_some());
        let (question, answer) = asked();
        assert!(outbox.push(&[], question).is_none());
        assert!(answer.try_recv().is_err());
        tell(outbox.committed());
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn batches_stay_within_the_limit_and_decisions_together_where_they_fit() {
        let limit = 10_000;
        let mut outbox = outbox(limit);
        for count in [3, 3, 30] {
            assert!(outbox.push(&records(count, 1_000), asked().0).is_none());
        }
        let mut counts = Vec::new();
        while let Some(batch) = outbox.take() {
            let batch = batch.unwrap();
            assert!(((batch.len() + OVERHEAD) as u64) <= limit);
            counts.push(record_count(batch));
            outbox.committed();
        }
        // The second would have fitted but for the third, which fits nowhere in one piece.
        assert_eq!(counts.iter().sum::<u32>(), 36);
        assert_eq!(counts[0], 6);
        assert!(outbox.check(&records(1, 9_000)).is_ok());
        let refused = outbox.check(&records(1, 10_000)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::RecordTooLarge);
    }

    #[test]
    fn after_a_failure_everybody_hears_what_became_of_it() {
        let unknown = |answer: &Receiver<Result<(), Error>>| {
            answer.recv().unwrap().unwrap_err().code == ErrorCode::OutcomeUnknown
        };
        for surely_not in [false, true] {
            let mut outbox = outbox(1 << 20);
            let ((under_way, first), (behind, second), (question, third)) =
                (asked(), asked(), asked());
            outbox.push(&records(1, 10), under_way);
            assert!(outbox.take().is_some());
            outbox.push(&records(1, 10), behind);
            outbox.push(&[], question);
            outbox.fail(&unavailable(), surely_not);
            assert_eq!(unknown(&first), !surely_not);
            assert!(!unknown(&second), "it was never handed to the log");
            assert!(!unknown(&third), "a question does nothing");
        }
    }

    #[test]
    fn of_a_decision_in_two_batches_nobody_says_that_it_surely_was_not_done() {
        let mut outbox = outbox(10_000);
        let (outcome, answer) = asked();
        outbox.push(&records(12, 1_000), outcome);
        assert!(outbox.take().is_some());
        assert!(outbox.committed().is_empty());
        assert!(outbox.take().is_some());
        outbox.fail(&unavailable(), true);
        assert_eq!(answer.recv().unwrap().unwrap_err().code, ErrorCode::OutcomeUnknown);
    }
}
