//! The reader: the records of some partitions of a topic, without a group.
//!
//! Promises: every record from the start on is handed out once and in the order of its partition, over
//! broken streams and changes of leader. What cannot be mended (OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC that
//! lasts, corrupt data) comes out as an error that ends its partition; the others go on.
//! Never here: groups, commits; how records come (the fetcher does that).

mod config;

pub use crate::fetcher::{ConsumerRecord, FetchedBatch};
pub use config::{Partitions, ReaderConfig, Start};

use crate::client::{Inner, Missing};
use crate::consumer::IsolationLevel;
use crate::error::ClientError;
use crate::fetcher::{Fetcher, FetcherConfig};
use crate::metadata::TopicMetadata;
use crate::offsets::OffsetSpec;
use crate::topic_partition::TopicPartition;
use futures::stream::{Stream, StreamExt, unfold};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Duration;
use troupe_proto::ids::{Offset, PartitionId, TopicId};

/// Reads partitions of one topic.
pub struct Reader {
    client: Arc<Inner>,
    topic: Arc<str>,
    topic_id: TopicId,
    config: ReaderConfig,
    fetcher: Fetcher,
    changes: watch::Receiver<u64>,
}

/// How far a partition has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: PartitionId,
    /// Offset of the next record that will be handed out.
    pub next: Offset,
    /// As a node said last.
    pub high_watermark: Option<Offset>,
    /// The same, with read_committed: no further is read.
    pub last_stable_offset: Option<Offset>,
    /// Where reading stops, with `until_end`.
    pub end: Option<Offset>,
}

impl Reader {
    pub(crate) async fn open(
        client: Arc<Inner>,
        topic: &str,
        config: ReaderConfig,
    ) -> Result<Self, ClientError> {
        client.watch_metadata();
        let described = client.find_topic(topic, Missing::StaysMissing).await?;
        let partitions = select(&described, &config.partitions)?;
        let list = Listing { client: &client, topic, isolation: config.isolation_level };
        let starts = starts(&list, &partitions, &config.start).await?;
        let ends = match config.until_end {
            true => list.offsets(&partitions, OffsetSpec::Latest).await?,
            false => partitions.iter().map(|at| config.ends.get(at).copied()).collect(),
        };
        let settings = FetcherConfig {
            credit_bytes: config.credit_bytes,
            max_partition_bytes: config.max_partition_bytes,
            check_crc: config.check_crc,
            limits: config.limits,
            rack: FetcherConfig::rack(&config.client_rack),
            isolation: config.isolation_level,
        };
        let mut reader = Self {
            changes: client.metadata.changes(),
            fetcher: Fetcher::new(client.clone(), settings),
            client,
            topic: topic.into(),
            topic_id: described.topic_id,
            config,
        };
        for ((&partition, start), end) in partitions.iter().zip(starts).zip(ends) {
            reader.fetcher.add(&reader.at(partition), reader.topic_id, start, end);
        }
        Ok(reader)
    }

    /// The next batch, or the error that ended a partition. None: every partition is at its end, or ended.
    /// May be dropped while it waits; nothing is lost.
    pub async fn next_batch(&mut self) -> Option<Result<FetchedBatch, ClientError>> {
        loop {
            tokio::select! {
                Ok(()) = self.changes.changed() => self.add_partitions(),
                next = self.fetcher.next() => {
                    return next.map(|next| next.map_err(|failure| failure.error));
                }
            }
        }
    }

    /// The batches as a stream.
    pub fn batches(self) -> impl Stream<Item = Result<FetchedBatch, ClientError>> + Send + Unpin {
        Box::pin(unfold(self, |mut reader| async move {
            reader.next_batch().await.map(|batch| (batch, reader))
        }))
    }

    /// The records as a stream.
    pub fn records(self) -> impl Stream<Item = Result<ConsumerRecord, ClientError>> + Send + Unpin {
        self.batches().flat_map(|batch| {
            let (records, error) = match batch {
                Ok(batch) => (Some(batch.records()), None),
                Err(error) => (None, Some(Err(error))),
            };
            futures::stream::iter(records.into_iter().flatten().chain(error))
        })
    }

