//! Producers with transactions, one of each version, and who coordinates them: a machine of its own elsewhere, here as
//! little of it as partitions see.
//!
//! A producer may give up a batch of which it has not heard, and end the transaction: then the batch is late. One of the
//! second version has another epoch from then on. One of the first is fenced, as by a timeout; or it goes on in its
//! epoch, if the batch waits for the coordinator's word and nowhere else.

use super::super::{
    Acks, AppendDecision, AppendError, AppendFacts, Effects, Origin, Token, Verification,
};
use super::chance::Violation;
use super::invariants;
use super::world::{Node, World};
use crate::txn::{ClientVersion, Producer};
use troupe_proto::batch::{Attributes, ProducerStamp};
use troupe_proto::ids::{LeaderEpoch, ProducerEpoch, ProducerId, Sequence};

const FIRST_ID: u64 = 100;
const VERSIONS: [ClientVersion; 2] = [ClientVersion::First, ClientVersion::Second];

/// A producer, and what the coordinator knows of its transactions.
#[derive(Clone, Debug)]
pub struct TxnClient {
    pub version: ClientVersion,
    pub producer: Producer,
    next_sequence: u32,
    /// Counts its transactions.
    pub number: u32,
    pub phase: Phase,
    pub outstanding: Option<TxnBatch>,
    /// Given up, and its sequences come again if it is not in the log.
    given_up: Option<TxnBatch>,
}

/// As the coordinator has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Complete,
    Ongoing {
        /// The partition is part of it.
        added: bool,
    },
    /// The marker has this epoch.
    Prepared {
        committed: bool,
        epoch: ProducerEpoch,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnBatch {
    number: u32,
    stamp: ProducerStamp,
    count: u32,
    value: u32,
    /// Some leader has had it in its log.
    is_written: bool,
    waits_for: Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Answer(usize, u64, Token),
    /// It is at the node, and not appended.
    Verification(usize, u64),
}

/// A batch that waits at a leader for the coordinator's word.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    client: usize,
    node: usize,
    life: u64,
    ticket: Verification,
    batch: TxnBatch,
    answer: Option<bool>,
}

/// Of the partition of `__transaction_state`.
#[derive(Clone, Debug, Default)]
pub struct TxnWorld {
    pub clients: Vec<TxnClient>,
    pub coordinator_epoch: LeaderEpoch,
    pub parked: Vec<Parked>,
    pub markers: super::markers::Markers,
}

impl TxnWorld {
    pub fn new() -> TxnWorld {
        let client = |(n, version)| TxnClient {
            version,
            producer: Producer { id: ProducerId(FIRST_ID + n), epoch: ProducerEpoch(0) },
            next_sequence: 0,
            number: 0,
            phase: Phase::Complete,
            outstanding: None,
            given_up: None,
        };
        TxnWorld { clients: (0..).zip(VERSIONS).map(client).collect(), ..TxnWorld::default() }
    }

    pub fn is_idle(&self) -> bool {
        let idle = |it: &TxnClient| it.phase == Phase::Complete && it.outstanding.is_none();
        self.clients.iter().all(idle) && self.parked.is_empty()
    }
}

impl World {
    pub fn transaction_step(&mut self) -> Result<(), Violation> {
        let client = self.chance.index(self.txn.clients.len());
        match self.chance.below(16) {
            0..=8 => self.txn_client_step(client, false),
            9..=10 => {
                self.coordinator_answers();
                Ok(())
            }
            11..=12 => self.deliver_verification(),
            13 => {
                if self.chance.one_in(4) {
                    self.txn.coordinator_epoch.0 += 1;
                    self.stats.coordinators += 1;
                }
                Ok(())
            }
            _ => self.marker_step(client),
        }
    }

    /// Nothing new is begun, and what is open ends.
    pub fn heal_transactions(&mut self) -> Result<(), Violation> {
        for client in 0..self.txn.clients.len() {
            if self.txn.clients[client].phase != Phase::Complete {
                self.txn_client_step(client, true)?;
            }
            self.coordinator_answers();
            self.deliver_verification()?;
            self.marker_step(client)?;
        }
        Ok(())
    }

