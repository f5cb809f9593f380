//! A coordinator: the machine on the log of a partition that is led here, in the epoch in which it was loaded.
//!
//! What was decided is appended and replayed at once; what is said about it waits, in order, until it is
//! committed. An append that fails, or another leader, and it ends with all that waits.

use super::GroupEvent;
use super::committed::{Batch, Committer};
use super::settings::{GroupHostBug, GroupSettings};
use super::streams::Down;
use crate::broker::{Asker, Who};
use crate::clients::{Outcome, Produced};
use crate::coordination::Parked;
use crate::violation::{Checked, Violation};
use crate::world::{At, Event, World};
use std::collections::BTreeSet;
use std::sync::Arc;
use troupe_machines::group::{
    Catalog, CatalogTopic, Change, Decision, GroupError, Groups, Push, SessionId,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, MetadataOffset, Offset};
use troupe_proto::log::v1 as pb;

pub struct Coordinator {
    /// Of which life of the replica, and in which of its epochs.
    host: u64,
    epoch: LeaderEpoch,
    /// Everything below has to be committed before it is loaded.
    load_end: Offset,
    /// `None`: it is not loaded yet.
    pub groups: Option<Groups>,
    catalog: MetadataOffset,
    parked: Parked<Output>,
    pub sessions: BTreeSet<u64>,
}

/// What leaves a coordinator.
pub enum Output {
    Push(Push),
    End(SessionId, GroupError),
    Committed { member: usize, attempt: u64, result: pb::CommitOffsetsResponse },
    Fetched { member: usize, attempt: u64, result: Result<pb::FetchOffsetsResponse, ErrorCode> },
}

impl World {
    pub fn coordinator_tick(&mut self, site: usize) -> Checked {
        let wait = self.net.between(30, 90);
        self.schedule(site, wait, Event::groups(GroupEvent::CoordinatorTick));
        let Some(broker) = &self.sites[site].broker else { return Ok(()) };
        for key in crate::truth::keys(&broker.image) {
            self.tend_coordinator((site, key))?;
        }
        Ok(())
    }

    fn tend_coordinator(&mut self, at: At) -> Checked {
        self.end_if_deposed(at);
        let Some((host, epoch)) = self.leadership(at) else { return Ok(()) };
        let Some(seen) = self.see_host(at) else { return Ok(()) };
        let (high_watermark, log_end) = (seen.replica.high_watermark(), seen.replica.log_end());
        if !self.groups.coordinators.contains_key(&at) {
            if self.groups.rest_until.get(&at).is_some_and(|until| self.now < *until) {
                return Ok(());
            }
            let early = self.settings.has_group_bug(GroupHostBug::LoadTooEarly);
            let load_end = if early { high_watermark } else { log_end };
            self.groups.coordinators.insert(
                at,
                Coordinator {
                    host,
                    epoch,
                    load_end,
                    groups: None,
                    catalog: MetadataOffset(0),
                    parked: Parked::new(),
                    sessions: BTreeSet::new(),
                },
            );
        }
        let Some(coordinator) = self.groups.coordinators.get(&at) else { return Ok(()) };
        if coordinator.groups.is_none() {
            let loads = high_watermark >= coordinator.load_end;
            return if loads { self.load_coordinator(at) } else { Ok(()) };
        }
        self.update_catalog(at)?;
        let now = self.steady(at.0);
        let due = |groups: &mut Groups| groups.next_deadline().is_some_and(|next| next <= now);
        if self.machine(at).is_some_and(due) {
            let decision = self.machine(at).map(|groups| groups.on_time(now));
            if let Some(decision) = decision {
                let expires = !decision.changes.is_empty();
                self.group_counts.time_outs += u64::from(expires);
                self.settle_groups(at, decision, None, |()| None)?;
            }
        }
        Ok(())
    }

