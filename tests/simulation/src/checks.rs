//! When the invariants are looked at: after every event of a replica, at appends, answers and elections.

use crate::broker::Asker;
use crate::invariants;
use crate::storage::headers_of;
use crate::violation::{Checked, Violation};
use crate::world::{At, World};
use troupe_log::disk::FaultDisk;
use troupe_machines::config::FlushPolicy;
use troupe_machines::replica::Appended;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset};

impl World {
    /// A leader has appended.
    pub fn appended(&mut self, at: At, header: &BatchHeader) -> Checked {
        let Some(id) = self.see_host(at).map(|host| host.id) else { return Ok(()) };
        let facts = [
            at.0 as u64,
            at.1.partition.0.into(),
            header.base_offset.0,
            header.leader_epoch.0.into(),
        ];
        self.trace.note(self.now, "append", facts);
        let Some(ledger) = self.ledgers.get_mut(&at.1) else { return Ok(()) };
        invariants::one_leader_per_epoch(&mut ledger.leaders, header.leader_epoch, id)
    }

    /// A leader answers that it is done.
    pub fn acknowledged(&mut self, at: At, asker: &Asker, appended: &Appended) -> Checked {
        let Some(host) = self.see_host(at) else { return Ok(()) };
        let (told, leads_in) = (host.watched.told_epoch, host.replica.leader_epoch());
        invariants::fenced_leaders_acknowledge_nothing(told, leads_in)?;
        if !asker.acks_all {
            return Ok(());
        }
        self.counts.acknowledged += 1;
        let base = appended.base_offset;
        self.trace.note(self.now, "acknowledge", [at.0 as u64, asker.value, base.0, 0]);
        // the high watermark has passed it: what is visible is noted before it is compared
        self.check_host(at)?;
        let strict = self.is_strict(&at.1);
        let Some(ledger) = self.ledgers.get_mut(&at.1) else { return Ok(()) };
        if strict && base >= ledger.deleted_before {
            invariants::acknowledged_is_committed(ledger, asker.value, base)?;
        }
        ledger.acknowledge(asker.value, base);
        Ok(())
    }

    /// What a replica knows and shows after an event.
    pub fn check_host(&mut self, at: At) -> Checked {
        self.check_visible(at)?;
        self.check_stable(at)
    }

    /// X12.
    fn check_stable(&self, at: At) -> Checked {
        let Some(host) = self.see_host(at).filter(|host| !host.offline) else { return Ok(()) };
        let Some(written) = self.txn.truth.partitions.get(&at.1) else { return Ok(()) };
        let (start, end) = (host.replica.log_start(), host.replica.high_watermark());
        let stable = host.replica.last_stable_offset();
        invariants::stable_is_decided(stable, start, written.stable(start, end))
    }

    fn check_visible(&mut self, at: At) -> Checked {
        let strict = self.is_strict(&at.1);
        let cannot_read = self.is_gone(at) || self.is_decayed(at);
        let Some(host) = self.host(at) else { return Ok(()) };
        // what is damaged within counts for committed where others have it
        let cannot_read = cannot_read || host.log.damaged_from().is_some();
        invariants::offsets_only_grow(host)?;
        let epoch = host.replica.leader_epoch();
        invariants::epochs_only_grow(host.watched.leader_epoch, epoch)?;
        host.watched.leader_epoch = host.watched.leader_epoch.max(epoch);
        let visible = host.replica.high_watermark();
        let from = host.watched.compared.max(host.log.log_start());
        if from >= visible || host.offline {
            return Ok(());
        }
        let mut shown = Vec::new();
        let mut show = |header: &BatchHeader| {
            if header.end_offset() <= visible && header.end_offset() > from {
                shown.push(*header);
            }
        };
        if cannot_read {
            host.watched.written.iter().for_each(show);
        } else {
            let read = host.log.replay(from, &mut show);
            read.map_err(|error| Violation::new("I16 a log can be read", error.to_string()))?;
        }
        host.watched.compared = shown.last().map_or(from, BatchHeader::end_offset);
        let (mut is_new, mut newly) = (false, Vec::new());
        let now = self.now;
        let Some(ledger) = self.ledgers.get_mut(&at.1) else { return Ok(()) };
        for header in &shown {
            if strict && header.base_offset < ledger.end() {
                is_new |= !invariants::committed_never_changes(ledger, header)?;
            // where something was lost, a replica that begins anew shows what was seen before
            } else if !invariants::is_seen(ledger, header) {
                is_new = true;
                ledger.commit(header, now, strict)?;
                newly.push((*header, ledger.value_of(header)));
            }
        }
        let facts = [at.0 as u64, at.1.partition.0.into(), visible.0, u64::from(is_new)];
        self.trace.note(now, "high watermark", facts);
        for (header, value) in newly {
            if let Some(value) = value {
                self.group_batch_committed(at.1, value)?;
            }
            self.txn_batch_committed(at.1, &header, value)?;
        }
        if is_new && strict { self.check_in_sync(at, visible) } else { Ok(()) }
    }

