//! Damage that is found, as the actor of a partition and its node deal with it: kept in mind, reported, filled again
//! from a leader; or given up by an operator, where no other replica has what is damaged.

use crate::broker::Host;
use crate::invariants;
use crate::ledger::Ledger;
use crate::settings::Fault;
use crate::storage::PLACE;
use crate::truth::UncleanElection;
use crate::violation::{Checked, Violation, ensure};
use crate::world::{At, Event, Site, World};
use std::ops::Range;
use std::path::PathBuf;
use troupe_log::disk::FaultDisk;
use troupe_log::{Damage, Log, LogError};
use troupe_machines::cluster::ClusterImage;
use troupe_machines::config::FlushPolicy;
use troupe_machines::replica::{Conclusion, Role};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{MetadataOffset, NodeId, Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::internal::v1::MetadataRecord;
use troupe_proto::internal::v1::metadata_record::Record;

/// What was read and cannot be what was written.
#[derive(Clone, Debug)]
pub enum Suspicion {
    /// The batch that holds this offset.
    At(Offset),
    Log(LogError),
}

/// Who has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    Reader,
    Push,
    Cleaner,
    Scrub,
    /// The replica itself, while it truncated or replayed.
    Replica,
}

impl World {
    /// The replica looks at it in a moment, if it lives so long.
    pub fn suspect(&mut self, at: At, suspicion: Suspicion, finder: Finder) {
        let is_error = |it: &Suspicion| !matches!(it, Suspicion::Log(LogError::CorruptLog { .. }));
        if matches!(suspicion, Suspicion::Log(_)) && is_error(&suspicion) {
            return;
        }
        let Some(host) = self.see_host(at).map(|host| host.id) else { return };
        let wait = self.rot.between(1, 3);
        let suspicion = Box::new(suspicion);
        self.schedule(at.0, wait, Event::Suspect { key: at.1, host, suspicion, finder });
    }

    pub fn suspected(&mut self, at: At, id: u64, suspicion: &Suspicion, finder: Finder) -> Checked {
        let lives = self.see_host(at).is_some_and(|host| host.id == id && !host.offline);
        if lives && !self.examine(at, suspicion, finder)? {
            self.counts.false_suspicions += 1;
        }
        Ok(())
    }

    /// Whether something is wrong there.
    pub fn examine(&mut self, at: At, suspicion: &Suspicion, finder: Finder) -> Checked<bool> {
        let Some(host) = self.see_host(at) else { return Ok(false) };
        let found = match suspicion {
            Suspicion::At(offset) => host.log.examine(*offset),
            Suspicion::Log(error) => host.log.examine_error(error),
        };
        match found {
            Ok(Some(damage)) => self.found_damaged(at, damage, finder).map(|()| true),
            Ok(None) => Ok(false),
            // nobody knows, and who has read reads again
            Err(_) => Ok(true),
        }
    }

    /// It ends as one that died, once that is kept in mind.
    fn found_damaged(&mut self, at: At, damage: Damage, finder: Finder) -> Checked {
        if self.is_gone(at) {
            return Ok(());
        }
        let expected = self.is_decayed(at);
        invariants::only_what_decayed_is_damaged(expected, at.0, &damage.cause)?;
        let Some(host) = self.host(at) else { return Ok(()) };
        let (from, to) = (damage.complete_below, damage.resumes_at);
        if host.log.damaged_from().is_some_and(|known| known <= from) {
            return Ok(());
        }
        let leads = host.replica.role() == Role::Leader;
        if let Err(error) = host.log.note_damage(damage) {
            return self.storage_failed(at, &error);
        }
        let found = match finder {
            Finder::Reader => &mut self.counts.damages_found_by_readers,
            Finder::Push => &mut self.counts.damages_found_by_pushes,
            Finder::Cleaner => &mut self.counts.damages_found_by_cleaning,
            Finder::Scrub => &mut self.counts.damages_found_by_scrubs,
            Finder::Replica => &mut self.counts.damages_found_by_replicas,
        };
        *found += 1;
        self.counts.damaged_leaders += u64::from(leads);
        let facts = [at.0 as u64, at.1.partition.0.into(), from.0, finder as u64];
        self.trace.note(self.now, "damaged", facts);
        self.sites[at.0].damaged.insert(at.1, to);
        self.sites[at.0].losses_known.remove(&at.1);
        self.end_replica(at);
        let wait = self.rot.between(1, 100);
        self.schedule(at.0, wait, Event::Rebuild { key: at.1 });
        Ok(())
    }

