//! What is wrong with what is kept: damage, which another open does not mend, or a disk that would not.
//!
//! Owns the one place where sled is called: it panics on some damage, and a panic on the thread of Raft would leave
//! whoever waits there waiting. Promise: what sled does comes out as a result, and the first fault is remembered,
//! because Raft hands on no more of an error than its text.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// What is kept is not what was written, or nobody knows whether it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage(String);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damage {}

impl Damage {
    pub fn new(what: impl fmt::Display) -> Damage {
        Damage(what.to_string())
    }
}

/// As an error of input and output.
pub(super) fn damage(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damage::new(what))
}

/// The damage that an error stands for; `None`: something else.
pub(super) fn found_in(error: &io::Error) -> Option<Damage> {
    let mut cause = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if let Some(damage) = error.downcast_ref::<Damage>() {
            return Some(damage.clone());
        }
        cause = match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    None
}

/// What sled answers, even if it panics.
pub(super) fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(answer) => answer.map_err(io_error),
        Err(panic) => Err(damage(format!("the database panicked: {}", words(panic.as_ref())))),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

fn io_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => damage(other),
    }
}

/// Why a log could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Damaged(Damage),
    /// The disk is full, or does not answer; what is on it is what was written.
    Disk(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Damaged(damage) => damage.fmt(f),
            Fault::Disk(error) => f.write_str(error),
        }
    }
}

impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Fault {
        match found_in(error) {
            Some(damage) => Fault::Damaged(damage),
            None => Fault::Disk(error.to_string()),
        }
    }
}

/// The first fault of a log. Clones are the same place.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    /// The same result; if it is an error, it is remembered. Damage counts before what else there was.
    pub fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fault = Fault::from(error);
            match (&*known, &fault) {
                (Some(Fault::Damaged(_)), _) | (Some(Fault::Disk(_)), Fault::Disk(_)) => {}
                (None, _) | (Some(Fault::Disk(_)), Fault::Damaged(_)) => *known = Some(fault),
            }
        }
        result
    }

    pub fn first(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found_however_deep_it_is_wrapped() {
        let wrapped = io::Error::other(Arc::new(io::Error::other(damage("torn"))));
        assert_eq!(found_in(&damage("torn")), Some(Damage("torn".into())));
        assert_eq!(found_in(&io::Error::other(damage("torn"))), Some(Damage("torn".into())));
        assert!(found_in(&io::Error::other("torn")).is_none());
        assert!(
            found_in(&wrapped).is_none(),
            "an Arc hides what is in it: the flusher notes first"
        );
    }

    #[test]
    fn a_panic_of_the_database_is_damage_and_counts_before_a_full_disk() {
        let faults = Faults::default();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(faults.note::<()>(Err(full)).is_err());
        assert!(matches!(faults.first(), Some(Fault::Disk(_))));
        let panicked = guarded::<()>(|| panic!("page {} is not there", 3));
        assert!(faults.note(panicked).is_err());
        let expected = Damage("the database panicked: page 3 is not there".into());
        assert_eq!(faults.first(), Some(Fault::Damaged(expected)));
    }
}
