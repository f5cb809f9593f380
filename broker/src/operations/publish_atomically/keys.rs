//! Calls that are named: which are under way on this node, and the transactional ids that their keys stand for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use troupe_machines::txn::check_transactional_id;
use troupe_proto::error::{Error, ErrorCode};

/// Before a key. No client has reason to call its producer so, and no id of a pool is.
const PREFIX: &str = "__atomic/";

#[derive(Default)]
pub struct Keys(Mutex<BTreeSet<Arc<str>>>);

/// Of one call. When it is dropped, the next may have it.
pub struct Turn<'k> {
    keys: &'k Keys,
    id: Arc<str>,
}

impl Keys {
    /// # Errors
    /// `CONCURRENT_TRANSACTIONS`: another call on this node has it.
    pub fn turn(&self, id: &Arc<str>) -> Result<Turn<'_>, Error> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.insert(Arc::clone(id)) {
            true => Ok(Turn { keys: self, id: Arc::clone(id) }),
            false => Err(concurrent("a call with this transaction_key is being carried out")),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// # Errors
/// `INVALID_TRANSACTIONAL_ID`.
pub fn id_of(key: &str) -> Result<Arc<str>, Error> {
    let id = format!("{PREFIX}{key}");
    check_transactional_id(&id).map_err(|_| {
        let most = 255 - PREFIX.len();
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
        ErrorCode::TransactionAbortable if error.facts.contains_key(super::ending::FENCED) => {
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

    #[test]
    fn a_key_is_carried_out_by_one_call_at_a_time() {
        let keys = Keys::default();
        let (one, other) = (id_of("one").unwrap(), id_of("other").unwrap());
        let turn = keys.turn(&one).unwrap();
        assert_eq!(keys.turn(&one).err().unwrap().code, ErrorCode::ConcurrentTransactions);
        assert!(keys.turn(&other).is_ok());
        drop(turn);
        assert!(keys.turn(&one).is_ok());
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
