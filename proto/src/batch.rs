//! The record-batch codec: the only code that knows how a batch looks in bytes.
//!
//! A segment file is a serialised [`crate::log::v1::RecordBatches`]. The generated types read it; this
//! module reads and writes the same bytes without building a message for each record.
//!
//! ```text
//! |0A|len:4|09|base_offset:8|15|leader_epoch:4| … |5D|payload_crc:4|65|header_crc:4|7A or 72|len:4|payload|
//! |<-- 5 ->|<--------------------------- BODY_HEADER_LEN = 81 --------------------------->|
//! |<------------------------------- OVERHEAD = 86 --------------------------------------->|
//! ```
//!
//! - [`BatchHeader`]: the canonical header, as it stands in a file; [`Batches`] walks a slice of a file.
//! - [`ProducedBatch`]: a batch as some producer's protobuf library encoded it, and its validation.
//! - [`RecordSetBuilder`] makes batches; [`RecordSet`] reads their records, borrowed or owned.
//! - [`Compactor`]: what compaction leaves of a batch. [`Marker`]: control batches. [`CommittedFilter`]: what is left of
//!   a read for readers of committed records.
//! - [`Compression`]: the codecs, each with hard limits on what a payload may unpack to.
//!
//! Promises: no decoder panics or allocates from a length it was told, whatever the bytes; a batch that
//! passes [`ProducedBatch::verify`] can be read by every consumer.
//! Never here: I/O, clocks, rules about who may write which batch.

mod attributes;
mod batches;
mod builder;
mod checksum;
mod chunks;
mod compacted;
mod compression;
mod error;
mod header;
mod isolation;
mod marker;
mod produced;
mod record;
mod records;
mod wire;

pub use attributes::Attributes;
pub use batches::Batches;
pub use builder::{BuiltBatch, RecordSetBuilder};
pub use chunks::chunks;
pub use compacted::{Compactor, Selected};
pub use compression::{Compression, LevelOutOfRange, Limits, Packing, UnknownCompression};
pub use error::BatchError;
pub use header::{BatchHeader, ProducerStamp};
pub use isolation::CommittedFilter;
pub use marker::Marker;
pub use produced::{ProducedBatch, Verified};
pub use record::{HeaderRefs, RecordRef};
pub use records::{Record, RecordRefs, RecordSet, RecordWalk, Records};

/// Tag and padded length of a batch in a slice of batches.
pub const FRAME_LEN: usize = 5;
/// Everything of a canonical batch between its frame and its payload.
pub const BODY_HEADER_LEN: usize = 81;
/// What a batch takes in a file beside its payload.
pub const OVERHEAD: usize = FRAME_LEN + BODY_HEADER_LEN;
/// The largest payload whose batch still has a length of four varint bytes.
pub const MAX_PAYLOAD: usize = (1 << 28) - 1 - BODY_HEADER_LEN;
