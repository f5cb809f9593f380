//! What operators see of transactions, and may do about them (X21).

use super::partition::{Producer, TxnPartition};
use super::state::{Event, State, path};
use super::transaction::Transaction;
use super::{Decision, Transactions, TxnError, check_transactional_id};
use crate::time::Time;
use std::sync::Arc;
use troupe_proto::ids::PartitionKey;

/// One transactional id among all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub transactional_id: Arc<str>,
    pub producer: Producer,
    pub state: State,
    /// When the transaction that is open, or being completed, got its first partition.
    pub started: Option<Time>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ids: usize,
    /// Transactions that are begun, and not decided.
    pub open: usize,
    /// Partitions that owe a word that they have their marker.
    pub markers: usize,
}

/// All that is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub producer: Producer,
    pub state: State,
    pub timeout_ms: u32,
    /// When the transaction that is open, or being completed, got its first partition.
    pub started: Option<Time>,
    pub partitions: Vec<TxnPartition>,
}

/// A transaction that is open as far as the partition knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenAtPartition {
    pub producer: Producer,
    pub partition: PartitionKey,
}

impl Description {
    /// Whether what the partition holds open will be ended by this transaction.
    pub fn answers_for(&self, open: &OpenAtPartition) -> bool {
        answers_for((self.state, self.producer), &self.partitions, open)
    }
}

fn answers_for<'a>(
    (state, producer): (State, Producer),
    partitions: impl IntoIterator<Item = &'a TxnPartition>,
    open: &OpenAtPartition,
) -> bool {
    let is_its_own = match state {
        State::Ongoing => producer == open.producer,
        // Its markers end whatever is older.
        _ => producer.id == open.producer.id,
    };
    is_its_own && partitions.into_iter().any(|partition| partition.key() == open.partition)
}

impl Transactions {
    /// All transactional ids, by name. Who coordinates them is for the caller to say.
    pub fn list(&self) -> Vec<Listing> {
        let listing = |(id, known): (&Arc<str>, &Transaction)| Listing {
            transactional_id: Arc::clone(id),
            producer: known.producer,
            state: known.state,
            started: known.started,
        };
        self.by_id.iter().map(listing).collect()
    }

    pub fn counts(&self) -> Counts {
        let open = self.by_id.values().filter(|known| known.state == State::Ongoing).count();
        let owed = |id: &Arc<str>| {
            let owed = self.get(id).and_then(|(id, known)| self.owed(id, known));
            owed.map_or(0, |marker| marker.partitions.len())
        };
        Counts { ids: self.by_id.len(), open, markers: self.rounds.keys().map(owed).sum() }
    }

    /// # Errors
    /// `TransactionalIdNotFound`.
    pub fn describe(&self, transactional_id: &str) -> Result<Description, TxnError> {
        let (_, known) = self.find(transactional_id)?;
        Ok(Description {
            producer: known.producer,
            state: known.state,
            timeout_ms: known.timeout_ms,
            started: known.started,
            partitions: known.partitions.iter().cloned().collect(),
        })
    }

    /// Aborts what is open, and fences its producer. What is being aborted is no change.
    ///
    /// # Errors
    /// `InvalidTransactionState`: nothing is open, or it is committed.
    pub fn abort(&self, now: Time, transactional_id: &str) -> Result<Decision<()>, TxnError> {
        let (id, known) = self.find(transactional_id)?;
        let refuse = |reason| {
            Err(TxnError::InvalidTransactionState { asked: "an abort", state: known.state, reason })
        };
        match known.state {
            _ if path(Some(known.state), Event::Fence).is_some() => {
                let mut draft = self.draft(now);
                draft.decide(id, &known.fenced(now, None));
                Ok(draft.answer(()))
            }
            State::PrepareAbort => Ok(Decision::default()),
            State::PrepareCommit => refuse("it is committed, and its partitions will hear of it"),
            _ => refuse("none is open"),
        }
    }

    /// Of what partitions hold open, all that this coordinator knows nothing of. What no coordinator knows hangs: it is
    /// ended by nobody, until somebody writes its marker.
    pub fn find_hanging(&self, open: &[OpenAtPartition]) -> Vec<OpenAtPartition> {
        let answers_for = |known: &Transaction, it: &OpenAtPartition| {
            answers_for((known.state, known.producer), &known.partitions, it)
        };
        let hangs = |it: &&OpenAtPartition| !self.by_id.values().any(|txn| answers_for(txn, it));
        open.iter().filter(hangs).copied().collect()
    }

    fn find(&self, transactional_id: &str) -> Result<(&Arc<str>, &Transaction), TxnError> {
        check_transactional_id(transactional_id)?;
        let id = transactional_id.to_owned();
        self.get(transactional_id).ok_or(TxnError::TransactionalIdNotFound { id })
    }
}
