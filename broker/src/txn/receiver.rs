//! Markers that come to this node, each to who writes it: the leader of a partition, the coordinator of the groups whose
//! offsets a partition holds.
//!
//! Promises: each partition answers for itself; what comes late is written by nobody.

use super::groups::decide_offsets;
use super::partitions::{PartitionMarker, write_marker};
use super::wire::producer;
use crate::group::GroupCoordinators;
use crate::metadata_cache::MetadataCache;
use futures::future::join_all;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use troupe_machines::cluster::OFFSETS_TOPIC;
use troupe_machines::txn::ClientVersion;
use troupe_proto::batch::Marker;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, PartitionId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::log::v1::TopicPartition;

pub struct MarkerReceiver {
    metadata: Arc<MetadataCache>,
    groups: Arc<GroupCoordinators>,
}

impl MarkerReceiver {
    pub fn new(metadata: Arc<MetadataCache>, groups: Arc<GroupCoordinators>) -> Self {
        Self { metadata, groups }
    }

    /// Has all of them written, at the same time, until then.
    pub async fn write(
        &self,
        request: pb::WriteMarkersRequest,
        until: Instant,
    ) -> pb::WriteMarkersResponse {
        let results = request.markers.iter().map(|marker| self.write_one(marker, until));
        pb::WriteMarkersResponse { results: join_all(results).await }
    }

    async fn write_one(&self, marker: &pb::TransactionMarker, until: Instant) -> pb::MarkerResult {
        let read = &read(marker, until);
        let partitions = marker.partitions.iter().map(|partition| async move {
            let written = async { self.at_partition(read.clone()?, partition).await };
            let written = timeout_at(until, written).await.unwrap_or_else(|_| {
                let message = "the marker was not written in time, and may still be";
                Err(Error::new(ErrorCode::OutcomeUnknown, message))
            });
            pb::PartitionMarkerResult { error: written.err().map(Into::into) }
        });
        pb::MarkerResult { partitions: join_all(partitions).await }
    }

    async fn at_partition(
        &self,
        marker: PartitionMarker,
        partition: &TopicPartition,
    ) -> Result<(), Error> {
        if partition.topic != OFFSETS_TOPIC {
            let leader = self.metadata.partition(Some(partition))?;
            return write_marker(&leader, marker).await;
        }
        let number = u32::try_from(partition.partition).map(PartitionId).map_err(|_| {
            Error::new(ErrorCode::UnknownPartition, "the partition's number is negative")
        })?;
        decide_offsets(&*self.groups.find(number)?, marker).await
    }
}

/// # Errors
/// `INVALID_REQUEST`: it is of another version.
fn read(marker: &pb::TransactionMarker, until: Instant) -> Result<PartitionMarker, Error> {
    let version = match marker.client_version {
        1 => ClientVersion::First,
        2 => ClientVersion::Second,
        other => {
            let message = format!("a marker of version {other}, which this node does not know");
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
    };
    let committed = marker.commit;
    let coordinator_epoch = LeaderEpoch(marker.coordinator_epoch);
    Ok(PartitionMarker {
        producer: producer(marker.producer_id, marker.producer_epoch)?,
        marker: Marker { committed, coordinator_epoch },
        version,
        until,
    })
}
