//! Batches that hang together: once one of them was not appended, none behind it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// The batches of one sender to one partition, in one attempt. Whoever hands them over, carries them on or appends
/// them asks first whether it is whole; every failure breaks it before it is answered.
#[derive(Debug)]
pub struct Chain {
    /// Unlike that of any other chain of this process; never 0.
    pub number: u64,
    broken: AtomicBool,
    /// Cancelled when it is broken for what happened beside it.
    broken_by: Option<CancellationToken>,
    /// Cancelled when a leader has begun to append one of them.
    handed_over: CancellationToken,
}

impl Chain {
    pub fn new(handed_over: CancellationToken) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { number, broken: AtomicBool::new(false), broken_by: None, handed_over }
    }

    /// The same, also broken by something else.
    #[must_use]
    pub fn broken_by(self, cause: CancellationToken) -> Self {
        Self { broken_by: Some(cause), ..self }
    }

    /// One of them is being appended: from now on it may be done.
    pub fn accept(&self) {
        self.handed_over.cancel();
    }

    pub fn is_broken(&self) -> bool {
        let is_cancelled = |cause: &CancellationToken| cause.is_cancelled();
        self.broken.load(Ordering::Acquire) || self.broken_by.as_ref().is_some_and(is_cancelled)
    }

    pub fn sever(&self) {
        self.broken.store(true, Ordering::Release);
    }
}
