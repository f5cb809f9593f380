//! The queue of one partition: which batch takes the next record, which may be sent, what an answer means.
//!
//! A step machine: no I/O, no clock; time and chance are arguments. Batches stand in the order of their
//! records:
//!
//! ```text
//! front                                                              back
//! | settled? | in flight … in flight (at most max_in_flight) | waiting … | open |
//! ```
//!
//! Promises:
//! - a batch is sent only while nothing that comes after it is in flight, and all that is in flight is on
//!   one stream; so with idempotence, or one in flight, order is kept under retries (P24, P25);
//! - batches are settled in order (P11), each exactly once;
//! - a batch that is tried again carries the same sequences, unless it surely was not appended (I4, I7).

use super::batch::{Batch, Content, Encoded, Status, batch_len};
use super::delivery::{Callback, Completion, Outcome, Placed};
use super::record::Record;
use super::rules::Rules;
use super::sequences::{Sequences, Session, Stamp, Stamping};
use crate::error::ClientError;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::batch::RecordSetBuilder;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::PartitionId;

/// Buffer memory is taken in steps: at least this much, then as much again as the batch has.
const MIN_RESERVATION: usize = 4 << 10;

/// A stream to some node; a new one after each break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StreamId(pub u64);

pub(crate) struct Queue {
    topic: Arc<str>,
    partition: PartitionId,
    rules: Arc<Rules>,
    batches: VecDeque<Batch>,
    next_id: u64,
    in_flight: usize,
    /// Where those in flight are.
    stream: Option<StreamId>,
    retry_at: Option<Instant>,
    sequences: Sequences,
    closed: Option<ClientError>,
}

/// Where a record went.
pub(crate) struct Appended {
    pub completion: Arc<Completion>,
    pub index: u32,
    /// The sender has to look at the queue: a batch was opened or closed.
    pub wake: bool,
    /// The record's batch takes no more (T25).
    pub closed: bool,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum NotAppended {
    /// This much buffer memory is missing.
    NeedMemory(usize),
    Closed(ClientError),
}

/// What the sender may do.
pub(crate) enum Drain {
    Send(Outgoing),
    /// Newer than the one that was offered.
    NeedSession,
    /// Nothing before that time, unless something happens.
    Wait(Option<Instant>),
}

/// A batch to be sent now.
pub(crate) struct Outgoing {
    pub id: u64,
    pub content: OutgoingContent,
    pub stamp: Option<Stamp>,
}

pub(crate) enum OutgoingContent {
    /// To be encoded, and given back by [`Queue::encoded`].
    Records(RecordSetBuilder),
    Encoded(Encoded),
}

/// A batch that is over: to be told outside of the lock.
#[must_use]
pub(crate) struct Settled {
    pub completion: Arc<Completion>,
    pub records: u32,
    pub reserved: usize,
    pub outcome: Outcome,
}

/// What the sender knows when a batch fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub now: Instant,
    /// Uniform over all of u64: the jitter.
    pub chance: u64,
    /// A new leader is known already: no back-off (P18).
    pub new_leader: bool,
}

