//! What goes in and what comes back.

use bytes::Bytes;
use troupe_proto::ids::{Offset, PartitionId};

/// A record with everything it needs to be sent, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    pub topic: String,
    /// Unset: the partitioner decides.
    pub partition: Option<PartitionId>,
    /// Milliseconds since 1970. Unset: now.
    pub timestamp_ms: Option<i64>,
    /// None is no key; empty is an empty key.
    pub key: Option<Bytes>,
    /// None is a tombstone; empty is an empty value.
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl ProducerRecord {
    /// A record without key, value and headers.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }

    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(PartitionId(partition));
        self
    }

    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    pub(crate) fn header_refs(&self) -> Vec<HeaderRef<'_>> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }

    /// Everything but the topic.
    pub(crate) fn borrowed<'a>(&'a self, headers: &'a [HeaderRef<'a>]) -> Record<'a> {
        Record {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
        }
    }
}

/// A header: its name, and its value or none.
pub type HeaderRef<'a> = (&'a str, Option<&'a [u8]>);

/// A record on its way into a batch, borrowed: the fast path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [HeaderRef<'a>],
    pub partition: Option<PartitionId>,
    pub timestamp_ms: Option<i64>,
}

impl<'a> Record<'a> {
    /// Without a key.
    pub fn value(value: &'a [u8]) -> Self {
        Self { value: Some(value), ..Self::default() }
    }

    pub fn keyed(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// A copy, to this topic.
    pub(crate) fn owned_to(self, topic: &str) -> ProducerRecord {
        let headers = self.headers.iter();
        let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        ProducerRecord {
            topic: topic.to_owned(),
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(owned),
            value: self.value.map(owned),
            headers: headers.map(|(name, value)| ((*name).to_owned(), value.map(owned))).collect(),
        }
    }
}

/// Where a record is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    pub partition: PartitionId,
    /// None with acks none (P12), or if a leader knows only that the record had been appended before.
    pub offset: Option<Offset>,
    /// Milliseconds since 1970: the record's, or the leader's if the topic uses log append time.
    pub timestamp_ms: i64,
}
