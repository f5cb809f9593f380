//! Positions, what is committed, and where partitions begin and end.

use super::assigned::{Due, OffsetAndMetadata};
use super::{Consumer, no_group, not_assigned};
use crate::client::Missing;
use crate::error::ClientError;
use crate::offsets::{ListedOffset, OffsetSpec};
use crate::topic_partition::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, sleep_until, timeout_at};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionId};

/// The first record at or after a time (C9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    pub leader_epoch: LeaderEpoch,
}

impl Consumer {
    /// The offset of the next record (C12). Finds out where to begin if nobody has yet.
    ///
    /// # Errors
    /// [`ClientError::IllegalState`] if the partition is not assigned; what keeps it from being found
    /// within `default_api_timeout`.
    pub async fn position(&mut self, partition: &TopicPartition) -> Result<Offset, ClientError> {
        let deadline = Instant::now() + self.config.default_api_timeout;
        loop {
            self.settle();
            let held = self.assigned.partitions.get(partition);
            let held = held.ok_or_else(|| not_assigned(partition))?;
            if let Some(offset) = held.position.offset() {
                return Ok(offset);
            }
            self.unresolved = true;
            self.look_for_positions();
            let found = match (&mut self.resolving, self.resolve_after) {
                (Some(resolving), _) => timeout_at(deadline, resolving).await.ok(),
                (None, again) => {
                    let again = again.unwrap_or(deadline);
                    sleep_until(again.min(deadline)).await;
                    if again < deadline {
                        continue;
                    }
                    None
                }
            };
            let Some(found) = found else {
                let what = format!("the position of {partition} was not found in time");
                return Err(Refusal::new(ErrorCode::RequestTimedOut, what).into());
            };
            self.resolving = None;
            self.on_resolved(found)?;
        }
    }

    /// What the group has committed for these partitions, held or not. Those without are left out.
    ///
    /// # Errors
    /// INVALID_GROUP_ID without a group; what kept the coordinator from answering within
    /// `default_api_timeout`.
    pub async fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ClientError> {
        if self.group.is_none() {
            return Err(no_group("committed"));
        }
        let deadline = Instant::now() + self.config.default_api_timeout;
        self.resolver().committed(partitions, deadline).await
    }

    /// Commits the positions of everything that is held: what was returned so far counts as processed. Waits
    /// for earlier commits, and tries until `default_api_timeout` (C15).
    ///
    /// # Errors
    /// INVALID_GROUP_ID without a group; UNKNOWN_MEMBER if the membership is lost (C18); what kept the
    /// coordinator from committing.
    pub async fn commit_sync(&mut self) -> Result<(), ClientError> {
        self.settle();
        let positions = self.assigned.positions();
        self.commit_sync_offsets(positions).await
    }

    /// Commits these.
    ///
    /// # Errors
    /// As [`Consumer::commit_sync`]; NOT_ASSIGNED for partitions of other members, UNKNOWN_TOPIC,
    /// UNKNOWN_PARTITION, OFFSET_METADATA_TOO_LARGE.
    pub async fn commit_sync_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<(), ClientError> {
        let Some(group) = &self.group else { return Err(no_group("commit")) };
        let deadline = Instant::now() + self.config.default_api_timeout;
        let due = self.assigned.due(offsets.into_iter().collect());
        let committed = group.commits.synchronous(due, deadline).await;
        self.note_committed();
        committed
    }

    /// Commits the positions, in the background and in one attempt. The callbacks of commits run in their
    /// order, on a task of the consumer's; they must not block (C15).
    ///
    /// # Errors
    /// INVALID_GROUP_ID without a group; then the callback does not run.
    pub fn commit_async(
        &mut self,
        callback: impl FnOnce(Result<(), ClientError>) + Send + 'static,
    ) -> Result<(), ClientError> {
        self.settle();
        let positions = self.assigned.positions();
        self.commit_async_offsets(positions, callback)
    }

