//! Records on their way in, and what became of each.

use troupe_proto::ids::Offset;

/// A record as its client sent it. What it holds is read where it lies, and copied once, into its batch.
pub trait Record {
    /// None: it has no key.
    fn key(&self) -> Option<&[u8]>;
    /// None: a tombstone.
    fn value(&self) -> Option<&[u8]>;
    fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> + Clone;
    /// None: the broker's clock.
    fn timestamp_ms(&self) -> Option<i64>;
    /// None: by the key.
    fn partition(&self) -> Option<i32>;
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordResult {
    pub partition: i32,
    /// None: nobody waited for it.
    pub offset: Option<Offset>,
    pub timestamp_ms: i64,
}
