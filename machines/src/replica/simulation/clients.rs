//! Producers. The idempotent ones send a batch with acks all until they hear that it stands; one without an
//! id writes with acks leader, and never again.

use super::super::{
    Acks, AppendDecision, AppendError, AppendFacts, Appended, ConfirmError, Effects, Origin, Token,
};
use super::chance::Violation;
use super::invariants;
use super::world::{Node, World};
use troupe_proto::batch::{Attributes, ProducerStamp};
use troupe_proto::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

pub const PRODUCERS: usize = 3;

#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What is not acknowledged yet, and whether an answer may come.
    pub outstanding: Option<Outstanding>,
    next_sequence: u32,
    pub acknowledged: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Outstanding {
    stamp: Option<ProducerStamp>,
    count: u32,
    value: u32,
    acks: Acks,
    /// Node, life and token of the attempt that may still be answered.
    waits_for: Option<(usize, u64, Token)>,
}

impl World {
    pub fn client_step(&mut self, client: usize) -> Result<(), Violation> {
        if self.clients[client].outstanding.is_none() {
            self.new_batch(client);
        }
        let Some(outstanding) = self.clients[client].outstanding else { return Ok(()) };
        if outstanding.waits_for.is_some() {
            return Ok(());
        }
        let leaders: Vec<_> = (0..self.nodes.len()).filter(|node| self.leads(*node)).collect();
        if leaders.is_empty() {
            return Ok(());
        }
        let node = leaders[self.chance.index(leaders.len())];
        self.send(client, node, outstanding)
    }

    fn new_batch(&mut self, client: usize) {
        let count = 1 + self.chance.below(3) as u32;
        self.next_value += 1;
        let idempotent = client < PRODUCERS;
        let state = &mut self.clients[client];
        let stamp = idempotent.then_some(ProducerStamp {
            id: ProducerId(client as u64 + 1),
            epoch: ProducerEpoch(0),
            base_sequence: Sequence(state.next_sequence),
        });
        state.next_sequence += count;
        let acks = if idempotent { Acks::All } else { Acks::Leader };
        let value = self.next_value;
        state.outstanding = Some(Outstanding { stamp, count, value, acks, waits_for: None });
    }

    fn send(&mut self, client: usize, node: usize, batch: Outstanding) -> Result<(), Violation> {
        let facts = AppendFacts {
            producer: batch.stamp,
            record_count: batch.count,
            base_timestamp: self.now.as_timestamp(),
            min_timestamp: self.now.as_timestamp(),
            max_timestamp: self.now.as_timestamp(),
            attributes: Attributes::default(),
            payload_crc: batch.value,
            payload_len: 10,
            keyless: false,
            acks: batch.acks,
            expected_leader_epoch: None,
            origin: Origin::Client,
            transaction: None,
            verified: None,
        };
        let (now, deadline) = (self.now, self.now.plus(20_000));
        self.next_token += 1;
        let token = Token(self.next_token);
        let Node { life, replica, log, .. } = &mut self.nodes[node];
        let Some(replica) = replica else { return Ok(()) };
        let decision = match replica.decide_append(now, &facts) {
            Ok(decision) => decision,
            Err(AppendError::NotEnoughReplicas { .. } | AppendError::NotLeader) => return Ok(()),
            // A leader of the past knows less of the producer than the producer itself.
            Err(AppendError::OutOfOrderSequence { .. })
                if replica.leader_epoch() < Some(self.controller.state.leader_epoch) =>
            {
                return Ok(());
            }
            Err(error) => return Err(Violation::new("I4 order", format!("{error}"))),
        };
        if let Some(outstanding) = &mut self.clients[client].outstanding {
            outstanding.waits_for = Some((node, *life, token));
        }
        let mut out = Effects::new();
        match decision {
            AppendDecision::Append(header) => {
                invariants::one_leader_per_epoch(&mut self.ledger, node, &header)?;
                log.append(header);
                replica.on_appended(now, &header, batch.acks, token, deadline, &mut out);
            }
            AppendDecision::Duplicate(duplicate) => {
                let epoch = log.at(duplicate.base_offset).map(|b| b.leader_epoch);
                self.stats.duplicates += 1;
                self.stats.duplicates_after_failover += u64::from(epoch < replica.leader_epoch());
                replica.on_duplicate(now, duplicate, batch.acks, token, deadline, &mut out);
            }
            AppendDecision::Verify(_) => panic!("these have no transactions"),
        }
        self.perform(node, out)
    }

