//! The last stable offset: up to where readers of committed records may go (X12).
//!
//! ```text
//!  log_start <= last_stable_offset <= high_watermark
//! ```
//!
//! It is where the earliest transaction began that is open, or whose marker may still be lost; without any it is the
//! high watermark. So what lies below is decided, and stays so whoever leads next: a marker that is not committed yet
//! decides nothing here. It moves with the high watermark, and with the log's start where that passes an open
//! transaction; back only where the high watermark does.

use super::{Effect, Effects, Replica};
use troupe_proto::ids::Offset;

impl Replica {
    /// First offset that readers of committed records may not see yet.
    pub fn last_stable_offset(&self) -> Offset {
        match self.producers.first_unstable() {
            None => self.high_watermark,
            Some(first) => first.clamp(self.log_start, self.high_watermark),
        }
    }

    /// After a change that was none of the high watermark's.
    pub(super) fn tell_last_stable(&self, before: Offset, out: &mut Effects) {
        let now = self.last_stable_offset();
        if now != before {
            out.push(Effect::LastStable(now));
        }
    }
}
