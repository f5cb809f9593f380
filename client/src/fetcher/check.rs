//! A position is checked before it is read on in another leader epoch than it was read in: an unclean election may have
//! put something else there, and that would be skipped without a word (C13).

use super::positions::Source;
use super::{Failure, Fetcher, Ready};
use crate::client::Inner;
use crate::consumer::IsolationLevel;
use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::offsets::OffsetSpec;
use crate::topic_partition::TopicPartition;
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// What is there, whoever may read it.
const ISOLATION: IsolationLevel = IsolationLevel::ReadUncommitted;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is to be checked: a position behind a record of one leader epoch, in the log of who leads in another.
pub(super) struct Check {
    number: u64,
    at: TopicPartition,
    position: Offset,
    after: LeaderEpoch,
    led: LeaderEpoch,
}

/// Nothing if the position is sound, or why it is not.
pub(super) type Checked = (Check, Result<Option<Refusal>, ClientError>);

impl Fetcher {
    pub(super) fn check(&mut self, at: TopicPartition, after: LeaderEpoch, led: LeaderEpoch) {
        let Some(tracked) = self.positions.get_mut(&at) else { return };
        self.next_check += 1;
        tracked.source = Source::Checked(self.next_check);
        let check = Check { number: self.next_check, position: tracked.received, at, after, led };
        let client = Arc::clone(&self.client);
        let checked = async move {
            let found = check.find_cut(&client).await;
            (check, found)
        };
        self.checks.push(Exclusive::new(checked.boxed()));
    }

    pub(super) fn on_checked(&mut self, (check, found): Checked) {
        let Some(tracked) = self.positions.get_mut(&check.at) else { return };
        if tracked.source != Source::Checked(check.number) {
            return;
        }
        match found {
            Ok(None) => {
                tracked.verified = Some(check.led);
                tracked.source = Source::None;
            }
            Ok(Some(cut)) => {
                tracked.source = Source::Over;
                let failure = Failure { at: check.at, error: cut.into() };
                self.ready.push_back(Ready::Failure(Box::new(failure)));
            }
            Err(error) => {
                tracing::debug!(partition = %check.at, %error, "a position cannot be checked yet");
                tracked.refused(Instant::now());
                self.stale.insert(check.at.topic);
            }
        }
    }
}

impl Check {
    async fn find_cut(&self, client: &Inner) -> Result<Option<Refusal>, ClientError> {
        let find = async |spec| {
            let query = [(self.at.partition, spec)];
            let mut found = client.list_each(&self.at.topic, &query, ISOLATION, PATIENCE).await?;
            found.pop().transpose().map(|found| found.and_then(|found| found.offset))
        };
        let end = match find(OffsetSpec::EndOfEpoch(self.after)).await {
            Ok(Some(end)) => end,
            // Not even the record before the position is of that epoch, or of one before.
            Ok(None) => find(OffsetSpec::Earliest).await?.unwrap_or_default(),
            // A node of an earlier version knows no such question.
            Err(error) if error.reason() == ErrorCode::InvalidRequest => return Ok(None),
            Err(error) => return Err(error),
        };
        if end >= self.position {
            return Ok(None);
        }
        let earliest = find(OffsetSpec::Earliest).await?.unwrap_or_default();
        let latest = find(OffsetSpec::Latest).await?.unwrap_or_default();
        let message = format!(
            "the log was cut below position {} by an unclean election: what is there from {end} on was not read",
            self.position
        );
        let refusal = Refusal::new(ErrorCode::OffsetOutOfRange, message)
            .with("requested", self.position)
            .with("earliest", earliest)
            .with("latest", latest)
            .with("cut_at", end);
        Ok(Some(refusal))
    }
}
