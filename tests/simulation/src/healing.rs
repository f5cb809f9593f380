//! The second phase: faults end, everybody comes back, and then all has to become well (I17, I8, I1).

use crate::invariants;
use crate::ledger::Ledger;
use crate::storage::headers_of;
use crate::violation::{Checked, Violation};
use crate::world::{At, World};
use std::collections::BTreeMap;
use troupe_machines::replica::Role;
use troupe_proto::ids::{Offset, PartitionKey};

/// After this long, all is well.
const PATIENCE_MS: u64 = 40_000;
const LOOK_EVERY_MS: u64 = 250;

impl World {
    pub fn heal(&mut self) -> Checked {
        self.trace.note(self.now, "heal", [0; 4]);
        self.healing = true;
        self.network.cuts.clear();
        self.network.loss = 0;
        self.network.slow_ms = 0;
        self.heal_groups();
        self.heal_transactions();
        for site in 0..self.sites.len() {
            self.sites[site].slow_disk_until = 0;
            for disk in self.sites[site].disks.values() {
                disk.heal();
            }
            self.resume(site)?;
            self.restart(site);
        }
        let end = self.now + PATIENCE_MS;
        let mut missing = String::new();
        while self.now < end {
            self.run_until(self.now + LOOK_EVERY_MS)?;
            self.look_at_all_files();
            match self.is_well() {
                Ok(()) => return self.compare(),
                Err(what) => missing = what,
            }
        }
        Err(Violation::new("I17 all becomes well", missing))
    }

    /// What is not well yet.
    fn is_well(&self) -> Result<(), String> {
        let image = self.truth.image();
        for site in 0..self.settings.brokers {
            let Some(broker) = &self.sites[site].broker else {
                return Err(format!("site {site} is down"));
            };
            if broker.image != *image || !broker.is_current() {
                return Err(format!("site {site} knows other metadata"));
            }
            if image.broker(broker.node).is_none_or(|known| !known.is_active()) {
                return Err(format!("site {site} is not active"));
            }
        }
        for producer in &self.producers {
            for lane in &producer.lanes {
                if !lane.probed || !lane.pending.is_empty() {
                    return Err(format!("{} batches are not answered", lane.pending.len()));
                }
            }
        }
        let keys: Vec<_> = self.ledgers.keys().copied().collect();
        keys.iter().try_for_each(|key| self.is_partition_well(key))?;
        self.groups_are_well()?;
        self.transactions_are_well()
    }

    fn is_partition_well(&self, key: &PartitionKey) -> Result<(), String> {
        let Some(partition) = self.truth.partition(key) else {
            return Err("there is no topic".to_owned());
        };
        let mut in_sync = partition.isr.clone();
        let mut replicas = partition.replicas.clone();
        in_sync.sort();
        replicas.sort();
        if in_sync != replicas || partition.leader.is_none() || partition.is_reassigning() {
            let here = |at: &At| (at.0, self.see_host(*at).map(|host| &host.replica));
            let replicas: Vec<_> = self.replicas_of(key);
            let replicas: Vec<_> = replicas.iter().map(here).collect();
            return Err(format!("{key}: {partition:?}, {replicas:?}"));
        }
        let here = self.replicas_of(key);
        if let Some(at) = self.hosts().iter().find(|at| at.1 == *key && !here.contains(at)) {
            return Err(format!("{key} is still on site {}", at.0));
        }
        let mut ends = BTreeMap::new();
        let mut starts = BTreeMap::new();
        for at in self.replicas_of(key) {
            let Some(host) = self.see_host(at).filter(|host| !host.offline) else {
                return Err(format!("{key} has no replica on site {}", at.0));
            };
            if host.log.damage().is_some() || self.is_decayed(at) && !self.is_readable(at) {
                return Err(format!("{key} is damaged on site {}", at.0));
            }
            let replica = &host.replica;
            let leads = replica.role() == Role::Leader;
            let settled = replica.high_watermark() == replica.log_end();
            if leads != (partition.leader == self.sites[at.0].node) || !settled {
                return Err(format!("{key} on site {}: {replica:?}", at.0));
            }
            ends.insert(replica.log_end(), at.0);
            starts.insert((!leads, at.0), replica.log_start());
        }
        // R26; who has deleted more by itself may keep it so
        let first = starts.values().next().copied();
        if ends.len() > 1 || starts.values().any(|start| Some(*start) < first) {
            return Err(format!("{key} starts at {starts:?}, ends at {ends:?}"));
        }
        Ok(())
    }

    fn replicas_of(&self, key: &PartitionKey) -> Vec<At> {
        let replicas = self.truth.partition(key).map(|partition| partition.replicas.clone());
        let replicas = replicas.unwrap_or_default();
        replicas.into_iter().map(|node| (self.site_of(node), *key)).collect()
    }

    /// Every replica has everything, and the same.
    fn compare(&self) -> Checked {
        self.check_transactions()?;
        for (key, ledger) in &self.ledgers {
            ledger.check_outcomes()?;
            let mut first: Option<Vec<u8>> = None;
            let replicas = self.replicas_of(key);
            let starts = replicas.iter().filter_map(|at| self.see_host(*at));
            let from = starts.map(|host| host.log.log_start()).max().unwrap_or_default();
            for at in replicas {
                let bytes = self.check_replica(at, ledger, from)?;
                match &first {
                    None => first = Some(bytes),
                    // each cleans for itself
                    Some(_) if ledger.compaction.is_some() => {}
                    Some(first) => invariants::replicas_are_equal(first, &bytes)?,
                }
            }
        }
        Ok(())
    }

    fn check_replica(&self, at: At, ledger: &Ledger, from: Offset) -> Checked<Vec<u8>> {
        let Some(host) = self.see_host(at) else { return Ok(Vec::new()) };
        let headers = headers_of(&host.log)?;
        // who was away when some of it was given up, may have that and what was sent again
        let kept = headers.iter().filter(|header| !ledger.is_given_up(header));
        invariants::each_stamp_once(&kept.copied().collect::<Vec<_>>())?;
        let log_start = host.log.log_start();
        if !self.settings.unclean {
            invariants::acknowledged_is_there(ledger, log_start, &headers)?;
        }
        if self.is_strict(&at.1) {
            invariants::leader_has_what_is_committed(ledger, log_start, &headers)?;
            self.check_keys(at)?;
        }
        let (mut bytes, mut next) = (Vec::new(), from);
        while next < host.log.log_end() {
            let slice = host.log.read(next, host.log.log_end(), 1 << 20);
            let slice = slice
                .map_err(|error| Violation::new("I16 a log can be read", error.to_string()))?;
            let mut position = 0;
            for header in invariants::checksums_hold(&at.1, slice.bytes.clone())? {
                let end = position + header.encoded_len();
                // who was away has it still, where others have given it up
                if !ledger.is_given_up(&header) {
                    bytes.extend_from_slice(&slice.bytes[position..end]);
                }
                position = end;
            }
            next = slice.end;
        }
        Ok(bytes)
    }
}
