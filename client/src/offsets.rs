//! Offsets by position or by time, asked of the leaders.

use crate::client::{Client, Inner, MAX_ANSWER, Missing};
use crate::connection::Purpose;
use crate::consumer::IsolationLevel;
use crate::error::{ClientError, is_transport_failure};
use crate::metadata::{Leader, LeaderAt, UNKNOWN_TOPIC_PATIENCE};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::{Duration, Instant, timeout, timeout_at};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionId};
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::offset_query::At;
use troupe_proto::log::v1::{ListOffsetsRequest, OffsetQuery, OffsetResult, TopicPartition};

/// Between two rounds, while leaders are unknown or moving and nobody says where they are; doubles up to the
/// maximum.
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is still kept.
    Earliest,
    /// The one that the next readable record gets.
    Latest,
    /// Of the first record at or after this time, in milliseconds since 1970.
    Timestamp(i64),
    /// Of the record with the largest timestamp.
    MaxTimestamp,
    /// Where this leader epoch ends, or else the largest below it that the log has.
    EndOfEpoch(LeaderEpoch),
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    pub partition: PartitionId,
    /// None: no record qualifies.
    pub offset: Option<Offset>,
    /// Of the record, in milliseconds since 1970; none for earliest and latest.
    pub timestamp_ms: Option<i64>,
    pub leader_epoch: LeaderEpoch,
}

impl Client {
    /// Finds offsets, in the order of the queries.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION; what kept a leader from answering within the request timeout.
    pub async fn list_offsets(
        &self,
        topic: &str,
        queries: &[(PartitionId, OffsetSpec)],
    ) -> Result<Vec<ListedOffset>, ClientError> {
        self.list_offsets_as(topic, queries, IsolationLevel::ReadUncommitted).await
    }

    /// The same as a reader with this isolation level sees them: with read_committed `latest` is where the earliest open
    /// transaction began, and what is searched ends there.
    ///
    /// # Errors
    /// As [`Client::list_offsets`].
    pub async fn list_offsets_as(
        &self,
        topic: &str,
        queries: &[(PartitionId, OffsetSpec)],
        isolation: IsolationLevel,
    ) -> Result<Vec<ListedOffset>, ClientError> {
        self.topic(topic).await?;
        self.inner.list_offsets(topic, queries, isolation).await
    }

    /// The same, each for itself: a partition that nobody answers for within `patience` keeps no other back.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, UNKNOWN_PARTITION; what is wrong with a partition is in its answer.
    pub async fn list_offsets_each(
        &self,
        topic: &str,
        queries: &[(PartitionId, OffsetSpec)],
        patience: Duration,
    ) -> Result<Vec<Result<ListedOffset, ClientError>>, ClientError> {
        self.topic(topic).await?;
        self.inner.list_each(topic, queries, IsolationLevel::ReadUncommitted, patience).await
    }
}

impl Inner {
    /// The topic is known already. Errors that a moment mends are waited out.
    pub(crate) async fn list_offsets(
        &self,
        topic: &str,
        queries: &[(PartitionId, OffsetSpec)],
        isolation: IsolationLevel,
    ) -> Result<Vec<ListedOffset>, ClientError> {
        let patience = self.connections.config().request_timeout;
        self.list_each(topic, queries, isolation, patience).await?.into_iter().collect()
    }

    /// The same, each for itself: one that nobody answers for within `patience` keeps no other back.
    pub(crate) async fn list_each(
        &self,
        topic: &str,
        queries: &[(PartitionId, OffsetSpec)],
        isolation: IsolationLevel,
        patience: Duration,
    ) -> Result<Vec<Result<ListedOffset, ClientError>>, ClientError> {
        let started = Instant::now();
        let deadline = started + self.connections.config().request_timeout;
        let mut answers = vec![None; queries.len()];
        let mut backoff = BACKOFF;
        loop {
            let mut changes = self.metadata.changes();
            let mut last_error = None;
            let by_leader = self.by_leader(topic, queries, &answers, &mut last_error)?;
            let asked = by_leader.into_iter().map(|(endpoint, places)| async move {
                let asked = places.iter().map(|&place| queries[place]);
                let queries = asked.map(|(at, spec)| query(topic, at, spec, isolation)).collect();
                (self.ask(topic, &endpoint, queries, deadline).await, places)
            });
            for (results, places) in join_all(asked).await {
                match results {
                    Ok(results) => {
                        for (place, result) in places.into_iter().zip(results) {
                            match result {
                                Ok(answer) => answers[place] = Some(answer),
                                Err(error) => last_error = Some(mendable(error, started)?),
                            }
                        }
                    }
                    Err(error) => last_error = Some(mendable(error, started)?),
                }
            }
            let Some(error) = last_error else {
                return Ok(answers.into_iter().flatten().map(Ok).collect());
            };
            if Instant::now() + backoff >= started + patience {
                let each = answers.into_iter();
                return Ok(each.map(|answer| answer.ok_or_else(|| error.clone())).collect());
            }
            // A refusal that named the leader has changed it already.
            if timeout(backoff, changes.changed()).await.is_err() {
                backoff = (backoff * 2).min(BACKOFF_MAX);
                self.refresh_topic(topic, Missing::StaysMissing).await?;
            }
        }
    }