    /// Goes on from another offset; also with a partition that an error has ended.
    pub fn seek(&mut self, partition: PartitionId, offset: Offset) {
        self.fetcher.seek(&self.at(partition), offset);
    }

    /// How far each partition has been read.
    pub fn positions(&self) -> Vec<Position> {
        let positions = self.fetcher.iter().map(|(at, tracked)| Position {
            partition: at.partition,
            next: tracked.next,
            high_watermark: tracked.high_watermark,
            last_stable_offset: tracked.end_of_readable(IsolationLevel::ReadCommitted),
            end: tracked.end,
        });
        positions.collect()
    }

    /// Partitions that the topic got meanwhile: their records are newer than this reader, so it wants all of
    /// them, unless it reads certain partitions or up to an end.
    fn add_partitions(&mut self) {
        if self.config.until_end || self.config.partitions != Partitions::All {
            return;
        }
        let described = self.client.metadata.topic_of_any_age(&self.topic);
        let Some(topic) = described.filter(|topic| topic.topic_id == self.topic_id) else { return };
        for partition in topic.partitions.iter().map(|described| described.partition) {
            let at = self.at(partition);
            if self.fetcher.get(&at).is_none() {
                let start = match &self.config.start {
                    Start::Offset(offset) => *offset,
                    Start::Each(each) => each.get(&partition).copied().unwrap_or(Offset::ZERO),
                    Start::Earliest | Start::Latest | Start::Timestamp(_) => Offset::ZERO,
                };
                self.fetcher.add(&at, self.topic_id, start, None);
            }
        }
    }

    fn at(&self, partition: PartitionId) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition }
    }
}

fn select(topic: &TopicMetadata, wanted: &Partitions) -> Result<Vec<PartitionId>, ClientError> {
    let count = topic.partitions.len() as u32;
    match wanted {
        Partitions::All => Ok((0..count).map(PartitionId).collect()),
        Partitions::Only(wanted) => match wanted.iter().find(|partition| partition.0 >= count) {
            None => Ok(wanted.clone()),
            Some(&partition) => Err(ClientError::UnknownPartition {
                topic: topic.name.clone(),
                partition,
                count,
                waited: Duration::ZERO,
            }),
        },
    }
}

async fn starts(
    list: &Listing<'_>,
    partitions: &[PartitionId],
    start: &Start,
) -> Result<Vec<Offset>, ClientError> {
    let found = match start {
        Start::Offset(offset) => return Ok(vec![*offset; partitions.len()]),
        Start::Earliest => list.offsets(partitions, OffsetSpec::Earliest).await?,
        Start::Latest => list.offsets(partitions, OffsetSpec::Latest).await?,
        Start::Timestamp(ms) => {
            let mut found = list.offsets(partitions, OffsetSpec::Timestamp(*ms)).await?;
            if found.contains(&None) {
                let latest = list.offsets(partitions, OffsetSpec::Latest).await?;
                for (found, latest) in found.iter_mut().zip(latest) {
                    *found = found.or(latest);
                }
            }
            found
        }
        Start::Each(each) => {
            let earliest = list.offsets(partitions, OffsetSpec::Earliest).await?;
            let named = partitions.iter().map(|partition| each.get(partition).copied());
            named.zip(earliest).map(|(named, earliest)| named.or(earliest)).collect()
        }
    };
    Ok(found.into_iter().map(|offset| offset.unwrap_or(Offset::ZERO)).collect())
}

/// Whose offsets are asked for.
struct Listing<'a> {
    client: &'a Inner,
    topic: &'a str,
    isolation: IsolationLevel,
}

impl Listing<'_> {
    async fn offsets(
        &self,
        partitions: &[PartitionId],
        spec: OffsetSpec,
    ) -> Result<Vec<Option<Offset>>, ClientError> {
        let queries: Vec<_> = partitions.iter().map(|&partition| (partition, spec)).collect();
        let listed = self.client.list_offsets(self.topic, &queries, self.isolation).await?;
        Ok(listed.into_iter().map(|listed| listed.offset).collect())
    }
}