impl Queue {
    pub(crate) fn new(topic: Arc<str>, partition: PartitionId, rules: Arc<Rules>) -> Self {
        Self {
            topic,
            partition,
            rules,
            batches: VecDeque::new(),
            next_id: 0,
            in_flight: 0,
            stream: None,
            retry_at: None,
            sequences: Sequences::default(),
            closed: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Batches that are not on their way (T26).
    pub(crate) fn waiting(&self) -> usize {
        self.batches.len() - self.in_flight
    }

    /// Adds a record to the open batch or opens one (P4). `bound`: at least what the record takes in a
    /// batch. `reserve` takes buffer memory, or refuses. `now` is asked only when a batch is opened.
    pub(crate) fn append(
        &mut self,
        record: &Record<'_>,
        timestamp_ms: i64,
        bound: usize,
        mut reserve: impl FnMut(usize) -> bool,
        now: impl FnOnce() -> Instant,
        callback: &mut Option<Callback>,
    ) -> Result<Appended, NotAppended> {
        if let Some(error) = &self.closed {
            return Err(NotAppended::Closed(error.clone()));
        }
        let mut wake = false;
        if let Some(last) = self.batches.back_mut()
            && let Content::Open(builder) = &last.content
            && batch_len(builder.len()) + bound > self.rules.batch_size
        {
            last.close();
            wake = true;
        }
        if !self.batches.back().is_some_and(Batch::is_open) {
            let reserved = batch_len(bound).max(MIN_RESERVATION.min(self.rules.batch_size));
            if !reserve(reserved) {
                return Err(NotAppended::NeedMemory(reserved));
            }
            self.open_batch(now(), reserved);
            wake = true;
        }
        let batch = self.batches.back_mut().expect("just seen or opened");
        let Content::Open(builder) = &mut batch.content else {
            unreachable!("just seen or opened");
        };
        let missing = (batch_len(builder.len()) + bound).saturating_sub(batch.reserved);
        if missing > 0 {
            let room = self.rules.batch_size.saturating_sub(batch.reserved);
            let step = batch.reserved.min(room).max(missing);
            let Some(taken) = [step, missing].into_iter().find(|&size| reserve(size)) else {
                return Err(NotAppended::NeedMemory(missing));
            };
            batch.reserved += taken;
        }
        builder.push(timestamp_ms, record.key, record.value, record.headers);
        let index = batch.records;
        batch.records += 1;
        if let Some(callback) = callback.take() {
            batch.completion.on_settled(index, timestamp_ms, callback);
        }
        let closed = batch_len(builder.len()) >= self.rules.batch_size;
        if closed {
            batch.close();
            wake = true;
        }
        Ok(Appended { completion: batch.completion.clone(), index, wake, closed })
    }

    fn open_batch(&mut self, created: Instant, reserved: usize) {
        let id = self.take_id();
        self.batches.push_back(Batch {
            id,
            created,
            content: Content::Open(RecordSetBuilder::new()),
            first: 0,
            records: 0,
            reserved,
            completion: Completion::new(self.partition),
            status: Status::Waiting,
            stamp: None,
            attempts: 0,
            maybe_done: false,
            last_error: None,
        });
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Lets the open batch go without lingering (P23). The last record that is not answered yet.
    pub(crate) fn flush(&mut self) -> Option<(Arc<Completion>, u32)> {
        let last = self.batches.back_mut()?;
        last.close();
        Some((last.completion.clone(), last.first + last.records - 1))
    }

    /// The next batch that may be sent on this stream (P5, P8). `session`: the newest there is. `pressed`:
    /// somebody waits for buffer memory, so nothing lingers.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        stream: StreamId,
        session: Option<Session>,
        pressed: bool,
    ) -> Drain {
        if let Some(retry_at) = self.retry_at {
            if retry_at > now {
                return Drain::Wait(Some(retry_at));
            }
            self.retry_at = None;
        }
        let Some(index) = self.batches.iter().position(Batch::is_waiting) else {
            return Drain::Wait(None);
        };
        let before = self.batches.range(..index).filter(|batch| batch.is_in_flight()).count();
        // What comes later is on its way: it must come back, or arrive, first.
        let overtaking = before < self.in_flight;
        let elsewhere = self.in_flight > 0 && self.stream != Some(stream);
        if overtaking || elsewhere || self.in_flight >= self.rules.max_in_flight {
            return Drain::Wait(None);
        }
        let batch = &mut self.batches[index];
        // A second try goes alone: were it to fail again, those behind it would only be refused.
        if self.in_flight > 0 && matches!(batch.content, Content::Encoded(_)) {
            return Drain::Wait(None);
        }
        if batch.is_open() && !pressed {
            let due = batch.created + self.rules.linger;
            if due > now {
                return Drain::Wait(Some(due));
            }
        }
        let stamp = if self.rules.idempotent {
            let quiet = self.in_flight == 0;
            match self.sequences.stamp(batch.stamp, batch.records, quiet, session) {
                Stamping::Stamp(stamp) => Some(stamp),
                Stamping::NeedSession => return Drain::NeedSession,
                Stamping::Wait => return Drain::Wait(None),
            }
        } else {
            None
        };
        self.send(index, stream, stamp)
    }

    fn send(&mut self, index: usize, stream: StreamId, stamp: Option<Stamp>) -> Drain {
        let batch = &mut self.batches[index];
        batch.close();
        let content = match std::mem::replace(&mut batch.content, Content::Out) {
            Content::Encoded(encoded) if batch.stamp == stamp => {
                batch.content = Content::Encoded(encoded.clone());
                OutgoingContent::Encoded(encoded)
            }
            Content::Encoded(encoded) => match encoded.rebuild(1) {
                Ok(mut builders) => OutgoingContent::Records(builders.remove(0)),
                Err(error) => unreachable!("the client reads what it wrote: {error}"),
            },
            Content::Closed(builder) => OutgoingContent::Records(builder),
            Content::Open(_) | Content::Out => unreachable!("closed above, and not in flight"),
        };
        batch.stamp = stamp;
        batch.status = Status::InFlight;
        self.in_flight += 1;
        self.stream = Some(stream);
        Drain::Send(Outgoing { id: batch.id, content, stamp })
    }

    /// Keeps what was sent, in case it has to be sent again.
    pub(crate) fn encoded(&mut self, id: u64, encoded: Encoded) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.id == id) {
            batch.content = Content::Encoded(encoded);
        }
    }

