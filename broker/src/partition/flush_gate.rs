//! One flush of a partition at a time, over the lives of all its actors.
//!
//! An actor may die while its flush is under way. What became of that flush has to be known before the log
//! is opened again: a new descriptor might never hear of an error that the old one was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct FlushGate {
    idle: Arc<Semaphore>,
    failed: AtomicBool,
}

impl Default for FlushGate {
    fn default() -> Self {
        Self { idle: Arc::new(Semaphore::new(1)), failed: AtomicBool::new(false) }
    }
}

impl FlushGate {
    /// For the flush that begins now; `None` while another is under way.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.idle).try_acquire_owned().ok()
    }

    /// Returns when no flush is under way.
    pub async fn idle(&self) {
        // The semaphore is never closed.
        drop(self.idle.acquire().await);
    }

    /// A flush failed: the log is not opened again until somebody has looked.
    pub fn note_failure(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Somebody has looked.
    pub fn forgive(&self) {
        self.failed.store(false, Ordering::Release);
    }
}
