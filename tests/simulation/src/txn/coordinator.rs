//! A coordinator of transactions: the machine on the log of a partition that is led here, in the epoch in which it was
//! loaded.
//!
//! What was decided is appended and replayed at once; what is said about it waits, in order, until it is committed. An
//! append that fails, or another leader, and it ends with all that waits.

use super::calls::{Answer, Call, From};
use super::settings::TxnHostBug;
use super::{Number, TxnEvent};
use crate::broker::{Asker, Who};
use crate::clients::{Outcome, Produced};
use crate::coordination::Parked;
use crate::violation::{Checked, Violation};
use crate::world::{At, Event, TOPIC, World};
use std::sync::Arc;
use troupe_machines::group::{Catalog, CatalogTopic};
use troupe_machines::txn::{Change, Decision, Marker, Settings, Transactions};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, MetadataOffset, Offset, ProducerId};

pub struct Coordinator {
    /// Of which life of the replica, and in which of its epochs.
    host: u64,
    pub epoch: LeaderEpoch,
    /// Its own life: markers of another one say nothing here.
    pub life: u64,
    /// Everything below has to be committed before it is loaded.
    load_end: Offset,
    /// `None`: it is not loaded yet.
    pub machine: Option<Transactions>,
    catalog: MetadataOffset,
    parked: Parked<Output>,
    /// What is to become part of a transaction while the one before is being completed.
    pub waiting: Vec<Call>,
}

/// What leaves a coordinator.
pub enum Output {
    Marker(Marker),
    Answer(From, u64, Answer),
}

impl World {
    pub fn txn_coordinator_tick(&mut self, site: usize) -> Checked {
        let wait = self.net.between(30, 90);
        self.schedule(site, wait, Event::txn(TxnEvent::CoordinatorTick));
        let Some(broker) = &self.sites[site].broker else { return Ok(()) };
        for key in crate::truth::keys(&broker.image) {
            if self.is_of_coordinator(&key) {
                self.tend_txn_coordinator((site, key))?;
            }
        }
        Ok(())
    }

    fn tend_txn_coordinator(&mut self, at: At) -> Checked {
        self.end_txn_coordinator_if_deposed(at);
        let Some((host, epoch)) = self.leadership(at) else { return Ok(()) };
        let Some(seen) = self.see_host(at) else { return Ok(()) };
        let (high_watermark, log_end) = (seen.replica.high_watermark(), seen.replica.log_end());
        if !self.txn.coordinators.contains_key(&at) {
            if self.txn.rest_until.get(&at).is_some_and(|until| self.now < *until) {
                return Ok(());
            }
            let early = self.settings.has_txn_bug(TxnHostBug::LoadTooEarly);
            let load_end = if early { high_watermark } else { log_end };
            let life = self.take_id();
            self.txn.coordinators.insert(
                at,
                Coordinator {
                    host,
                    epoch,
                    life,
                    load_end,
                    machine: None,
                    catalog: MetadataOffset(0),
                    parked: Parked::new(),
                    waiting: Vec::new(),
                },
            );
        }
        let Some(coordinator) = self.txn.coordinators.get_mut(&at) else { return Ok(()) };
        if coordinator.machine.is_none() {
            let loads = high_watermark >= coordinator.load_end;
            return if loads { self.load_txn_coordinator(at) } else { Ok(()) };
        }
        self.update_txn_catalog(at)?;
        let now = self.steady(at.0);
        let due = |machine: &mut Transactions| machine.next_deadline().is_some_and(|it| it <= now);
        if self.txn_machine(at).is_some_and(due) {
            let decision = self.txn_machine(at).map(|machine| machine.on_time(now));
            if let Some(decision) = decision {
                self.txn_counts.time_outs += u64::from(!decision.changes.is_empty());
                self.txn_counts.markers_told_again +=
                    u64::from(decision.changes.is_empty() && !decision.markers.is_empty());
                self.settle_txn(at, decision, None, |()| None)?;
            }
        }
        self.serve_waiting(at)
    }

