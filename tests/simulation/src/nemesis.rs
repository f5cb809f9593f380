//! What breaks, when, and for how long.

use crate::settings::Fault;
use crate::storage::End;
use crate::violation::Checked;
use crate::world::{At, Event, World};
use troupe_log::disk::{Fault as DiskFault, FaultDisk, MemDisk, Operation};
use troupe_machines::cluster::Election;
use troupe_machines::config::FlushPolicy;
use troupe_proto::ids::Offset;

/// What ends a fault.
#[derive(Clone, Copy, Debug)]
pub enum Undo {
    Restart(usize),
    Resume(usize),
    Mend(u64),
    EndLoss,
    EndSlowness,
    EmptyDisk(At),
}

impl World {
    pub fn nemesis(&mut self) -> Checked {
        if self.healing {
            return Ok(());
        }
        let average = self.settings.fault_interval_ms;
        let wait = 1 + self.fate.below(2 * average);
        self.schedule_free(wait, Event::Nemesis);
        self.forget_streams();
        let Some(fault) = self.fate.pick(&self.settings.faults.clone()) else { return Ok(()) };
        let site = self.fate.index(self.settings.brokers);
        self.strike(fault, site)
    }

    fn strike(&mut self, fault: Fault, site: usize) -> Checked {
        self.trace.note(self.now, "fault", [fault as u64, site as u64, 0, 0]);
        match fault {
            Fault::Kill => {
                let site = self.any_process(site);
                self.crash(site, End::Killed);
            }
            Fault::PowerLoss => {
                let site = self.any_process(site);
                self.crash(site, End::PowerLost);
            }
            Fault::PowerLossOfAll => {
                if self.fate.one_in(3) {
                    self.counts.power_losses_of_all += 1;
                    for site in 0..self.sites.len() {
                        let is_client =
                            self.sites[site].node.is_none() && self.sites[site].voter.is_none();
                        if !is_client {
                            self.crash(site, End::PowerLost);
                        }
                    }
                    self.decay_now();
                }
            }
            Fault::CrashWithinIo => self.crash_within_io(site),
            Fault::CleanStop => {
                let now = self.now;
                if let Some(broker) = &mut self.sites[site].broker {
                    broker.leaving.get_or_insert(now);
                }
            }
            Fault::Wipe => self.wipe(site),
            Fault::Pause => {
                let site = self.fate.index(self.sites.len());
                let target = &mut self.sites[site];
                if target.up && !target.paused {
                    target.paused = true;
                    self.counts.pauses += 1;
                    let wait = self.fate.between(100, 4_000);
                    self.schedule_free(wait, Event::Undo(Undo::Resume(site)));
                }
            }
            Fault::ClockJump => {
                self.counts.clock_jumps += 1;
                let far = self.fate.below(2 * 3_600_000) as i64 - 3_600_000;
                let near = self.fate.below(4_000) as i64 - 2_000;
                self.sites[site].skew += if self.fate.one_in(2) { far } else { near };
            }
            Fault::KillReplica => {
                if let Some(at) = self.any_replica(site) {
                    self.kill_replica(at);
                }
            }
            Fault::FsyncError | Fault::WriteError | Fault::FullDisk => self.break_disk(fault, site),
            Fault::SlowDisk => {
                self.counts.slow_disks += 1;
                self.sites[site].slow_disk_until = self.now + self.fate.between(500, 4_000);
            }
            Fault::Isolate | Fault::OneWay | Fault::Bridge => self.cut(fault),
            Fault::Loss => {
                self.network.loss = self.fate.between(2, 12);
                let wait = self.fate.between(300, 3_000);
                self.schedule_free(wait, Event::Undo(Undo::EndLoss));
            }
            Fault::BreakStreams => {
                let other = self.fate.index(self.settings.brokers);
                for stream in self.streams_between(site, other) {
                    let (delivers, reset) = (self.fate.one_in(2), self.fate.one_in(2));
                    self.break_stream(stream, delivers, reset);
                }
            }
            Fault::SlowNetwork => {
                self.counts.slow_networks += 1;
                self.network.slow_ms = self.fate.between(20, 400);
                let wait = self.fate.between(300, 3_000);
                self.schedule_free(wait, Event::Undo(Undo::EndSlowness));
            }
            Fault::ElectController => {
                let voter = self.fate.index(crate::world::VOTERS);
                let site = self.voter_site(voter);
                if self.sites[site].up && !self.sites[site].paused {
                    self.counts.controller_elections += 1;
                    self.stand_for_election(site)?;
                }
            }
            Fault::PreferredElection => self.elect(Election::Preferred)?,
            Fault::UncleanElection if self.settings.unclean => self.elect(Election::Unclean)?,
            Fault::UncleanElection => {}
            Fault::DeleteRecords | Fault::Retention => self.delete(fault, site)?,
            Fault::Reassign => self.reassign()?,
            Fault::CancelReassignment => self.cancel_reassignment()?,
            Fault::Retire => self.retire()?,
        }
        Ok(())
    }

