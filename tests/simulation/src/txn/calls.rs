//! What coordinators of transactions are asked: how it arrives, and what is answered.

use super::coordinator::Output;
use super::{Number, TxnEvent};
use crate::violation::Checked;
use crate::world::{At, Event, TOPIC, World};
use troupe_machines::time::Time;
use troupe_machines::txn::{
    AddRequest, ClientVersion, EndRequest, InitRequest, Outcome, Producer, TxnPartition,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::PartitionKey;
use troupe_proto::log::v1 as pb;

/// How long what is to become part of a transaction waits for the one before to be completed.
const COMPLETION_PATIENCE_MS: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Init { known: Option<Producer>, timeout_ms: u32 },
    Add { producer: Producer, partition: PartitionKey },
    Verify { producer: Producer, partition: PartitionKey },
    End { producer: Producer, outcome: Outcome, number: Number },
}

/// Who the producer is, if that is what was asked.
pub type Answer = Result<Option<Producer>, ErrorCode>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Client(usize),
    /// A partition that is led there.
    Gate(usize),
}

#[derive(Clone, Debug)]
pub struct Call {
    pub from: From,
    pub attempt: u64,
    pub id: usize,
    pub version: ClientVersion,
    /// When it came, to the first node that took it.
    pub came: Option<u64>,
    /// Later nobody carries it out.
    pub until: u64,
    /// How long it waits for the transaction before to be completed, once it does.
    pub waits_until: Option<u64>,
    pub asked: Asked,
}

pub fn transactional_id(id: usize) -> String {
    format!("x{id}")
}

impl World {
    /// Any node hands a call on to whom it takes for the coordinator.
    pub fn hand_on(&mut self, site: usize, mut call: Call) {
        call.came.get_or_insert(self.now);
        let key = self.coordinator_key(call.id);
        let image = self.sites[site].broker.as_ref().map(|broker| &broker.image);
        let leader = image.and_then(|image| image.partition(&key)?.leader);
        match leader.map(|leader| self.site_of(leader)) {
            Some(to) => {
                self.send(site, to, Event::txn(TxnEvent::ToCoordinator(Box::new(call))));
            }
            None => {
                let answer = Err(ErrorCode::CoordinatorNotAvailable);
                self.answer_call(site, call.from, call.attempt, answer);
            }
        }
    }

