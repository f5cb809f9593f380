//! Cleaning, as a broker does it: begun by the replica's actor, run beside it, finished by it; whatever comes between.

use crate::broker::{Host, Pass};
use crate::compaction::{Compaction, records_of};
use crate::damage::{Finder, Suspicion};
use crate::invariants;
use crate::settings::{Fault, HostBug};
use crate::storage::headers_of;
use crate::violation::{Checked, Violation};
use crate::world::{At, Event, World};
use std::collections::BTreeSet;
use troupe_log::disk::FaultDisk;
use troupe_log::{
    Cleaned, CleaningError, CleaningPolicy, CleaningRequest, Finished, FullSpeed, LogError,
    OffsetMap,
};
use troupe_machines::cluster::LOG_VERSION;
use troupe_machines::config::FlushPolicy;
use troupe_proto::ids::Offset;

impl World {
    /// Some of the replicas here get a pass now.
    pub fn begin_cleanings(&mut self, site: usize) -> Checked {
        let Some(compaction) = self.settings.compaction.clone() else { return Ok(()) };
        let known = self.sites[site].broker.as_ref().map(|broker| &broker.image);
        if known.is_none_or(|image| image.behind_log_version(LOG_VERSION).next().is_some()) {
            return Ok(());
        }
        let here = self.hosts().into_iter();
        let here = here.filter(|at| at.0 == site && !self.is_of_coordinator(&at.1));
        for at in here.collect::<Vec<_>>() {
            // where some clean seldom, one leader lacks tombstones that another has
            let seldom = self.settings.slow_fills && at.0 % 2 == 1;
            if self.disk.one_in(if seldom { 60 } else { 3 }) {
                self.begin_cleaning(at, &compaction)?;
            }
        }
        Ok(())
    }