    /// The batch was appended, or handed over with acks none.
    pub(crate) fn placed(&mut self, id: u64, placed: Placed) -> Vec<Settled> {
        if let Some(index) = self.landed(id) {
            if let Some(stamp) = self.batches[index].stamp {
                self.sequences.placed(stamp);
            }
            self.batches[index].status = Status::Settled(Ok(placed));
        }
        self.pop_settled()
    }

    /// The batch was refused, or nobody knows. Tried again as long as that can help (P18, P20, I7).
    pub(crate) fn failed(&mut self, id: u64, error: ClientError, failure: Failure) -> Vec<Settled> {
        let Some(index) = self.landed(id) else { return Vec::new() };
        let batch = &mut self.batches[index];
        batch.maybe_done |= !error.surely_not_done();
        let reason = error.reason();
        if reason == ErrorCode::RecordTooLarge
            && batch.records > 1
            && let Content::Encoded(encoded) = &batch.content
        {
            let encoded = encoded.clone();
            self.split(index, &encoded);
            return Vec::new();
        }
        let out_of_order =
            matches!(reason, ErrorCode::OutOfOrderSequence | ErrorCode::ProducerFenced);
        if let Some(stamp) = batch.stamp
            && out_of_order
        {
            if self.batches.range(..index).any(|earlier| !earlier.is_settled()) {
                // Refused because an earlier one is missing: goes again behind it.
                self.batches[index].status = Status::Waiting;
                return Vec::new();
            }
            self.sequences.refused(stamp);
            self.retry(index, error, failure);
        } else if error.is_retriable() || is_retried_anyway(reason) {
            self.retry(index, error, failure);
        } else {
            self.settle(index, Err(error));
        }
        self.pop_settled()
    }

    /// Takes a batch out of flight. None: its answer comes too late to matter.
    fn landed(&mut self, id: u64) -> Option<usize> {
        let index = self.batches.iter().position(|batch| batch.id == id && batch.is_in_flight())?;
        self.batches[index].status = Status::Waiting;
        self.leave_flight();
        Some(index)
    }

