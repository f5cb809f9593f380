//! Where the partitions of a topic are read from, and where they end now.

use crate::forward::{Leaders, Start, Target, find_offset, find_offset_for};
use crate::operations::start_position::StartPosition;
use crate::partition::{FoundOffset, Isolation, OffsetQuery};
use crate::registry::TopicEntry;
use futures::future::try_join_all;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;

/// Where one partition is read from, and where it ends.
pub struct Position {
    pub target: Target,
    pub start: Start,
    pub end: Option<Offset>,
    /// There was more to read when the call began.
    pub behind: bool,
}

/// What is read of a topic.
#[derive(Clone, Copy)]
pub struct Asked {
    /// None: all of them.
    pub partition: Option<i32>,
    /// None: from the latest record on.
    pub start: Option<StartPosition>,
    /// No further than to where it ends now.
    pub until_end: bool,
    pub isolation: Isolation,
}

/// # Errors
/// `UNKNOWN_PARTITION`, `OFFSET_OUT_OF_RANGE`, or why a leader could not be asked in time.
pub async fn positions(
    leaders: &Leaders,
    topic: &TopicEntry,
    asked: Asked,
    deadline: Instant,
) -> Result<Vec<Position>, Error> {
    let numbers = match asked.partition {
        Some(partition) => vec![partition],
        None => (0..).take(topic.partitions.len()).collect(),
    };
    let positions = numbers.into_iter().map(async |number| {
        let (key, _) = topic.partition(number)?;
        let target = Target { topic: Arc::clone(&topic.name), key };
        let find = Find { leaders, target, isolation: asked.isolation, deadline };
        let found = find.found(OffsetQuery::Latest).await?;
        let latest = found.offset.unwrap_or_default();
        let next = find.start(asked.start, latest).await?;
        // Nobody has read anything before it; the log ended there in that epoch.
        let after = (next == latest).then_some(found.leader_epoch);
        let end = asked.until_end.then_some(latest);
        let start = Start { next, after };
        Ok(Position { target: find.target, start, end, behind: next < latest })
    });
    try_join_all(positions).await
}

/// Offsets of one partition.
struct Find<'a> {
    leaders: &'a Leaders,
    target: Target,
    isolation: Isolation,
    deadline: Instant,
}

impl Find<'_> {
    /// Among what the reader may see.
    async fn found(&self, at: OffsetQuery) -> Result<FoundOffset, Error> {
        find_offset_for(self.leaders, &self.target, at, self.isolation, self.deadline).await
    }

    async fn at(&self, at: OffsetQuery) -> Result<Option<Offset>, Error> {
        Ok(self.found(at).await?.offset)
    }

    /// Of all that there is, whether the reader may see it or not yet.
    async fn log_end(&self) -> Result<Offset, Error> {
        let latest = OffsetQuery::Latest;
        let found = find_offset(self.leaders, &self.target, latest, self.deadline).await?;
        Ok(found.offset.unwrap_or_default())
    }

    async fn start(
        &self,
        position: Option<StartPosition>,
        latest: Offset,
    ) -> Result<Offset, Error> {
        match position {
            None | Some(StartPosition::Latest) => Ok(latest),
            Some(StartPosition::Earliest) => {
                Ok(self.at(OffsetQuery::Earliest).await?.unwrap_or_default())
            }
            Some(StartPosition::TimestampMs(time)) => {
                Ok(self.at(OffsetQuery::Timestamp(time)).await?.unwrap_or(latest))
            }
            Some(StartPosition::Offset(offset)) => {
                let earliest = self.at(OffsetQuery::Earliest).await?.unwrap_or_default();
                let asked = Offset::from_wire(offset);
                // It may be of a transaction that is open.
                let latest = match asked.is_some_and(|offset| offset > latest) {
                    true => self.log_end().await?,
                    false => latest,
                };
                asked.filter(|offset| (earliest..=latest).contains(offset)).ok_or_else(|| {
                    let message = format!(
                        "offset {offset} is not in partition {}: it holds {earliest} to {latest}",
                        self.target.number()
                    );
                    Error::new(ErrorCode::OffsetOutOfRange, message)
                        .with("earliest", earliest)
                        .with("latest", latest)
                })
            }
        }
    }
}