    /// The same with these offsets.
    ///
    /// # Errors
    /// As [`Consumer::commit_async`].
    pub fn commit_async_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
        callback: impl FnOnce(Result<(), ClientError>) + Send + 'static,
    ) -> Result<(), ClientError> {
        let Some(group) = &self.group else { return Err(no_group("commit")) };
        let due = self.assigned.due(offsets.into_iter().collect());
        group.commits.asynchronous(due, Box::new(callback));
        Ok(())
    }

    /// C14: what was returned and is not committed yet, in the background.
    pub(super) fn auto_commit_now(&mut self) {
        if !self.config.auto_commits() {
            return;
        }
        self.next_auto_commit = Instant::now() + self.config.auto_commit_interval;
        self.note_committed();
        let offsets = self.assigned.uncommitted(None);
        if let Some(group) = self.group.as_ref().filter(|_| !offsets.is_empty()) {
            // One at a time: where nobody answers, they do not pile up in front of what is waited for.
            if group.commits.outcomes.automatic.swap(true, Ordering::AcqRel) {
                return;
            }
            let group_id = self.config.group_id.clone();
            let outcomes = group.commits.outcomes.clone();
            let done = move |result: Result<(), ClientError>| {
                outcomes.automatic.store(false, Ordering::Release);
                if let Err(error) = result {
                    tracing::warn!(group = group_id, %error, "auto commit; tried again when due");
                }
            };
            group.commits.asynchronous(self.assigned.due(offsets), Box::new(done));
        }
    }

    /// The same for these partitions, and waits for it.
    pub(super) async fn commit_positions(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let Some(group) = &self.group else { return Ok(()) };
        // What is on its way counts when it has arrived.
        group.commits.synchronous(Due::default(), deadline).await?;
        self.note_committed();
        let offsets = self.assigned.uncommitted(Some(partitions));
        let Some(group) = self.group.as_ref().filter(|_| !offsets.is_empty()) else {
            return Ok(());
        };
        let due = self.assigned.due(offsets);
        let committed = group.commits.synchronous(due, deadline).await;
        self.note_committed();
        committed
    }

    fn note_committed(&mut self) {
        if let Some(group) = &self.group {
            self.assigned.note_committed(&group.commits.take_committed());
        }
    }

    /// The first offsets that are kept, of any partitions.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION; what kept a leader from answering within the request timeout.
    pub async fn beginning_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
        self.list(partitions.iter().map(|at| (at, OffsetSpec::Earliest))).await.map(offsets)
    }

    /// The offsets that the next readable records get, of any partitions; with read_committed those of the earliest
    /// records of transactions that are open.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn end_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
        self.list(partitions.iter().map(|at| (at, OffsetSpec::Latest))).await.map(offsets)
    }

    /// The first record of each partition at or after its time, in milliseconds since 1970; None if there is
    /// none (C9).
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn offsets_for_times(
        &mut self,
        times: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>, ClientError> {
        let listed =
            self.list(times.iter().map(|(at, &ms)| (at, OffsetSpec::Timestamp(ms)))).await?;
        let found = listed.into_iter().map(|(at, listed)| {
            let found = listed.offset.map(|offset| OffsetAndTimestamp {
                offset,
                timestamp_ms: listed.timestamp_ms.unwrap_or(-1),
                leader_epoch: listed.leader_epoch,
            });
            (at, found)
        });
        Ok(found.collect())
    }

    /// Records between the position and the end of the partition, as a node said last (C12). None: not known
    /// yet.
    pub fn current_lag(&self, partition: &TopicPartition) -> Option<u64> {
        let cursor = self.cursor.as_ref().filter(|cursor| cursor.at == *partition);
        let position = self.assigned.partitions.get(partition)?.position.offset();
        let next = cursor.map(|cursor| cursor.next).or(position)?;
        let end = self.fetcher.get(partition)?.end_of_readable(self.config.isolation_level)?;
        Some(end.0.saturating_sub(next.0))
    }

    async fn list(
        &mut self,
        queries: impl Iterator<Item = (&TopicPartition, OffsetSpec)>,
    ) -> Result<Vec<(TopicPartition, ListedOffset)>, ClientError> {
        let mut topics: BTreeMap<Arc<str>, Vec<(PartitionId, OffsetSpec)>> = BTreeMap::new();
        for (at, spec) in queries {
            topics.entry(at.topic.clone()).or_default().push((at.partition, spec));
        }
        let (client, isolation) = (self.client.clone(), self.config.isolation_level);
        let mut found = Vec::new();
        for (topic, queries) in topics {
            if client.metadata.topic_of_any_age(&topic).is_none() {
                client.find_topic(&topic, Missing::StaysMissing).await?;
            }
            for listed in client.list_offsets(&topic, &queries, isolation).await? {
                let at = TopicPartition { topic: topic.clone(), partition: listed.partition };
                found.push((at, listed));
            }
        }
        Ok(found)
    }
}

fn offsets(listed: Vec<(TopicPartition, ListedOffset)>) -> BTreeMap<TopicPartition, Offset> {
    let known = listed.into_iter().filter_map(|(at, listed)| Some((at, listed.offset?)));
    known.collect()
}
