//! The queue against a leader that follows I3 to I6, with a network that loses answers.

mod chance;
mod expiry;
mod leader;
mod retries;

use super::batch::Encoded;
use super::delivery::{Delivery, Placed};
use super::queue::{
    Destination, Drain, Failure, InFlight, Incoming, Outgoing, OutgoingContent, Queue, Settled,
    StreamId,
};
use super::record::Record;
use super::rules::Rules;
use super::sequences::Session;
use crate::error::ClientError;
use crate::metadata::Leadership;
use bytes::Bytes;
use leader::Leader;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::batch::{Compression, ProducerStamp};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{
    LeaderEpoch, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, TopicId,
};

const STREAM: StreamId = StreamId(1);

fn leadership(epoch: u32) -> Leadership {
    Leadership { node: NodeId(1), epoch: LeaderEpoch(epoch) }
}

fn rules() -> Rules {
    Rules {
        batch_size: 400,
        linger: Duration::from_millis(5),
        max_in_flight: 5,
        idempotent: true,
        transactional: false,
        retries: u32::MAX,
        delivery_timeout: Duration::from_secs(120),
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_secs(1),
    }
}

fn session(number: u64) -> Session {
    Session { number, id: ProducerId(100 + number), epoch: ProducerEpoch(0) }
}

fn refused(code: ErrorCode) -> ClientError {
    ClientError::Refused(Refusal::new(code, "as the test wants"))
}

/// A queue with a clock, and the records it was given: each holds its number.
struct Bench {
    queue: Queue,
    now: Instant,
    sessions: u64,
    appended: u64,
    deliveries: Vec<Delivery>,
    reserved: usize,
    epoch: u32,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self {
            queue: Queue::new("t".into(), PartitionId(0), Arc::new(rules)),
            now: Instant::now(),
            sessions: 1,
            appended: 0,
            deliveries: Vec::new(),
            reserved: 0,
            epoch: 1,
        }
    }

    /// With a session that the leader knows, from a record at offset 0.
    fn established(rules: Rules) -> Self {
        let mut bench = Self::new(rules);
        bench.append();
        bench.close_batch();
        let first = bench.send();
        bench.place(&first, 0);
        bench
    }

    fn append(&mut self) {
        self.append_sized(0);
    }

    /// Appends the next number, with padding behind it.
    fn append_sized(&mut self, padding: usize) {
        let mut value = self.appended.to_le_bytes().to_vec();
        value.resize(8 + padding, 0);
        let now = self.now;
        let reserved = &mut self.reserved;
        let reserve = |bytes| {
            *reserved += bytes;
            true
        };
        let record = Record::value(&value);
        let bound = 48 + value.len();
        let (record, callback) = (&record, &mut None);
        let incoming = Incoming { record, timestamp_ms: 7, bound, transaction: 0, callback };
        let appended = self.queue.append(incoming, reserve, || now).ok().unwrap();
        self.deliveries.push(Delivery::new(appended.completion, appended.index, 7));
        self.appended += 1;
    }

    fn close_batch(&mut self) {
        self.queue.flush();
    }

    fn later(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn drain(&mut self) -> Drain {
        self.drain_on(STREAM)
    }

    fn drain_on(&mut self, stream: StreamId) -> Drain {
        let newest = (self.sessions > 0).then(|| session(self.sessions));
        let destination = Destination { stream, leadership: leadership(self.epoch) };
        self.queue.drain(self.now, destination, (newest, 0), false)
    }

    /// The next batch, as it goes over the wire.
    fn send(&mut self) -> Sent {
        match self.drain() {
            Drain::Send(outgoing) => self.encode(outgoing),
            Drain::Wait(at) => panic!("nothing may be sent before {at:?}"),
            Drain::NeedSession => panic!("a newer session is needed"),
        }
    }

    fn encode(&mut self, outgoing: Outgoing) -> Sent {
        let stamp = outgoing.stamp.map(|stamp| stamp.producer);
        let encoded = match outgoing.content {
            OutgoingContent::Encoded(encoded) => encoded,
            OutgoingContent::Records(builder) => {
                Encoded::new(builder, Compression::None, stamp, false).unwrap()
            }
        };
        assert_eq!(encoded.header.producer, stamp);
        self.queue.encoded(outgoing.id, encoded.clone());
        Sent { id: outgoing.id, stamp, encoded }
    }

    fn fail(&mut self, sent: &Sent, code: ErrorCode) {
        self.fail_with(sent, refused(code));
    }

    fn fail_with(&mut self, sent: &Sent, error: ClientError) {
        let settled = self.queue.failed(sent.id, error, self.failure());
        self.finish(settled);
    }

    fn place(&mut self, sent: &Sent, base: u64) {
        let placed = Placed { base_offset: Some(Offset(base)), append_time_ms: None };
        let settled = self.queue.placed(sent.id, placed);
        self.finish(settled);
    }

    fn failure(&self) -> Failure {
        Failure { now: self.now, chance: u64::MAX / 2 }
    }

    /// Another leadership begins; what is in flight is called back if it has to be.
    fn move_leader(&mut self) {
        self.epoch += 1;
        let in_flight = self.queue.in_flight(self.now, leadership(self.epoch));
        if let InFlight::Outdated(stream) = in_flight {
            assert_eq!(stream, STREAM);
            let settled = self.queue.call_back(self.failure());
            self.finish(settled);
        }
    }

    fn finish(&mut self, settled: Vec<Settled>) {
        for batch in settled {
            self.reserved -= batch.reserved;
            batch.completion.settle(batch.records, batch.outcome);
        }
    }

    fn waits(&mut self) -> bool {
        matches!(self.drain(), Drain::Wait(_))
    }

    fn outcome(&self, record: usize) -> Option<Result<u64, ErrorCode>> {
        let outcome = self.deliveries[record].now()?;
        Some(outcome.map(|at| at.offset.unwrap().0).map_err(|error| error.reason()))
    }
}

