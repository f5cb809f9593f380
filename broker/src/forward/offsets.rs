//! Offsets of a partition, from whoever leads it.

use super::Backoff;
use super::way::{Target, Way, no_leader};
use crate::context::{Context, LeaderAt};
use crate::partition::{FoundOffset, OffsetQuery};
use crate::peers::{Purpose, failure};
use tokio::time::{Instant, timeout_at};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::log_service_client::LogServiceClient;

/// Finds an offset by position or time; asks on while somebody else leads, until `deadline`.
pub async fn find_offset(
    context: &Context,
    target: &Target,
    at: OffsetQuery,
    deadline: Instant,
) -> Result<FoundOffset, Error> {
    let mut backoff = Backoff::new();
    loop {
        let led = target.led(&context.image.borrow());
        let asked = async {
            match target.way(context)? {
                Way::Here(handle) => handle.find_offset(at).await,
                Way::There(leader) => ask(context, target, &leader, at).await,
            }
        };
        let asked = async {
            tokio::select! {
                answer = asked => answer,
                // One that hangs is not waited for.
                () = target.moves(context, led) => Err(no_leader("the leader was replaced")),
            }
        };
        let error = match timeout_at(deadline, asked).await {
            Ok(Err(error)) if target.is_readable_elsewhere(context, &error) => error,
            Ok(outcome) => return outcome,
            Err(_) => {
                let message = "the partition's leader did not answer in time";
                return Err(Error::new(ErrorCode::RequestTimedOut, message));
            }
        };
        let next = Instant::now() + backoff.next();
        if next >= deadline {
            return Err(context.redirect(error, &target.key));
        }
        target.news(context, led, next).await;
    }
}

async fn ask(
    context: &Context,
    target: &Target,
    leader: &LeaderAt,
    at: OffsetQuery,
) -> Result<FoundOffset, Error> {
    use pb::offset_query::At;
    let at = match at {
        OffsetQuery::Earliest => At::Earliest(true),
        OffsetQuery::Latest => At::Latest(true),
        OffsetQuery::Timestamp(time) => At::TimestampMs(time),
        OffsetQuery::MaxTimestamp => At::MaxTimestamp(true),
    };
    let query = pb::OffsetQuery { partition: Some(target.named()), at: Some(at) };
    let request = pb::ListOffsetsRequest { queries: vec![query] };
    let channel = context.channel_to(&leader.endpoint, Purpose::Control)?;
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
