//! Processes and replicas that end, what that leaves of their disks, and how they come back from it.
//!
//! Each replica has a disk of its own, so that one can fail alone; a power cut takes all of a site's.

use crate::broker::{Host, Watched};
use crate::hands::note_completed;
use crate::invariants;
use crate::settings::{Bug, HostBug};
use crate::violation::{Checked, Violation};
use crate::world::{At, Event, World};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use troupe_log::disk::{FaultDisk, Loss, MemDisk};
use troupe_log::{Log, LogError, Recovery};
use troupe_machines::config::FlushPolicy;
use troupe_machines::replica::{LogEnds, Repair, Replica};
use troupe_machines::time::Time;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{BrokerEpoch, Offset, PartitionKey};
use troupe_proto::log::v1::ProducerSnapshot;

/// Where each replica's log is on its disk.
pub const PLACE: &str = "/p";

/// What a replica had written when it ended.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    /// Also what was deleted since: that its segments are gone is not synced, and they may come back.
    pub written: Vec<BatchHeader>,
    /// What writes that failed have perhaps left, as long as nothing behind it was flushed.
    pub attempted: Vec<BatchHeader>,
    /// What stands for what was given up.
    pub stand_ins: Vec<BatchHeader>,
    pub start: Offset,
    pub durable: Offset,
    pub end: Offset,
}

impl Remains {
    fn of(watched: Watched, log: &Log<FaultDisk>) -> Remains {
        let Watched { written, attempted, stand_ins, durable, .. } = watched;
        let (start, end) = (log.log_start(), log.log_end());
        Remains { written, attempted, stand_ins, start, durable, end }
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The machine runs on.
    Killed,
    /// What was not synced is lost, or part of it.
    PowerLost,
}

impl World {
    /// The process is gone, and comes back after a while.
    pub fn crash(&mut self, site: usize, end: End) {
        if !self.sites[site].up {
            return;
        }
        let end = if self.settings.flush_policy == FlushPolicy::Os { End::Killed } else { end };
        match end {
            End::Killed => self.counts.process_kills += 1,
            End::PowerLost => self.counts.power_losses += 1,
        }
        self.trace.note(self.now, "crash", [site as u64, end as u64, 0, 0]);
        self.bury(site, end);
        let soon = self.fate.one_in(2);
        let wait = if soon { self.fate.between(20, 300) } else { self.fate.between(300, 4_000) };
        self.schedule_free(wait, Event::Undo(crate::nemesis::Undo::Restart(site)));
    }

    /// What every end of a process has in common.
    pub fn bury(&mut self, site: usize, end: End) {
        let incarnation = self.sites[site].broker.as_ref().map(|broker| broker.incarnation);
        let keys: Vec<_> = self.sites[site]
            .broker
            .as_ref()
            .map_or_else(Vec::new, |broker| broker.hosts.keys().copied().collect());
        for key in keys {
            self.drop_host((site, key), end == End::Killed);
        }
        self.end_group_processes(site, end == End::Killed);
        self.end_txn_processes(site);
        self.sites[site].broker = None;
        self.sites[site].active = None;
        self.end_process(site);
        for key in self.sites[site].disks.keys().copied().collect::<Vec<_>>() {
            self.crash_disk((site, key), end);
        }
        if let Some((incarnation, node)) = incarnation.zip(self.sites[site].node)
            && end == End::Killed
            && self.net.one_in(2)
        {
            for voter in 0..crate::world::VOTERS {
                let to = self.voter_site(voter);
                let wait = self.delay();
                self.schedule(to, wait, Event::Refused { node, incarnation });
            }
        }
    }

    fn crash_disk(&mut self, at: At, end: End) {
        let loss = match end {
            // the page cache is the machine's: the next process finds it, and the next power cut takes it
            End::Killed => None,
            End::PowerLost if self.disk.one_in(4) => Some(Loss::Unsynced),
            End::PowerLost => Some(Loss::Seeded(self.disk.next())),
        };
        if loss.is_some() {
            self.may_be_back(at);
        }
        if let Some(disk) = self.sites[at.0].disks.get_mut(&at.1) {
            let memory = disk.memory();
            *disk = FaultDisk::new(loss.map_or_else(|| memory.clone(), |loss| memory.crash(loss)));
        }
    }

    /// The replica is gone, with what it held in memory; nobody who waits gets an answer.
    pub fn drop_host(&mut self, at: At, resets_streams: bool) {
        let Some(broker) = &mut self.sites[at.0].broker else { return };
        let Some(mut host) = broker.hosts.remove(&at.1) else { return };
        // nobody tidies up behind a process that is gone
        std::mem::forget(host.pass.take());
        self.sites[at.0].remains.insert(at.1, Remains::of(host.watched, &host.log));
        let keeps = self.settings.has_host_bug(HostBug::KeepStreamsOfDamaged);
        if !keeps || !self.sites[at.0].damaged.contains_key(&at.1) {
            self.break_streams_of_host(host.id, resets_streams);
        }
    }

