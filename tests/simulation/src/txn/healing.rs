//! After the faults every transaction ends, each transactional id commits one more, and readers get to the end (I15).

use super::reader::Reader;
use crate::storage::End;
use crate::violation::Checked;
use crate::world::World;
use troupe_proto::ids::PartitionKey;

impl World {
    pub fn heal_transactions(&mut self) {
        self.txn.readers.iter_mut().for_each(Reader::start_over);
        for me in 0..self.txn.clients.len() {
            let ids = self.settings.txn.as_ref().map_or(1, |txn| txn.ids);
            let site = self.txn.clients[me].site;
            let client = &mut self.txn.clients[me];
            (client.slow_until, client.deaf_until) = (0, 0);
            // one of each is enough
            if me >= ids && !client.stopped {
                client.stopped = true;
                self.bury(site, End::Killed);
            }
        }
    }

    /// What is not well yet.
    pub fn transactions_are_well(&self) -> Result<(), String> {
        if self.settings.txn.is_none() {
            return Ok(());
        }
        for (me, client) in self.txn.clients.iter().enumerate() {
            if !client.stopped && (!client.probed || client.open.is_some()) {
                return Err(format!("client {me} has {:?} open", client.open));
            }
        }
        let ids = self.settings.txn.as_ref().map_or(0, |txn| txn.ids);
        for id in 0..ids {
            if !self.txn.clients.iter().any(|client| client.id == id && !client.stopped) {
                return Err(format!("nobody has x{id}"));
            }
        }
        for (at, coordinator) in &self.txn.coordinators {
            let Some(machine) = &coordinator.machine else { continue };
            let counts = machine.counts();
            if counts.open > 0 || counts.markers > 0 {
                return Err(format!("the coordinator {at:?} has {counts:?}"));
            }
        }
        let open = self.txn.truth.open();
        if !open.is_empty() {
            return Err(format!("transactions hang: {open:?}"));
        }
        for at in self.hosts() {
            let Some(host) = self.see_host(at) else { continue };
            let (stable, end) = (host.replica.last_stable_offset(), host.replica.high_watermark());
            if stable != end {
                return Err(format!("{at:?} is stable up to {stable} of {end}"));
            }
        }
        for reader in &self.txn.readers {
            for (partition, position) in (0..).zip(&reader.positions) {
                let end = self.ledgers.get(&self.key(partition)).map(|ledger| ledger.end());
                if end.is_some_and(|end| *position < end) {
                    return Err(format!("{partition} is read up to {position} of {end:?}"));
                }
            }
        }
        Ok(())
    }

    /// I9.
    pub fn check_transactions(&self) -> Checked {
        let is_deleted = |key: &PartitionKey, value: u64| {
            let ledger = self.ledgers.get(key);
            ledger.is_some_and(|ledger| {
                ledger.placed(value).is_some_and(|base| base < ledger.deleted_before)
            })
        };
        self.txn.truth.check_whole(is_deleted)?;
        self.hosts().into_iter().try_for_each(|at| self.check_aborted(at))
    }
}
