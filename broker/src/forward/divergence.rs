//! Whether a position is still one in the log (C13).

use super::leaders::Leaders;
use super::offsets::find_offset;
use super::route::Target;
use crate::partition::OffsetQuery;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// A position is one in the log as it was in the leader epoch of the record before it. If that epoch ends before it
/// now, an unclean election has truncated the log, and what came in its place would be skipped: where that begins.
pub async fn find_divergence(
    leaders: &Leaders,
    target: &Target,
    (position, after): (Offset, LeaderEpoch),
    deadline: Instant,
) -> Result<Option<Offset>, Error> {
    let find = async |at| Ok::<_, Error>(find_offset(leaders, target, at, deadline).await?.offset);
    let end = match find(OffsetQuery::EndOfEpoch(after)).await {
        Ok(Some(end)) => Some(end),
        // Not even the record before the position is of that epoch, or of one before: nothing is left of that log.
        Ok(None) => find(OffsetQuery::Earliest).await?,
        // A leader of an earlier version knows no such question.
        Err(error) if error.code == ErrorCode::InvalidRequest => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(end.filter(|end| *end < position))
}