    /// The machine of a coordinator that serves.
    pub fn machine(&mut self, at: At) -> Option<&mut Groups> {
        self.groups.coordinators.get_mut(&at)?.groups.as_mut()
    }

    /// It belongs to a replica that does not lead any more, or not in that epoch.
    pub fn end_if_deposed(&mut self, at: At) {
        let Some(coordinator) = self.groups.coordinators.get(&at) else { return };
        let place = (coordinator.host, coordinator.epoch);
        if self.leadership(at) != Some(place) {
            self.end_coordinator(at);
        }
    }

    fn load_coordinator(&mut self, at: At) -> Checked {
        let mut groups = Groups::new(
            self.settings.groups.as_ref().map(GroupSettings::machine).unwrap_or_default(),
        );
        if let Some(crate::settings::Bug::Group(bug)) = self.settings.bug {
            groups.plant(bug);
        }
        let changes = self.read_changes(at, Change::decode)?;
        for change in &changes {
            let replayed = groups.replay(change);
            replayed.map_err(|error| Violation::new("a group's log replays", error.to_string()))?;
        }
        let now = self.steady(at.0);
        groups.loaded(now);
        self.trace.note(
            self.now,
            "coordinator",
            [at.0 as u64, at.1.partition.0.into(), changes.len() as u64, 0],
        );
        self.group_counts.coordinators_loaded += 1;
        let Some(coordinator) = self.groups.coordinators.get_mut(&at) else { return Ok(()) };
        coordinator.groups = Some(groups);
        self.update_catalog(at)
    }

    /// Topics as this broker knows them.
    fn update_catalog(&mut self, at: At) -> Checked {
        let Some(broker) = &self.sites[at.0].broker else { return Ok(()) };
        let known = broker.image.next_offset();
        let topics = broker.image.topics().map(|topic| {
            let entry = CatalogTopic {
                id: topic.id,
                partitions: topic.partitions.len() as u32,
                internal: *topic.name == *crate::world::TOPIC,
            };
            (topic.name.clone(), entry)
        });
        let catalog = Catalog { topics: topics.collect() };
        let now = self.steady(at.0);
        let Some(coordinator) = self.groups.coordinators.get_mut(&at) else { return Ok(()) };
        let Some(groups) = coordinator.groups.as_mut() else { return Ok(()) };
        if coordinator.catalog == known {
            return Ok(());
        }
        coordinator.catalog = known;
        groups.set_catalog(Arc::new(catalog));
        let decision = groups.catalog_changed(now);
        self.settle_groups(at, decision, None, |()| None)
    }

    /// Appends what was decided, and gives the rest out when that is committed.
    pub fn settle_groups<T>(
        &mut self,
        at: At,
        decision: Decision<T>,
        committer: Option<Committer>,
        answer: impl FnOnce(T) -> Option<Output>,
    ) -> Checked {
        let early = self.settings.has_group_bug(GroupHostBug::AnswerBeforeCommitted);
        let Some(groups) = self.machine(at) else { return Ok(()) };
        for change in &decision.changes {
            let replayed = groups.replay(change);
            replayed.map_err(|error| Violation::new("a decision replays", error.to_string()))?;
        }
        let mut outputs: Vec<Output> = decision.pushes.into_iter().map(Output::Push).collect();
        outputs.extend(decision.ended.into_iter().map(|(session, why)| Output::End(session, why)));
        outputs.extend(answer(decision.answer));
        let parts = self.split(decision.changes);
        self.group_counts.decisions_in_parts += u64::from(parts.len() > 1);
        let batches: Vec<(u64, Batch)> = parts
            .into_iter()
            .map(|changes| (self.take_id(), Batch { changes, committer: committer.clone() }))
            .collect();
        let waits_for = batches.iter().map(|(attempt, _)| *attempt).filter(|_| !early).collect();
        let Some(coordinator) = self.groups.coordinators.get_mut(&at) else { return Ok(()) };
        coordinator.parked.park(waits_for, outputs);
        for (attempt, batch) in batches {
            if !self.append_batch(at, attempt, batch)? {
                self.group_counts.refused_appends += 1;
                self.end_coordinator(at);
                return Ok(());
            }
        }
        self.give_out(at);
        Ok(())
    }