    /// The broker's, or one of a voter that has a process of its own.
    fn any_process(&mut self, site: usize) -> usize {
        if !self.settings.combined && self.fate.one_in(4) {
            let voter = self.fate.index(crate::world::VOTERS);
            return self.voter_site(voter);
        }
        site
    }

    fn any_replica(&mut self, site: usize) -> Option<At> {
        let here: Vec<At> = self.hosts().into_iter().filter(|at| at.0 == site).collect();
        self.fate.pick(&here).filter(|_| !self.sites[site].paused)
    }

    fn crash_within_io(&mut self, site: usize) {
        if self.settings.flush_policy == FlushPolicy::Os {
            return;
        }
        let Some(at) = self.any_replica(site) else { return };
        let (later, torn) = (self.fate.below(20), self.fate.index(200));
        if let Some(disk) = self.sites[at.0].disks.get(&at.1) {
            disk.crash_at(disk.changes() + later, torn);
        }
    }

    /// Only once, and only if others have what it has: more than that nobody promises to survive.
    fn wipe(&mut self, site: usize) {
        let allowed = self.settings.min_insync_replicas >= 2
            && self.settings.flush_policy == FlushPolicy::Commit
            && !self.settings.unclean
            && !self.sites.iter().any(|site| site.wiped || !site.decayed.is_empty())
            && !self.sites.iter().any(|site| !site.damaged.is_empty())
            && self.settings.decay.as_ref().is_none_or(|decay| !decay.keeps_disks)
            && self.truth.image().topic(crate::world::TOPIC).is_some();
        if !allowed || !self.sites[site].up {
            return;
        }
        self.counts.wiped_disks += 1;
        self.crash(site, End::PowerLost);
        for disk in self.sites[site].disks.values_mut() {
            *disk = FaultDisk::new(MemDisk::new());
        }
        self.sites[site].remains.clear();
        self.sites[site].clean_stop = None;
        self.sites[site].wiped = true;
    }

    fn break_disk(&mut self, fault: Fault, site: usize) {
        let Some(at) = self.any_replica(site) else { return };
        let skip = self.fate.below(3);
        let Some(disk) = self.sites[at.0].disks.get(&at.1).cloned() else { return };
        match fault {
            Fault::FsyncError => {
                self.counts.fsync_errors += 1;
                disk.fail(Operation::Sync, "", skip, 1, DiskFault::Io);
            }
            Fault::WriteError => {
                self.counts.write_errors += 1;
                let (torn, times) = (self.fate.index(150), self.fate.between(1, 3));
                let kind = [DiskFault::Io, DiskFault::TornIo(torn), DiskFault::Short(torn)]
                    [self.fate.index(3)];
                disk.fail(Operation::Write, ".log", skip, times, kind);
            }
            _ => {
                self.counts.full_disks += 1;
                disk.set_capacity(Some(disk.memory().used() + self.fate.below(400)));
                let wait = self.fate.between(200, 3_000);
                self.schedule_free(wait, Event::Undo(Undo::EmptyDisk(at)));
            }
        }
    }

