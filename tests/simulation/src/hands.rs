//! The hands of a replica: what its actor does with what the machine asks for.

use crate::broker::{Asker, Flush, Host, Who};
use crate::clients::Produced;
use crate::damage::{Finder, Suspicion};
use crate::invariants;
use crate::settings::HostBug;
use crate::violation::{Checked, Violation};
use crate::world::{At, Event, World};
use prost::Message;
use troupe_log::disk::FaultDisk;
use troupe_log::{Aborted, Log, LogError};
use troupe_machines::replica::{Completed, Effect, Effects, Replica, ReplicationEffect, Role};
use troupe_machines::time::Time;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1::ProducerSnapshot;

impl World {
    /// An event for this life of the replica; for a later one it is nothing.
    pub fn drive_host(
        &mut self,
        at: At,
        host: u64,
        event: impl FnOnce(&mut Replica, Time, &mut Effects),
    ) -> Checked {
        if self.see_host(at).is_some_and(|known| known.id == host) {
            self.drive(at, event)?;
        }
        Ok(())
    }

    /// An event for the machine; then all that comes of it.
    pub fn drive(
        &mut self,
        at: At,
        event: impl FnOnce(&mut Replica, Time, &mut Effects),
    ) -> Checked {
        self.step(at, event)?;
        self.settle_host(at)
    }

    /// The same without looking at what came of it.
    pub fn step(
        &mut self,
        at: At,
        event: impl FnOnce(&mut Replica, Time, &mut Effects),
    ) -> Checked {
        let now = self.steady(at.0);
        let mut out = Effects::new();
        let Some(host) = self.host(at) else { return Ok(()) };
        event(&mut host.replica, now, &mut out);
        self.perform(at, out)
    }

    /// After a change: the timer, what followers get, and what has to hold.
    pub fn settle_host(&mut self, at: At) -> Checked {
        let (now, key) = (self.steady(at.0), at.1);
        let Some(host) = self.host(at) else { return Ok(()) };
        let id = host.id;
        if let Some(next) = host.replica.next_tick()
            && host.alarm.is_none_or(|alarm| alarm > next)
        {
            host.alarm = Some(next);
            let wait = next.0.saturating_sub(now.0).max(1);
            self.schedule(at.0, wait, Event::Alarm { key, host: id });
        }
        self.check_host(at)?;
        self.pump_streams_of(at)
    }

    pub fn alarm(&mut self, at: At, id: u64) -> Checked {
        let now = self.steady(at.0);
        let Some(host) = self.host(at).filter(|host| host.id == id) else { return Ok(()) };
        if host.alarm.is_none_or(|alarm| alarm > now) {
            return Ok(());
        }
        host.alarm = None;
        self.drive(at, |replica, now, out| replica.on_tick(now, out))
    }

