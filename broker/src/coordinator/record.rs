//! One change, as the log keeps it.

use bytes::Bytes;

/// A change, ready for a batch.
pub struct Record {
    pub key: Bytes,
    /// None: the end of what the key said.
    pub value: Option<Bytes>,
}

impl Record {
    /// Bytes that it takes in a batch; never less.
    pub fn len(&self) -> usize {
        const FRAMING: usize = 48;
        FRAMING + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}