    fn txn_client_step(&mut self, client: usize, healing: bool) -> Result<(), Violation> {
        let state = &mut self.txn.clients[client];
        match (state.phase, state.outstanding) {
            (Phase::Complete, _) => {
                if let Some(batch) = state.given_up.take()
                    && !self.ledger.committed.values().any(|it| it.payload_crc == batch.value)
                {
                    state.next_sequence = batch.stamp.base_sequence.0;
                }
                state.number += 1;
                state.phase = Phase::Ongoing { added: false };
            }
            (Phase::Prepared { .. }, _) => {}
            (Phase::Ongoing { .. }, None) => {
                if healing || self.chance.one_in(4) {
                    let committed = self.chance.one_in(2);
                    self.end_transaction(client, committed, false);
                } else {
                    self.new_txn_batch(client);
                }
            }
            (Phase::Ongoing { .. }, Some(batch)) => {
                if !healing && self.chance.one_in(12) {
                    self.give_up(client, batch);
                } else if batch.waits_for == Waits::Nothing {
                    return self.send_txn_batch(client, batch);
                }
            }
        }
        Ok(())
    }

    fn new_txn_batch(&mut self, client: usize) {
        let count = 1 + self.chance.below(3) as u32;
        self.next_value += 1;
        let value = self.next_value;
        let state = &mut self.txn.clients[client];
        let Producer { id, epoch } = state.producer;
        let stamp = ProducerStamp { id, epoch, base_sequence: Sequence(state.next_sequence) };
        state.next_sequence += count;
        let (number, waits_for) = (state.number, Waits::Nothing);
        state.outstanding =
            Some(TxnBatch { number, stamp, count, value, is_written: false, waits_for });
        self.ledger.parts.insert(value, number);
    }

    fn give_up(&mut self, client: usize, batch: TxnBatch) {
        let state = &mut self.txn.clients[client];
        state.outstanding = None;
        let is_parked = matches!(batch.waits_for, Waits::Verification(..)) && !batch.is_written;
        let is_first = state.version == ClientVersion::First;
        let goes_on = is_first && is_parked && !self.chance.one_in(4);
        if goes_on {
            state.given_up = Some(batch);
        }
        self.stats.batches_abandoned += 1;
        self.end_transaction(client, false, is_first && !goes_on);
    }

    /// With the first version the epoch stays, unless the producer is `fenced`.
    fn end_transaction(&mut self, client: usize, committed: bool, fenced: bool) {
        let state = &mut self.txn.clients[client];
        if state.version == ClientVersion::Second || fenced {
            state.producer.epoch.0 += 1;
            state.next_sequence = 0;
        }
        self.ledger.decided.insert((state.producer.id, state.number), committed);
        let epoch = state.producer.epoch;
        state.phase = match state.phase {
            Phase::Ongoing { added: true } => Phase::Prepared { committed, epoch },
            _ => Phase::Complete,
        };
    }

    pub fn a_leader(&mut self) -> Option<usize> {
        let leaders: Vec<_> = (0..self.nodes.len()).filter(|node| self.leads(*node)).collect();
        (!leaders.is_empty()).then(|| leaders[self.chance.index(leaders.len())])
    }

    fn send_txn_batch(&mut self, client: usize, batch: TxnBatch) -> Result<(), Violation> {
        let Some(node) = self.a_leader() else { return Ok(()) };
        let facts = self.txn_facts(client, &batch, None);
        match self.try_append(client, node, batch, &facts)? {
            Ok(()) => {}
            Err(AppendError::NotEnoughReplicas { .. } | AppendError::NotLeader) => {}
            // A leader of the past knows less of the producer than the producer itself.
            Err(
                AppendError::OutOfOrderSequence { .. } | AppendError::EarlierTransactionOpen { .. },
            ) if self.is_of_the_past(node) => {}
            Err(error) => {
                return Err(Violation::new("I4 order, of a transaction", format!("{error}")));
            }
        }
        Ok(())
    }

    fn is_of_the_past(&self, node: usize) -> bool {
        let leads_in = self.nodes[node].replica.as_ref().and_then(|replica| replica.leader_epoch());
        leads_in < Some(self.controller.state.leader_epoch)
    }

    fn txn_facts(
        &self,
        client: usize,
        batch: &TxnBatch,
        verified: Option<Verification>,
    ) -> AppendFacts {
        let timestamp = self.now.as_timestamp();
        AppendFacts {
            producer: Some(batch.stamp),
            record_count: batch.count,
            base_timestamp: timestamp,
            min_timestamp: timestamp,
            max_timestamp: timestamp,
            attributes: Attributes::default().with_transactional(true),
            payload_crc: batch.value,
            payload_len: 10,
            keyless: false,
            acks: Acks::All,
            expected_leader_epoch: None,
            origin: Origin::Client,
            transaction: Some(self.txn.clients[client].version),
            verified,
        }
    }

