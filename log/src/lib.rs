//! One partition's log on one disk. Synchronous, no actors, no clock, no rules of replication.
//!
//! A [`Log`] is a row of segments; a segment is a file of whole batches and two sparse indexes, and
//! where transactions were aborted an index of those. The bytes
//! of a `.log` file are a serialised `troupe.log.v1.RecordBatches`, so a read is a slice of the file.
//!
//! ```text
//!  log_start <= recovery point <= flushed_end <= log_end        offsets, all but the first exclusive ends
//!      |------ no scan after a crash -----|
//!      |------------ survives a power cut ------------|
//!      |------------------ survives the process only ----------------|
//! ```
//!
//! - Appending and rolling: `append`; making it durable: [`FlushTicket`], run on any thread.
//! - [`Log::open`] recovers: it scans what lies behind the recovery point, cuts at the first bad batch, and
//!   rebuilds what derives (indexes, leader epochs). Afterwards all that is in the log is durable.
//! - Transactions: [`Log::note_aborted`], [`Log::aborted`].
//! - Reading: [`Log::read`], `find_by_timestamp`. Shrinking: truncation, [`RetentionPolicy`], [`Cleaning`].
//! - [`disk`]: the one door to files: real, in memory, faulty. [`LogDirectories`]: those of `log.dirs`.
//! - [`dump`]: what the command line shows of single files. [`verify`]: whether they hold what they should, and mending
//!   them.
//!
//! Promises: after any crash the log is a prefix of what was appended and contains all that was flushed. A
//! failed fsync is never retried: the log is poisoned from then on. No bytes on disk make it panic.

mod append;
mod checkpoint;
mod cleaning;
mod config;
mod damage;
mod directories;
mod directory;
pub mod disk;
pub mod dump;
mod epochs;
mod error;
mod flush;
mod flushed_end;
mod index;
mod inventory;
mod listing;
mod log;
mod log_directory;
mod lookup;
mod loss;
mod moving;
mod place;
mod recovery;

mod retention;
mod scan;
mod scrub;
mod segment;
mod snapshot;
mod soundness;
mod space;
mod truncation;
mod txn_index;
pub mod verify;

pub use append::Appended;
pub use cleaning::{
    Cleaned, Cleaning, CleaningError, CleaningPolicy, CleaningReport, CleaningRequest,
    CleaningState, Ending, Finished, Full, FullSpeed, OffsetMap, Pace, Tombstones,
};
pub use config::LogConfig;
pub use damage::Damage;
pub use directories::{Location, LogDirectories, check_apart};
pub use directory::{DataDirectory, DirectoryError, MetaProperties, PartitionDirectory};
pub use error::LogError;
pub use flush::{FlushDone, FlushTicket};
pub use inventory::{Inventory, Placed};
pub use log::Log;
pub use log_directory::{LogDirectory, PartitionSize};
pub use lookup::{Candidate, ReadSlice, TimestampHit};
pub use recovery::Recovery;
pub use retention::{Judged, Removal, Retained, RetentionPolicy, SegmentInfo};
pub use scrub::{FileCheck, Scrub, Scrubbed, Suspect};
pub use soundness::{BadBatch, check_batches};
pub use space::{Space, Volume};
pub use txn_index::Aborted;