    /// The machine of a coordinator that serves.
    pub fn txn_machine(&mut self, at: At) -> Option<&mut Transactions> {
        self.txn.coordinators.get_mut(&at)?.machine.as_mut()
    }

    /// It belongs to a replica that does not lead any more, or not in that epoch.
    pub fn end_txn_coordinator_if_deposed(&mut self, at: At) {
        let Some(coordinator) = self.txn.coordinators.get(&at) else { return };
        let place = (coordinator.host, coordinator.epoch);
        if self.leadership(at) != Some(place) {
            self.end_txn_coordinator(at);
        }
    }

    fn load_txn_coordinator(&mut self, at: At) -> Checked {
        let mut machine = Transactions::new(Settings::default());
        if let Some(crate::settings::Bug::Txn(bug)) = self.settings.bug {
            machine.plant(bug);
        }
        let changes = self.read_changes(at, Change::decode)?;
        for change in &changes {
            let replayed = machine.replay(change);
            replayed.map_err(|error| Violation::new("X6 the log replays", error.to_string()))?;
        }
        machine.loaded(self.steady(at.0));
        let facts = [at.0 as u64, at.1.partition.0.into(), changes.len() as u64, 0];
        self.trace.note(self.now, "txn coordinator", facts);
        self.txn_counts.coordinators_loaded += 1;
        let counts = machine.counts();
        self.txn_counts.loaded_with_open += u64::from(counts.open > 0);
        self.txn_counts.loaded_with_prepared += u64::from(counts.markers > 0);
        let Some(coordinator) = self.txn.coordinators.get_mut(&at) else { return Ok(()) };
        coordinator.machine = Some(machine);
        self.update_txn_catalog(at)
    }

    /// Topics as this broker knows them.
    fn update_txn_catalog(&mut self, at: At) -> Checked {
        let Some(broker) = &self.sites[at.0].broker else { return Ok(()) };
        let known = broker.image.next_offset();
        let Some(topic) = broker.image.topic(TOPIC) else { return Ok(()) };
        let entry = CatalogTopic {
            id: topic.id,
            partitions: topic.partitions.len() as u32,
            internal: false,
        };
        let catalog = Catalog { topics: [(topic.name.clone(), entry)].into() };
        let now = self.steady(at.0);
        let Some(coordinator) = self.txn.coordinators.get_mut(&at) else { return Ok(()) };
        let Some(machine) = coordinator.machine.as_mut() else { return Ok(()) };
        if coordinator.catalog == known {
            return Ok(());
        }
        coordinator.catalog = known;
        machine.set_catalog(Arc::new(catalog));
        let decision = machine.catalog_changed(now);
        self.settle_txn(at, decision, None, |()| None)
    }

    /// Producer ids that nobody has had.
    pub fn supply_ids(&mut self, at: At) {
        let Some(machine) = self.txn.coordinators.get_mut(&at).and_then(|it| it.machine.as_mut())
        else {
            return;
        };
        if machine.spare_ids() < 2 {
            let first = self.txn.last_producer_id + 1;
            self.txn.last_producer_id += 4;
            machine.supply((first..first + 4).map(ProducerId));
        }
    }

    /// Appends what was decided, and gives the rest out when that is committed. `ends`: the transaction that whoever
    /// asked wants to end.
    pub fn settle_txn<T>(
        &mut self,
        at: At,
        decision: Decision<T>,
        ends: Option<Number>,
        answer: impl FnOnce(T) -> Option<Output>,
    ) -> Checked {
        let early = self.settings.has_txn_bug(TxnHostBug::AnswerBeforeCommitted);
        let now = self.steady(at.0);
        let Some(machine) = self.txn_machine(at) else { return Ok(()) };
        for change in &decision.changes {
            let replayed = machine.replay(change);
            replayed.map_err(|error| Violation::new("a decision replays", error.to_string()))?;
        }
        machine.note_decided(now, &decision.changes);
        let mut outputs: Vec<Output> = decision.markers.into_iter().map(Output::Marker).collect();
        outputs.extend(answer(decision.answer));
        let parts = self.split(decision.changes);
        let batches: Vec<_> = parts.into_iter().map(|changes| (self.take_id(), changes)).collect();
        let waits_for = batches.iter().map(|(attempt, _)| *attempt).filter(|_| !early).collect();
        let Some(coordinator) = self.txn.coordinators.get_mut(&at) else { return Ok(()) };
        coordinator.parked.park(waits_for, outputs);
        for (attempt, changes) in batches {
            if !self.append_txn_batch(at, attempt, changes, ends)? {
                self.txn_counts.refused_appends += 1;
                self.end_txn_coordinator(at);
                return Ok(());
            }
        }
        self.give_out_txn(at);
        Ok(())
    }

