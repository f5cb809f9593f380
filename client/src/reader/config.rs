//! Which records a reader reads.

use crate::consumer::IsolationLevel;
use std::collections::BTreeMap;
use troupe_proto::batch::Limits;
use troupe_proto::ids::{Offset, PartitionId};

/// Which partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Partitions {
    /// Also those that are added while it reads, from their first record on, unless it stops at the end.
    #[default]
    All,
    Only(Vec<PartitionId>),
}

/// Where to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first record that is still kept.
    #[default]
    Earliest,
    /// Behind what is there now.
    Latest,
    /// The same offset in every partition.
    Offset(Offset),
    /// With the first record at or after this time, in milliseconds since 1970; behind what is there now
    /// if there is none.
    Timestamp(i64),
    /// Each partition has its own; one that is not named begins with its earliest record.
    Each(BTreeMap<PartitionId, Offset>),
}

/// What a reader reads, and how much of it at a time.
#[derive(Clone, Debug)]
pub struct ReaderConfig {
    pub partitions: Partitions,
    pub start: Start,
    /// Stop at what is the end when the reader is opened. Default: false.
    pub until_end: bool,
    /// Or before these offsets, each partition that is named. Default: none.
    pub ends: BTreeMap<PartitionId, Offset>,
    /// Bytes that the nodes may push before they are read, over all streams. Default: 8 MiB.
    pub credit_bytes: u64,
    /// About how much of a partition comes at a time. Default: 1 MiB.
    pub max_partition_bytes: u32,
    /// Check each batch's header too: that it is whole, and of this partition. The checksum of the
    /// payload is always checked. Default: true.
    pub check_crc: bool,
    /// What a compressed batch may unpack to.
    pub limits: Limits,
    /// The rack that this client is in, as `broker.rack` names it: where leaders look at racks (replica.selector.class),
    /// it reads from in-sync followers there. Default: empty, from leaders alone.
    pub client_rack: String,
    /// With read_committed the end is where the earliest open transaction began. Default: read_uncommitted.
    pub isolation_level: IsolationLevel,
}

impl Default for ReaderConfig {
    fn default() -> Self {
        Self {
            partitions: Partitions::All,
            start: Start::Earliest,
            until_end: false,
            ends: BTreeMap::new(),
            credit_bytes: 8 << 20,
            max_partition_bytes: 1 << 20,
            check_crc: true,
            limits: Limits::default(),
            client_rack: String::new(),
            isolation_level: IsolationLevel::ReadUncommitted,
        }
    }
}
