//! Calls that are named: which are under way on this node, and the transactional ids that their keys stand for.

use super::ending::FENCED;
use crate::txn::OF_NODES;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use troupe_machines::txn::check_transactional_id;
use troupe_proto::error::{Error, ErrorCode};

#[derive(Default)]
pub struct Keys {
    under_way: Mutex<BTreeSet<Arc<str>>>,
    ended: Notify,
}

/// Of one call. When it is dropped, the next may have it.
pub struct Turn<'k> {
    keys: &'k Keys,
    id: Arc<str>,
}

impl Keys {
    /// After other calls on this node that have it.
    ///
    /// # Errors
    /// `CONCURRENT_TRANSACTIONS`: one of them takes longer.
    pub async fn turn(&self, id: &Arc<str>, deadline: Instant) -> Result<Turn<'_>, Error> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on it is heard.
            ended.as_mut().enable();
            if self.under_way().insert(Arc::clone(id)) {
                return Ok(Turn { keys: self, id: Arc::clone(id) });
            }
            if timeout_at(deadline, ended).await.is_err() {
                return Err(concurrent("a call with this transaction_key is being carried out"));
            }
        }
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.keys.under_way().remove(&self.id);
        self.keys.ended.notify_waiters();
    }
}

/// # Errors
/// `INVALID_TRANSACTIONAL_ID`.
pub fn id_of(key: &str) -> Result<Arc<str>, Error> {
    let prefix = format!("{OF_NODES}/");
    let id = format!("{prefix}{key}");
    check_transactional_id(&id).map_err(|_| {
        let most = 255 - prefix.len();
        let message = format!(
            "the transaction_key cannot be one: use 1 to {most} characters, none of them a control character"
        );
        Error::new(ErrorCode::InvalidTransactionalId, message).with("max", most)
    })?;
    Ok(id.into())
}

/// Only another call with the same key fences the one that has it.
pub fn overtaken(error: Error) -> Error {
    match error.code {
        ErrorCode::TransactionAbortable if error.facts.contains_key(FENCED) => {
            concurrent("a call with this transaction_key that came later has undone this one")
        }
        _ => error,
    }
}

fn concurrent(why: &str) -> Error {
    let message = format!("{why}; ask again soon, to be told what it came to");
    Error::new(ErrorCode::ConcurrentTransactions, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_carried_out_by_one_call_at_a_time() {
        let keys = Keys::default();
        let (one, other) = (id_of("one").unwrap(), id_of("other").unwrap());
        let soon = || Instant::now() + Duration::from_secs(1);
        let turn = keys.turn(&one, soon()).await.unwrap();
        let refused = keys.turn(&one, soon()).await.err().unwrap();
        assert_eq!(refused.code, ErrorCode::ConcurrentTransactions);
        assert!(keys.turn(&other, soon()).await.is_ok());
        let next = async { keys.turn(&one, soon()).await.is_ok() };
        let end = async { drop(turn) };
        assert!(tokio::join!(next, end).0, "it waits for its turn");
    }

    #[test]
    fn a_key_is_as_long_as_its_id_may_be() {
        assert!(id_of(&"k".repeat(246)).is_ok());
        for wrong in [&*"k".repeat(247), "with\nend"] {
            let refused = id_of(wrong).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidTransactionalId);
        }
    }
}