    /// False: it was refused.
    fn append_txn_batch(
        &mut self,
        at: At,
        attempt: u64,
        changes: Vec<Change>,
        ends: Option<Number>,
    ) -> Checked<bool> {
        let value = self.take_id();
        let records: Vec<_> = changes.iter().map(Change::encode).collect();
        self.txn.batches.insert(value, (changes, ends));
        let Some(epoch) = self.txn.coordinators.get(&at).map(|known| known.epoch) else {
            return Ok(false);
        };
        self.append_changes(at, epoch, (Who::TxnCoordinator, attempt, value), &records)
    }

    /// The replica says what became of an append.
    pub fn txn_batch_answered(&mut self, at: At, asker: &Asker, result: Produced) {
        let outcome = Outcome::from(result);
        if let Some(ledger) = self.ledgers.get_mut(&at.1) {
            ledger.concluded(asker.value, outcome);
        }
        let Some(coordinator) = self.txn.coordinators.get_mut(&at) else { return };
        if !coordinator.parked.answered(asker.attempt) {
            return;
        }
        if outcome == Outcome::Ok {
            self.give_out_txn(at);
        } else {
            self.txn_counts.failed_appends += 1;
            self.end_txn_coordinator(at);
        }
    }

    /// Whatever waits for nothing any more, in order.
    fn give_out_txn(&mut self, at: At) {
        loop {
            let Some(coordinator) = self.txn.coordinators.get_mut(&at) else { return };
            let Some(outputs) = coordinator.parked.next() else { return };
            let (life, epoch) = (coordinator.life, coordinator.epoch);
            for output in outputs {
                match output {
                    Output::Marker(marker) => self.send_markers(at, (life, epoch), &marker),
                    Output::Answer(from, attempt, answer) => {
                        let answer = if self.coordinates(at, epoch) {
                            answer
                        } else {
                            self.txn_counts.refusals_of_the_past += u64::from(answer.is_err());
                            answer.map_err(|_| ErrorCode::NotCoordinator)
                        };
                        self.answer_call(at.0, from, attempt, answer);
                    }
                }
            }
        }
    }

    /// Whether it has not been replaced yet, as its in-sync replicas would say: no refusal may rest on what was.
    fn coordinates(&self, at: At, epoch: LeaderEpoch) -> bool {
        self.truth.partition(&at.1).is_some_and(|partition| partition.leader_epoch == epoch)
    }

    /// The actor is gone, with all that waits; those who can be told are told.
    pub fn end_txn_coordinator(&mut self, at: At) {
        let Some(coordinator) = self.txn.coordinators.remove(&at) else { return };
        let wait = self.net.between(10, 400);
        self.txn.rest_until.insert(at, self.now + wait);
        self.trace.note(self.now, "txn coordinator ends", [at.0 as u64, 0, 0, 0]);
        self.txn_counts.coordinators_ended += u64::from(coordinator.machine.is_some());
        for call in coordinator.waiting {
            let answer = Err(ErrorCode::NotCoordinator);
            self.answer_call(at.0, call.from, call.attempt, answer);
        }
        for output in coordinator.parked.into_outputs() {
            match output {
                Output::Answer(from, attempt, _) if self.net.one_in(2) => {
                    self.txn_counts.unknown_answers += 1;
                    self.answer_call(at.0, from, attempt, Err(ErrorCode::OutcomeUnknown));
                }
                Output::Answer(..) | Output::Marker(_) => {}
            }
        }
    }
}
