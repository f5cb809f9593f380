//! What the streams of records of a node share: how many there are, and the memory that many leave behind.

use crate::allocator;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Once so many streams have ended, their memory is given back.
const STREAMS_WORTH_TRIMMING: usize = 64;
const TRIM_DELAY: Duration = Duration::from_secs(1);

/// What the streams of a node share.
#[derive(Default)]
pub struct DeliveryPool {
    streams: AtomicUsize,
    ended: AtomicUsize,
}

impl DeliveryPool {
    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Counts one more stream, for as long as it is held.
    pub fn open(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(self))
    }
}

/// A stream counts as open.
pub struct OpenStream(Arc<DeliveryPool>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.streams.fetch_sub(1, Ordering::Relaxed);
        let ended = shared.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended == STREAMS_WORTH_TRIMMING
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(trim(Arc::clone(shared)));
        }
    }
}

/// Gives back what streams have left behind, once for all that end at about the same time.
async fn trim(shared: Arc<DeliveryPool>) {
    tokio::time::sleep(TRIM_DELAY).await;
    shared.ended.store(0, Ordering::Relaxed);
    // Fails only if the node is stopping.
    let _ = tokio::task::spawn_blocking(allocator::give_back).await;
}
