//! Ids, offsets and epochs. A number that means something has a type of its own.

use std::fmt;
use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// Position of a record in its partition, from 0. Exclusive ends (`*_end`) are offsets too.
    Offset(u64)
}
number! {
    /// Counts the leaders a partition has had; from 0.
    LeaderEpoch(u32)
}
number! {
    /// Counts every change of a partition's assignment, ISR or leader.
    PartitionEpoch(u32)
}
number! {
    /// Offset of the metadata record by which a broker registered: each registration has its own.
    BrokerEpoch(u64)
}
number! {
    /// Position in the metadata log.
    MetadataOffset(u64)
}
number! {
    /// Number of a partition in its topic, from 0.
    PartitionId(u32)
}
number! {
    /// A node of the cluster; never negative.
    NodeId(i32)
}
number! {
    /// An idempotent producer's session. Ids start at 1; 0 on the wire means none.
    ProducerId(u64)
}
number! {
    /// Generation of a producer id; a newer one fences the older.
    ProducerEpoch(u32)
}
number! {
    /// Number of a record in a producer's session and partition; wraps from 2^31 - 1 to 0.
    Sequence(u32)
}

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on.
    pub const fn plus(self, count: u64) -> Offset {
        Offset(self.0 + count)
    }

    /// As the signed number of the API, where -1 means none.
    pub fn to_wire(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// From the signed number of the API; negative numbers are no offset.
    pub fn from_wire(value: i64) -> Option<Offset> {
        u64::try_from(value).ok().map(Offset)
    }
}

impl Sequence {
    /// Sequences are 31 bits wide.
    pub const MODULUS: u32 = 1 << 31;

    /// The sequence `count` records further on, wrapping as I2 says.
    pub const fn plus(self, count: u32) -> Sequence {
        Sequence(self.0.wrapping_add(count) % Self::MODULUS)
    }
}

impl ProducerId {
    /// 0 on the wire means that there is none.
    pub fn from_wire(value: u64) -> Option<ProducerId> {
        (value != 0).then_some(ProducerId(value))
    }
}

/// A topic's identity for life: a topic deleted and made again under the same name has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// A new random id.
    pub fn random() -> TopicId {
        TopicId(Uuid::new_v4())
    }

    /// From the 16 bytes on the wire.
    pub fn from_wire(bytes: &[u8]) -> Option<TopicId> {
        Uuid::from_slice(bytes).ok().map(TopicId)
    }

    /// The 16 bytes on the wire.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The 16 bytes on the wire, as a protobuf field.
    pub fn to_wire(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(self.0.as_bytes())
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A directory of a node's `log.dirs`, wherever it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub Uuid);

impl DirectoryId {
    /// A new random id.
    pub fn random() -> DirectoryId {
        DirectoryId(Uuid::new_v4())
    }
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, by identity. Goes into every header checksum, so that a batch that stands
/// in the wrong file is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    pub topic_id: TopicId,
    pub partition: PartitionId,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}
