//! The first batch of a transaction at a partition: it waits for the word of the coordinator, and all later ones of its
//! producer behind it, as a partition's actor has them wait.

use super::TxnEvent;
use super::calls::{Answer, Asked, Call, From};
use crate::broker::Who;
use crate::clients::{ProduceRequest, Produced};
use crate::violation::Checked;
use crate::world::{At, Event, World};
use std::collections::VecDeque;
use troupe_machines::replica::{Role, Verification};
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::error::ErrorCode;

/// How long the coordinator is looked for.
const PATIENCE_MS: u64 = 10_000;

/// The coordinator was asked for the first of these; the others are behind it.
pub struct Verifying {
    call: u64,
    ticket: Verification,
    waiting: VecDeque<ProduceRequest>,
}

/// A question that is under way.
pub struct GateCall {
    at: At,
    host: u64,
    producer: Producer,
    id: usize,
    version: ClientVersion,
    came: u64,
}

impl World {
    /// Given back: a batch that need not wait.
    pub fn waits_behind(&mut self, site: usize, request: ProduceRequest) -> Option<ProduceRequest> {
        let id = request.header.producer.map(|stamp| stamp.id);
        let host = self.host((site, request.key));
        match id.and_then(|id| host?.verifications.get_mut(&id)) {
            Some(verifying) => {
                verifying.waiting.push_back(request);
                self.txn_counts.batches_behind += 1;
                None
            }
            None => Some(request),
        }
    }

    /// Has the coordinator asked.
    pub fn verify(&mut self, at: At, producer: Producer, request: ProduceRequest) {
        let Who::Transactional(client) = request.who else { return };
        let (id, version) = (self.txn.clients[client].id, self.txn.clients[client].version);
        let (call, patience) = (self.take_id(), self.whim.between(300, 3_000));
        let Some(host) = self.host(at) else { return };
        let ticket = host.replica.begin_verifying(producer);
        let waiting = VecDeque::from([request]);
        let life = host.id;
        host.verifications.insert(producer.id, Verifying { call, ticket, waiting });
        self.txn_counts.verifications += 1;
        let asked = GateCall { at, host: life, producer, id, version, came: self.now };
        self.txn.gate_calls.insert(call, asked);
        self.schedule(at.0, patience, Event::txn(TxnEvent::GateTimeout { call }));
        self.ask_for_gate(call);
    }

    /// Once, and again until somebody answers.
    pub fn ask_for_gate(&mut self, call: u64) {
        let Some(gate) = self.txn.gate_calls.get(&call) else { return };
        let (at, until) = (gate.at, gate.came + PATIENCE_MS);
        let (producer, partition) = (gate.producer, gate.at.1);
        let asked = match gate.version {
            ClientVersion::First => Asked::Verify { producer, partition },
            ClientVersion::Second => Asked::Add { producer, partition },
        };
        let request = Call {
            from: From::Gate(at.0),
            attempt: call,
            id: gate.id,
            version: gate.version,
            came: Some(gate.came),
            until,
            waits_until: None,
            asked,
        };
        if self.now >= until {
            return;
        }
        let key = self.coordinator_key(request.id);
        let image = self.sites[at.0].broker.as_ref().map(|broker| &broker.image);
        let leader = image.and_then(|image| image.partition(&key)?.leader);
        if let Some(to) = leader.map(|leader| self.site_of(leader)) {
            self.send(at.0, to, Event::txn(TxnEvent::ToCoordinator(Box::new(request))));
        }
        let wait = self.net.between(200, 700);
        self.schedule(at.0, wait, Event::txn(TxnEvent::GateRetry { call }));
    }

    pub fn gate_answered(&mut self, site: usize, call: u64, answer: Answer) -> Checked {
        match answer {
            // somebody else coordinates, or will soon
            Err(
                ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::OutcomeUnknown,
            ) => Ok(()),
            answer => self.verified(site, call, answer),
        }
    }

    /// Also if the word comes later: it is of no use then.
    pub fn gate_timed_out(&mut self, site: usize, call: u64) -> Checked {
        self.verified(site, call, Err(ErrorCode::CoordinatorNotAvailable))
    }

    fn verified(&mut self, site: usize, call: u64, answer: Answer) -> Checked {
        let Some(gate) = self.txn.gate_calls.remove(&call) else { return Ok(()) };
        let (at, producer) = (gate.at, gate.producer);
        let Some(host) = self.host(at).filter(|host| host.id == gate.host) else { return Ok(()) };
        let is_this = |known: &&mut Verifying| known.call == call;
        if host.verifications.get_mut(&producer.id).filter(is_this).is_none() {
            return Ok(());
        }
        let Some(verifying) = host.verifications.remove(&producer.id) else { return Ok(()) };
        let Verifying { ticket, mut waiting, .. } = verifying;
        match answer {
            Ok(_) => {
                if let Some(first) = waiting.pop_front() {
                    self.decide_append(site, first, Some(ticket))?;
                }
            }
            Err(code) => {
                host.replica.end_verifying(producer, ticket);
                self.txn_counts.batches_not_verified += 1;
                for request in waiting.drain(..) {
                    let answer = Produced::Failed(code);
                    self.answer_producer(site, request.who, request.attempt, answer);
                }
            }
        }
        for request in waiting {
            // one before it may be waiting again
            if let Some(request) = self.waits_behind(site, request) {
                self.decide_append(site, request, None)?;
            }
        }
        Ok(())
    }

    /// Who leads no more has nothing to wait for.
    pub fn give_up_verifications(&mut self, at: At) {
        let Some(host) = self.host(at) else { return };
        if host.verifications.is_empty() || host.replica.role() == Role::Leader {
            return;
        }
        for verifying in std::mem::take(&mut host.verifications).into_values() {
            self.txn.gate_calls.remove(&verifying.call);
            for request in verifying.waiting {
                let answer = Produced::Failed(ErrorCode::NotLeader);
                self.answer_producer(at.0, request.who, request.attempt, answer);
            }
        }
    }
}
