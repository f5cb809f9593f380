//! What happens to producers with transactions, and to their coordinators; the rest happens to brokers, disks and the
//! network.

use super::TxnEvent;
use crate::storage::End;
use crate::violation::Checked;
use crate::world::{Event, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnFault {
    /// Gone without a word, and back as a new instance.
    KillClient,
    /// Stands still for longer than its transactions may last, and goes on as if nothing were.
    Zombie,
    /// The same, while another instance is started.
    ZombieBesideAnother,
    /// Another instance, while the first one runs.
    StartAnother,
    /// Does nothing for a while, with whatever is open.
    Slow,
    SwallowAnswers,
    KillCoordinator,
    /// An operator has what is open aborted.
    AbortByOperator,
}

impl TxnFault {
    pub const ALL: [TxnFault; 8] = [
        TxnFault::KillClient,
        TxnFault::Zombie,
        TxnFault::ZombieBesideAnother,
        TxnFault::StartAnother,
        TxnFault::Slow,
        TxnFault::SwallowAnswers,
        TxnFault::KillCoordinator,
        TxnFault::AbortByOperator,
    ];
}

impl World {
    pub fn txn_storm(&mut self) -> Checked {
        let Some(settings) = self.settings.txn.clone().filter(|_| !self.healing) else {
            return Ok(());
        };
        let wait = 1 + self.fate.below(2 * settings.fault_interval_ms);
        self.schedule_free(wait, Event::txn(TxnEvent::Storm));
        let Some(fault) = self.fate.pick(&settings.faults) else { return Ok(()) };
        let me = self.fate.index(self.txn.clients.len());
        self.trace.note(self.now, "txn storm", [fault as u64, me as u64, 0, 0]);
        match fault {
            TxnFault::KillClient => self.kill_client(me),
            TxnFault::Zombie => self.make_client_zombie(me),
            TxnFault::ZombieBesideAnother => {
                self.make_client_zombie(me);
                let other = (me + settings.ids) % self.txn.clients.len();
                self.start_another(other);
            }
            TxnFault::StartAnother => self.start_another(me),
            TxnFault::Slow => {
                self.txn_counts.slow_clients += 1;
                let until = self.now + self.fate.between(300, 4_000);
                self.txn.clients[me].slow_until = until;
            }
            TxnFault::SwallowAnswers => {
                let until = self.now + self.fate.between(200, 3_000);
                self.txn.clients[me].deaf_until = until;
            }
            TxnFault::KillCoordinator => {
                let running: Vec<_> = self.txn.coordinators.keys().copied().collect();
                if let Some(at) = self.fate.pick(&running) {
                    self.txn_counts.coordinators_killed += 1;
                    self.end_txn_coordinator(at);
                }
            }
            TxnFault::AbortByOperator => self.abort_by_operator(me)?,
        }
        Ok(())
    }

    fn kill_client(&mut self, me: usize) {
        let site = self.txn.clients[me].site;
        if self.sites[site].up && !self.txn.clients[me].stopped {
            self.txn_counts.killed_clients += 1;
            self.bury(site, End::Killed);
            let wait = self.fate.between(20, 3_000);
            self.schedule_free(wait, Event::Undo(crate::nemesis::Undo::Restart(site)));
        }
    }

    fn make_client_zombie(&mut self, me: usize) {
        let site = self.txn.clients[me].site;
        let target = &mut self.sites[site];
        if target.up && !target.paused && !self.txn.clients[me].stopped {
            target.paused = true;
            self.txn_counts.zombies += 1;
            let wait = self.fate.between(500, 5_000);
            self.schedule_free(wait, Event::Undo(crate::nemesis::Undo::Resume(site)));
        }
    }

    fn start_another(&mut self, me: usize) {
        let site = &self.sites[self.txn.clients[me].site];
        if site.up && !site.paused && self.txn.clients[me].stopped {
            self.txn_counts.twins += 1;
            self.start_client(me);
        }
    }

    fn abort_by_operator(&mut self, me: usize) -> Checked {
        let key = self.coordinator_key(self.txn.clients[me].id);
        let id = super::calls::transactional_id(self.txn.clients[me].id);
        let running = self.txn.coordinators.keys().find(|at| at.1 == key).copied();
        let Some(at) = running.filter(|at| self.sites[at.0].up && !self.sites[at.0].paused) else {
            return Ok(());
        };
        self.end_txn_coordinator_if_deposed(at);
        let now = self.steady(at.0);
        let Some(Ok(decision)) = self.txn_machine(at).map(|machine| machine.abort(now, &id)) else {
            return Ok(());
        };
        self.txn_counts.aborted_by_operators += u64::from(!decision.changes.is_empty());
        self.settle_txn(at, decision, None, |()| None)
    }
}
