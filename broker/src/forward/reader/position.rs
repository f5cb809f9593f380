//! Where a reader is in one partition.

use crate::forward::backoff::Backoff;
use crate::forward::route::{Led, Target};
use futures::future::AbortHandle;
use tokio::time::Instant;
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, Offset};

/// A partition that is read.
pub struct Position {
    pub target: Target,
    pub next: Offset,
    /// Read up to here, then no more.
    pub end: Option<Offset>,
    /// The leader epoch of the record before `next`, if it is known.
    pub after: Option<LeaderEpoch>,
    /// The leader epoch in which `next` is known to be a position in the log.
    pub verified: Option<LeaderEpoch>,
    pub place: Place,
    /// Who led when the place was found.
    pub led: Led,
    /// Since when nobody has answered for it, and why.
    pub lost: Option<(Instant, Error)>,
    pub backoff: Backoff,
}

pub enum Place {
    /// Looked for at this time, or when somebody else leads.
    Nowhere(Instant),
    /// It is not read before it is known to be one.
    Checking(AbortHandle),
    Here(AbortHandle),
    /// On the stream, by the subscription, of these numbers.
    There(u64, u64),
}

impl Position {
    /// What was read before is not known to be in the log of whoever leads now.
    pub fn is_doubtful(&self) -> Option<LeaderEpoch> {
        let (after, (_, led)) = (self.after?, self.led?);
        (after != led && self.verified != Some(led)).then_some(after)
    }
}
