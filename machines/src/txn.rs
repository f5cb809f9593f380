//! Transactions, as a machine that decides and replays: which producer a transactional id has, what its transaction
//! wrote to, and whether that is committed.
//!
//! Owns all transactional ids of one partition of `__transaction_state`: what its records say ([`Transactions::replay`]
//! alone changes it), and what lives only as long as a coordinator does: which partitions have their markers, when
//! something is due, which requests are of the past, and producer ids that nobody has yet.
//!
//! A transaction goes: [`Transactions::init`], [`Transactions::add`] before the first record to each partition, the
//! records, [`Transactions::end`]. The record of a decision is **the decision point** (X4): once it is committed the
//! client is answered and markers go to every partition, until each has said that it has its own
//! ([`Transactions::marked`]); then the next one may begin.
//!
//! - By subject: `state` (X3's table), `transaction` (what a record comes to, and the ways between), `partition`,
//!   `records` (the log), `init` (X9), `adding` (X7, X15, X19), `ending` (X4, X8), `markers` (X5, X6), `expiry` (what time
//!   does, X10), `alarms`, `order` (of requests), `admin` (X21), `planted`.
//!
//! Promises: what was decided is never decided otherwise, whoever coordinates; a producer that was fenced changes
//! nothing; a request of one transaction changes nothing of the next; a partition is told one outcome of a transaction;
//! the same records give the same state; a refusal changes nothing, unless it says so.
//! Never here: a clock, a connection, an append; whether a record is committed.

mod adding;
mod admin;
mod alarms;
mod ending;
mod error;
mod expiry;
mod init;
mod markers;
mod order;
mod partition;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
#[cfg(feature = "planted-bugs")]
pub mod planted;
mod records;
mod state;
#[cfg(test)]
mod tests;
mod transaction;

pub use adding::AddRequest;
pub use admin::{Counts, Description, Listing, OpenAtPartition};
pub use ending::EndRequest;
pub use error::{ReplayError, TxnError};
pub use init::InitRequest;
pub use markers::{Marker, Ticket};
pub use partition::{ClientVersion, Producer, TxnPartition};
pub use records::Change;
pub use state::{Outcome, State};

use crate::group::Catalog;
use crate::time::Time;
use alarms::Alarms;
use markers::Round;
use order::Boundaries;
use planted::{Bug, Bugs};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use transaction::Transaction;
use troupe_proto::ids::ProducerId;

/// Producer ids that are kept at hand.
const SPARE_IDS: usize = 64;

/// What the operator has settled for all transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `transaction.max.timeout.ms` (X10).
    pub max_timeout_ms: u32,
    /// `transactional.id.expiration.ms` (X3).
    pub expiration_ms: u64,
    /// Of a record that names all partitions of a transaction. Well below what the log takes, so that whatever was
    /// begun can be ended.
    pub max_record_bytes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_timeout_ms: 900_000,
            expiration_ms: 7 * 86_400_000,
            max_record_bytes: 512 << 10,
        }
    }
}

/// Records to append and to replay at once; the rest is given out when they are committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision<T> {
    /// In this order. They may be appended as several batches.
    pub changes: Vec<Change>,
    pub answer: T,
    /// What partitions are to be told.
    pub markers: Vec<Marker>,
}

impl<T> Decision<T> {
    /// It is so already.
    fn unchanged(answer: T) -> Decision<T> {
        Decision { changes: Vec::new(), answer, markers: Vec::new() }
    }
}

/// What a transactional id may be.
///
/// # Errors
/// [`TxnError::InvalidTransactionalId`].
pub fn check_transactional_id(id: &str) -> Result<(), TxnError> {
    let refuse = |reason| Err(TxnError::InvalidTransactionalId { id: id.to_owned(), reason });
    if id.is_empty() {
        refuse("it is empty")
    } else if id.chars().count() > 255 {
        refuse("it is too long")
    } else if id.chars().any(char::is_control) {
        refuse("it has a control character")
    } else {
        Ok(())
    }
}

/// All transactional ids of one partition of `__transaction_state`. Which one that is, says
/// [`crate::group::coordinator_partition`] of the id (X1).
#[derive(Clone, Debug)]
pub struct Transactions {
    settings: Settings,
    /// `None`: not told yet.
    catalog: Option<Arc<Catalog>>,
    by_id: BTreeMap<Arc<str>, Transaction>,
    /// Of those that are prepared: which partitions have their markers.
    rounds: BTreeMap<Arc<str>, Round>,
    last_ticket: Ticket,
    /// When a transaction has lasted too long, or its markers are told again.
    alarms: Alarms,
    /// The log has been replayed: from here on a record that breaks a promise is refused.
    live: bool,
    /// When expired ids are looked for next.
    next_sweep: Option<Time>,
    boundaries: Boundaries,
    /// Nobody has them.
    spare: VecDeque<ProducerId>,
    bugs: Bugs,
}