    /// K17: everything is on disk, and says so.
    pub fn stop_cleanly(&mut self, site: usize, epoch: BrokerEpoch) -> Checked {
        self.trace.note(self.now, "stops cleanly", [site as u64, 0, 0, 0]);
        let keys: Vec<_> = self.sites[site]
            .broker
            .as_ref()
            .map_or_else(Vec::new, |broker| broker.hosts.keys().copied().collect());
        let mut clean = true;
        for key in keys {
            let at = (site, key);
            let flushed = self.host(at).map(|host| host.log.flush());
            match flushed {
                Some(Ok(end)) => {
                    if let Some(host) = self.host(at) {
                        host.watched.durable = host.watched.durable.max(end);
                    }
                    self.drive(at, |replica, now, out| replica.on_flushed(now, end, out))?;
                }
                Some(Err(_)) => clean = false,
                None => {}
            }
            self.step(at, |replica, _, out| replica.resign(out))?;
            let end = self.host(at).map_or(Offset::ZERO, |host| host.replica.log_end());
            self.snapshot_producers(at, end);
            let Some(broker) = &mut self.sites[site].broker else { continue };
            let Some(host) = broker.hosts.remove(&key) else { continue };
            let high_watermark = host.replica.high_watermark();
            self.sites[site].remains.insert(key, Remains::of(host.watched, &host.log));
            clean &= host.log.close_clean(high_watermark).is_ok();
            self.break_streams_of_host(host.id, true);
        }
        self.counts.clean_stops += 1;
        let end = if self.disk.one_in(2) { End::Killed } else { End::PowerLost };
        let end = if self.settings.flush_policy == FlushPolicy::Os { End::Killed } else { end };
        self.bury(site, end);
        self.sites[site].clean_stop = clean.then_some(epoch);
        let wait = self.fate.between(20, 2_000);
        self.schedule_free(wait, Event::Undo(crate::nemesis::Undo::Restart(site)));
        Ok(())
    }

    pub fn restart(&mut self, site: usize) {
        if self.sites[site].up {
            return;
        }
        self.trace.note(self.now, "starts", [site as u64, 0, 0, 0]);
        let (now, patience) = (self.now, self.patience());
        let target = &mut self.sites[site];
        target.up = true;
        target.boot_skew = target.skew;
        if let Some(voter) = &mut target.voter {
            voter.restart(now, patience);
        }
        self.start_processes(site);
    }

    /// A disk that was told to crash in the middle of something takes its site with it.
    pub fn crash_where_disk_did(&mut self, site: usize) -> Checked {
        if self.sites[site].disks.values().any(FaultDisk::has_crashed) {
            self.counts.crashes_within_io += 1;
            self.crash(site, End::PowerLost);
        }
        Ok(())
    }

    /// The replica's actor is gone, alone; its node lives, reports it, and makes another.
    pub fn kill_replica(&mut self, at: At) {
        if self.see_host(at).is_none() {
            return;
        }
        self.trace.note(self.now, "kill replica", [at.0 as u64, at.1.partition.0.into(), 0, 0]);
        self.end_replica(at);
        self.counts.replica_kills += 1;
        let wait = self.disk.between(1, 300);
        self.schedule(at.0, wait, Event::Rebuild { key: at.1 });
    }

    pub fn end_replica(&mut self, at: At) {
        let Some(host) = self.host(at) else { return };
        let led = host.replica.leader_epoch();
        self.drop_host(at, true);
        if let (Some(epoch), Some(broker)) = (led, &mut self.sites[at.0].broker) {
            broker.dead.insert(at.1, epoch);
        }
    }

    /// Another replica from the disk, if there is none that works.
    pub fn rebuild(&mut self, at: At) -> Checked {
        if self.see_host(at).is_some_and(|host| !host.offline) || !self.is_replica(at) {
            return Ok(());
        }
        let was_offline = self.see_host(at).is_some();
        self.drop_host(at, true);
        if let Some(disk) = self.sites[at.0].disks.get_mut(&at.1)
            && was_offline
            && !disk.has_crashed()
        {
            // what a failed fsync was to write may be gone, and nobody says so
            let forgets = self.settings.flush_policy == FlushPolicy::Commit && self.disk.one_in(2);
            let loss = if forgets { Loss::Seeded(self.disk.next()) } else { Loss::Nothing };
            self.counts.lost_pages += u64::from(forgets);
            *disk = FaultDisk::new(disk.memory().crash(loss));
            self.may_be_back(at);
        }
        self.open_host(at)
    }

