//! A log that cannot be filled on from where it ends, because tombstones that it needs are gone: it is begun anew.
//!
//! A tombstone goes when every assigned replica has it ([`Replica::everyone_has`]). Who is added later, or comes back
//! with less than it had, is filled from the start, and misses nothing: what a tombstone deletes has gone before it. But
//! half filled by one leader it may hold a value whose tombstone the next leader has not got any more, and the key would
//! come back to life here. So each log says below where tombstones are gone from it, and a leader goes by that:
//!
//! ```text
//!  follower:   |== v =======|                         v: a value;  t: its tombstone, gone from the leader's log
//!                          end
//!  leader:     |=========== . === t ======|=========|
//!                                    gone below    end
//! ```
//!
//! Of a log that says `gone below` two things hold. Each tombstone that it lacks, and that would delete the last value of
//! its key, lies below. And of what it has, nothing is superseded by any record below: a pass that removes the tombstone
//! at t has looked at all up to t, and has left the last of each key. A follower goes on from its end
//!
//! - if that is not below the leader's `gone below`: it has passed all that is gone;
//! - if it is empty: it has nothing that a tombstone could delete;
//! - if its own `gone below` is not below the leader's: then, by the second, none of those that are gone deletes anything
//!   of what it has. So it is with whoever is being filled, and says what its leader says, up to behind its own end: a
//!   stream that breaks costs nothing.
//!
//! Else it drops its log and is filled from the leader's start. As the stream is accepted, and durably before anything is
//! taken of it, the follower's log says what the leader's says, if tombstones are gone behind its end; else it lacks no
//! more than it does, and says no more than where it ends. Cleaning raises what a log says with the exchange of the files.
//!
//! Once a stream is open, the leader removes no tombstone that the follower has not got: it counts for
//! [`Replica::everyone_has`] from then on, and a pass from before is dropped if it would. A follower that cleans goes by
//! what its leader has said, which may be overtaken; what it removes then, who follows it later hears of as of any other.
//!
//! Promise: nobody begins anew who may be the last to have what is committed. Only committed tombstones go, so whoever
//! ends below where they are gone lacks some of what is committed: it is in no ISR, and not eligible to lead, now or
//! later, before it has been filled; however old the news is by which it follows, and whoever leads by now. Only an
//! unclean election makes such a log count, and then what it says is cut to where it ends. All the same a leader refuses
//! a follower that it takes to be in sync, or has asked for, until it has left: then nobody waits for it.
//!
//! Versions: a leader that does not say what is gone says that nothing is, and a follower that does not say it goes on as
//! before: between those the key can come back.

use super::planted::Bug;
use super::{FollowSession, LeaderEnds, OpenError, Opening, Position, Replica};
use troupe_proto::ids::{NodeId, Offset};

impl Replica {
    /// What the log says: behind [`Replica::restore`], when it has been noted, and after a pass.
    pub fn on_tombstones_gone(&mut self, below: Offset) {
        self.tombstones_gone_below = below;
    }

    /// The log was cut, or goes on from its end in another epoch: it says no more than that, too.
    pub(super) fn cut_tombstones_gone(&mut self) {
        self.tombstones_gone_below = self.tombstones_gone_below.min(self.log_end);
    }

    /// What followers are told.
    pub(super) fn tombstones_gone_here(&self) -> Offset {
        self.tombstones_gone_below.min(self.log_end)
    }

    /// What the log has to say from now on, durably, before anything is taken of a stream that is being accepted.
    /// Then tell [`Replica::on_tombstones_gone`]. `None`: what it says already.
    pub fn tombstones_to_note(&self, session: FollowSession, leader: LeaderEnds) -> Option<Offset> {
        if self.opening() != Some(session) {
            return None;
        }
        let below = match leader.tombstones_gone_below {
            below if below > self.log_end => below,
            _ => self.tombstones_gone_here(),
        };
        (below != self.tombstones_gone_below).then_some(below)
    }

    /// Of a follower at this position, whose log is the beginning of this one.
    pub(super) fn needs_tombstones(&self, position: &Position) -> bool {
        let Some(its_own) = position.tombstones_gone_below else { return false };
        let is_empty = position.last_epoch.is_none();
        let needs_none_below = position.end.log_end.max(its_own);
        !is_empty
            && needs_none_below < self.tombstones_gone_here()
            && !self.bugs.has(Bug::FillOnWithoutTombstones)
    }

    /// The answer to a follower that needs tombstones which are gone.
    pub(super) fn begin_anew(&self, node: NodeId) -> Result<Opening, OpenError> {
        let counts = self.leadership().is_some_and(|leadership| {
            let requested = leadership.requested();
            let asked_for =
                requested.is_some_and(|request| request.isr.iter().any(|it| it.node == node));
            asked_for || leadership.state.isr.contains(&node)
        });
        if counts {
            return Err(OpenError::NeedsTombstones { node });
        }
        Ok(Opening::BeginAnew { log_start: self.log_start })
    }
}
