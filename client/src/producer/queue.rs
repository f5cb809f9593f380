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
//!   one stream to one leadership; so with idempotence, or one in flight, order is kept under retries (P24,
//!   P25);
//! - what is in flight to a leadership that has ended is called back; no answer of its counts any more;
//! - batches are settled in order (P11), each exactly once;
//! - a batch that is tried again carries the same sequences, unless it surely was not appended (I4, I7).

mod outcomes;

pub(crate) use outcomes::stream_broke;

use super::batch::{Batch, Content, Encoded, Status, batch_len};
use super::delivery::{Callback, Completion, Outcome};
use super::record::Record;
use super::rules::Rules;
use super::sequences::{Sequences, Session, Stamp, Stamping};
use crate::error::ClientError;
use crate::metadata::Leadership;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::{Duration, Instant};
use troupe_proto::batch::RecordSetBuilder;
use troupe_proto::ids::{PartitionId, TopicId};

/// Buffer memory is taken in steps: at least this much, then as much again as the batch has.
const MIN_RESERVATION: usize = 1 << 10;

/// How many of a producer's batches a leader remembers (I3).
const REMEMBERED_BATCHES: usize = 5;

/// Without idempotence what was appended and is sent again stands in the log twice: a leader that knows that
/// it leads no more gets the time to say what it has done.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

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
    destination: Option<Destination>,
    /// Since when they are known to be at the wrong place.
    outdated_since: Option<Instant>,
    retry: Option<Retry>,
    sequences: Sequences,
    topic_id: Option<TopicId>,
    /// Those of later transactions are kept.
    leaving: u64,
    closed: Option<ClientError>,
}

/// Where batches go: leaders are told in which epoch we believe them to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub stream: StreamId,
    pub leadership: Leadership,
}

/// When a batch that failed may be tried again, unless another leadership begins before.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    failed: Option<Leadership>,
}

/// Whether what is in flight is where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFlight {
    Fine,
    /// Elsewhere, but until then it may still be answered.
    Until(Instant),
    /// On a stream to a leadership that has ended.
    Outdated(StreamId),
}

/// A record on its way into the open batch.
pub(crate) struct Incoming<'a> {
    pub record: &'a Record<'a>,
    pub timestamp_ms: i64,
    /// At least what the record takes in a batch.
    pub bound: usize,
    /// 0 without transactions.
    pub transaction: u64,
    /// Taken if the record is.
    pub callback: &'a mut Option<Callback>,
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
    pub created: Instant,
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
    pub transaction: u64,
    pub reserved: usize,
    pub outcome: Outcome,
}

/// What the sender knows when a batch fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub now: Instant,
    /// Uniform over all of u64: the jitter.
    pub chance: u64,
}

