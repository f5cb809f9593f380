//! The states of a transactional id, and what leads from one to another (X3): the table that all decisions go through.
//!
//! ```text
//!             init                    partitions, offsets          end            all markers
//!  (none) ----------> EMPTY -------------> ONGOING -----------> PREPARE_x ----------> COMPLETE_x
//!                     ^  ^                                          ^                 |  |   |
//!                     |  |               ONGOING -- fence ----------+        init     |  |   | idle
//!                     |  +------------------------------------------------------------+  |   v
//!                     +-- (partitions, offsets: ONGOING again) <-------------------------+  DEAD
//! ```

use std::fmt;

/// Numbered as in Kafka's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Initialised, and nothing is open.
    Empty = 0,
    Ongoing = 1,
    /// The transaction is committed; its partitions have yet to hear of it.
    PrepareCommit = 2,
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
    /// Expired: in the log, a tombstone.
    Dead = 6,
    /// The producer is being fenced. A fence and what follows from it are one decision, so no record has this state.
    PrepareEpochFence = 7,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Commit,
    Abort,
}

/// What happens to a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A producer initialises itself, and nothing is open.
    Init,
    /// Partitions, or the offsets of a group, become part of the transaction.
    Add,
    End(Outcome),
    /// The transaction has lasted for too long, or another instance of its producer has come.
    Fence,
    MarkersWritten,
    /// Nothing has happened for `transactional.id.expiration.ms`.
    Expire,
}

/// From these states, by this event, through these states to the last of them. Whatever is not here does not happen.
type Row = (&'static [Option<State>], Event, &'static [State]);

const TABLE: [Row; 8] = {
    use Event::{Add, End, Expire, Fence, Init, MarkersWritten};
    use State::{
        CompleteAbort, CompleteCommit, Dead, Empty, Ongoing, PrepareAbort, PrepareCommit,
        PrepareEpochFence,
    };
    [
        (&[None, Some(Empty), Some(CompleteCommit), Some(CompleteAbort)], Init, &[Empty]),
        (&[Some(Empty), Some(CompleteCommit), Some(CompleteAbort), Some(Ongoing)], Add, &[Ongoing]),
        (&[Some(Ongoing)], End(Outcome::Commit), &[PrepareCommit]),
        (&[Some(Ongoing)], End(Outcome::Abort), &[PrepareAbort]),
        (&[Some(Ongoing)], Fence, &[PrepareEpochFence, PrepareAbort]),
        (&[Some(PrepareCommit)], MarkersWritten, &[CompleteCommit]),
        (&[Some(PrepareAbort)], MarkersWritten, &[CompleteAbort]),
        (&[Some(Empty), Some(CompleteCommit), Some(CompleteAbort)], Expire, &[Dead]),
    ]
};

/// Where the event leads, and through what; `None`: it does not happen there.
pub(super) fn path(from: Option<State>, event: Event) -> Option<&'static [State]> {
    let row = TABLE.iter().find(|(states, on, _)| *on == event && states.contains(&from));
    row.map(|(_, _, path)| *path)
}

/// Whether one record may follow another.
pub(super) fn follows(from: Option<State>, to: State) -> bool {
    TABLE.iter().any(|(states, _, path)| states.contains(&from) && path.last() == Some(&to))
}

impl State {
    pub(super) fn from_id(id: u32) -> Option<State> {
        Some(match id {
            0 => State::Empty,
            1 => State::Ongoing,
            2 => State::PrepareCommit,
            3 => State::PrepareAbort,
            4 => State::CompleteCommit,
            5 => State::CompleteAbort,
            // A tombstone, and nothing at all.
            _ => return None,
        })
    }

    pub(super) const fn id(self) -> u32 {
        self as u32
    }

    /// What was decided, while partitions have yet to hear of it.
    pub(super) const fn prepared(self) -> Option<Outcome> {
        match self {
            State::PrepareCommit => Some(Outcome::Commit),
            State::PrepareAbort => Some(Outcome::Abort),
            _ => None,
        }
    }

    /// What was decided, of a transaction that is over.
    pub(super) const fn completed(self) -> Option<Outcome> {
        match self {
            State::CompleteCommit => Some(Outcome::Commit),
            State::CompleteAbort => Some(Outcome::Abort),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
