//! Markers on their way from coordinators, and what partitions answer.

use super::super::{AppendError, Effects, MarkerDecision, Token};
use super::chance::Violation;
use super::invariants;
use super::transactions::Phase;
use super::world::{Node, World};
use crate::txn::{ClientVersion, Producer};
use std::collections::BTreeMap;
use troupe_proto::batch::Marker;

#[derive(Clone, Debug, Default)]
pub struct Markers {
    /// They may arrive in any order, and more than once.
    under_way: Vec<UnderWay>,
    waiting: BTreeMap<Token, (usize, u64, UnderWay)>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    client: usize,
    number: u32,
    producer: Producer,
    marker: Marker,
    value: u32,
}

impl World {
    /// The coordinator tells once more, or something arrives.
    pub fn marker_step(&mut self, client: usize) -> Result<(), Violation> {
        let state = &self.txn.clients[client];
        if let Phase::Prepared { committed, epoch } = state.phase
            && self.txn.markers.under_way.len() < 8
        {
            self.next_value += 1;
            let coordinator_epoch = self.txn.coordinator_epoch;
            let under_way = UnderWay {
                client,
                number: state.number,
                producer: Producer { id: state.producer.id, epoch },
                marker: Marker { committed, coordinator_epoch },
                value: self.next_value,
            };
            self.ledger.parts.insert(under_way.value, under_way.number);
            self.txn.markers.under_way.push(under_way);
        }
        if self.txn.markers.under_way.is_empty() {
            return Ok(());
        }
        let Some(node) = self.a_leader() else { return Ok(()) };
        let which = self.chance.index(self.txn.markers.under_way.len());
        let told = self.txn.markers.under_way[which];
        let is_late = self.txn.clients[told.client].number != told.number;
        self.stats.late_markers += u64::from(is_late);
        if !self.chance.one_in(3) {
            self.txn.markers.under_way.swap_remove(which);
        }
        self.deliver_marker(node, told)
    }

    fn deliver_marker(&mut self, node: usize, told: UnderWay) -> Result<(), Violation> {
        let (now, deadline) = (self.now, self.now.plus(20_000));
        let version = self.txn.clients[told.client].version;
        self.next_token += 1;
        let token = Token(self.next_token);
        let Producer { id, epoch } = told.producer;
        let built = told.marker.batch(id, epoch, now.as_timestamp()).expect("it is small");
        let mut built = built.header;
        built.payload_crc = told.value;
        let Node { life, replica, log, .. } = &mut self.nodes[node];
        let Some(replica) = replica else { return Ok(()) };
        let mut out = Effects::new();
        self.txn.markers.waiting.insert(token, (node, *life, told));
        match replica.decide_marker(now, &built, version) {
            Ok(MarkerDecision::Append(header)) => {
                invariants::one_leader_per_epoch(&mut self.ledger, node, &header)?;
                log.append(header);
                replica.on_marker_appended(now, &header, version, token, deadline, &mut out);
            }
            Ok(MarkerDecision::AlreadyWritten) => {
                self.stats.markers_again += 1;
                replica.on_marker_found(now, told.producer, version, token, deadline, &mut out);
            }
            Err(error) => {
                self.txn.markers.waiting.remove(&token);
                let fenced = matches!(error, AppendError::CoordinatorFenced { .. });
                self.stats.markers_fenced += u64::from(fenced);
            }
        }
        self.perform(node, out)
    }

    /// Whether a marker has waited for this answer.
    pub fn marker_answered(&mut self, node: usize, token: Token, success: bool) -> bool {
        let Some((asked, life, told)) = self.txn.markers.waiting.remove(&token) else {
            return false;
        };
        assert_eq!((asked, life), (node, self.nodes[node].life), "another replica answers");
        let client = &mut self.txn.clients[told.client];
        let is_prepared = matches!(client.phase, Phase::Prepared { .. });
        if success && is_prepared && client.number == told.number {
            client.phase = Phase::Complete;
            let counter = match told.marker.committed {
                true => &mut self.stats.transactions_committed,
                false => &mut self.stats.transactions_aborted,
            };
            *counter += 1;
            if client.version == ClientVersion::First {
                // One coordinator tells a partition once at a time; of another before it, partitions have to know.
                self.txn.markers.under_way.retain(|other| {
                    other.client != told.client
                        || other.marker.coordinator_epoch < told.marker.coordinator_epoch
                });
            }
        }
        true
    }

    pub fn forget_marker_answers(&mut self, node: usize) {
        self.txn.markers.waiting.retain(|_, (other, ..)| *other != node);
    }

    /// Of what is deleted, nobody knows who coordinated it.
    pub fn forget_late_markers(&mut self) {
        let clients = &self.txn.clients;
        self.txn.markers.under_way.retain(|told| {
            let client = &clients[told.client];
            client.number == told.number && client.phase != Phase::Complete
        });
    }
}
