//! Compaction (S20–S27): of each key the last value stays, and every record that stays keeps its offset.
//!
//! A cleaning has four parts. [`Log::begin_cleaning`] on the owner's thread says which closed segments are looked
//! at. [`Cleaning::run`] on any thread reads them and writes what is left of them under names of its own, and a list of
//! what goes where. With [`Log::finish_cleaning`] the owner puts those in their place, and waits for no disk. When that is
//! on disk for good, [`Ending::run`] on any thread removes the list.
//!
//! ```text
//!  log start         first dirty        mapped end      first uncleanable        log end
//!      |---- clean --------|---- dirty -----|                   |                   |
//!      |                   |-- key → offset-|                   |                   |
//!      |------------ copied, but for ------------|  segments    |-- too young, not committed, active --|
//! ```
//!
//! - `state`: how much there is to clean. `offset_map`: key to last offset, in memory of a given size; full, the pass
//!   ends there.
//! - `source`: the segments that are read. `pass`: which records stay. `writer`: the segments they go to.
//! - `transactions`: which data is aborted, and how long markers stay.
//! - `gone`: below where tombstones are gone for good, as those have to know who are filled from this log.
//! - `swap`: how those take their place, and how opening finishes that. `plan`: the list. `under_way`: when it is too late for it, and how
//!   far it has come.
//!
//! Promises: of a key below the mapped end, the record with the largest offset stays, unless it is a tombstone whose
//! time has come and that every replica has; records of aborted transactions count for nothing, and go. Each segment ends where the next one begins, so it keeps its last batch,
//! if need be without records. A batch from which nothing goes is copied byte for byte. What is damaged is never
//! written anew: the pass ends, and nothing has changed.
//! Never here: threads, a clock, which log is cleaned when.

mod error;
pub(crate) mod gone;
mod offset_map;
mod pass;
mod plan;
mod source;
mod state;
mod swap;
mod transactions;
mod under_way;
mod writer;

pub use error::CleaningError;
pub use offset_map::{Full, OffsetMap};
pub use pass::Cleaning;
pub use state::CleaningState;
pub use swap::{Cleaned, Ending};
pub(crate) use swap::{REPLACED, SWAP, resume};
pub(crate) use under_way::UnderWay;

use crate::Removal;
use crate::disk::Disk;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use troupe_proto::ids::Offset;

/// What a pass writes is named so until it takes its place.
pub(crate) const CLEANED: &str = ".cleaned";

/// What the topic's settings say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleaningPolicy {
    /// `min.compaction.lag.ms`: a segment with a younger record is not cleaned.
    pub min_lag_ms: u64,
    /// `max.compaction.lag.ms`: with an older dirty record it is time for a pass, however little is dirty. None: no
    /// limit.
    pub max_lag_ms: Option<u64>,
    /// `min.cleanable.dirty.ratio`: of all that could be cleaned, more than this has to be dirty. From 0 to 1.
    pub min_dirty_ratio: f64,
    /// `delete.retention.ms`: how long a tombstone stays after the first pass that has seen it.
    pub delete_retention_ms: u64,
}

impl Default for CleaningPolicy {
    fn default() -> Self {
        CleaningPolicy {
            min_lag_ms: 0,
            max_lag_ms: None,
            min_dirty_ratio: 0.5,
            delete_retention_ms: 24 * 60 * 60 * 1000,
        }
    }
}

/// Tombstones, and markers of transactions of which nothing else is left, that a pass has left, as it has to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// All of them lie below; zero: there are none.
    pub end: Offset,
    /// When the time of all of them is over, in milliseconds since 1970.
    pub due_ms: i64,
}

impl Tombstones {
    /// One lies below `end`, until then.
    fn note(&mut self, end: Offset, due_ms: i64) {
        *self = match self.end {
            Offset::ZERO => Tombstones { end, due_ms },
            before => Tombstones { end: before.max(end), due_ms: self.due_ms.max(due_ms) },
        };
    }
}

/// What the owner knows when a pass begins.
#[derive(Clone, Debug)]
pub struct CleaningRequest {
    pub policy: CleaningPolicy,
    /// The wall clock.
    pub now_ms: i64,
    /// Nothing from here on is touched: what is not committed may still change, and of a transaction that is open nobody
    /// knows how it ends. The last stable offset.
    pub below: Offset,
    /// Every assigned replica has all of the log below: only there may tombstones go.
    pub tombstones_below: Offset,
    /// Base offsets of batches whose headers stay: their producers' sequences are judged by them (S24).
    pub keep: BTreeSet<Offset>,
    /// Random, of every pass its own: nobody can choose keys that collide.
    pub hash_key: [u8; 16],
}

/// Slows a pass down, or ends it.
pub trait Pace {
    /// So many more bytes were read or written. Whoever breaks ends the pass: nothing has changed then.
    fn moved(&mut self, bytes: u64) -> ControlFlow<()>;

    /// From here on to the next step the file system is changed: whoever stands still meanwhile holds up others.
    fn will_write(&mut self) {}
}

/// As fast as it goes, to the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct FullSpeed;

impl Pace for FullSpeed {
    fn moved(&mut self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What a pass has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleaningReport {
    /// Where it began to map keys, and how far it came: the next one begins there.
    pub first_dirty: Offset,
    pub end: Offset,
    /// All segments that were looked at, before and after.
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub segments_before: usize,
    pub segments_after: usize,
    /// Of batches that were looked into.
    pub records_kept: u64,
    pub records_gone: u64,
    /// The map had no room for all keys: there is more to do at once.
    pub map_was_full: bool,
    /// What has to stay of those that were looked at.
    pub tombstones: Tombstones,
    /// Those whose time has come lay below; zero: there were none.
    pub tombstones_gone_below: Offset,
}

/// A pass whose result stands in the log.
#[must_use]
pub struct Finished<D: Disk> {
    /// The files that were replaced.
    pub removals: Vec<Removal<D>>,
    pub report: CleaningReport,
    /// For a thread that may wait for the disk.
    pub ending: Ending<D>,
}
