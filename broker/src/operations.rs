//! What can be asked of a node, one family a file. Doors ([`crate::grpc`], [`crate::http`]) decode, call one of these and
//! encode; what is asked and answered here is plain, and what goes wrong is our own [`troupe_proto::error::Error`].
//!
//! Each family is given the handles that it names when the node is wired, and knows no others: actors through their
//! handles, the cache of metadata, the way to leaders, coordinators and the active controller.
//!
//! Never here: a frame, a status, a header, a message of a door.

mod groups;
mod page;
mod topic_lookup;
mod topics;

pub use groups::{Groups, OffsetReset, ResetOffsets, ResetTo};
pub use page::Page;
pub use topic_lookup::{TopicLookup, check_writable};
pub use topics::Topics;
