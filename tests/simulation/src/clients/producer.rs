//! See the module above.

use crate::broker::{Asker, Who};
use crate::settings::Settings;
use crate::violation::Checked;
use crate::world::{At, Event, World};
use bytes::Bytes;
use std::collections::VecDeque;
use troupe_machines::replica::{
    Acks, AppendDecision, AppendFacts, Effects, Origin, Replica, Verification,
};
use troupe_proto::batch::{BatchHeader, Compression, ProducerStamp, RecordSetBuilder};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{Offset, PartitionKey, ProducerEpoch, ProducerId, Sequence};

/// As many batches as a leader remembers of a producer.
const MOST_IN_FLIGHT: usize = 5;

pub struct Producer {
    pub site: usize,
    /// Without an id, and nothing is sent twice.
    plain: bool,
    pub lanes: Vec<Lane>,
}

/// What a producer has to do with one partition.
#[derive(Debug)]
pub struct Lane {
    partition: u32,
    stamp: Option<ProducerStamp>,
    /// Oldest first; those behind the first may be answered already.
    pub pending: VecDeque<Batch>,
    /// Something failed, and the connection with it: all that is under way comes in before anything is sent.
    draining: bool,
    leader: usize,
    /// When the last request arrives: on a connection they keep their order.
    arrives_at: u64,
    /// The leader is known to know the producer.
    began: bool,
    refusals: u32,
    /// After the faults, one more.
    pub probed: bool,
}

#[derive(Debug)]
pub struct Batch {
    pub value: u64,
    header: BatchHeader,
    payload: Bytes,
    acks: Acks,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unsent,
    Sent(u64),
    Done,
}

#[derive(Clone, Debug)]
pub struct ProduceRequest {
    pub key: PartitionKey,
    pub who: Who,
    pub attempt: u64,
    /// On its stream, the request before, without which it is refused.
    pub follows: Option<u64>,
    pub sent_at: u64,
    pub value: u64,
    pub header: BatchHeader,
    pub payload: Bytes,
    pub acks: Acks,
}

/// What a producer hears of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    Ok(Offset),
    /// It surely was not appended.
    Failed(ErrorCode),
    Unknown,
}

/// What the producer knows of a batch at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Open,
    Ok,
    Failed,
    Unknown,
}

impl From<Produced> for Outcome {
    fn from(produced: Produced) -> Outcome {
        match produced {
            Produced::Ok(_) => Outcome::Ok,
            Produced::Failed(_) => Outcome::Failed,
            Produced::Unknown => Outcome::Unknown,
        }
    }
}

impl Producer {
    pub fn new(me: usize, site: usize, plain: bool, settings: &Settings) -> Producer {
        let lane = |partition: u32| Lane {
            partition,
            stamp: (!plain).then_some(ProducerStamp {
                id: ProducerId(1 + me as u64 * 100 + u64::from(partition)),
                epoch: ProducerEpoch(0),
                base_sequence: Sequence(0),
            }),
            pending: VecDeque::new(),
            draining: false,
            leader: 0,
            arrives_at: 0,
            began: false,
            refusals: 0,
            probed: false,
        };
        Producer { site, plain, lanes: (0..settings.written_partitions()).map(lane).collect() }
    }
}

impl Lane {
    fn in_flight(&self) -> usize {
        self.pending.iter().filter(|batch| matches!(batch.state, State::Sent(_))).count()
    }
}

impl World {
    pub fn producer_tick(&mut self, producer: usize) {
        let wait = self.whim.between(5, 60);
        let site = self.producers[producer].site;
        self.schedule(site, wait, Event::ProducerTick { producer });
        for lane in 0..self.producers[producer].lanes.len() {
            let state = &self.producers[producer].lanes[lane];
            let has_room = state.pending.len() < MOST_IN_FLIGHT;
            let wants = !self.healing && self.whim.one_in(2);
            if has_room && (wants || self.healing && !state.probed) {
                self.producers[producer].lanes[lane].probed = self.healing;
                self.new_batch(producer, lane);
            }
            self.send_batches(producer, lane);
        }
    }