    fn try_append(
        &mut self,
        client: usize,
        node: usize,
        batch: TxnBatch,
        facts: &AppendFacts,
    ) -> Result<Result<(), AppendError>, Violation> {
        let (now, deadline) = (self.now, self.now.plus(20_000));
        self.next_token += 1;
        let token = Token(self.next_token);
        let Node { life, replica, log, .. } = &mut self.nodes[node];
        let Some(replica) = replica else { return Ok(Err(AppendError::NotLeader)) };
        let life = *life;
        let mut out = Effects::new();
        match replica.decide_append(now, facts) {
            Err(error) => return Ok(Err(error)),
            Ok(AppendDecision::Verify(producer)) => {
                let ticket = replica.begin_verifying(producer);
                let parked = Parked { client, node, life, ticket, batch, answer: None };
                self.txn.parked.push(parked);
                self.set_waits(client, &batch, Waits::Verification(node, life));
                return Ok(Ok(()));
            }
            Ok(AppendDecision::Append(header)) => {
                invariants::one_leader_per_epoch(&mut self.ledger, node, &header)?;
                log.append(header);
                replica.on_appended(now, &header, Acks::All, token, deadline, &mut out);
            }
            Ok(AppendDecision::Duplicate(duplicate)) => {
                replica.on_duplicate(now, duplicate, Acks::All, token, deadline, &mut out);
            }
        }
        // The answer may come at once.
        self.set_waits(client, &batch, Waits::Answer(node, life, token));
        self.perform(node, out)?;
        Ok(Ok(()))
    }

    fn coordinator_answers(&mut self) {
        if self.txn.parked.is_empty() {
            return;
        }
        let which = self.chance.index(self.txn.parked.len());
        let TxnWorld { clients, parked, .. } = &mut self.txn;
        let asked = &mut parked[which];
        let client = &mut clients[asked.client];
        if asked.answer.is_some() {
            return;
        }
        // Of the first version a late request looks like one of now; that it is none is not up to partitions.
        let is_its = client.number == asked.batch.number;
        let adds = is_its
            && client.producer.epoch == asked.batch.stamp.epoch
            && matches!(client.phase, Phase::Ongoing { .. });
        if adds {
            client.phase = Phase::Ongoing { added: true };
        }
        asked.answer = Some(adds);
    }

    fn deliver_verification(&mut self) -> Result<(), Violation> {
        let answered: Vec<_> = (0..self.txn.parked.len())
            .filter(|which| self.txn.parked[*which].answer.is_some())
            .filter(|which| !self.nodes[self.txn.parked[*which].node].is_paused)
            .collect();
        if answered.is_empty() {
            return Ok(());
        }
        let which = answered[self.chance.index(answered.len())];
        let Parked { client, node, life, ticket, batch, answer } = self.txn.parked.remove(which);
        self.set_waits(client, &batch, Waits::Nothing);
        if self.nodes[node].life != life {
            return Ok(());
        }
        let Some(replica) = &mut self.nodes[node].replica else { return Ok(()) };
        if answer != Some(true) {
            let ProducerStamp { id, epoch, .. } = batch.stamp;
            replica.end_verifying(Producer { id, epoch }, ticket);
            return Ok(());
        }
        let facts = self.txn_facts(client, &batch, Some(ticket));
        match self.try_append(client, node, batch, &facts)? {
            Ok(()) => {}
            Err(error) => {
                let voided = matches!(error, AppendError::TransactionEnded { .. });
                self.stats.verifications_voided += u64::from(voided);
            }
        }
        Ok(())
    }

    fn set_waits(&mut self, client: usize, batch: &TxnBatch, waits_for: Waits) {
        if let Some(outstanding) = &mut self.txn.clients[client].outstanding
            && outstanding.value == batch.value
        {
            outstanding.waits_for = waits_for;
            outstanding.is_written |= matches!(waits_for, Waits::Answer(..));
        }
    }

    /// Whether a batch of a transaction has waited for this answer.
    pub fn txn_answered(&mut self, node: usize, token: Token, success: bool) -> bool {
        let waits_for = Waits::Answer(node, self.nodes[node].life, token);
        let of_this = |client: &&mut TxnClient| {
            client.outstanding.is_some_and(|batch| batch.waits_for == waits_for)
        };
        let Some(client) = self.txn.clients.iter_mut().find(of_this) else { return false };
        match &mut client.outstanding {
            Some(batch) if !success => batch.waits_for = Waits::Nothing,
            outstanding => *outstanding = None,
        }
        true
    }

    /// The replica is gone, and with it every answer that it owed.
    pub fn forget_txn_answers(&mut self, node: usize) {
        self.txn.parked.retain(|parked| parked.node != node);
        for client in &mut self.txn.clients {
            let Some(batch) = &mut client.outstanding else { continue };
            match batch.waits_for {
                Waits::Answer(other, ..) | Waits::Verification(other, _) if other == node => {
                    batch.waits_for = Waits::Nothing;
                }
                _ => {}
            }
        }
    }
}