    /// The open queries of each leader, by their places.
    fn by_leader(
        &self,
        topic: &str,
        queries: &[(PartitionId, OffsetSpec)],
        answers: &[Option<ListedOffset>],
        last_error: &mut Option<ClientError>,
    ) -> Result<BTreeMap<Arc<str>, Vec<usize>>, ClientError> {
        let mut by_leader: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
        for (place, &(partition, _)) in queries.iter().enumerate() {
            if answers[place].is_some() {
                continue;
            }
            let described = self.metadata.topic_of_any_age(topic);
            let count = described.map_or(0, |topic| topic.partitions.len() as u32);
            match self.metadata.leader(topic, partition) {
                Leader::Known(LeaderAt { endpoint, .. }) => {
                    by_leader.entry(endpoint).or_default().push(place);
                }
                Leader::UnknownTopic => return Err(ClientError::unknown_topic(topic)),
                Leader::None if partition.0 >= count => {
                    return Err(ClientError::UnknownPartition {
                        topic: topic.to_owned(),
                        partition,
                        count,
                        waited: Duration::ZERO,
                    });
                }
                Leader::None => *last_error = Some(ClientError::no_leader(topic, partition)),
            }
        }
        Ok(by_leader)
    }

    /// One leader's answers, in the order asked.
    async fn ask(
        &self,
        topic: &str,
        endpoint: &Arc<str>,
        queries: Vec<OffsetQuery>,
        deadline: Instant,
    ) -> Result<Vec<Result<ListedOffset, ClientError>>, ClientError> {
        let channel = self.connections.open_or_fall_back(endpoint, Purpose::Control).await?;
        let mut stub = LogServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let call = stub.list_offsets(ListOffsetsRequest { queries });
        let answer = match timeout_at(deadline, call).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                if is_transport_failure(&status) {
                    self.connections.lost(endpoint, Purpose::Control);
                }
                return Err(status.into());
            }
            Err(_) => {
                return Err(ClientError::outcome_unknown(format!(
                    "{endpoint} did not answer in time"
                )));
            }
        };
        Ok(answer.results.into_iter().map(|result| self.listed(topic, result)).collect())
    }

    fn listed(&self, topic: &str, result: OffsetResult) -> Result<ListedOffset, ClientError> {
        let partition = result.partition.map_or(0, |partition| partition.partition);
        let partition = PartitionId(u32::try_from(partition).unwrap_or(0));
        if let Some(detail) = result.error {
            let refusal = Refusal::from(detail);
            self.metadata.take_hint(topic, partition, &refusal);
            return Err(refusal.into());
        }
        let offset = Offset::from_wire(result.offset);
        Ok(ListedOffset {
            partition,
            offset,
            timestamp_ms: (result.timestamp_ms >= 0).then_some(result.timestamp_ms),
            leader_epoch: LeaderEpoch(result.leader_epoch),
        })
    }
}

/// An error that another round may mend. All partitions asked for are in the topic as it was described: a
/// leader that does not know one yet will.
fn mendable(error: ClientError, started: Instant) -> Result<ClientError, ClientError> {
    let unknown = matches!(error.reason(), ErrorCode::UnknownTopic | ErrorCode::UnknownPartition);
    let patient = unknown && started.elapsed() < UNKNOWN_TOPIC_PATIENCE;
    if patient || error.is_retriable() { Ok(error) } else { Err(error) }
}

fn query(
    topic: &str,
    partition: PartitionId,
    spec: OffsetSpec,
    isolation: IsolationLevel,
) -> OffsetQuery {
    let at = match spec {
        OffsetSpec::Earliest => At::Earliest(true),
        OffsetSpec::Latest => At::Latest(true),
        OffsetSpec::Timestamp(ms) => At::TimestampMs(ms),
        OffsetSpec::MaxTimestamp => At::MaxTimestamp(true),
        OffsetSpec::EndOfEpoch(epoch) => At::EndOfEpoch(epoch.0),
    };
    let partition = TopicPartition {
        topic: topic.to_owned(),
        partition: partition.0 as i32,
        ..Default::default()
    };
    OffsetQuery { isolation_level: isolation.to_wire(), partition: Some(partition), at: Some(at) }
}
