//! DeleteRecords: records deleted from the front of partitions, each by whoever leads it.
//!
//! Promises: each partition succeeds or fails for itself; what another node sent here goes no further; of the cluster's
//! own topics nothing is deleted.

use super::topic_lookup::target_of;
use crate::forward::{Call, Leaders, delete_records};
use crate::partition::DeletionRequest;
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::cluster::{check_topic_name, is_internal_name};
use troupe_machines::replica::DeleteUpTo;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1::TopicPartition;

/// Partitions that are asked at the same time.
const TOGETHER: usize = 64;
/// On the wire: all that is committed.
const UP_TO_HIGH_WATERMARK: i64 = -1;

pub struct RecordDeletion {
    leaders: Arc<Leaders>,
}

/// What is to be deleted of one partition.
pub struct PartitionDeletion {
    pub partition: TopicPartition,
    /// As it was asked: an offset, or -1 for all that is committed.
    pub before_offset: i64,
}

/// How a request is meant.
#[derive(Clone, Copy)]
pub struct DeletionTerms {
    /// 0: as long as the call has.
    pub timeout_ms: u32,
    pub validate_only: bool,
}

/// What became of one partition.
pub struct DeletedRecords {
    pub partition: TopicPartition,
    /// No in-sync replica has a record below this.
    pub low_watermark: Result<Offset, Error>,
}

impl RecordDeletion {
    pub fn new(leaders: Arc<Leaders>) -> Self {
        Self { leaders }
    }

    /// In the order asked.
    pub async fn delete(
        &self,
        call: &Call,
        deletions: Vec<PartitionDeletion>,
        terms: DeletionTerms,
    ) -> Vec<DeletedRecords> {
        let deleted = deletions.into_iter().map(|deletion| async move {
            let low_watermark = self.delete_one(call, &deletion, terms).await;
            DeletedRecords { partition: deletion.partition, low_watermark }
        });
        stream::iter(deleted).buffered(TOGETHER).collect().await
    }

    async fn delete_one(
        &self,
        call: &Call,
        deletion: &PartitionDeletion,
        terms: DeletionTerms,
    ) -> Result<Offset, Error> {
        let named = &deletion.partition;
        check_deletable(&named.topic)?;
        let up_to = up_to(deletion.before_offset)?;
        if call.forwarded {
            return self.delete_here(call, named, up_to, terms).await;
        }
        let target = target_of(&self.leaders.metadata, named).await?;
        let deadline = match terms.timeout_ms {
            0 => call.deadline,
            named => call.deadline.min(Instant::now() + Duration::from_millis(named.into())),
        };
        delete_records(&self.leaders, &target, up_to, terms.validate_only, deadline).await
    }

    /// For the node that took the call.
    async fn delete_here(
        &self,
        call: &Call,
        named: &TopicPartition,
        up_to: DeleteUpTo,
        terms: DeletionTerms,
    ) -> Result<Offset, Error> {
        let metadata = &self.leaders.metadata;
        let DeletionTerms { timeout_ms, validate_only } = terms;
        let request = DeletionRequest { up_to, timeout_ms, validate_only };
        let partition = metadata.partition(Some(named))?;
        let deleted = partition.delete_records(request, call.meant_epoch.map(LeaderEpoch)).await;
        deleted.map_err(|error| metadata.hinted(error, Some(named)))
    }
}

/// # Errors
/// `INVALID_TOPIC`.
fn check_deletable(topic: &str) -> Result<(), Error> {
    check_topic_name(topic)?;
    if !is_internal_name(topic) {
        return Ok(());
    }
    let message = format!(
        "topic `{topic}` is the cluster's own, as all are whose names begin with `__`: none of its records is deleted on \
         request"
    );
    Err(Error::new(ErrorCode::InvalidTopic, message).with("topic", topic))
}

/// # Errors
/// `INVALID_REQUEST`.
fn up_to(before_offset: i64) -> Result<DeleteUpTo, Error> {
    match (before_offset, Offset::from_wire(before_offset)) {
        (UP_TO_HIGH_WATERMARK, _) => Ok(DeleteUpTo::HighWatermark),
        (_, Some(offset)) => Ok(DeleteUpTo::Offset(offset)),
        (_, None) => {
            let message = format!(
                "before_offset is {before_offset}, and no offset is below 0; -1 stands for all that is committed"
            );
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    }
}