    /// Of a log that was just opened. What opening has found is legitimate, and what is lacking is told.
    pub fn opened_damaged(&mut self, at: At, log: &Log<FaultDisk>) -> Checked {
        let site = &mut self.sites[at.0];
        let was_forgotten = site.may_be_forgotten.remove(&at.1);
        let was_given_up = site.may_be_given_up.remove(&at.1);
        if log.damage().is_none() && (was_forgotten || was_given_up) {
            // all of it was done, but for saying so
            site.damaged.remove(&at.1);
            if was_given_up {
                self.note_given_up(at, Vec::new(), log.log_end());
            }
        }
        let site = &mut self.sites[at.0];
        let known = site.damaged.contains_key(&at.1);
        match log.damage() {
            None => {
                let ends_at = site.damaged.remove(&at.1).flatten();
                // all that was deleted nobody lacks
                let was_deleted = ends_at.is_some_and(|ends_at| ends_at <= log.log_start());
                let forgotten = known && site.decayed.contains(&at.1) && !was_deleted;
                ensure(!forgotten, "S6 damage is kept in mind", || format!("{} on {}", at.1, at.0))
            }
            Some(damage) => {
                let flushed = site.remains.get(&at.1).map_or(Offset::ZERO, |it| it.durable);
                // of what was not flushed a power cut may have taken something before the rest: better refilled once
                // too often
                let lacks_nothing = damage.complete_below >= flushed;
                let expected = known || site.decayed.contains(&at.1);
                let fine = expected || lacks_nothing;
                invariants::only_what_decayed_is_damaged(fine, at.0, &damage.cause)?;
                self.counts.torn_ends_taken_for_damage += u64::from(!expected);
                if !expected {
                    self.lose_a_copy(at);
                }
                let site = &mut self.sites[at.0];
                site.damaged.insert(at.1, damage.resumes_at);
                site.losses_known.remove(&at.1);
                self.counts.damages_found_at_opening += u64::from(expected && !known);
                let facts = [at.0 as u64, at.1.partition.0.into(), damage.complete_below.0, 9];
                self.trace.note(self.now, "opened damaged", facts);
                Ok(())
            }
        }
    }

    /// What opening has not looked at, and replaying has met. False: it could not be kept in mind.
    pub fn found_at_opening(
        &mut self,
        at: At,
        log: &mut Log<FaultDisk>,
        error: &LogError,
    ) -> Checked<bool> {
        let Ok(Some(damage)) = log.examine_error(error) else {
            return Err(Violation::new("I18 a log replays", error.to_string()));
        };
        if log.note_damage(damage).is_err() || log.survey_damage().is_err() {
            return Ok(false);
        }
        self.opened_damaged(at, log).map(|()| true)
    }

    /// Of what is in the log, what can be read.
    pub fn sound_headers(&self, at: At, log: &Log<FaultDisk>) -> Vec<BatchHeader> {
        let Some(disk) = self.sites[at.0].disks.get(&at.1) else { return Vec::new() };
        let mut headers = crate::decay::sound_headers(disk.memory(), &at.1);
        let range = log.log_start()..log.log_end();
        headers.retain(|it| it.end_offset() > range.start && it.end_offset() <= range.end);
        headers
    }

    /// A replica that lacks nothing counts for one that does: where another has gone bad, there may be no third.
    fn lose_a_copy(&mut self, at: At) {
        let bad = |site: &Site| {
            site.wiped || site.decayed.contains(&at.1) || site.damaged.contains_key(&at.1)
        };
        let is_alone = !(0..self.sites.len()).any(|site| site != at.0 && bad(&self.sites[site]));
        if let Some(ledger) = self.ledgers.get_mut(&at.1).filter(|_| !is_alone) {
            self.counts.copies_lost_to_torn_ends += 1;
            ledger.may_lose_any = true;
        }
    }