    /// False: it was refused.
    fn append_batch(&mut self, at: At, attempt: u64, batch: Batch) -> Checked<bool> {
        let value = self.take_id();
        let records: Vec<_> = batch.changes.iter().map(Change::encode).collect();
        self.groups.batches.insert(value, batch);
        let Some(epoch) = self.groups.coordinators.get(&at).map(|known| known.epoch) else {
            return Ok(false);
        };
        self.append_changes(at, epoch, (Who::GroupCoordinator, attempt, value), &records)
    }

    /// The replica says what became of an append.
    pub fn batch_answered(&mut self, at: At, asker: &Asker, result: Produced) {
        let outcome = Outcome::from(result);
        if let Some(ledger) = self.ledgers.get_mut(&at.1) {
            ledger.concluded(asker.value, outcome);
        }
        let Some(coordinator) = self.groups.coordinators.get_mut(&at) else { return };
        if !coordinator.parked.answered(asker.attempt) {
            return;
        }
        if outcome == Outcome::Ok {
            self.give_out(at);
        } else {
            self.group_counts.failed_appends += 1;
            self.end_coordinator(at);
        }
    }

    /// Whatever waits for nothing any more, in order.
    fn give_out(&mut self, at: At) {
        loop {
            let Some(coordinator) = self.groups.coordinators.get_mut(&at) else { return };
            let Some(outputs) = coordinator.parked.next() else { return };
            for output in outputs {
                self.give(at, output);
            }
        }
    }

    fn give(&mut self, at: At, output: Output) {
        match output {
            Output::Push(push) => {
                self.group_counts.pushes += 1;
                let assignment = push
                    .assignment
                    .map(|(number, partitions)| pb::MemberAssignment { number, partitions });
                let response = pb::RunMemberResponse {
                    member_id: push.member_id.to_string(),
                    member_epoch: push.member_epoch,
                    assignment,
                };
                self.tell_member(push.session.0, Down::Response(response));
            }
            Output::End(session, why) => {
                if let Some(coordinator) = self.groups.coordinators.get_mut(&at) {
                    coordinator.sessions.remove(&session.0);
                }
                let code = Error::from(why).code;
                self.count_refusal(code);
                self.tell_member(session.0, Down::Ended(code));
            }
            Output::Committed { member, attempt, result } => {
                self.answer_commit(at.0, member, attempt, Ok(result));
            }
            Output::Fetched { member, attempt, result } => {
                self.answer_fetch(at.0, member, attempt, result);
            }
        }
    }

    /// The actor is gone, with all that waits; those who can be told are told.
    pub fn end_coordinator(&mut self, at: At) {
        let Some(coordinator) = self.groups.coordinators.remove(&at) else { return };
        let wait = self.net.between(10, 400);
        self.groups.rest_until.insert(at, self.now + wait);
        self.trace.note(self.now, "coordinator ends", [at.0 as u64, at.1.partition.0.into(), 0, 0]);
        if coordinator.groups.is_some() {
            self.group_counts.coordinators_ended += 1;
        }
        for stream in coordinator.sessions {
            if self.net.one_in(2) {
                self.tell_member(stream, Down::Ended(ErrorCode::NotCoordinator));
            } else {
                self.break_member_stream(stream, true);
            }
        }
        for output in coordinator.parked.into_outputs() {
            match output {
                Output::Committed { member, attempt, .. } if self.net.one_in(2) => {
                    self.group_counts.unknown_commits += 1;
                    self.answer_commit(at.0, member, attempt, Err(ErrorCode::OutcomeUnknown));
                }
                _ => {}
            }
        }
    }
}
