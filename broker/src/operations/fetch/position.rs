//! From where a client reads, and what it gets.

use crate::address_book::AddressBook;
use crate::metadata_cache::MetadataCache;
use crate::partition::{Isolation, ReadAnswer};
use std::sync::Arc;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1::TopicPartition;

const DEFAULT_PARTITION_BYTES: usize = 1 << 20;

/// From where a client reads a partition.
pub struct FetchPosition {
    pub partition: Option<TopicPartition>,
    /// What the client calls it.
    pub subscription: u64,
    /// As the client says.
    pub offset: i64,
    /// That the client knows.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Of the client, if a follower will do for it.
    pub client_rack: Option<Arc<str>>,
    /// Of one answer. 0: as much as is usual.
    pub max_bytes: u32,
    pub isolation: Isolation,
}

/// What a client changes about its stream.
pub struct FetchUpdate {
    /// Granted beside what is left.
    pub credit_bytes: u64,
    /// Added, or moved.
    pub positions: Vec<FetchPosition>,
    pub drop: Vec<TopicPartition>,
}

/// What was read from a partition, or why nothing was.
pub struct Fetched {
    pub partition: Option<TopicPartition>,
    pub subscription: u64,
    pub answer: Result<ReadAnswer, Error>,
}

impl FetchPosition {
    /// # Errors
    /// `INVALID_REQUEST`.
    pub fn start(&self) -> Result<Offset, Error> {
        Offset::from_wire(self.offset).ok_or_else(|| {
            let message = format!(
                "offset {} is negative; ListOffsets finds the earliest and the latest",
                self.offset
            );
            Error::new(ErrorCode::InvalidRequest, message)
        })
    }

    pub fn rack(&self) -> Option<&str> {
        self.client_rack.as_deref()
    }

    pub fn limit(&self) -> usize {
        match self.max_bytes {
            0 => DEFAULT_PARTITION_BYTES,
            limit => limit as usize,
        }
    }
}

impl Fetched {
    /// With the hint in the addresses of a listener.
    pub fn told(self, addresses: &AddressBook) -> Self {
        Self { answer: self.answer.map_err(|error| addresses.told(error)), ..self }
    }

    /// With a hint where the leader is, if that would help.
    pub fn refused(
        metadata: &MetadataCache,
        partition: Option<TopicPartition>,
        subscription: u64,
        error: Error,
    ) -> Self {
        let answer = Err(metadata.hinted(error, partition.as_ref()));
        Self { partition, subscription, answer }
    }
}
