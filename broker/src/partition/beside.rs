//! What the partitions beside it tell the cleaner: that a log has grown, and how long their flushes take.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use troupe_machines::cleaning::Courtesy;

/// Of a node.
pub struct Beside {
    begin: Instant,
    courtesy: Mutex<Courtesy>,
    pub grown: Notify,
}

impl Default for Beside {
    fn default() -> Self {
        Self { begin: Instant::now(), courtesy: Mutex::default(), grown: Notify::new() }
    }
}

/// For as long as a pass reads and writes with what the others leave.
pub struct Courteous<'a>(&'a Beside);

impl Beside {
    /// So much has come to a log since the cleaner has looked at it that it should look again.
    pub fn has_grown(&self) {
        self.grown.notify_one();
    }

    /// The disk took so long for a flush that ends now.
    pub fn has_flushed(&self, began: Instant) {
        // Whoever holds it may have to wait for a processor: one flush more or less says nothing.
        if let Ok(mut courtesy) = self.courtesy.try_lock() {
            let began = began.saturating_duration_since(self.begin);
            courtesy.flushed(began, self.begin.elapsed());
        }
    }

    pub fn courteous(&self) -> Courteous<'_> {
        self.lock().begins(self.begin.elapsed());
        Courteous(self)
    }

    fn lock(&self) -> MutexGuard<'_, Courtesy> {
        self.courtesy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Courteous<'_> {
    /// So many bytes were read or written. Returns how long to rest.
    pub fn take(&self, bytes: u64) -> Duration {
        self.0.lock().take(self.0.begin.elapsed(), bytes)
    }
}

impl Drop for Courteous<'_> {
    fn drop(&mut self) {
        self.0.lock().ended(self.0.begin.elapsed());
    }
}
