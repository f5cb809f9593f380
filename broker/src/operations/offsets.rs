//! ListOffsets: where partitions begin and end, and which record stands at a time.

use crate::clock::wall_clock;
use crate::forward::{find_here, find_here_now};
use crate::metadata_cache::MetadataCache;
use crate::partition::{FoundOffset, Isolation, OffsetQuery};
use crate::unpacker::Unpacker;
use futures::{StreamExt, stream};
use std::sync::Arc;
use troupe_proto::error::Error;
use troupe_proto::ids::LeaderEpoch;
use troupe_proto::log::v1::TopicPartition;

/// Partitions that are asked at the same time.
const LOOKUPS: usize = 64;

pub struct Offsets {
    metadata: Arc<MetadataCache>,
    unpacker: Arc<Unpacker>,
}

/// What is asked of one partition.
pub struct PartitionQuery {
    pub partition: Option<TopicPartition>,
    /// Or why nobody knows which offset is meant.
    pub at: Result<OffsetQuery, Error>,
    pub isolation: Isolation,
}

/// How a question is meant.
#[derive(Clone, Copy)]
pub struct Meant {
    /// What this node knows is enough.
    pub as_known: bool,
    /// The node that asks takes this one for the leader in that epoch.
    pub leader_epoch: Option<LeaderEpoch>,
}

pub struct PartitionOffset {
    pub partition: Option<TopicPartition>,
    pub answer: Result<DatedOffset, Error>,
}

pub struct DatedOffset {
    pub found: FoundOffset,
    /// As of when that is known, in milliseconds since 1970; none: it is of now.
    pub as_of_ms: Option<i64>,
}

impl Offsets {
    pub fn new(metadata: Arc<MetadataCache>, unpacker: Arc<Unpacker>) -> Self {
        Self { metadata, unpacker }
    }

    /// Each succeeds or fails for itself.
    pub async fn list(&self, queries: Vec<PartitionQuery>, meant: Meant) -> Vec<PartitionOffset> {
        let found = queries.into_iter().map(|query| self.list_one(query, meant));
        stream::iter(found).buffered(LOOKUPS).collect().await
    }

    async fn list_one(&self, query: PartitionQuery, meant: Meant) -> PartitionOffset {
        let as_of_ms = wall_clock().as_timestamp();
        let PartitionQuery { partition, at, isolation } = query;
        let answer = match self.find(partition.as_ref(), at, isolation, meant).await {
            Ok((found, of_now)) => {
                Ok(DatedOffset { found, as_of_ms: (!of_now).then_some(as_of_ms) })
            }
            Err(error) => Err(self.metadata.hinted(error, partition.as_ref())),
        };
        PartitionOffset { partition, answer }
    }

    /// And whether it is of now.
    async fn find(
        &self,
        partition: Option<&TopicPartition>,
        at: Result<OffsetQuery, Error>,
        isolation: Isolation,
        meant: Meant,
    ) -> Result<(FoundOffset, bool), Error> {
        let at = at?;
        let partition = self.metadata.partition(partition)?;
        let of_the_past = matches!(at, OffsetQuery::Earliest | OffsetQuery::EndOfEpoch(_));
        let (unpacker, expected) = (&self.unpacker, meant.leader_epoch);
        match meant.as_known || of_the_past {
            true => Ok((find_here(unpacker, &partition, at, isolation, expected).await?, false)),
            false => {
                Ok((find_here_now(unpacker, &partition, at, isolation, expected).await?, true))
            }
        }
    }
}
