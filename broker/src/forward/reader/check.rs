//! A position is checked before it is read on in another leader epoch than it was read in: an unclean election may have
//! put something else there, and that would be skipped without a word (C13).

use crate::forward::divergence::find_divergence;
use crate::forward::leaders::Leaders;
use crate::forward::offsets::find_offset;
use crate::forward::route::Target;
use crate::partition::OffsetQuery;
use futures::future::Aborted;
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// How long a partition may have no leader that answers, before that is the reader's error.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Of a position: nothing if it is sound, or why it is not.
pub type Verdict = Result<Option<Error>, Error>;
pub type Checked = (PartitionKey, Result<Verdict, Aborted>);

/// Whether what was read before this position, by a record of that leader epoch, is still in the log.
pub async fn check(leaders: &Leaders, target: &Target, place: (Offset, LeaderEpoch)) -> Verdict {
    let deadline = Instant::now() + PATIENCE;
    let Some(divergence) = find_divergence(leaders, target, place, deadline).await? else {
        return Ok(None);
    };
    let at = async |at| {
        let found = find_offset(leaders, target, at, deadline).await?;
        Ok::<_, Error>(found.offset.unwrap_or_default())
    };
    let (earliest, latest) = (at(OffsetQuery::Earliest).await?, at(OffsetQuery::Latest).await?);
    let (position, _) = place;
    let message = format!(
        "the log of partition {} of `{}` was cut below position {position} by an unclean election: what is there \
         from {divergence} on was not read",
        target.number(),
        target.topic
    );
    let error = Error::new(ErrorCode::OffsetOutOfRange, message)
        .with("requested", position)
        .with("earliest", earliest)
        .with("latest", latest)
        .with("cut_at", divergence);
    Ok(Some(error))
}