    pub fn answered(
        &mut self,
        node: usize,
        token: Token,
        result: Result<Appended, AppendError>,
    ) -> Result<(), Violation> {
        if self.txn_answered(node, token, result.is_ok())
            || self.marker_answered(node, token, result.is_ok())
        {
            return Ok(());
        }
        let waits = (node, self.nodes[node].life, token);
        let of_this = |client: &&mut Client| {
            client.outstanding.is_some_and(|batch| batch.waits_for == Some(waits))
        };
        let Some(client) = self.clients.iter_mut().find(of_this) else { return Ok(()) };
        let Some(batch) = &mut client.outstanding else { return Ok(()) };
        match result {
            Ok(appended) => {
                let (value, acks) = (batch.value, batch.acks);
                client.outstanding = None;
                client.acknowledged += 1;
                self.acknowledged(node, appended.base_offset, value, acks)
            }
            Err(_) if batch.acks == Acks::Leader => {
                client.outstanding = None;
                Ok(())
            }
            Err(_) => {
                batch.waits_for = None;
                self.stats.unknown_outcomes += 1;
                Ok(())
            }
        }
    }

    /// Somebody reads from a node that believes to lead, rightly or not.
    pub fn ask_a_leader(&mut self) -> Result<(), Violation> {
        let leaders: Vec<_> = (0..self.nodes.len()).filter(|node| self.leads(*node)).collect();
        if leaders.is_empty() {
            return Ok(());
        }
        let node = leaders[self.chance.index(leaders.len())];
        self.next_token += 1;
        let (token, deadline) = (Token(self.next_token), self.now.plus(2_000));
        let question = (node, self.nodes[node].life, self.ledger.acknowledged_end);
        self.questions.insert(token, question);
        self.drive(node, |replica, _, out| replica.confirm(token, deadline, out))
    }

    pub fn confirmed(
        &mut self,
        node: usize,
        token: Token,
        result: Result<(), ConfirmError>,
    ) -> Result<(), Violation> {
        let Some((asked, life, acknowledged)) = self.questions.remove(&token) else {
            let what = format!("{token:?} is answered twice, or was never asked");
            return Err(Violation::new("every question is answered once", what));
        };
        assert_eq!((asked, life), (node, self.nodes[node].life), "another replica answers");
        match result {
            Ok(()) => {
                self.stats.confirmed += 1;
                invariants::confirmed_reads_are_of_now(&self.nodes[node], acknowledged)
            }
            Err(_) => {
                self.stats.unconfirmed += 1;
                Ok(())
            }
        }
    }

    fn acknowledged(
        &mut self,
        node: usize,
        base: Offset,
        value: u32,
        acks: Acks,
    ) -> Result<(), Violation> {
        invariants::fenced_leaders_acknowledge_nothing(&self.nodes[node])?;
        if acks == Acks::All {
            self.stats.acknowledged += 1;
            self.ledger.acknowledged.push((base, value));
            let end = Offset(base.0 + 1).max(self.ledger.acknowledged_end);
            self.ledger.acknowledged_end = end;
            // The high watermark has passed it: what is visible is noted before it is compared.
            self.check_node(node)?;
            invariants::acknowledged_is_committed(&self.ledger, base, value)?;
        }
        Ok(())
    }

    /// The replica is gone, and with it every answer it owed.
    pub fn forget_answers(&mut self, node: usize) {
        self.questions.retain(|_, (asked, ..)| *asked != node);
        self.forget_txn_answers(node);
        self.forget_marker_answers(node);
        for client in &mut self.clients {
            let Some(batch) = &mut client.outstanding else { continue };
            if batch.waits_for.is_some_and(|(other, ..)| other == node) {
                batch.waits_for = None;
                if batch.acks == Acks::Leader {
                    client.outstanding = None;
                }
            }
        }
    }
}