    /// From the disk, as a broker does it: recovery, then what the machine must know of the past.
    pub fn open_host(&mut self, at: At) -> Checked {
        let (site, key) = at;
        let disk =
            self.sites[site].disks.entry(key).or_insert_with(|| FaultDisk::new(MemDisk::new()));
        let disk = disk.clone();
        self.crash_within_recovery(&disk);
        let before = self.disk.one_in(4).then(|| disk.memory().snapshot());
        let (config, wall) = (self.settings.log_config(), self.wall(site).as_timestamp());
        let opened = Log::open(disk.clone(), PathBuf::from(PLACE), key, config, wall);
        let (log, recovery) = match opened {
            Ok(opened) => opened,
            Err(_) if disk.has_crashed() => {
                self.counts.crashes_within_recovery += 1;
                return Ok(());
            }
            Err(LogError::Io { .. } | LogError::DiskFull { .. }) => {
                let wait = self.disk.between(50, 400);
                self.schedule(site, wait, Event::Rebuild { key });
                return Ok(());
            }
            Err(error) => return Err(Violation::new("I18 a log opens", error.to_string())),
        };
        self.counts.recoveries += u64::from(!recovery.clean);
        let host = self.recovered(at, log, &recovery, before);
        if disk.has_crashed() {
            self.counts.crashes_within_recovery += 1;
            return Ok(());
        }
        let Some(host) = host? else {
            let wait = self.disk.between(50, 400);
            self.schedule(site, wait, Event::Rebuild { key });
            return Ok(());
        };
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        broker.hosts.insert(key, host);
        self.tell_state(at)
    }

    /// What recovery has made of the disk that was like `before`, and the replica on it.
    fn recovered(
        &mut self,
        at: At,
        log: Log<FaultDisk>,
        recovery: &Recovery,
        before: Option<MemDisk>,
    ) -> Checked<Option<Host>> {
        self.opened_damaged(at, &log)?;
        // what has gone bad and is not found yet nobody passes over
        let hides = self.is_decayed(at) && log.damage().is_none();
        let headers = if hides { self.sound_headers(at, &log) } else { headers_of(&log)? };
        self.check_recovery(at, &log, &headers)?;
        if let Some(before) = before.filter(|_| !hides) {
            let (config, wall) = (self.settings.log_config(), self.wall(at.0).as_timestamp());
            invariants::recovery_is_idempotent(&before, &log, &headers, &config, wall)?;
        }
        self.make_host(at, log, recovery, headers)
    }

    fn crash_within_recovery(&mut self, disk: &FaultDisk) {
        let armed = !self.healing
            && self.settings.faults.contains(&crate::settings::Fault::CrashWithinIo)
            && self.settings.flush_policy == FlushPolicy::Commit
            && self.disk.one_in(20);
        if armed {
            disk.crash_at(disk.changes() + self.disk.below(8), self.disk.index(60));
        }
    }

    /// I18: what was flushed is there, and nothing that was not written.
    fn check_recovery(&mut self, at: At, log: &Log<FaultDisk>, headers: &[BatchHeader]) -> Checked {
        let Some(remains) = self.sites[at.0].remains.get(&at.1) else { return Ok(()) };
        self.counts.lost_tails += u64::from(log.log_end() < remains.end);
        let is_told = log.damage().is_some();
        invariants::what_was_flushed_is_missed(remains.durable, log.log_end(), is_told)?;
        invariants::recovery_is_a_prefix(remains, headers)
    }