    /// In the order in which they were decided, as a partition's actor does it: what comes of one of them waits for those
    /// that were decided before.
    pub fn perform(&mut self, at: At, effects: Effects) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        host.due.extend(effects);
        if std::mem::replace(&mut host.performing, true) {
            return Ok(());
        }
        let id = host.id;
        while let Some(effect) = self.host_of_life(at, id).and_then(|host| host.due.pop_front()) {
            self.carry_out(at, effect)?;
        }
        if let Some(host) = self.host_of_life(at, id) {
            host.performing = false;
        }
        self.give_up_verifications(at);
        Ok(())
    }

    fn host_of_life(&mut self, at: At, id: u64) -> Option<&mut Host> {
        self.host(at).filter(|host| host.id == id)
    }

    fn carry_out(&mut self, at: At, effect: Effect) -> Checked {
        match effect {
            Effect::Answer { token, result } => {
                let Some(host) = self.host(at) else { return Ok(()) };
                let Some(asker) = host.waiting.remove(&token) else { return Ok(()) };
                let answer = match result {
                    Ok(appended) => {
                        self.acknowledged(at, &asker, &appended)?;
                        Produced::Ok(appended.base_offset)
                    }
                    Err(error) => self.failed(error.code()),
                };
                self.answer_asker(at, &asker, answer)?;
            }
            Effect::Flush => self.start_flush(at)?,
            Effect::Completed(completed) => self.completed(at, completed)?,
            // compared when all is settled; nobody asks whether a leader leads
            Effect::HighWatermark(_) | Effect::LastStable(_) | Effect::Confirmed { .. } => {}
            Effect::Deleted { token, result } => self.deletion_answered(at, token, result)?,
            Effect::LeaderEpochStarted { leader_epoch, start_offset } => {
                self.epoch_started(at, leader_epoch, start_offset)?;
            }
            Effect::Replication(effect) => self.replicate(at, effect)?,
        }
        Ok(())
    }

    fn answer_asker(&mut self, at: At, asker: &Asker, answer: Produced) -> Checked {
        match asker.who {
            Who::Producer(_) | Who::Transactional(_) => {
                self.answer_producer(at.0, asker.who, asker.attempt, answer);
            }
            Who::GroupCoordinator => self.batch_answered(at, asker, answer),
            Who::TxnCoordinator => self.txn_batch_answered(at, asker, answer),
            Who::Marker => self.marker_answered(at, asker.attempt, answer),
        }
        Ok(())
    }

    /// A transaction has ended here. The log keeps those that were aborted.
    fn completed(&mut self, at: At, completed: Completed) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        let follows = host.replica.role() == Role::Follower;
        if follows && self.settings.has_host_bug(HostBug::FollowersForgetAborted) {
            return Ok(());
        }
        let Some(host) = self.host(at) else { return Ok(()) };
        match note_completed(&mut host.log, &completed) {
            Ok(()) => Ok(()),
            Err(error) => self.storage_failed(at, &error),
        }
    }

    fn epoch_started(&mut self, at: At, epoch: LeaderEpoch, start: Offset) -> Checked {
        self.trace.note(
            self.now,
            "leads",
            [at.0 as u64, at.1.partition.0.into(), epoch.0.into(), start.0],
        );
        let Some(host) = self.host(at) else { return Ok(()) };
        host.log.assign_epoch(epoch, start);
        let in_flight = host.replica.high_watermark() < host.replica.log_end();
        self.counts.leaders_with_records_in_flight += u64::from(in_flight);
        self.check_new_leader(at, epoch)
    }

    fn replicate(&mut self, at: At, effect: ReplicationEffect) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        let id = host.id;
        match effect {
            ReplicationEffect::AlterPartition(request) => self.ask_for_isr(at, id, request)?,
            ReplicationEffect::ElectionNeeded { leader_epoch } => {
                self.counts.elections_needed += 1;
                if let Some(broker) = &mut self.sites[at.0].broker {
                    broker.dead.insert(at.1, leader_epoch);
                }
            }
            ReplicationEffect::Open { leader, session } => self.open_stream(at, leader, session)?,
            ReplicationEffect::Close { session } => {
                if let Some(stream) = host.streams.remove(&session) {
                    let delivers = self.net.one_in(2);
                    self.break_stream(stream, delivers, false);
                }
            }
            ReplicationEffect::ReportEnd { session, end } => {
                if let Some(stream) = host.streams.get(&session).copied() {
                    self.send_up(stream, crate::streams::ToLeader::Report(end));
                }
            }
            ReplicationEffect::Confirm { .. } => {}
            ReplicationEffect::Truncate { to } => self.truncate(at, to)?,
            ReplicationEffect::ResetTo { offset } => self.reset(at, offset)?,
            ReplicationEffect::DeleteBefore { offset } => self.delete_before(at, offset)?,
        }
        Ok(())
    }

    fn truncate(&mut self, at: At, to: Offset) -> Checked {
        self.counts.truncations += 1;
        let (site, partition) = (at.0 as u64, at.1.partition.0.into());
        self.trace.note(self.now, "truncate", [site, partition, to.0, 0]);
        let strict = self.is_strict(&at.1);
        let Some(host) = self.host(at).filter(|_| strict) else {
            return self.cut_and_follow(at, to);
        };
        invariants::truncation_stays_above(host.replica.high_watermark(), to)?;
        self.cut_and_follow(at, to)
    }

    fn cut_and_follow(&mut self, at: At, to: Offset) -> Checked {
        if !self.cut_log(at, to)? {
            return Ok(());
        }
        self.step(at, |replica, now, out| replica.continue_following(now, out))
    }

    /// The end of the log goes, and what the machine has heard of it. False: the disk failed.
    pub fn cut_log(&mut self, at: At, to: Offset) -> Checked<bool> {
        let facts = [at.0 as u64, at.1.partition.0.into(), to.0, 0];
        self.trace.note(self.now, "cut", facts);
        let keeps = self.settings.has_host_bug(HostBug::KeepProducersAfterTruncation);
        let forgets_aborted = self.settings.has_host_bug(HostBug::ForgetAbortedInTruncation);
        let now = self.steady(at.0);
        let Some(host) = self.host(at) else { return Ok(false) };
        let high_watermark = host.replica.high_watermark();
        // The leader's log may begin within a batch, and the follower parts from it there: the whole batch goes.
        let within = |header: &&BatchHeader| header.base_offset < to && header.end_offset() > to;
        let keeps_below =
            host.watched.written.iter().find(within).map_or(to, |header| header.base_offset);
        host.watched.durable = host.watched.durable.min(keeps_below);
        let truncated = host.log.truncate_to(to, high_watermark).and_then(|end| {
            let found = host.log.newest_producer_snapshot()?;
            Ok((end, found))
        });
        let (end, found) = match truncated {
            Ok(done) => done,
            Err(error) => return self.storage_failed(at, &error).map(|()| false),
        };
        let start = host.replica.log_start();
        if end <= start {
            // within the first batch, of which the beginning was deleted: nothing is left to read
            return self.start_over(at, start);
        }
        host.watched.truncate(end);
        if forgets_aborted {
            host.aborted_from = end;
        }
        let snapshot =
            found.and_then(|(offset, bytes)| Some((offset, ProducerSnapshot::decode(bytes).ok()?)));
        if keeps {
            let kept = host.replica.snapshot();
            host.replica.on_truncated(end, Some(&kept));
        } else {
            let from = host.log.replay_from(snapshot.as_ref().map(|(offset, _)| *offset));
            host.replica.on_truncated(end, snapshot.as_ref().map(|(_, snapshot)| snapshot));
            let Host { log, replica, .. } = host;
            let mut completed = Vec::new();
            let replayed = log
                .replay(from, |header| completed.extend(replica.on_recovered_batch(now, header)));
            let noted = replayed.and_then(|()| {
                completed.iter().try_for_each(|completed| note_completed(log, completed))
            });
            if let Err(error) = noted {
                return self.storage_failed(at, &error).map(|()| false);
            }
        }
        Ok(true)
    }

    fn reset(&mut self, at: At, offset: Offset) -> Checked {
        self.counts.resets += 1;
        let (site, partition) = (at.0 as u64, at.1.partition.0.into());
        self.trace.note(self.now, "reset", [site, partition, offset.0, 0]);
        if self.is_strict(&at.1) {
            self.check_reset(at, offset)?;
        }
        if !self.start_over(at, offset)? {
            return Ok(());
        }
        self.step(at, |replica, now, out| replica.continue_following(now, out))
    }

    /// False: the disk failed.
    fn start_over(&mut self, at: At, offset: Offset) -> Checked<bool> {
        let Some(host) = self.host(at) else { return Ok(false) };
        host.watched.durable = Offset::ZERO;
        if let Err(error) = host.log.truncate_fully_and_start_at(offset) {
            return self.storage_failed(at, &error).map(|()| false);
        }
        host.watched.written.clear();
        host.watched.compared = offset;
        host.watched.high_watermark = offset;
        host.watched.log_start = offset;
        host.replica.on_reset(offset);
        Ok(true)
    }

    /// R26, or on request: nothing below is readable any more.
    pub fn delete_before(&mut self, at: At, offset: Offset) -> Checked {
        let (site, partition) = (at.0 as u64, at.1.partition.0.into());
        self.trace.note(self.now, "delete", [site, partition, offset.0, 0]);
        let Some(host) = self.host(at) else { return Ok(()) };
        let failed = match host.log.set_log_start(offset) {
            Ok(removals) => {
                host.removals.extend(removals);
                None
            }
            // nothing was deleted
            Err(error) if error.is_temporary() && !host.log.is_poisoned() => {
                return self.step(at, |replica, _, out| replica.on_log_start_kept(out));
            }
            Err(error) => Some(error),
        };
        // also after an error: what was deleted before it stays deleted
        self.log_start_moved(at)?;
        match failed {
            Some(error) => self.storage_failed(at, &error),
            None => Ok(()),
        }
    }

    /// The log starts later now: the machine hears of it, and producers outlast what is gone.
    pub fn log_start_moved(&mut self, at: At) -> Checked {
        let Some(host) = self.host(at) else { return Ok(()) };
        let start = host.log.log_start();
        host.watched.durable = host.watched.durable.max(host.log.flushed_end());
        self.step(at, |replica, now, out| replica.on_log_start(now, start, out))?;
        let Some(host) = self.host(at) else { return Ok(()) };
        let snapshot = host.log.producer_snapshots().last().copied();
        if snapshot.is_none_or(|offset| offset < start) {
            let (end, content) = (host.replica.log_end(), host.replica.snapshot().encode_to_vec());
            // without it, recovery goes back to the one before
            let _ = host.log.write_producer_snapshot(end, &content);
        }
        if !host.removals.is_empty() {
            let (id, key) = (host.id, at.1);
            let wait = self.disk.between(1, 2_000);
            self.schedule(at.0, wait, Event::RunRemovals { key, host: id });
        }
        Ok(())
    }

    pub fn run_removals(&mut self, at: At, id: u64) {
        let Some(host) = self.host(at).filter(|host| host.id == id) else { return };
        for removal in std::mem::take(&mut host.removals) {
            // what stays is a leftover for the next open
            let _ = removal.run();
        }
    }

    /// The state before the batch that opened the segment at `offset`.
    pub fn snapshot_producers(&mut self, at: At, offset: Offset) {
        self.counts.rolls += 1;
        let Some(host) = self.host(at) else { return };
        let content = host.replica.snapshot().encode_to_vec();
        // without it, recovery goes back to the one before
        let _ = host.log.write_producer_snapshot(offset, &content);
    }

    pub fn start_flush(&mut self, at: At) -> Checked {
        let (lies, early) =
            (self.settings.has_host_bug(HostBug::AnswerBeforeFlush), self.disk.one_in(2));
        let wait = self.flush_wait(at.0);
        let key = at.1;
        let Some(host) = self.host(at) else { return Ok(()) };
        if host.flush.is_some() {
            return Ok(());
        }
        let id = host.id;
        let Some(ticket) = host.log.begin_flush() else {
            let end = host.log.flushed_end();
            return self.step(at, |replica, now, out| replica.on_flushed(now, end, out));
        };
        host.flush = Some(if early { Flush::Done(ticket.run()) } else { Flush::Due(ticket) });
        self.schedule(at.0, wait, Event::FlushDone { key, host: id });
        if lies {
            let end = self.host(at).map_or(Offset::ZERO, |host| host.log.log_end());
            return self.step(at, |replica, now, out| replica.on_flushed(now, end, out));
        }
        Ok(())
    }

    fn flush_wait(&mut self, site: usize) -> u64 {
        if self.now < self.sites[site].slow_disk_until {
            return self.disk.between(300, 1_500);
        }
        if self.disk.one_in(30) { self.disk.between(10, 100) } else { self.disk.between(1, 6) }
    }

    pub fn flush_done(&mut self, at: At, id: u64) -> Checked {
        let tries_again = self.settings.has_host_bug(HostBug::RetryFailedFlush);
        let Some(host) = self.host(at).filter(|host| host.id == id) else { return Ok(()) };
        let result = match host.flush.take() {
            Some(Flush::Done(result)) => result,
            Some(Flush::Due(ticket)) => ticket.run(),
            None => return Ok(()),
        };
        match result {
            Ok(done) => {
                let end = host.log.complete_flush(done);
                host.watched.durable = host.watched.durable.max(end);
                self.drive(at, |replica, now, out| replica.on_flushed(now, end, out))
            }
            Err(_) if tries_again => {
                let end = host.log.log_end();
                self.drive(at, |replica, now, out| replica.on_flushed(now, end, out))
            }
            Err(error) => self.storage_failed(at, &error),
        }
    }

    /// A follower or leader could not write. What is in the log is as it was, unless the log is poisoned.
    pub fn append_failed(&mut self, at: At, error: &LogError) -> Checked {
        let poisoned = self.host(at).is_some_and(|host| host.log.is_poisoned());
        if poisoned { self.storage_failed(at, error) } else { Ok(()) }
    }

    /// The disk failed: nothing is tried again on this log.
    pub fn storage_failed(&mut self, at: At, error: &LogError) -> Checked {
        if self.see_host(at).is_none_or(|host| host.offline) {
            return Ok(());
        }
        if matches!(error, LogError::CorruptLog { .. })
            && self.examine(at, &Suspicion::Log(error.clone()), Finder::Replica)?
        {
            return Ok(());
        }
        let Some(host) = self.host(at) else { return Ok(()) };
        host.offline = true;
        self.trace.note(self.now, "offline", [at.0 as u64, at.1.partition.0.into(), 0, 0]);
        self.step(at, |replica, _, out| replica.on_storage_failure(out))?;
        match error {
            LogError::DiskFull { .. }
            | LogError::Io { .. }
            | LogError::Poisoned { .. }
            | LogError::Interrupted { .. } => {}
            other => {
                return Err(Violation::new("a log fails only with its disk", other.to_string()));
            }
        }
        let wait = self.disk.between(20, 600);
        self.schedule(at.0, wait, Event::Rebuild { key: at.1 });
        Ok(())
    }
}

/// The log keeps which transactions were aborted.
pub fn note_completed(log: &mut Log<FaultDisk>, completed: &Completed) -> Result<(), LogError> {
    let Completed { producer_id, first_offset, last_offset, committed } = *completed;
    match committed {
        true => Ok(()),
        false => log.note_aborted(Aborted { producer_id, first_offset, last_offset }),
    }
}

impl crate::broker::Watched {
    fn truncate(&mut self, end: Offset) {
        self.written.retain(|batch| batch.end_offset() <= end);
        // cleaning may have left a gap before where it was cut
        self.durable = self.durable.min(end);
        self.compared = self.compared.min(end);
        self.high_watermark = self.high_watermark.min(end);
    }
}