impl Transactions {
    pub fn new(settings: Settings) -> Transactions {
        Transactions {
            settings,
            catalog: None,
            by_id: BTreeMap::new(),
            rounds: BTreeMap::new(),
            last_ticket: Ticket(0),
            alarms: Alarms::default(),
            live: false,
            next_sweep: None,
            boundaries: Boundaries::default(),
            spare: VecDeque::new(),
            bugs: Bugs::NONE,
        }
    }

    /// What follows is decided by these; what was decided stays.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Producer ids that were given out to nobody else, for those who are initialised next.
    pub fn supply(&mut self, ids: impl IntoIterator<Item = ProducerId>) {
        self.spare.extend(ids);
    }

    /// How many more producer ids had better be at hand.
    pub fn wanted_ids(&self) -> usize {
        SPARE_IDS.saturating_sub(self.spare.len())
    }

    /// Producer ids that are at hand.
    pub fn spare_ids(&self) -> usize {
        self.spare.len()
    }

    /// Applies the next record of the log: the only way in which hard state changes, live or after a crash.
    /// After an error this state is of no use.
    pub fn replay(&mut self, change: &Change) -> Result<(), ReplayError> {
        let id = change.transactional_id()?;
        let next = change.value.as_ref().map(Transaction::from_record).transpose()?;
        let known = self.by_id.get_key_value(id);
        let from = known.map(|(_, known)| known.state);
        let to = next.as_ref().map_or(State::Dead, |next| next.state);
        if self.is_strict() && !state::follows(from, to) {
            return Err(ReplayError::Impossible { id: id.to_owned(), from, to });
        }
        let id = known.map_or_else(|| id.into(), |(id, _)| Arc::clone(id));
        match next {
            Some(next) => self.put(id, next),
            None => {
                self.by_id.remove(&id);
                self.rounds.remove(&id);
                self.alarms.clear(&id);
            }
        }
        Ok(())
    }

    fn put(&mut self, id: Arc<str>, next: Transaction) {
        self.spare.retain(|spare| *spare != next.producer.id && Some(*spare) != next.next);
        self.rounds.remove(&id);
        if next.state.prepared().is_some() {
            self.last_ticket = self.last_ticket.next();
            self.rounds.insert(Arc::clone(&id), Round::new(self.last_ticket));
            self.alarms.set(&id, next.updated.plus(markers::RETRY_MS));
        } else if let Some(deadline) = next.deadline() {
            self.alarms.set(&id, deadline);
        } else {
            self.alarms.clear(&id);
        }
        self.by_id.insert(id, next);
    }

    /// The log has been replayed. Then [`Transactions::on_time`] does what a failed coordinator did not come to.
    pub fn loaded(&mut self, now: Time) {
        self.live = true;
        for (id, transaction) in &self.by_id {
            if transaction.state.prepared().is_some() {
                match self.bugs.has(Bug::MarkersAreForgotten) {
                    true => self.alarms.clear(id),
                    false => self.alarms.set(id, now),
                }
            } else if let Some(deadline) = transaction.deadline() {
                // Another node's clock may have been ahead.
                let longest = now.plus(u64::from(transaction.timeout_ms));
                self.alarms.set(id, deadline.min(longest));
            }
        }
        self.next_sweep = Some(now.plus(expiry::SWEEP_INTERVAL_MS));
        self.boundaries.loaded(now);
    }

    /// What topics there are from now on; [`Transactions::catalog_changed`] decides what follows. Due once before
    /// anything is asked.
    pub fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        self.catalog = Some(catalog);
    }

    /// Whether a record that may not follow the one before is an error. Compaction takes those between.
    fn is_strict(&self) -> bool {
        self.live && !self.bugs.has(Bug::DecideAgain)
    }

    fn get(&self, id: &str) -> Option<(&Arc<str>, &Transaction)> {
        self.by_id.get_key_value(id)
    }

    fn spare_id(&self) -> Result<ProducerId, TxnError> {
        self.spare.front().copied().ok_or(TxnError::NoProducerId)
    }

    /// The transaction that the producer has, or is about to have.
    ///
    /// # Errors
    /// X8: another producer id, or another epoch.
    fn owned(&self, id: &str, producer: Producer) -> Result<(&Arc<str>, &Transaction), TxnError> {
        let (name, known) = self.get(id).ok_or_else(|| TxnError::mapping(id, producer))?;
        if producer == known.identity() {
            Ok((name, known))
        } else if producer.id == known.identity().id || producer.id == known.producer.id {
            Err(TxnError::fenced(id, producer))
        } else {
            Err(TxnError::mapping(id, producer))
        }
    }
}