    fn make_host(
        &mut self,
        (site, key): At,
        mut log: Log<FaultDisk>,
        recovery: &Recovery,
        headers: Vec<BatchHeader>,
    ) -> Checked<Option<Host>> {
        let id = self.take_id();
        let now = self.steady(site);
        let node = self.sites[site].node.unwrap_or_default();
        let broker = self.sites[site].broker.as_ref();
        let told = broker.and_then(|broker| broker.told.get(&key).copied());
        let topic = broker.and_then(|broker| broker.image.topic_by_id(key.topic_id).cloned());
        let topic = topic.ok_or_else(|| Violation::new("a replica has a topic", "it has none"))?;
        let config = self.settings.replica_config(&topic.config);
        self.counts.snapshots_restored += u64::from(recovery.snapshot.is_some());
        let mut replica = loop {
            let mut replica = Replica::new(key, node, config.clone());
            if let Some(Bug::Machine(bug)) = self.settings.bug {
                replica.plant(bug);
            }
            match restore(&mut log, recovery, now, &mut replica) {
                Ok(()) => break replica,
                Err(error) if self.found_at_opening((site, key), &mut log, &error)? => {}
                Err(_) => return Ok(None),
            }
        };
        replica.restore_leader_epoch(log.latest_epoch());
        replica.on_tombstones_gone(log.tombstones_gone_below());
        // what an earlier life here was told of, it may have led in, and its disk may have lost that
        if !self.settings.has_host_bug(HostBug::LeadAgainInOldEpoch) {
            replica.restore_leader_epoch(told);
        }
        let (start, end) = (log.log_start(), log.log_end());
        let (mut written, mut attempted, mut stand_ins) = (headers, Vec::new(), Vec::new());
        if let Some(remains) = self.sites[site].remains.get(&key) {
            // what has gone bad in it has its place there all the same
            let lacks = self.sites[site].decayed.contains(&key) || log.damage().is_some();
            add_unseen(&mut written, &remains.written, if lacks { end } else { start });
            attempted.extend(remains.attempted.iter().filter(|batch| batch.base_offset >= end));
            stand_ins.clone_from(&remains.stand_ins);
        }
        let mut repair = Repair::default();
        if let Some(Bug::Machine(bug)) = self.settings.bug {
            repair.plant(bug);
        }
        let damaged = log.damage().is_some();
        if damaged {
            repair.owe();
        }
        if let Some(broker) = self.sites[site].broker.as_mut().filter(|_| damaged) {
            broker.losses.push(key);
        }
        let watched = Watched {
            log_start: start,
            durable: log.flushed_end(),
            compared: start,
            written,
            attempted,
            stand_ins,
            ..Watched::default()
        };
        let facts = [site as u64, key.partition.0.into(), log.log_start().0, log.log_end().0];
        self.trace.note(self.now, "opened", facts);
        Ok(Some(Host {
            id,
            replica,
            log,
            flush: None,
            removals: Vec::new(),
            pass: None,
            alarm: None,
            offline: false,
            streams: BTreeMap::new(),
            waiting: BTreeMap::new(),
            due: VecDeque::new(),
            performing: false,
            verifications: BTreeMap::new(),
            aborted_from: Offset::ZERO,
            deletions: BTreeMap::new(),
            repair,
            scrub: None,
            watched,
        }))
    }

    /// Of all replicas that are open.
    pub fn hosts(&self) -> Vec<At> {
        let of_site = |site: usize| {
            let broker = self.sites[site].broker.as_ref();
            let keys: Vec<PartitionKey> =
                broker.map_or_else(Vec::new, |broker| broker.hosts.keys().copied().collect());
            keys.into_iter().map(move |key| (site, key))
        };
        (0..self.settings.brokers).flat_map(of_site).collect()
    }
}

/// What the machine must know of the past, and the log of what the machine finds.
fn restore(
    log: &mut Log<FaultDisk>,
    recovery: &Recovery,
    now: Time,
    replica: &mut Replica,
) -> Result<(), LogError> {
    let ends = LogEnds {
        log_start: log.log_start(),
        high_watermark: log.behind_gap(recovery.high_watermark.unwrap_or(log.log_start())),
        flushed_end: log.flushed_end(),
        log_end: log.log_end(),
    };
    let snapshot = recovery
        .snapshot
        .as_ref()
        .and_then(|(offset, bytes)| Some((*offset, ProducerSnapshot::decode(bytes.clone()).ok()?)));
    let from = log.replay_from(snapshot.as_ref().map(|(offset, _)| *offset));
    replica.restore(ends, snapshot.as_ref().map(|(_, snapshot)| snapshot));
    let mut completed = Vec::new();
    log.replay(from, |header| completed.extend(replica.on_recovered_batch(now, header)))?;
    completed.iter().try_for_each(|completed| note_completed(log, completed))
}

/// Of what was written, and ends no later than `below`, what is not among `found`: it was deleted, or has gone bad.
fn add_unseen(found: &mut Vec<BatchHeader>, written: &[BatchHeader], below: Offset) {
    let by_end: BTreeMap<Offset, Offset> =
        found.iter().map(|batch| (batch.end_offset(), batch.base_offset)).collect();
    let is_unseen = |batch: &&BatchHeader| {
        let next = by_end.range(batch.base_offset.plus(1)..).next();
        batch.end_offset() <= below && next.is_none_or(|(_, base)| *base >= batch.end_offset())
    };
    let unseen: Vec<BatchHeader> = written.iter().filter(is_unseen).copied().collect();
    found.extend(unseen);
    found.sort_by_key(|batch| batch.base_offset);
}

pub fn headers_of(log: &Log<FaultDisk>) -> Checked<Vec<BatchHeader>> {
    let mut headers = Vec::new();
    log.replay(log.log_start(), |header| headers.push(*header))
        .map_err(|error| Violation::new("I16 a log can be read", error.to_string()))?;
    Ok(headers)
}