struct Sent {
    id: u64,
    stamp: Option<ProducerStamp>,
    encoded: Encoded,
}

impl Sent {
    fn sequence(&self) -> u32 {
        self.stamp.unwrap().base_sequence.0
    }

    fn numbers(&self) -> Vec<u64> {
        let mut builders = self.encoded.rebuild(1).unwrap();
        let built = builders.remove(0).finish(Compression::None, None).unwrap();
        let limits = troupe_proto::batch::Limits::default();
        let set = troupe_proto::batch::RecordSet::decode(&built.header, built.payload, limits);
        set.unwrap().records().map(|record| number(&record.unwrap().value.unwrap())).collect()
    }
}

fn number(value: &Bytes) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

/// P4, P5.
#[test]
fn a_batch_goes_when_it_is_full_or_has_lingered() {
    let mut bench = Bench::new(Rules { idempotent: false, ..rules() });
    bench.append();
    assert!(
        matches!(bench.drain(), Drain::Wait(Some(at)) if at == bench.now + Duration::from_millis(5))
    );
    bench.later(5);
    assert_eq!(bench.send().numbers(), [0]);
    bench.append();
    bench.append_sized(250);
    assert_eq!(
        bench.send().numbers(),
        [1],
        "the next record did not fit: closed without lingering"
    );
    assert!(bench.waits());
}

/// P4: batch_size = 0 switches batching off; a record larger than the batch size has its own batch.
#[test]
fn a_record_always_fits_into_a_batch_of_its_own() {
    for batch_size in [0, 400] {
        let mut bench = Bench::new(Rules { batch_size, idempotent: false, ..rules() });
        for _ in 0..3 {
            bench.append_sized(1000);
        }
        for expected in 0..3 {
            assert_eq!(bench.send().numbers(), [expected]);
        }
    }
}

/// I6: a leader that does not know the producer yet would take the second batch without the first.
#[test]
fn the_first_batch_of_a_session_goes_alone() {
    let mut bench = Bench::new(rules());
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    let first = bench.send();
    assert!(bench.waits());
    bench.place(&first, 0);
    bench.send();
}

/// P8.
#[test]
fn no_more_than_max_in_flight_batches_are_unanswered() {
    let mut bench = Bench::established(rules());
    for _ in 0..7 {
        bench.append();
        bench.close_batch();
    }
    let sent: Vec<_> = (0..5).map(|_| bench.send()).collect();
    assert!(bench.waits());
    bench.place(&sent[0], 1);
    assert_eq!(bench.send().numbers(), [6]);
    assert!(bench.waits());
}

/// I2.
#[test]
fn sequences_follow_the_records() {
    let mut bench = Bench::established(rules());
    bench.append();
    bench.append();
    bench.close_batch();
    bench.append();
    bench.close_batch();
    assert_eq!(bench.send().sequence(), 1);
    assert_eq!(bench.send().sequence(), 3);
}

/// P24: the first fails, the second lands before it.
#[test]
fn without_idempotence_a_retry_lands_after_later_batches() {
    let mut bench = Bench::new(Rules { idempotent: false, ..rules() });
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    let (first, second) = (bench.send(), bench.send());
    bench.fail(&first, ErrorCode::RequestTimedOut);
    bench.place(&second, 0);
    bench.later(200);
    let again = bench.send();
    assert_eq!(again.numbers(), [0]);
    bench.place(&again, 1);
    assert_eq!((bench.outcome(0), bench.outcome(1)), (Some(Ok(1)), Some(Ok(0))));
}