    fn leave_flight(&mut self) {
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.stream = None;
        }
    }

    fn retry(&mut self, index: usize, error: ClientError, failure: Failure) {
        let batch = &mut self.batches[index];
        if batch.attempts >= self.rules.retries {
            self.settle(index, Err(error));
            return;
        }
        let backoff = self.rules.backoff(batch.attempts, failure.chance);
        batch.attempts += 1;
        batch.last_error = Some(error);
        if !failure.new_leader {
            let retry_at = failure.now + backoff;
            self.retry_at = Some(self.retry_at.map_or(retry_at, |before| before.max(retry_at)));
        }
    }

    /// P20. The pieces share the batch's sequences and its place; it does not count as a retry.
    fn split(&mut self, index: usize, encoded: &Encoded) {
        let mut batch = self.batches.remove(index).expect("the caller found it");
        let pieces = match encoded.rebuild(2) {
            Ok(pieces) => pieces,
            Err(error) => unreachable!("the client reads what it wrote: {error}"),
        };
        let mut stamp = batch.stamp;
        for (place, builder) in (index..).zip(pieces) {
            let records = builder.count();
            let reserved = batch_len(builder.len()).min(batch.reserved);
            batch.reserved -= reserved;
            let piece = Batch {
                id: self.take_id(),
                created: batch.created,
                content: Content::Closed(builder),
                first: batch.first,
                records,
                reserved,
                completion: batch.completion.clone(),
                status: Status::Waiting,
                stamp,
                attempts: batch.attempts,
                maybe_done: batch.maybe_done,
                last_error: batch.last_error.clone(),
            };
            self.batches.insert(place, piece);
            batch.first += records;
            if let Some(stamp) = &mut stamp {
                stamp.producer.base_sequence = stamp.producer.base_sequence.plus(records);
            }
        }
        self.batches[index].reserved += batch.reserved;
    }

    /// Gives up what is older than the delivery timeout, sent or not (P19).
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Settled> {
        for index in 0..self.batches.len() {
            if self.batches[index].created + self.rules.delivery_timeout > now {
                break;
            }
            if self.batches[index].is_settled() {
                continue;
            }
            let sent = self.batches[index].maybe_done || self.batches[index].is_in_flight();
            let last = self.batches[index].last_error.take().map(Box::new);
            let after = self.rules.delivery_timeout;
            let (topic, partition) = (self.topic.to_string(), self.partition);
            let error = ClientError::DeliveryTimeout { topic, partition, after, sent, last };
            self.give_up(index, error);
        }
        self.pop_settled()
    }

    /// When [`Queue::expire`] has something to do.
    pub(crate) fn expiry(&self) -> Option<Instant> {
        self.batches.front().map(|batch| batch.created + self.rules.delivery_timeout)
    }

    /// Gives up everything that is not in flight, for a reason that no retry mends.
    pub(crate) fn fail_waiting(&mut self, error: &ClientError) -> Vec<Settled> {
        for index in 0..self.batches.len() {
            if self.batches[index].is_waiting() {
                self.give_up(index, error.clone());
            }
        }
        self.pop_settled()
    }

    /// Gives up everything, and takes nothing more (P23).
    pub(crate) fn abort(&mut self) -> Vec<Settled> {
        self.closed = Some(ClientError::Closed { sent: false });
        for index in 0..self.batches.len() {
            if !self.batches[index].is_settled() {
                let sent = self.batches[index].maybe_done || self.batches[index].is_in_flight();
                self.give_up(index, ClientError::Closed { sent });
            }
        }
        self.pop_settled()
    }

    fn give_up(&mut self, index: usize, error: ClientError) {
        if self.batches[index].is_in_flight() {
            self.leave_flight();
        }
        self.settle(index, Err(error));
    }

    fn settle(&mut self, index: usize, outcome: Outcome) {
        let batch = &mut self.batches[index];
        let outcome = outcome.map_err(|error| match batch.maybe_done && error.surely_not_done() {
            true => ClientError::outcome_unknown(format!(
                "an earlier attempt may have arrived; last: {error}"
            )),
            false => error,
        });
        if outcome.is_err() && batch.stamp.is_some() {
            self.sequences.given_up();
        }
        batch.close();
        batch.status = Status::Settled(outcome);
    }

    fn pop_settled(&mut self) -> Vec<Settled> {
        let mut settled = Vec::new();
        while self.batches.front().is_some_and(Batch::is_settled) {
            let batch = self.batches.pop_front().expect("just seen");
            if let Status::Settled(outcome) = batch.status {
                let Batch { completion, records, reserved, .. } = batch;
                settled.push(Settled { completion, records, reserved, outcome });
            }
        }
        settled
    }
}

/// P21: not retriable for a caller who names a topic, but a producer that has written to it asks again.
fn is_retried_anyway(reason: ErrorCode) -> bool {
    matches!(reason, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition)
}

/// What the records of a broken stream have come to.
pub(crate) fn stream_broke(cause: &ClientError) -> ClientError {
    match cause {
        ClientError::CannotConnect { .. } => cause.clone(),
        // Whatever the stream ended with, it says nothing about the batches that were sent on it.
        _ => ClientError::outcome_unknown(format!("the produce stream broke: {cause}")),
    }
}