    /// Some records of the batch `value`.
    pub fn client_records(&mut self, site: usize, value: u64) -> (RecordSetBuilder, u32) {
        let count = 1 + self.whim.below(3) as u32;
        let filler = "x".repeat(self.whim.below(120) as usize);
        let now = self.wall(site).as_timestamp();
        let mut builder = RecordSetBuilder::new();
        for record in 0..count {
            let text = format!("{value}/{record}/{filler}");
            match self.settings.compaction.as_ref().map(|it| it.record(value, record.into())) {
                None => builder.push(now, None, Some(text.as_bytes()), &[]),
                // what tells its batch from others goes where it stays
                Some(written) => builder.push(
                    now,
                    Some(written.key().as_bytes()),
                    (!written.deletes).then_some(b"value".as_slice()),
                    &[("text", Some(text.as_bytes()))],
                ),
            }
        }
        (builder, count)
    }

    fn new_batch(&mut self, producer: usize, lane: usize) {
        let value = self.take_id();
        let (builder, count) = self.client_records(self.producers[producer].site, value);
        let plain = self.producers[producer].plain;
        let acks = if plain && self.whim.one_in(2) { Acks::Leader } else { Acks::All };
        let state = &mut self.producers[producer].lanes[lane];
        let built = builder.finish(Compression::None, state.stamp).expect("there are records");
        if let Some(stamp) = &mut state.stamp {
            stamp.base_sequence = stamp.base_sequence.plus(count);
        }
        let (partition, header) = (state.partition, built.header);
        state.pending.push_back(Batch {
            value,
            header,
            payload: built.payload,
            acks,
            state: State::Unsent,
        });
        let key = self.key(partition);
        if let Some(ledger) = self.ledgers.get_mut(&key) {
            ledger.produced(value, &header);
        }
    }

    fn send_batches(&mut self, producer: usize, lane: usize) {
        let state = &self.producers[producer].lanes[lane];
        if state.draining && state.in_flight() > 0 {
            return;
        }
        let key = self.key(state.partition);
        let ledger = self.ledgers.get(&key);
        let forgotten = state
            .stamp
            .is_some_and(|stamp| ledger.is_some_and(|ledger| ledger.may_be_forgotten(&stamp)));
        self.producers[producer].lanes[lane].draining = false;
        for at in 0..self.producers[producer].lanes[lane].pending.len() {
            let state = &self.producers[producer].lanes[lane];
            // a leader that knows nothing of a producer takes whatever comes first for the beginning
            let in_order = (state.began && !forgotten) || state.stamp.is_none() || at == 0;
            if in_order && !state.draining && state.pending[at].state == State::Unsent {
                self.send_batch(producer, lane, at);
            }
        }
    }

    fn send_batch(&mut self, producer: usize, lane: usize, at: usize) {
        let (attempt, patience) = (self.take_id(), self.whim.between(800, 2_500));
        let site = self.producers[producer].site;
        let key = self.key(self.producers[producer].lanes[lane].partition);
        let state = &mut self.producers[producer].lanes[lane];
        let (leader, began) = (state.leader, state.began);
        let batch = &mut state.pending[at];
        batch.state = State::Sent(attempt);
        let request = ProduceRequest {
            key,
            who: Who::Producer(producer),
            attempt,
            follows: None,
            sent_at: self.now,
            value: batch.value,
            header: batch.header,
            payload: batch.payload.clone(),
            acks: batch.acks,
        };
        self.schedule(site, patience, Event::ProduceTimeout { producer, attempt });
        let began = began && request.header.producer.is_some();
        if began && self.net.one_in(50) {
            // an older connection still has it
            self.counts.repeated_produce_requests += 1;
            let wait = self.net.between(1, 3_000);
            self.schedule(leader, wait, Event::Produce(Box::new(request.clone())));
        }
        let wait = self.delay();
        let cut = self.network.is_cut(site, leader);
        let loss = self.network.loss;
        let lost = cut || (loss > 0 && self.net.one_in(4 * loss));
        let state = &mut self.producers[producer].lanes[lane];
        if lost {
            self.counts.lost_messages += 1;
            state.draining = true;
            return;
        }
        state.arrives_at = state.arrives_at.max(self.now + wait);
        let wait = state.arrives_at - self.now;
        self.schedule(leader, wait, Event::Produce(Box::new(request)));
    }