/// P24: with one in flight nothing overtakes.
#[test]
fn one_in_flight_keeps_order_without_idempotence() {
    let mut bench = Bench::new(Rules { idempotent: false, max_in_flight: 1, ..rules() });
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    let first = bench.send();
    assert!(bench.waits());
    bench.fail(&first, ErrorCode::RequestTimedOut);
    assert!(bench.waits(), "back-off");
    bench.later(200);
    assert_eq!(bench.send().numbers(), [0]);
}

/// I7: the later ones are refused, and all go again in order under their numbers.
#[test]
fn batches_behind_a_failed_one_are_queued_again_in_order() {
    let mut bench = Bench::established(rules());
    for _ in 0..3 {
        bench.append();
        bench.close_batch();
    }
    let sent: Vec<_> = (0..3).map(|_| bench.send()).collect();
    bench.fail(&sent[0], ErrorCode::NotLeader);
    bench.fail(&sent[1], ErrorCode::OutOfOrderSequence);
    bench.later(1000);
    assert!(bench.waits(), "the third is still on its way");
    bench.fail(&sent[2], ErrorCode::OutOfOrderSequence);
    for expected in 1..4 {
        let again = bench.send();
        assert_eq!(again.numbers(), [expected]);
        assert_eq!(again.stamp, sent[expected as usize - 1].stamp);
        bench.place(&again, expected);
    }
    assert_eq!(bench.outcome(3), Some(Ok(3)));
    assert_eq!(bench.reserved, 0);
}

/// I7: the leader lost what it had acknowledged.
#[test]
fn an_out_of_order_head_starts_a_higher_epoch() {
    let mut bench = Bench::new(rules());
    bench.append();
    bench.close_batch();
    let first = bench.send();
    bench.place(&first, 0);
    bench.append();
    bench.close_batch();
    let second = bench.send();
    assert_eq!(second.sequence(), 1);
    bench.fail(&second, ErrorCode::OutOfOrderSequence);
    bench.later(200);
    let again = bench.send();
    assert_eq!((again.sequence(), again.stamp.unwrap().epoch), (0, ProducerEpoch(1)));
    assert_eq!(again.numbers(), [1]);
}

/// I6: a topic that was deleted and made again does not know the producer: its leader would take a second
/// batch without the first.
#[test]
fn in_another_topic_of_the_same_name_sequences_start_again() {
    let mut bench = Bench::established(rules());
    let topic = |n| TopicId::from_wire(&[n; 16]).unwrap();
    bench.queue.stands_in(topic(1));
    bench.queue.stands_in(topic(1));
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    bench.queue.stands_in(topic(2));
    let first = bench.send();
    assert_eq!((first.sequence(), first.stamp.unwrap().epoch), (0, ProducerEpoch(1)));
    assert!(bench.waits(), "the first goes alone");
    bench.place(&first, 0);
    assert_eq!(bench.send().sequence(), 1);
}

/// P20.
#[test]
fn a_batch_that_is_too_large_is_split_and_keeps_its_sequences() {
    let mut bench = Bench::established(Rules { retries: 1, ..rules() });
    for _ in 0..4 {
        bench.append();
    }
    bench.close_batch();
    let whole = bench.send();
    bench.fail(&whole, ErrorCode::RecordTooLarge);
    let (first, second) = (bench.send(), bench.send());
    assert_eq!((first.numbers(), first.sequence()), (vec![1, 2], 1));
    assert_eq!((second.numbers(), second.sequence()), (vec![3, 4], 3));
    bench.place(&first, 10);
    bench.fail(&second, ErrorCode::RecordTooLarge);
    let (third, fourth) = (bench.send(), bench.send());
    bench.place(&third, 12);
    bench.fail(&fourth, ErrorCode::RecordTooLarge);
    let outcomes: Vec<_> = (1..5).map(|n| bench.outcome(n).unwrap()).collect();
    assert_eq!(outcomes, [Ok(10), Ok(11), Ok(12), Err(ErrorCode::RecordTooLarge)]);
    assert_eq!(bench.reserved, 0);
}

/// P11: a later batch that is answered first waits for the earlier one.
#[test]
fn batches_are_settled_in_order() {
    let mut bench = Bench::new(Rules { idempotent: false, ..rules() });
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    let (first, second) = (bench.send(), bench.send());
    bench.place(&second, 5);
    assert_eq!(bench.outcome(1), None);
    bench.place(&first, 6);
    assert_eq!((bench.outcome(0), bench.outcome(1)), (Some(Ok(6)), Some(Ok(5))));
}

/// P23.
#[test]
fn aborting_says_what_was_on_its_way() {
    let mut bench = Bench::new(rules());
    bench.append();
    bench.close_batch();
    bench.send();
    bench.append();
    let aborted = bench.queue.abort();
    bench.finish(aborted);
    assert_eq!(bench.deliveries[0].now(), Some(Err(ClientError::Closed { sent: true })));
    assert_eq!(bench.deliveries[1].now(), Some(Err(ClientError::Closed { sent: false })));
    assert_eq!(bench.reserved, 0);
}
