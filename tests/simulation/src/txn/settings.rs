//! What differs from run to run, for transactions.

use super::storm::TxnFault;
use crate::chance::Chance;
use crate::compaction::Compaction;
use crate::settings::{Bug, Fault, Settings};
use troupe_machines::replica::planted::Bug as MachineBug;
use troupe_machines::txn::planted::Bug as TxnBug;

/// Bugs of the one who carries out what coordinators of transactions decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnHostBug {
    /// Answers and markers are given out before the decision is committed.
    AnswerBeforeCommitted,
    /// A coordinator reads its partition to the high watermark that it finds, and does not wait for the rest.
    LoadTooEarly,
}

#[derive(Clone, Debug)]
pub struct TxnSettings {
    /// Partitions that are of coordinators.
    pub coordinators: u32,
    /// Transactional ids. Of each there are two producers, which may run at the same time.
    pub ids: usize,
    pub readers: usize,
    /// One client in so many speaks the first version; 0: none.
    pub first_version_in: u64,
    pub timeout_ms: (u32, u32),
    pub fault_interval_ms: u64,
    pub faults: Vec<TxnFault>,
}

impl Settings {
    /// A world of transactions, in which nothing may lose what is committed.
    pub fn draw_transactions(seed: u64, chance: &mut Chance, bug: Option<Bug>) -> Settings {
        let mut settings = Settings::draw(0, chance, bug);
        settings.compaction = Compaction::draw(seed, bug);
        let all_kinds = chance.one_in(3);
        let faults = TxnFault::ALL.into_iter().filter(|_| all_kinds || chance.one_in(2)).collect();
        let coordinators = chance.between(1, 2) as u32;
        let soon = chance.one_in(2);
        let of_first = matches!(
            bug,
            Some(
                Bug::Machine(MachineBug::TakeOldCoordinators | MachineBug::JoinTheNextTransaction)
                    | Bug::Txn(TxnBug::LateRequestsCount | TxnBug::AnyWordCounts)
            )
        );
        settings.txn = Some(TxnSettings {
            coordinators,
            ids: chance.between(1, 3) as usize,
            readers: 2,
            first_version_in: if of_first { 1 } else { [0, 3][chance.index(2)] },
            timeout_ms: if soon { (500, 1_500) } else { (2_000, 6_000) },
            fault_interval_ms: chance.between(100, 800),
            faults,
        });
        settings.partitions = chance.between(1, 3) as u32 + coordinators;
        settings.unclean = false;
        settings.producers = 2;
        settings.fault_interval_ms = chance.between(150, 1_200);
        settings.faults.retain(|fault| *fault != Fault::UncleanElection);
        settings
    }

    pub fn has_txn_bug(&self, bug: TxnHostBug) -> bool {
        self.bug == Some(Bug::TxnHost(bug))
    }
}
