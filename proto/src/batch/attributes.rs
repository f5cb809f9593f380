//! The attribute bits of a batch.

use super::{BatchError, Compression};

const COMPRESSION_MASK: u32 = 0b111;
const LOG_APPEND_TIME: u32 = 1 << 3;
const TRANSACTIONAL: u32 = 1 << 4;
const CONTROL: u32 = 1 << 5;
const DELETE_HORIZON: u32 = 1 << 6;
const KNOWN: u32 = COMPRESSION_MASK | LOG_APPEND_TIME | TRANSACTIONAL | CONTROL | DELETE_HORIZON;

/// The bits of `RecordBatch.attributes`; only known bits are ever set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(u32);

impl Attributes {
    /// # Errors
    /// Unknown bits, and a compression that nobody has defined.
    pub const fn from_bits(bits: u32) -> Result<Attributes, BatchError> {
        if bits & !KNOWN != 0 {
            return Err(BatchError::BadHeader { what: "unknown attribute bits" });
        }
        let id = bits & COMPRESSION_MASK;
        if Compression::from_id(id).is_none() {
            return Err(BatchError::UnsupportedCompression { id });
        }
        Ok(Attributes(bits))
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    pub const fn compression(self) -> Compression {
        match Compression::from_id(self.0 & COMPRESSION_MASK) {
            Some(compression) => compression,
            None => panic!("from_bits and with_compression accept known codecs only"),
        }
    }

    /// The records' timestamps are the leader's: every one is the batch's `max_timestamp` (T13).
    pub const fn is_log_append_time(self) -> bool {
        self.0 & LOG_APPEND_TIME != 0
    }

    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// The records are markers, not data.
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// The batch's `base_timestamp` is when its tombstones may go (S23). Only the cleaner sets it.
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Attributes {
        Attributes((self.0 & !COMPRESSION_MASK) | compression.id())
    }

    #[must_use]
    pub const fn with_log_append_time(self, set: bool) -> Attributes {
        self.with(LOG_APPEND_TIME, set)
    }

    #[must_use]
    pub const fn with_transactional(self, set: bool) -> Attributes {
        self.with(TRANSACTIONAL, set)
    }

    #[must_use]
    pub const fn with_control(self, set: bool) -> Attributes {
        self.with(CONTROL, set)
    }

    #[must_use]
    pub const fn with_delete_horizon(self, set: bool) -> Attributes {
        self.with(DELETE_HORIZON, set)
    }

    const fn with(self, bit: u32, set: bool) -> Attributes {
        Attributes(if set { self.0 | bit } else { self.0 & !bit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_pattern_is_refused_or_kept_as_it_is() {
        for bits in 0..1 << 10 {
            match Attributes::from_bits(bits) {
                Ok(attributes) => {
                    let rebuilt = Attributes::default()
                        .with_compression(attributes.compression())
                        .with_log_append_time(attributes.is_log_append_time())
                        .with_transactional(attributes.is_transactional())
                        .with_control(attributes.is_control())
                        .with_delete_horizon(attributes.has_delete_horizon());
                    assert_eq!(rebuilt.bits(), bits);
                }
                Err(BatchError::UnsupportedCompression { id }) => {
                    assert_eq!(id, bits & COMPRESSION_MASK);
                    assert!(id > 4);
                }
                Err(_) => assert!(bits & !KNOWN != 0),
            }
        }
    }

    #[test]
    fn a_flag_can_be_taken_back() {
        let set = Attributes::default().with_control(true).with_transactional(true);
        assert!(set.is_control() && set.is_transactional());
        assert!(!set.with_control(false).is_control());
        assert!(set.with_control(false).is_transactional());
    }
}