    /// A request arrives at a broker.
    pub fn produce(&mut self, site: usize, request: ProduceRequest) -> Checked {
        // whoever sent it has closed the connection long ago
        if self.now > request.sent_at + 4_000 {
            return Ok(());
        }
        match self.waits_behind(site, request) {
            Some(request) => self.decide_append(site, request, None),
            None => Ok(()),
        }
    }

    /// With the word of a coordinator, if there is one.
    pub fn decide_append(
        &mut self,
        site: usize,
        request: ProduceRequest,
        verified: Option<Verification>,
    ) -> Checked {
        let at: At = (site, request.key);
        let (steady, wall) = (self.steady(site), self.wall(site));
        let (who, attempt, acks) = (request.who, request.attempt, request.acks);
        if request.follows.is_some_and(|before| !self.txn.accepted.contains(&before)) {
            let refused = Produced::Failed(ErrorCode::LeaderNotAvailable);
            self.answer_producer(site, who, attempt, refused);
            return Ok(());
        }
        let keyless = self.settings.compaction.is_none();
        let transaction = match who {
            Who::Transactional(client) => Some(self.txn.clients[client].version),
            Who::Producer(_) | Who::GroupCoordinator | Who::TxnCoordinator | Who::Marker => None,
        };
        let facts =
            AppendFacts { keyless, verified, transaction, ..append_facts(&request.header, acks) };
        let Some(host) = self.host(at) else {
            self.answer_producer(site, who, attempt, Produced::Failed(ErrorCode::NotLeader));
            return Ok(());
        };
        let decision = match host.replica.decide_append(wall, &facts) {
            Ok(decision) => decision,
            Err(error) => {
                self.counts.refused_appends += 1;
                let answer = self.failed(error.code());
                self.answer_producer(site, who, attempt, answer);
                return Ok(());
            }
        };
        if let AppendDecision::Verify(producer) = decision {
            self.verify(at, producer, request);
            return Ok(());
        }
        if matches!(who, Who::Transactional(_)) {
            self.txn.accepted.insert(attempt);
        }
        let token = troupe_machines::replica::Token(self.take_id());
        let deadline = steady.plus(self.whim.between(300, 3_000));
        let acks_all = acks == Acks::All;
        let asker = Asker { who, attempt, value: request.value, acks_all };
        match decision {
            AppendDecision::Verify(_) => Ok(()),
            AppendDecision::Append(header) => {
                let payload = request.payload;
                let tell = |replica: &mut Replica, now, out: &mut Effects| {
                    replica.on_appended(now, &header, acks, token, deadline, out);
                };
                let appended = self.append_decided(at, (token, asker), &header, payload, tell)?;
                let Err(error) = appended else { return Ok(()) };
                let poisoned = self.see_host(at).is_some_and(|host| host.log.is_poisoned());
                let code = if poisoned { ErrorCode::StorageFailure } else { error.code() };
                let answer = self.failed(code);
                self.answer_producer(site, who, attempt, answer);
                self.append_failed(at, &error)
            }
            AppendDecision::Duplicate(duplicate) => {
                self.counts.duplicates += 1;
                let Some(host) = self.host(at) else { return Ok(()) };
                host.waiting.insert(token, asker);
                let written_in = host.log.epoch_at(duplicate.base_offset);
                let after_failover = written_in < host.replica.leader_epoch();
                self.counts.duplicates_after_failover += u64::from(after_failover);
                self.drive(at, |replica, now, out| {
                    replica.on_duplicate(now, duplicate, acks, token, deadline, out);
                })
            }
        }
    }