    fn begin_cleaning(&mut self, at: At, compaction: &Compaction) -> Checked {
        let bugs = [
            HostBug::ForgetDeleteRetention,
            HostBug::ForgetWhoLacksTombstones,
            HostBug::ForgetProducersInCleaning,
        ];
        let [no_retention, no_others, no_producers] =
            bugs.map(|bug| self.settings.has_host_bug(bug));
        let (now_ms, random) = (self.wall(at.0).as_timestamp(), self.disk.next());
        let Some(host) = self.host(at).filter(|host| !host.offline && host.pass.is_none()) else {
            return Ok(());
        };
        let mut hash_key = [0; 16];
        hash_key[..8].copy_from_slice(&random.to_be_bytes());
        let replica = &host.replica;
        let request = CleaningRequest {
            policy: CleaningPolicy {
                min_dirty_ratio: 0.0,
                delete_retention_ms: if no_retention { 0 } else { compaction.delete_retention_ms },
                ..CleaningPolicy::default()
            },
            now_ms,
            below: replica.last_stable_offset(),
            tombstones_below: if no_others { Offset(u64::MAX) } else { replica.everyone_has() },
            keep: if no_producers { BTreeSet::new() } else { replica.remembered_batches() },
            hash_key,
        };
        let begun = match host.log.begin_cleaning(request) {
            Ok(Some(cleaning)) => cleaning,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.suspect(at, Suspicion::Log(error.clone()), Finder::Cleaner);
                return self.append_failed(at, &error);
            }
        };
        host.pass = Some(Pass::Begun(begun));
        let (key, id) = (at.1, host.id);
        let wait = self.disk.between(1, 150);
        self.schedule(at.0, wait, Event::CleaningDue { key, host: id });
        Ok(())
    }

    /// The next part of a pass: on a thread of its own it runs, and then the actor takes what it has made.
    pub fn cleaning_due(&mut self, at: At, id: u64) -> Checked {
        self.crash_within_cleaning(at);
        let map_bytes = self.settings.compaction.as_ref().map_or(0, |it| it.map_bytes);
        let Some(host) = self.host(at).filter(|host| host.id == id) else { return Ok(()) };
        match host.pass.take() {
            None => Ok(()),
            Some(Pass::Begun(cleaning)) => {
                match cleaning.run(&mut OffsetMap::new(map_bytes), &mut FullSpeed) {
                    Ok(made) => host.pass = Some(Pass::Made(made)),
                    Err(CleaningError::Overtaken) => self.counts.cleanings_overtaken += 1,
                    Err(CleaningError::Damaged { path, position, cause }) => {
                        if !self.is_decayed(at) {
                            return Err(Violation::new("I16 a log can be read", cause));
                        }
                        let error = LogError::CorruptLog { path, position, cause };
                        self.suspect(at, Suspicion::Log(error), Finder::Cleaner);
                    }
                    // another pass will begin
                    Err(CleaningError::Aborted | CleaningError::Log(_)) => {}
                }
                let wait = self.disk.between(1, 150);
                self.schedule(at.0, wait, Event::CleaningDue { key: at.1, host: id });
                Ok(())
            }
            Some(Pass::Made(made)) => self.finish_cleaning(at, made),
            Some(Pass::Ending(ending)) => match ending.run() {
                Ok(()) => Ok(()),
                Err(error) => self.append_failed(at, &error),
            },
        }
    }

    fn finish_cleaning(&mut self, at: At, made: Cleaned<FaultDisk>) -> Checked {
        let no_others = self.settings.has_host_bug(HostBug::ForgetWhoLacksTombstones);
        let Some(host) = self.host(at) else { return Ok(()) };
        let high_watermark = host.replica.high_watermark();
        let everyone_has = if no_others { Offset(u64::MAX) } else { host.replica.everyone_has() };
        match host.log.finish_cleaning(made, high_watermark, everyone_has) {
            Ok(Some(finished)) => {
                host.replica.on_tombstones_gone(host.log.tombstones_gone_below());
                self.cleaned(at, finished)
            }
            Ok(None) => {
                self.counts.cleanings_overtaken += 1;
                Ok(())
            }
            Err(error) => {
                self.append_failed(at, &error)?;
                self.settle_host(at)
            }
        }
    }

    fn cleaned(&mut self, at: At, finished: Finished<FaultDisk>) -> Checked {
        let Finished { removals, report, ending } = finished;
        self.counts.cleanings += 1;
        self.counts.records_cleaned += report.records_gone;
        let facts = [at.0 as u64, at.1.partition.0.into(), report.end.0, report.records_gone];
        self.trace.note(self.now, "cleaned", facts);
        let (end, wait) = (self.disk.between(1, 150), self.disk.between(1, 2_000));
        let Some(host) = self.host(at) else { return Ok(()) };
        let id = host.id;
        host.removals.extend(removals);
        host.pass = Some(Pass::Ending(ending));
        self.schedule(at.0, end, Event::CleaningDue { key: at.1, host: id });
        self.schedule(at.0, wait, Event::RunRemovals { key: at.1, host: id });
        let is_damaged = self.see_host(at).is_none_or(|host| host.log.damage().is_some());
        if !self.is_gone(at) && !self.is_decayed(at) && !is_damaged {
            self.check_cleaned(at)?;
        }
        self.settle_host(at)
    }

    /// What has to hold right behind a pass.
    fn check_cleaned(&self, at: At) -> Checked {
        let (Some(host), Some(ledger)) = (self.see_host(at), self.ledgers.get(&at.1)) else {
            return Ok(());
        };
        if self.settings.unclean {
            return Ok(());
        }
        let Host { replica, log, .. } = host;
        invariants::producers_stay_known(
            &replica.remembered_batches(),
            log.log_start(),
            &headers_of(log)?,
            ledger,
        )?;
        if !self.is_strict(&at.1) {
            return Ok(());
        }
        let range = log.log_start()..replica.high_watermark();
        let records = records_of(log)?;
        invariants::the_last_of_each_key_stays(ledger, &range, &records)?;
        let retention = self.settings.compaction.as_ref().map_or(0, |it| it.delete_retention_ms);
        if !self.settings.faults.contains(&Fault::ClockJump)
            && let Some(since) = self.now.checked_sub(retention)
        {
            invariants::tombstones_stay_their_time(ledger, range, since, &records)?;
        }
        Ok(())
    }

    /// Of a replica that has all that is committed.
    pub fn check_keys(&self, at: At) -> Checked {
        let (Some(host), Some(ledger)) = (self.see_host(at), self.ledgers.get(&at.1)) else {
            return Ok(());
        };
        let unreadable = self.is_decayed(at) || host.log.damage().is_some();
        if self.settings.unclean || ledger.compaction.is_none() || unreadable {
            return Ok(());
        }
        let range = host.log.log_start()..ledger.end();
        invariants::the_last_of_each_key_stays(ledger, &range, &records_of(&host.log)?)
    }

    fn crash_within_cleaning(&mut self, at: At) {
        let armed = !self.healing
            && self.settings.faults.contains(&Fault::CrashWithinIo)
            && self.settings.flush_policy == FlushPolicy::Commit
            && self.disk.one_in(12);
        if armed && let Some(disk) = self.sites[at.0].disks.get(&at.1) {
            self.counts.crashes_within_cleaning += 1;
            disk.crash_at(disk.changes() + self.disk.below(14), self.disk.index(60));
        }
    }
}