    /// What the node has to tell the controller, as often as a replica here was opened damaged.
    pub fn report_losses(&mut self, site: usize) {
        let Some(broker) = &self.sites[site].broker else { return };
        let (node, keys) = (broker.node, broker.losses.clone());
        let Some(epoch) = broker.epoch else { return };
        if keys.is_empty() || !broker.losses_told.is_empty() || broker.reports_losses() {
            return;
        }
        self.ask_to_lose(site, node, epoch, keys);
    }

    /// What the controller has answered counts once its decision is in the image here.
    pub fn losses_known(&mut self, site: usize) -> Checked {
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        let next = broker.image.next_offset();
        let told = std::mem::take(&mut broker.losses_told);
        let come = |told: &(Vec<PartitionKey>, MetadataOffset)| told.1 <= next;
        let (known, not_yet): (Vec<_>, Vec<_>) = told.into_iter().partition(come);
        broker.losses_told = not_yet;
        for key in known.into_iter().flat_map(|(keys, _)| keys) {
            let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
            if let Some(first) = broker.losses.iter().position(|due| *due == key) {
                broker.losses.remove(first);
            }
            let epoch = broker.image.partition(&key).map(|partition| partition.partition_epoch);
            let Some(host) = broker.hosts.get_mut(&key) else { continue };
            host.repair.hear_known(epoch);
            self.counts.losses_known += 1;
            self.sites[site].losses_known.insert(key);
            self.tell_state((site, key))?;
        }
        Ok(())
    }

    /// After the replica has learned what the controller says of it.
    pub fn conclude_repair(&mut self, at: At) -> Checked {
        let Some(broker) = &mut self.sites[at.0].broker else { return Ok(()) };
        let (node, image) = (broker.node, &broker.image);
        let Some(state) = crate::broker::state_of(image, &at.1) else { return Ok(()) };
        let Some(host) = broker.hosts.get_mut(&at.1) else { return Ok(()) };
        if host.log.damage().is_none() || host.offline {
            return Ok(());
        }
        let leads = host.replica.role() == Role::Leader;
        let damaged_from = host.log.damaged_from();
        match host.repair.conclude(&state, node, leads, damaged_from) {
            Conclusion::Keep => Ok(()),
            Conclusion::KeepInMind => {
                self.counts.damages_kept_in_mind += 1;
                Ok(())
            }
            Conclusion::HandOver => {
                broker.losses.push(at.1);
                self.counts.damaged_leaders_hand_over += 1;
                Ok(())
            }
            Conclusion::Filled => self.filled(at),
            Conclusion::Lost => self.forget_damage(at),
        }
    }

    fn filled(&mut self, at: At) -> Checked {
        self.counts.filled_again += 1;
        self.trace.note(self.now, "filled", [at.0 as u64, at.1.partition.0.into(), 0, 0]);
        let Some(host) = self.see_host(at) else { return Ok(()) };
        let from = host.log.damage().map_or(Offset::ZERO, |damage| damage.complete_below);
        let from = from.max(host.log.log_start());
        self.forget_damage(at)?;
        self.look_at_files(at);
        // what else has gone bad below is to be found yet
        let is_whole = match self.settings.compaction {
            None => self.is_whole_from(at, from),
            Some(_) => self.is_readable(at),
        };
        invariants::who_was_filled_is_whole(&at.1, is_whole)
    }