    pub fn serve_call(&mut self, site: usize, call: Call) -> Checked {
        let at: At = (site, self.coordinator_key(call.id));
        self.end_txn_coordinator_if_deposed(at);
        if self.txn_machine(at).is_none() {
            let answer = Err(ErrorCode::NotCoordinator);
            self.answer_call(site, call.from, call.attempt, answer);
            return Ok(());
        }
        if self.now >= call.until {
            let answer = Err(ErrorCode::RequestTooLate);
            self.answer_call(site, call.from, call.attempt, answer);
            return Ok(());
        }
        self.supply_ids(at);
        let now = self.steady(site);
        let age = self.now - call.came.unwrap_or(self.now);
        let began = Time(now.0.saturating_sub(age));
        let (from, attempt) = (call.from, call.attempt);
        let id = transactional_id(call.id);
        let Some(machine) = self.txn_machine(at) else { return Ok(()) };
        let answer = |answer: Answer| Some(Output::Answer(from, attempt, answer));
        let refused = match &call.asked {
            Asked::Init { known, timeout_ms } => {
                let request = InitRequest {
                    transactional_id: &id,
                    timeout_ms: *timeout_ms,
                    version: call.version,
                    known: *known,
                    once: false,
                };
                match machine.init(now, began, request) {
                    Ok(decision) => {
                        let fences = decision.answer.is_err() && !decision.changes.is_empty();
                        self.txn_counts.fences += u64::from(fences);
                        return self.settle_txn(at, decision, None, |given| {
                            answer(given.map(Some).map_err(|error| error.code()))
                        });
                    }
                    Err(error) => error,
                }
            }
            Asked::Add { producer, partition } => {
                let partitions = [named(partition)];
                let request = AddRequest {
                    transactional_id: &id,
                    producer: *producer,
                    version: call.version,
                    partitions: &partitions,
                    groups: &[],
                };
                match machine.add(now, began, request) {
                    Ok(decision) => {
                        return self.settle_txn(at, decision, None, |()| answer(Ok(None)));
                    }
                    Err(error)
                        if error.code() == ErrorCode::ConcurrentTransactions
                            && call.waits_until.is_none_or(|until| self.now < until) =>
                    {
                        let until = call.waits_until.unwrap_or(self.now + COMPLETION_PATIENCE_MS);
                        let call = Call { waits_until: Some(until), ..call };
                        if let Some(coordinator) = self.txn.coordinators.get_mut(&at) {
                            self.txn_counts.adds_that_wait += 1;
                            coordinator.waiting.push(call);
                        }
                        return Ok(());
                    }
                    Err(error) => error,
                }
            }
            Asked::Verify { producer, partition } => {
                let partition = TxnPartition {
                    topic: TOPIC.into(),
                    topic_id: partition.topic_id,
                    partition: partition.partition,
                };
                match machine.verify(&id, *producer, &partition) {
                    Ok(()) => {
                        let nothing = troupe_machines::txn::Decision::default();
                        return self.settle_txn(at, nothing, None, |()| answer(Ok(None)));
                    }
                    Err(error) => error,
                }
            }
            Asked::End { producer, outcome, number } => {
                let request =
                    EndRequest { transactional_id: &id, producer: *producer, outcome: *outcome };
                match machine.end(now, began, request) {
                    Ok(decision) => {
                        self.txn_counts.ends_asked_again += u64::from(decision.changes.is_empty());
                        return self.settle_txn(at, decision, Some(*number), |next| {
                            answer(Ok(Some(next)))
                        });
                    }
                    Err(error) => error,
                }
            }
        };
        self.refused(at, from, attempt, refused.code())
    }

    /// Behind all that is decided and not committed yet: it may rest on that.
    fn refused(&mut self, at: At, from: From, attempt: u64, code: ErrorCode) -> Checked {
        self.txn_counts.fenced_calls += u64::from(code == ErrorCode::ProducerFenced);
        self.txn_counts.overtaken_calls += u64::from(code == ErrorCode::Overtaken);
        let nothing = troupe_machines::txn::Decision::default();
        self.settle_txn(at, nothing, None, |()| Some(Output::Answer(from, attempt, Err(code))))
    }

    /// What has waited for the completion of a transaction is looked at again.
    pub fn serve_waiting(&mut self, at: At) -> Checked {
        let Some(coordinator) = self.txn.coordinators.get_mut(&at) else { return Ok(()) };
        let waiting = std::mem::take(&mut coordinator.waiting);
        waiting.into_iter().try_for_each(|call| self.serve_call(at.0, call))
    }

    pub fn answer_call(&mut self, site: usize, from: From, attempt: u64, answer: Answer) {
        match from {
            From::Client(client) => {
                let known = &self.txn.clients[client];
                let (to, is_deaf) = (known.site, self.now < known.deaf_until);
                let event = TxnEvent::Answered { client, attempt, answer };
                if is_deaf || !self.send(site, to, Event::txn(event)) {
                    self.txn_counts.swallowed_answers += 1;
                }
            }
            From::Gate(to) => {
                self.send(site, to, Event::txn(TxnEvent::GateAnswered { call: attempt, answer }));
            }
        }
    }
}

fn named(partition: &PartitionKey) -> pb::TopicPartition {
    pb::TopicPartition {
        topic: TOPIC.to_owned(),
        partition: partition.partition.0 as i32,
        topic_id: partition.topic_id.to_wire(),
    }
}
