//! A position is checked before it is read on in another leader epoch than it was read in: an unclean election may have
//! put something else there, and that would be skipped without a word (C13).

use super::super::cut::cut_below;
use super::{Failed, PATIENCE, Place, Position, TopicReader};
use crate::context::Context;
use crate::forward::{Target, find_offset};
use crate::partition::OffsetQuery;
use futures::future::{Aborted, FutureExt, abortable};
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// Of a position: nothing if it is sound, or why it is not.
type Verdict = Result<Option<Error>, Error>;
pub(super) type Checked = (PartitionKey, Result<Verdict, Aborted>);

impl Position {
    /// What was read before is not known to be in the log of whoever leads now.
    pub(super) fn is_doubtful(&self) -> Option<LeaderEpoch> {
        let (after, (_, led)) = (self.after?, self.led?);
        (after != led && self.verified != Some(led)).then_some(after)
    }
}

impl TopicReader {
    pub(super) fn check(&mut self, key: PartitionKey, after: LeaderEpoch) {
        let Some(position) = self.positions.get_mut(&key) else { return };
        let (context, target) = (Arc::clone(&self.context), position.target.clone());
        let place = (position.next, after);
        let (checking, abort) = abortable(async move { check(&context, &target, place).await });
        position.place = Place::Checking(abort);
        self.checks.push(checking.map(move |checked| (key, checked)).boxed());
    }

    /// What leads to another leader epoch than the one that was asked has it asked anew.
    pub(super) fn on_checked(&mut self, key: PartitionKey, verdict: Verdict) -> Result<(), Failed> {
        let Some(position) = self.positions.get_mut(&key) else { return Ok(()) };
        match verdict {
            Ok(None) => {
                position.verified = position.led.map(|(_, epoch)| epoch);
                position.place = Place::Nowhere(Instant::now());
                Ok(())
            }
            Ok(Some(cut)) => Err(self.fail(key, cut)),
            Err(error) => self.displace(key, error),
        }
    }
}

async fn check(context: &Context, target: &Target, place: (Offset, LeaderEpoch)) -> Verdict {
    let deadline = Instant::now() + PATIENCE;
    let Some(cut) = cut_below(context, target, place, deadline).await? else { return Ok(None) };
    let at = async |at| {
        let found = find_offset(context, target, at, deadline).await?;
        Ok::<_, Error>(found.offset.unwrap_or_default())
    };
    let (earliest, latest) = (at(OffsetQuery::Earliest).await?, at(OffsetQuery::Latest).await?);
    let (position, _) = place;
    let message = format!(
        "the log of partition {} of `{}` was cut below position {position} by an unclean election: what is there \
         from {cut} on was not read",
        target.number(),
        target.topic
    );
    let error = Error::new(ErrorCode::OffsetOutOfRange, message)
        .with("requested", position)
        .with("earliest", earliest)
        .with("latest", latest)
        .with("cut_at", cut);
    Ok(Some(error))
}
