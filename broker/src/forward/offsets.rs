//! Offsets of a partition, from whoever leads it.

use super::ask_leader::ask_leader;
use super::leaders::Leaders;
use super::lookup::{find_here, find_here_now};
use super::mark::FORWARDED;
use super::request_time::set_meant_epoch;
use super::route::Target;
use crate::metadata_cache::LeaderAt;
use crate::partition::{FoundOffset, Isolation, OffsetQuery, PartitionHandle};
use crate::peers::{Purpose, failure};
use std::sync::Arc;
use tokio::time::Instant;
use tonic::Request;
use tonic::metadata::MetadataValue;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::log_service_client::LogServiceClient;

/// Finds an offset by position or time, as the partition's leader knows it; asks on while somebody else leads,
/// until `deadline`. Enough to begin to read somewhere.
pub async fn find_offset(
    leaders: &Leaders,
    target: &Target,
    at: OffsetQuery,
    deadline: Instant,
) -> Result<FoundOffset, Error> {
    find_offset_for(leaders, target, at, Isolation::Uncommitted, deadline).await
}

/// The same among what a reader of that isolation may see.
pub async fn find_offset_for(
    leaders: &Leaders,
    target: &Target,
    at: OffsetQuery,
    isolation: Isolation,
    deadline: Instant,
) -> Result<FoundOffset, Error> {
    find(leaders, target, (at, isolation), Freshness::AsKnown, deadline).await
}

/// The same, of now: a leader that may have been replaced does not answer.
pub async fn find_offset_now(
    leaders: &Leaders,
    target: &Target,
    at: OffsetQuery,
    deadline: Instant,
) -> Result<FoundOffset, Error> {
    find(leaders, target, (at, Isolation::Uncommitted), Freshness::Now, deadline).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Freshness {
    AsKnown,
    Now,
}

async fn find(
    leaders: &Leaders,
    target: &Target,
    (at, isolation): (OffsetQuery, Isolation),
    freshness: Freshness,
    deadline: Instant,
) -> Result<FoundOffset, Error> {
    let here = |handle: Arc<PartitionHandle>, epoch| async move {
        match freshness {
            Freshness::Now => find_here_now(&leaders.unpacker, &handle, at, isolation, epoch).await,
            Freshness::AsKnown => find_here(&leaders.unpacker, &handle, at, isolation, epoch).await,
        }
    };
    let there = |leader| ask(leaders, target, leader, (at, isolation), freshness);
    ask_leader(leaders, target, deadline, here, there).await
}

async fn ask(
    leaders: &Leaders,
    target: &Target,
    leader: LeaderAt,
    (at, isolation): (OffsetQuery, Isolation),
    freshness: Freshness,
) -> Result<FoundOffset, Error> {
    use pb::offset_query::At;
    let at = match at {
        OffsetQuery::Earliest => At::Earliest(true),
        OffsetQuery::Latest => At::Latest(true),
        OffsetQuery::Timestamp(time) => At::TimestampMs(time),
        OffsetQuery::MaxTimestamp => At::MaxTimestamp(true),
        OffsetQuery::EndOfEpoch(epoch) => At::EndOfEpoch(epoch.0),
    };
    let query = pb::OffsetQuery {
        isolation_level: isolation.to_wire(),
        partition: Some(target.named()),
        at: Some(at),
    };
    let mut request = Request::new(pb::ListOffsetsRequest { queries: vec![query] });
    if freshness == Freshness::AsKnown {
        request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    }
    set_meant_epoch(request.metadata_mut(), leader.leader_epoch.0);
    let channel = leaders.peers.channel(&leader.endpoint, Purpose::Control)?;
    let answer = LogServiceClient::new(channel).list_offsets(request).await;
    let answer = answer.map_err(|status| failure(status, ErrorCode::LeaderNotAvailable))?;
    let result = answer.into_inner().results.into_iter().next().unwrap_or_default();
    match result.error {
        Some(detail) => Err(detail.into()),
        None => Ok(FoundOffset {
            offset: Offset::from_wire(result.offset),
            timestamp_ms: (result.timestamp_ms >= 0).then_some(result.timestamp_ms),
            leader_epoch: LeaderEpoch(result.leader_epoch),
        }),
    }
}