    /// What a producer concludes from an error.
    pub fn failed(&mut self, code: ErrorCode) -> Produced {
        if code.surely_not_done() { Produced::Failed(code) } else { Produced::Unknown }
    }

    pub fn answer_producer(&mut self, site: usize, who: Who, attempt: u64, result: Produced) {
        let sent = match who {
            Who::Producer(producer) => {
                let to = self.producers[producer].site;
                self.send(site, to, Event::Produced { producer, attempt, result })
            }
            Who::Transactional(client) => self.answer_txn_producer(site, client, attempt, result),
            Who::GroupCoordinator | Who::TxnCoordinator | Who::Marker => true,
        };
        self.counts.lost_answers += u64::from(!sent);
    }

    pub fn produced(&mut self, producer: usize, attempt: u64, result: Produced) -> Checked {
        let lanes = &mut self.producers[producer].lanes;
        let found = lanes.iter().enumerate().find_map(|(lane, state)| {
            let sent = |batch: &Batch| batch.state == State::Sent(attempt);
            state.pending.iter().position(sent).map(|at| (lane, at))
        });
        let Some((lane, at)) = found else { return Ok(()) };
        let (plain, site) = (self.producers[producer].plain, self.producers[producer].site);
        let key = self.key(self.producers[producer].lanes[lane].partition);
        let state = &mut self.producers[producer].lanes[lane];
        let batch = &mut state.pending[at];
        let value = batch.value;
        let outcome = Outcome::from(result);
        self.counts.unknown_outcomes += u64::from(outcome == Outcome::Unknown);
        if plain || outcome == Outcome::Ok {
            batch.state = State::Done;
            state.began = true;
            state.refusals = 0;
            if let Some(ledger) = self.ledgers.get_mut(&key) {
                ledger.concluded(value, outcome);
            }
        } else {
            batch.state = State::Unsent;
            state.draining = true;
            let refused = matches!(result, Produced::Failed(ErrorCode::OutOfOrderSequence));
            state.refusals = if refused { state.refusals + 1 } else { state.refusals };
        }
        while state.pending.front().is_some_and(|batch| batch.state == State::Done) {
            state.pending.pop_front();
        }
        if outcome != Outcome::Ok {
            let leader = self.guess_leader(site, &key);
            self.producers[producer].lanes[lane].leader = leader;
        }
        self.begin_again(producer, lane, &key);
        Ok(())
    }

    /// Records were lost by an unclean election, and with them the sequence: a new epoch begins, and nobody
    /// will know what became of what was under way.
    fn begin_again(&mut self, producer: usize, lane: usize, key: &PartitionKey) {
        let strict = self.is_strict(key);
        let state = &mut self.producers[producer].lanes[lane];
        if strict || state.refusals < 10 || state.in_flight() > 0 {
            return;
        }
        state.refusals = 0;
        state.began = false;
        state.probed = false;
        if let Some(stamp) = &mut state.stamp {
            stamp.epoch = ProducerEpoch(stamp.epoch.0 + 1);
            stamp.base_sequence = Sequence(0);
        }
        for batch in std::mem::take(&mut state.pending) {
            if let Some(ledger) = self.ledgers.get_mut(key) {
                ledger.concluded(batch.value, Outcome::Unknown);
            }
        }
    }
}

/// What an append brings that anybody may ask for.
pub fn append_facts(header: &BatchHeader, acks: Acks) -> AppendFacts {
    AppendFacts {
        producer: header.producer,
        record_count: header.record_count,
        base_timestamp: header.base_timestamp,
        min_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        attributes: header.attributes,
        payload_crc: header.payload_crc,
        payload_len: header.payload_len,
        keyless: true,
        acks,
        expected_leader_epoch: None,
        origin: Origin::Client,
        transaction: None,
        verified: None,
    }
}
