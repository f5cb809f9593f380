//! Markers on their way: from a coordinator's node to the leaders of partitions, and their word that they have them.
//!
//! Of one producer and partition one goes at a time. Where epochs stay from transaction to transaction, as long as it might
//! still be written, and one that comes late is refused: it could end the next transaction.

use super::TxnEvent;
use crate::broker::{Asker, Who};
use crate::clients::Produced;
use crate::settings::Bug;
use crate::violation::Checked;
use crate::world::{At, Event, World};
use troupe_machines::replica::{Effects, MarkerDecision, Replica, Token};
use troupe_machines::txn::planted::Bug as TxnBug;
use troupe_machines::txn::{ClientVersion, Marker, Outcome, Ticket};
use troupe_proto::batch;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, PartitionKey};

/// How long a call may take.
const PATIENCE_MS: u64 = 5_000;

/// For one partition.
pub struct MarkerCall {
    coordinator: At,
    life: u64,
    epoch: LeaderEpoch,
    marker: Marker,
    key: PartitionKey,
    until: u64,
    /// Somebody has answered.
    is_over: bool,
}

pub enum Way {
    UnderWay(u64),
    /// By which coordinator's order: a life, which only grows, and a round.
    Written(u64, Ticket),
}

impl World {
    pub fn send_markers(&mut self, from: At, (life, epoch): (u64, LeaderEpoch), marker: &Marker) {
        for partition in &marker.partitions {
            let key = partition.key();
            let image = self.sites[from.0].broker.as_ref().map(|broker| &broker.image);
            // told again, when somebody leads
            let Some(leader) = image.and_then(|image| image.partition(&key)?.leader) else {
                continue;
            };
            let place = (from.0, marker.producer.id, key);
            let sets_out = match self.txn.ways.get(&place) {
                None => true,
                Some(Way::UnderWay(_)) => false,
                Some(Way::Written(by, ticket)) => (life, marker.ticket) > (*by, *ticket),
            };
            if !sets_out {
                continue;
            }
            let call = self.take_id();
            self.txn.ways.insert(place, Way::UnderWay(call));
            let until = self.now + PATIENCE_MS;
            let (marker, version) = (marker.clone(), marker.version);
            let told =
                MarkerCall { coordinator: from, life, epoch, marker, key, until, is_over: false };
            self.txn.marker_calls.insert(call, told);
            self.txn_counts.markers_sent += 1;
            self.schedule(from.0, PATIENCE_MS, Event::txn(TxnEvent::MarkerTimeout { call }));
            let to = self.site_of(leader);
            // some take long; where that can do no harm, they come twice
            let (is_late, is_first) = (self.net.one_in(20), version == ClientVersion::First);
            if is_late {
                let wait = self.net.between(1, PATIENCE_MS);
                self.schedule(to, wait, Event::txn(TxnEvent::Marker { call }));
            }
            if !is_late || !is_first {
                self.send(from.0, to, Event::txn(TxnEvent::Marker { call }));
            }
        }
    }