    /// I8, with the ISR as it is committed, whoever knows of it.
    fn check_in_sync(&mut self, at: At, visible: Offset) -> Checked {
        let Some(partition) = self.truth.partition(&at.1) else { return Ok(()) };
        for node in &partition.isr {
            let site = self.site_of(*node);
            let damaged = self.sites[site].damaged.contains_key(&at.1);
            let is_told = self.sites[site].losses_known.contains(&at.1);
            // nobody knows yet what it lacks
            let lacks = damaged && !is_told;
            if !self.sites[site].wiped && !lacks {
                let end = self.counted_end((site, at.1));
                invariants::in_sync_replica_has(visible, *node, end)?;
            }
        }
        Ok(())
    }

    /// Its machine has crashed in the middle of the event, and will be buried behind it.
    pub fn is_gone(&self, at: At) -> bool {
        self.sites[at.0].disks.get(&at.1).is_some_and(FaultDisk::has_crashed)
    }

    /// Whatever comes, a replica has everything below.
    fn counted_end(&self, at: At) -> Offset {
        let durable = self.settings.flush_policy == FlushPolicy::Commit;
        match (self.see_host(at), self.sites[at.0].remains.get(&at.1)) {
            (Some(host), _) if durable => host.watched.durable.max(host.log.flushed_end()),
            (Some(host), _) => host.log.log_end(),
            (None, Some(remains)) if durable => remains.durable,
            (None, Some(remains)) => remains.end,
            (None, None) => Offset::ZERO,
        }
    }

    /// I1, when it matters most: whoever begins to lead has what was committed.
    pub fn check_new_leader(&mut self, at: At, epoch: LeaderEpoch) -> Checked {
        // who hears late that it was elected may lack what others have committed since
        let newest = self.truth.partition(&at.1).map(|partition| partition.leader_epoch);
        if self.settings.unclean || self.is_gone(at) || newest != Some(epoch) {
            return Ok(());
        }
        let may_lose = self.ledgers.get(&at.1).and_then(|ledger| ledger.may_lose_from);
        if may_lose.is_some_and(|since| since <= epoch) {
            let damaged = self.see_host(at).is_some_and(|host| host.log.damage().is_some());
            let lacks = damaged || self.is_decayed(at) || self.leader_has_all(at).is_err();
            self.accept_loss(at, lacks);
            return Ok(());
        }
        if self.is_strict(&at.1) {
            self.leader_has_all(at)?;
            self.check_aborted(at)?;
        }
        Ok(())
    }

    fn leader_has_all(&self, at: At) -> Checked {
        let (Some(host), Some(ledger)) = (self.see_host(at), self.ledgers.get(&at.1)) else {
            return Ok(());
        };
        let headers = match self.is_decayed(at) && host.log.damage().is_none() {
            // what it has is found to be bad by whoever reads it
            true => host.watched.written.clone(),
            false => headers_of(&host.log)?,
        };
        let start = host.log.log_start().max(ledger.deleted_before);
        invariants::leader_has_what_is_committed(ledger, start, &headers)?;
        self.check_keys(at)
    }
}