impl Queue {
    pub(crate) fn new(topic: Arc<str>, partition: PartitionId, rules: Arc<Rules>) -> Self {
        Self {
            topic,
            partition,
            batches: VecDeque::new(),
            next_id: 0,
            in_flight: 0,
            destination: None,
            outdated_since: None,
            retry: None,
            sequences: Sequences::new(rules.transactional),
            topic_id: None,
            leaving: 0,
            closed: None,
            rules,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Batches that are not on their way (T26).
    pub(crate) fn waiting(&self) -> usize {
        self.batches.len() - self.in_flight
    }

    /// Since when something could have been sent that was not (T26).
    pub(crate) fn ready_since(&self) -> Option<Instant> {
        let is_ready = |batch: &&Batch| batch.is_waiting() && batch.transaction <= self.leaving;
        let first = self.batches.iter().find(is_ready)?;
        Some(first.created + self.rules.linger)
    }

    /// Adds a record to the open batch or opens one (P4). `reserve` takes buffer memory, or refuses. `now`
    /// is asked only when a batch is opened.
    pub(crate) fn append(
        &mut self,
        incoming: Incoming<'_>,
        mut reserve: impl FnMut(usize) -> bool,
        now: impl FnOnce() -> Instant,
    ) -> Result<Appended, NotAppended> {
        let Incoming { record, timestamp_ms, bound, transaction, callback } = incoming;
        if let Some(error) = &self.closed {
            return Err(NotAppended::Closed(error.clone()));
        }
        let mut wake = false;
        if let Some(last) = self.batches.back_mut()
            && let Content::Open(builder) = &last.content
            && (batch_len(builder.len()) + bound > self.rules.batch_size
                || last.transaction != transaction)
        {
            last.close();
            wake = true;
        }
        if !self.batches.back().is_some_and(Batch::is_open) {
            let reserved = batch_len(bound).max(MIN_RESERVATION.min(self.rules.batch_size));
            if !reserve(reserved) {
                return Err(NotAppended::NeedMemory(reserved));
            }
            self.open_batch(now(), transaction, reserved);
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

    fn open_batch(&mut self, created: Instant, transaction: u64, reserved: usize) {
        let id = self.take_id();
        self.batches.push_back(Batch {
            id,
            transaction,
            created,
            content: Content::Open(RecordSetBuilder::new()),
            first: 0,
            records: 0,
            reserved,
            completion: Completion::new(self.partition),
            status: Status::Waiting,
            stamp: None,
            attempts: 0,
            sent_to: None,
            failures: 0,
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

    /// The same of what is in this transaction, and in those before.
    pub(crate) fn flush_through(&mut self, transaction: u64) -> Option<(Arc<Completion>, u32)> {
        let last = self.batches.iter_mut().rfind(|batch| batch.transaction <= transaction)?;
        last.close();
        Some((last.completion.clone(), last.first + last.records - 1))
    }

    /// The topic as its leader knows it. Another one of the same name knows nothing of the sequences so far.
    pub(crate) fn stands_in(&mut self, topic_id: TopicId) {
        if self.topic_id.replace(topic_id).is_some_and(|before| before != topic_id) {
            self.sequences.begin_anew();
        }
    }

    /// Whether what is in flight has to be called back, now that this is the leadership.
    pub(crate) fn in_flight(&mut self, now: Instant, leadership: Leadership) -> InFlight {
        let Some(destination) = self.destination else { return InFlight::Fine };
        if destination.leadership == leadership {
            return InFlight::Fine;
        }
        let until = *self.outdated_since.get_or_insert(now) + LAST_ANSWERS;
        if !self.rules.idempotent && now < until {
            return InFlight::Until(until);
        }
        InFlight::Outdated(destination.stream)
    }

    /// The next batch that may be sent there (P5, P8). `session`: the newest there is, and up to which transaction it
    /// writes. `pressed`: somebody waits for buffer memory, so nothing lingers.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        destination: Destination,
        (session, leaving): (Option<Session>, u64),
        pressed: bool,
    ) -> Drain {
        self.leaving = leaving;
        if let Some(retry) = self.retry {
            // P18: what another leader refused says nothing about this one.
            if retry.at > now && retry.failed == Some(destination.leadership) {
                return Drain::Wait(Some(retry.at));
            }
            self.retry = None;
        }
        let Some(index) = self.batches.iter().position(Batch::is_waiting) else {
            return Drain::Wait(None);
        };
        if self.batches[index].transaction > leaving {
            return Drain::Wait(None);
        }
        let before = self.batches.range(..index).filter(|batch| batch.is_in_flight()).count();
        // What comes later is on its way: it must come back, or arrive, first.
        let overtaking = before < self.in_flight;
        let elsewhere = self.destination.is_some_and(|there| there != destination);
        if overtaking || elsewhere || self.in_flight >= self.rules.max_in_flight {
            return Drain::Wait(None);
        }
        // Those that were answered out of turn count too: the oldest may be there without our knowing, and must
        // stay among those that its leader remembers.
        if self.rules.idempotent && index >= REMEMBERED_BATCHES {
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
            self.sequences.turn_to(destination.leadership, now, quiet);
            match self.sequences.stamp(batch.stamp, batch.records, quiet, session) {
                Stamping::Stamp(stamp) => Some(stamp),
                Stamping::NeedSession => return Drain::NeedSession,
                Stamping::Wait => return Drain::Wait(None),
            }
        } else {
            None
        };
        self.send(index, destination, stamp)
    }

    fn send(&mut self, index: usize, destination: Destination, stamp: Option<Stamp>) -> Drain {
        let batch = &mut self.batches[index];
        batch.close();
        if batch.sent_to.replace(destination.leadership) != Some(destination.leadership) {
            batch.failures = 0;
        }
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
        self.destination = Some(destination);
        Drain::Send(Outgoing { id: batch.id, created: batch.created, content, stamp })
    }

    /// Keeps what was sent, in case it has to be sent again.
    pub(crate) fn encoded(&mut self, id: u64, encoded: Encoded) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.id == id) {
            batch.content = Content::Encoded(encoded);
        }
    }
}
