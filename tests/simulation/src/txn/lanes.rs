//! What a producer writes to one partition, in its transactions.

use super::{Number, TxnEvent};
use crate::broker::Who;
use crate::clients::{Outcome, ProduceRequest};
use crate::world::{Event, World};
use bytes::Bytes;
use std::collections::VecDeque;
use troupe_machines::replica::Acks;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::{BatchHeader, Compression, ProducerStamp};
use troupe_proto::ids::Sequence;

const MOST_IN_FLIGHT: usize = 4;

#[derive(Debug, Default)]
pub struct Lane {
    next_sequence: u32,
    /// Oldest first; those behind the first may be answered already.
    pub pending: VecDeque<Batch>,
    /// Something failed: all that is under way comes in before anything is sent.
    pub draining: bool,
    pub leader: usize,
    /// When the last request arrives: on a connection they keep their order.
    arrives_at: u64,
    pub refusals: u32,
}

#[derive(Debug)]
pub struct Batch {
    pub value: u64,
    header: BatchHeader,
    payload: Bytes,
    pub state: State,
    /// An attempt to send it was not answered.
    pub in_doubt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Unsent,
    /// The attempt, and when.
    Sent(u64, u64),
    Done,
}

impl Lane {
    pub fn has_sent(&self) -> bool {
        self.pending.iter().any(|batch| matches!(batch.state, State::Sent(..)))
    }

    /// Something may still arrive.
    pub fn is_in_doubt(&self) -> bool {
        self.has_sent() || self.pending.iter().any(|batch| batch.in_doubt)
    }

    pub fn oldest_sent(&self) -> Option<u64> {
        let at = |batch: &Batch| match batch.state {
            State::Sent(_, at) => Some(at),
            State::Unsent | State::Done => None,
        };
        self.pending.iter().filter_map(at).min()
    }

    pub fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    /// The sequences of what is known to stand count, and no others.
    pub fn give_up(&mut self) {
        if let Some(first) = self.pending.front().and_then(|batch| batch.header.producer) {
            self.next_sequence = first.base_sequence.0;
        }
        self.pending.clear();
        self.draining = false;
    }
}

impl World {
    pub fn has_room(&self, me: usize, partition: u32) -> bool {
        let lane = self.txn.clients[me].lanes.get(&partition);
        lane.is_none_or(|lane| lane.pending.len() < MOST_IN_FLIGHT)
    }

    pub fn new_txn_batch(&mut self, me: usize, partition: u32, of: Producer, number: Number) {
        let value = self.take_id();
        let (builder, count) = self.client_records(self.txn.clients[me].site, value);
        let lane = self.txn.clients[me].lanes.entry(partition).or_default();
        let base_sequence = Sequence(lane.next_sequence);
        lane.next_sequence += count;
        let stamp = ProducerStamp { id: of.id, epoch: of.epoch, base_sequence };
        let built = builder.finish(Compression::None, Some(stamp)).expect("there are records");
        let attributes = built.header.attributes.with_transactional(true);
        let header = BatchHeader { attributes, ..built.header };
        lane.pending.push_back(Batch {
            value,
            header,
            payload: built.payload,
            state: State::Unsent,
            in_doubt: false,
        });
        let key = self.key(partition);
        if let Some(ledger) = self.ledgers.get_mut(&key) {
            ledger.produced(value, &header);
        }
        self.txn.truth.wrote(number, key, value);
    }

    pub fn send_txn_batches(&mut self, me: usize) {
        let partitions: Vec<u32> = self.txn.clients[me].lanes.keys().copied().collect();
        for partition in partitions {
            let Some(lane) = self.txn.clients[me].lanes.get_mut(&partition) else { continue };
            if lane.draining && lane.has_sent() {
                continue;
            }
            lane.draining = false;
            for at in 0..lane.pending.len() {
                let lane = self.txn.clients[me].lanes.get(&partition);
                let is_due = lane
                    .is_some_and(|lane| !lane.draining && lane.pending[at].state == State::Unsent);
                if is_due {
                    self.send_txn_batch(me, partition, at);
                }
            }
        }
    }

    fn send_txn_batch(&mut self, me: usize, partition: u32, at: usize) {
        let (attempt, patience) = (self.take_id(), self.whim.between(800, 2_500));
        let (site, key, now) = (self.txn.clients[me].site, self.key(partition), self.now);
        let Some(lane) = self.txn.clients[me].lanes.get_mut(&partition) else { return };
        let leader = lane.leader;
        let before = at.checked_sub(1).map(|before| lane.pending[before].state);
        let follows = match before {
            Some(State::Sent(attempt, _)) => Some(attempt),
            Some(State::Unsent | State::Done) | None => None,
        };
        let batch = &mut lane.pending[at];
        batch.state = State::Sent(attempt, now);
        let request = ProduceRequest {
            key,
            who: Who::Transactional(me),
            attempt,
            follows,
            sent_at: now,
            value: batch.value,
            header: batch.header,
            payload: batch.payload.clone(),
            acks: Acks::All,
        };
        self.schedule(site, patience, Event::txn(TxnEvent::ProduceTimeout { client: me, attempt }));
        let is_second = self.txn.clients[me].version == ClientVersion::Second;
        if is_second && self.net.one_in(25) {
            // an older connection still has it
            self.txn_counts.repeated_batches += 1;
            let wait = self.net.between(1, 3_900);
            self.schedule(leader, wait, Event::Produce(Box::new(request.clone())));
        }
        let wait = self.delay();
        let loss = self.network.loss;
        let lost = self.network.is_cut(site, leader) || (loss > 0 && self.net.one_in(4 * loss));
        let Some(lane) = self.txn.clients[me].lanes.get_mut(&partition) else { return };
        if lost {
            self.counts.lost_messages += 1;
            lane.draining = true;
            return;
        }
        lane.arrives_at = lane.arrives_at.max(now + wait);
        let wait = lane.arrives_at - now;
        self.schedule(leader, wait, Event::Produce(Box::new(request)));
    }

    /// What becomes of a batch, for the ledger.
    pub fn txn_batch_concluded(&mut self, partition: u32, value: u64, outcome: Outcome) {
        let key = self.key(partition);
        if let Some(ledger) = self.ledgers.get_mut(&key) {
            ledger.concluded(value, outcome);
        }
    }
}