    /// All but the consumers are cut off from each other in some way.
    fn cut(&mut self, fault: Fault) {
        let one = self.fate.index(self.sites.len());
        let others: Vec<usize> = (0..self.sites.len()).filter(|other| *other != one).collect();
        let mut pairs = Vec::new();
        match fault {
            Fault::Isolate => {
                self.counts.isolations += 1;
                pairs.extend(others.iter().flat_map(|other| [(one, *other), (*other, one)]));
            }
            Fault::OneWay => {
                self.counts.one_way_cuts += 1;
                let deaf = self.fate.one_in(2);
                for other in others {
                    if self.fate.one_in(2) {
                        pairs.push(if deaf { (other, one) } else { (one, other) });
                    }
                }
            }
            _ => {
                self.counts.bridges += 1;
                let left: Vec<bool> = self.sites.iter().map(|_| self.fate.one_in(2)).collect();
                for from in 0..self.sites.len() {
                    for to in 0..self.sites.len() {
                        if from != one && to != one && left[from] != left[to] {
                            pairs.push((from, to));
                        }
                    }
                }
            }
        }
        let id = self.take_id();
        self.network.cuts.insert(id, pairs);
        let wait = self.fate.between(100, 4_000);
        self.schedule_free(wait, Event::Undo(Undo::Mend(id)));
    }

    fn elect(&mut self, election: Election) -> Checked {
        let Some(site) = self.active_site() else { return Ok(()) };
        let Some(tip) = self.tip(site) else { return Ok(()) };
        let decision = tip.elect_leaders(&crate::truth::keys(&tip), election);
        if election == Election::Preferred {
            self.counts.preferred_elections += decision.records.len() as u64;
        }
        self.decide(site, decision)
    }

    /// Old records go: on request from the leader, or with their segment anywhere. Never what a producer may
    /// send again: deleting takes longer than trying.
    fn delete(&mut self, fault: Fault, site: usize) -> Checked {
        let Some(at) = self.any_replica(site) else { return Ok(()) };
        self.delete_at(fault, at)
    }

    pub fn delete_at(&mut self, fault: Fault, at: At) -> Checked {
        if self.is_of_coordinator(&at.1) {
            return Ok(());
        }
        let old = self.now.saturating_sub(6_000);
        let Some(ledger) = self.ledgers.get(&at.1) else { return Ok(()) };
        let limit = ledger.first_unsettled(old);
        let Some(host) = self.see_host(at).filter(|host| !host.offline) else { return Ok(()) };
        let (start, high_watermark) = (host.log.log_start(), host.replica.high_watermark());
        let limit = limit.min(high_watermark);
        if limit <= start {
            return Ok(());
        }
        if fault == Fault::DeleteRecords {
            return self.ask_to_delete(at, start, limit);
        }
        if self.settings.compaction.as_ref().is_some_and(|compaction| !compaction.deletes) {
            return Ok(());
        }
        let Ok(segments) = host.log.segments() else { return Ok(()) };
        let expired = segments.iter().filter(|it| !it.active && it.end <= limit).count();
        if expired == 0 {
            return Ok(());
        }
        self.counts.deletions += 1;
        self.note_deletion(at, segments[expired - 1].end);
        let mut failed = None;
        for _ in 0..expired {
            let Some(host) = self.host(at) else { return Ok(()) };
            match host.log.remove_oldest() {
                Ok(removal) => host.removals.extend(removal),
                Err(error) => failed = Some(error),
            }
        }
        // also after an error: what was deleted before it stays deleted
        self.log_start_moved(at)?;
        if let Some(error) = failed {
            self.append_failed(at, &error)?;
        }
        self.settle_host(at)
    }

    pub fn note_deletion(&mut self, at: At, offset: Offset) {
        if let Some(ledger) = self.ledgers.get_mut(&at.1) {
            ledger.deleted_before = ledger.deleted_before.max(offset);
        }
    }

    pub fn undo(&mut self, undo: Undo) -> Checked {
        match undo {
            Undo::Restart(site) => self.restart(site),
            Undo::Resume(site) => self.resume(site)?,
            Undo::Mend(id) => drop(self.network.cuts.remove(&id)),
            Undo::EndLoss => self.network.loss = 0,
            Undo::EndSlowness => self.network.slow_ms = 0,
            Undo::EmptyDisk(at) => {
                if let Some(disk) = self.sites[at.0].disks.get(&at.1) {
                    disk.set_capacity(None);
                }
            }
        }
        Ok(())
    }
}
