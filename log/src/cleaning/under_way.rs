//! A pass that has begun, as the log and the pass both see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use troupe_proto::ids::Offset;

/// See the module. Held by the pass, or its result, for as long as there is one.
#[derive(Debug)]
pub(crate) struct UnderWay {
    /// It may read all below.
    end: Offset,
    overtaken: AtomicBool,
}

impl UnderWay {
    pub(super) fn below(end: Offset) -> Arc<UnderWay> {
        Arc::new(UnderWay { end, overtaken: AtomicBool::new(false) })
    }

    /// Whether its result could still be used.
    pub(super) fn is_going_on(this: &Arc<UnderWay>) -> bool {
        Arc::strong_count(this) > 1 && !this.is_overtaken()
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::Acquire)
    }

    /// The log is not what it was, from `from` on.
    pub(super) fn overtake(&self, from: Offset) {
        if from < self.end {
            self.overtaken.store(true, Ordering::Release);
        }
    }
}