    fn forget_damage(&mut self, at: At) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        if host.log.forget_damage().is_ok() {
            self.sites[at.0].damaged.remove(&at.1);
        } else {
            self.sites[at.0].may_be_forgotten.insert(at.1);
        }
        Ok(())
    }

    /// Before it opens a stream: from where on the log goes. The stream is to be opened later then.
    pub fn gap_to_drop(&mut self, at: At) -> Option<Offset> {
        let compacts = self.settings.compaction.is_some();
        let Host { log, repair, .. } = self.host(at)?;
        let range = log.log_start()..log.log_end();
        repair.drop_behind_gap(log.damage()?.complete_below, range, compacts)
    }

    /// Some of the replicas here are looked through.
    pub fn begin_scrubs(&mut self, site: usize) {
        if self.settings.decay.is_none() {
            return;
        }
        let here = self.hosts().into_iter().filter(|at| at.0 == site);
        for at in here.collect::<Vec<_>>() {
            let seldom = if self.healing { 4 } else { 60 };
            if !self.rot.one_in(seldom) {
                continue;
            }
            let wait = self.rot.between(1, 200);
            let Some(host) = self.host(at).filter(|host| !host.offline && host.scrub.is_none())
            else {
                continue;
            };
            host.scrub = Some(host.log.begin_scrub());
            let id = host.id;
            self.schedule(site, wait, Event::ScrubDue { key: at.1, host: id });
        }
    }

    pub fn scrub_due(&mut self, at: At, id: u64) -> Checked {
        let Some(host) = self.host(at).filter(|host| host.id == id) else { return Ok(()) };
        let Some(scrub) = host.scrub.take() else { return Ok(()) };
        // a file that cannot be read, another pass will look at
        let Ok(scrubbed) = scrub.run(|_| true) else { return Ok(()) };
        self.counts.scrubs += 1;
        match scrubbed.suspects.first() {
            Some(first) => self.suspected(at, id, &Suspicion::At(first.at), Finder::Scrub),
            None => Ok(()),
        }
    }

    /// An operator sees to it now and then that no partition waits for what nobody has.
    pub fn operate(&mut self) -> Checked {
        if self.settings.decay.is_none() {
            return Ok(());
        }
        let wait = self.rot.between(300, 1_500);
        self.schedule_free(wait, Event::Operate);
        let deletes = self.settings.faults.contains(&Fault::DeleteRecords) && !self.healing;
        for key in self.ledgers.keys().copied().collect::<Vec<_>>() {
            let Some(leader) = self.truth.partition(&key).and_then(|known| known.leader) else {
                continue;
            };
            let at = (self.site_of(leader), key);
            if deletes && self.rot.one_in(3) {
                self.delete_at(Fault::DeleteRecords, at)?;
            }
            let waits = self.see_host(at).is_some_and(|host| {
                let alone = host.replica.isr().is_some_and(|isr| isr.len() == 1);
                let leads = host.replica.role() == Role::Leader;
                leads && alone && !host.offline && host.log.damaged_from().is_some()
            });
            if !waits || self.sites[at.0].paused {
                continue;
            }
            let from = self.see_host(at).and_then(|host| host.log.damaged_from());
            let end = self.ledgers.get(&key).map_or(Offset::ZERO, Ledger::end);
            let loses_nothing = from.is_some_and(|from| end <= from);
            ensure(loses_nothing || self.takes_all(&key), "I1 another copy was whole", || {
                format!("{key} is led by {leader}, which is damaged, and would be given up")
            })?;
            if self.healing || self.rot.one_in(4) {
                self.give_up(at)?;
            }
        }
        Ok(())
    }

    /// `recover --accept-loss`: the next actor is built without what is damaged.
    fn give_up(&mut self, at: At) -> Checked {
        self.end_replica(at);
        let wait = self.rot.between(1, 100);
        self.schedule(at.0, wait, Event::Rebuild { key: at.1 });
        let (config, wall) = (self.settings.log_config(), self.wall(at.0).as_timestamp());
        let Some(disk) = self.sites[at.0].disks.get(&at.1).cloned() else { return Ok(()) };
        let whole = crate::decay::whole_batches(disk.memory(), &at.1);
        let memory = disk.memory().clone();
        let opened = Log::open(disk, PathBuf::from(PLACE), at.1, config, wall);
        let given_up = opened.and_then(|(log, recovery)| {
            let (start, end) = (log.log_start(), log.log_end());
            let high_watermark = recovery.high_watermark.unwrap_or(start);
            log.accept_loss(high_watermark).map(|lost| (lost, start, end))
        });
        if let Some(remains) = self.sites[at.0].remains.get_mut(&at.1) {
            remains.stand_ins.extend(crate::decay::stand_ins(&memory, &at.1));
        }
        // what could not be done stays noted; what was done is done
        let Ok((lost, start, end)) = given_up else {
            self.sites[at.0].may_be_given_up.insert(at.1);
            return Ok(());
        };
        self.counts.given_up += 1;
        for range in &lost {
            let facts = [at.0 as u64, at.1.partition.0.into(), range.start.0, range.end.0];
            self.trace.note(self.now, "given up", facts);
            invariants::nothing_whole_is_given_up(range, start, &whole)?;
        }
        self.sites[at.0].damaged.remove(&at.1);
        self.note_given_up(at, lost, end);
        Ok(())
    }

    /// And what an attempt before has given up that was interrupted, and what is missing at the log's end.
    fn note_given_up(&mut self, at: At, mut lost: Vec<Range<Offset>>, end: Offset) {
        let Some(disk) = self.sites[at.0].disks.get(&at.1) else { return };
        let stand_ins = crate::decay::stand_ins(disk.memory(), &at.1);
        lost.extend(stand_ins.iter().map(|batch| batch.base_offset..batch.end_offset()));
        if let Some(ledger) = self.ledgers.get_mut(&at.1) {
            ledger.give_up(lost);
        }
        let Some(remains) = self.sites[at.0].remains.get_mut(&at.1) else { return };
        if end < remains.durable {
            remains.durable = end;
            remains.written.retain(|batch| batch.end_offset() <= end);
            if let Some(ledger) = self.ledgers.get_mut(&at.1) {
                ledger.lose_from(end);
            }
        }
    }

    /// A replica was elected that may lack something. Where any copy may go bad, it may lack what nobody has who had to
    /// have it.
    pub fn judge_election(&mut self, election: UncleanElection) {
        let UncleanElection { key, leader, leader_epoch, before } = election;
        let takes_all = self.takes_all(&key);
        let forgets = self.settings.flush_policy == FlushPolicy::Os;
        let had_all = before.isr.iter().chain(&before.elr).chain(&before.last_in_sync);
        let is_whole = |node: &NodeId| {
            let site = &self.sites[self.site_of(*node)];
            !site.decayed.contains(&key) && !site.damaged.contains_key(&key) && !site.wiped
                // nobody counts on it after a crash
                && !forgets
        };
        let passed_over = had_all.clone().any(|node| *node != leader && is_whole(node));
        if takes_all
            && !passed_over
            && let Some(ledger) = self.ledgers.get_mut(&key)
        {
            ledger.may_lose_from = Some(leader_epoch);
        }
    }

    /// Whether a partition may lose what no replica has that was in sync.
    fn takes_all(&self, key: &PartitionKey) -> bool {
        self.settings.decay.as_ref().is_some_and(|decay| decay.takes_all)
            || self.ledgers.get(key).is_some_and(|ledger| ledger.may_lose_any)
    }

    /// Whether nothing that was committed may be missing or change.
    pub fn is_strict(&self, key: &PartitionKey) -> bool {
        let is_whole = |ledger: &Ledger| !ledger.has_lost && ledger.may_lose_from.is_none();
        !self.settings.unclean && self.ledgers.get(key).is_none_or(is_whole)
    }

    /// Whoever begins to lead may lack something, and then that counts for nothing from now on. Once; who leads behind
    /// it has what it had.
    pub fn accept_loss(&mut self, at: At, lacks: bool) {
        let Some(end) = self.see_host(at).map(|host| host.log.log_end()) else { return };
        let Some(ledger) = self.ledgers.get_mut(&at.1) else { return };
        ledger.may_lose_from = None;
        if !lacks && !ledger.has_lost && end >= ledger.end() {
            return;
        }
        self.counts.ends_lost += u64::from(end < ledger.end());
        let facts = [at.0 as u64, at.1.partition.0.into(), end.0, ledger.end().0];
        self.trace.note(self.now, "lost", facts);
        ledger.lose_from(end);
    }
}

/// The planted bug: a leader that stays goes on in its epoch, and with it what it has heard.
pub fn keep_leader_epoch(before: &ClusterImage, record: &mut MetadataRecord) {
    let Some(Record::Partition(after)) = &mut record.record else { return };
    let Some(topic_id) = TopicId::from_wire(&after.topic_id) else { return };
    let key = PartitionKey { topic_id, partition: PartitionId(after.partition) };
    let Some(before) = before.partition(&key) else { return };
    if before.leader.map(|node| node.0) == after.leader_id {
        after.leader_epoch = before.leader_epoch.0;
    }
}