    /// A marker arrives at a broker.
    pub fn write_marker(&mut self, site: usize, call: u64) -> Checked {
        let Some(told) = self.txn.marker_calls.get(&call) else { return Ok(()) };
        let (at, until) = ((site, told.key), told.until);
        let (steady, wall) = (self.steady(site), self.wall(site));
        let same_epoch = self.settings.bug == Some(Bug::Txn(TxnBug::EndInTheSameEpoch));
        let version = if same_epoch { ClientVersion::First } else { told.marker.version };
        let producer = told.marker.producer;
        let refuse = |code| Produced::Failed(code);
        if version == ClientVersion::First && self.now >= until {
            self.txn_counts.late_markers_refused += 1;
            self.marker_answered(at, call, refuse(ErrorCode::RequestTooLate));
            return Ok(());
        }
        let marker = batch::Marker {
            committed: told.marker.outcome == Outcome::Commit,
            coordinator_epoch: told.epoch,
        };
        let built = marker.batch(producer.id, producer.epoch, wall.as_timestamp());
        let built = built.expect("it is small");
        let Some(host) = self.host(at) else {
            self.marker_answered(at, call, refuse(ErrorCode::NotLeader));
            return Ok(());
        };
        let decision = match host.replica.decide_marker(wall, &built.header, version) {
            Ok(decision) => decision,
            Err(error) => {
                let fenced = error.code() == ErrorCode::CoordinatorFenced;
                self.txn_counts.fenced_markers += u64::from(fenced);
                let answer = self.failed(error.code());
                self.marker_answered(at, call, answer);
                return Ok(());
            }
        };
        let token = Token(self.take_id());
        let deadline = steady.plus(until.saturating_sub(self.now).max(1));
        let asker = Asker { who: Who::Marker, attempt: call, value: 0, acks_all: false };
        match decision {
            MarkerDecision::Append(header) => {
                let tell = |replica: &mut Replica, now, out: &mut Effects| {
                    replica.on_marker_appended(now, &header, version, token, deadline, out);
                };
                let appended =
                    self.append_decided(at, (token, asker), &header, built.payload, tell)?;
                let Err(error) = appended else { return Ok(()) };
                let answer = self.failed(error.code());
                self.marker_answered(at, call, answer);
                self.append_failed(at, &error)
            }
            MarkerDecision::AlreadyWritten => {
                self.txn_counts.markers_found += 1;
                let Some(host) = self.host(at) else { return Ok(()) };
                host.waiting.insert(token, asker);
                self.drive(at, |replica, now, out| {
                    replica.on_marker_found(now, producer, version, token, deadline, out);
                })
            }
        }
    }

    /// By the partition's leader, on its way back.
    pub fn marker_answered(&mut self, at: At, call: u64, result: Produced) {
        let Some(told) = self.txn.marker_calls.get(&call) else { return };
        let to = told.coordinator.0;
        self.send(at.0, to, Event::txn(TxnEvent::MarkerAnswered { call, result }));
    }

    /// The word of a partition, at the node that has told it.
    pub fn marker_heard(&mut self, site: usize, call: u64, result: Produced) -> Checked {
        let Some(told) = self.txn.marker_calls.get_mut(&call) else { return Ok(()) };
        let (at, life, key) = (told.coordinator, told.life, told.key);
        if std::mem::replace(&mut told.is_over, true) {
            return Ok(());
        }
        let Marker { ticket, transactional_id: id, producer, version, .. } = told.marker.clone();
        let is_first = version == ClientVersion::First;
        let place = (site, producer.id, key);
        if let Produced::Ok(_) = result {
            self.end_txn_coordinator_if_deposed(at);
            let lives = self.txn.coordinators.get(&at).is_some_and(|it| it.life == life);
            let now = self.steady(at.0);
            if let Some(machine) = self.txn_machine(at).filter(|_| lives) {
                let decision = machine.marked(now, &id, ticket, key);
                self.txn_counts.completed += u64::from(!decision.changes.is_empty());
                self.settle_txn(at, decision, None, |()| None)?;
                self.serve_waiting(at)?;
            }
        }
        let of_this = |way: &&mut Way| matches!(way, Way::UnderWay(other) if *other == call);
        if self.txn.ways.get_mut(&place).filter(of_this).is_none() {
            return Ok(());
        }
        match result {
            Produced::Ok(_) if is_first => {
                self.txn.ways.insert(place, Way::Written(life, ticket));
            }
            // it may still be written
            Produced::Unknown if is_first => {}
            Produced::Ok(_) | Produced::Unknown | Produced::Failed(_) => {
                self.txn.ways.remove(&place);
            }
        }
        Ok(())
    }

    /// Whatever is under way of it is not written any more.
    pub fn marker_timed_out(&mut self, call: u64) {
        let Some(told) = self.txn.marker_calls.get(&call) else { return };
        let place = (told.coordinator.0, told.marker.producer.id, told.key);
        if matches!(self.txn.ways.get(&place), Some(Way::UnderWay(other)) if *other == call) {
            self.txn.ways.remove(&place);
        }
    }
}
