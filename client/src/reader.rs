//! The reader: the records of some partitions, in order for each, from where one says.
//!
//! Nodes push batches on streams of their own connections as long as they have credit; credit is granted
//! again as batches are handed out, so a slow reader costs a bounded amount of memory.
//!
//! Promises: every record from the start on is handed out once and in the order of its partition, over
//! broken streams and changes of leader. What cannot be mended (OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC that
//! lasts, corrupt data) comes out as an error that ends its partition; the others go on.
//! Never here: groups, commits. `leaders` finds the streams.

mod batch;
mod config;
mod leaders;
mod node_stream;
mod positions;

pub use batch::{ConsumerRecord, FetchedBatch};
pub use config::{Partitions, ReaderConfig, Start};
pub use positions::Position;

use crate::bulk::Event;
use crate::client::Inner;
use crate::connection::Purpose;
use crate::error::ClientError;
use crate::metadata::TopicMetadata;
use crate::offsets::OffsetSpec;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{Stream, StreamExt, unfold};
use node_stream::{Events, NodeStream};
use positions::{Positions, Source};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};
use tokio_stream::StreamMap;
use troupe_proto::batch::{BatchHeader, Batches, RecordSet};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::log::v1::TopicPartition;
use troupe_proto::wire::FetchStreamResponse;

/// Reads partitions of one topic.
pub struct Reader {
    client: Arc<Inner>,
    topic: Arc<str>,
    topic_id: TopicId,
    config: ReaderConfig,
    positions: Positions,
    streams: Vec<NodeStream>,
    /// By the streams' numbers. Removing one cancels the call.
    events: StreamMap<u64, Events>,
    next_stream: u64,
    next_subscription: u64,
    ready: VecDeque<Ready>,
    changes: watch::Receiver<u64>,
    /// What led to an error may be old; and the question whether it is, while it is asked.
    stale: bool,
    refresh: Option<BoxFuture<'static, ()>>,
}

/// Received, not handed out yet.
enum Ready {
    Batch(Box<ReadyBatch>),
    Error(ClientError),
    /// The bytes of a message have all been read.
    Credit {
        stream: u64,
        bytes: u64,
    },
}

struct ReadyBatch {
    partition: PartitionId,
    header: BatchHeader,
    payload: Bytes,
    high_watermark: Offset,
}

impl Reader {
    pub(crate) async fn open(
        client: Arc<Inner>,
        topic: &str,
        config: ReaderConfig,
    ) -> Result<Self, ClientError> {
        client.watch_metadata();
        let described = client.find_topic(topic).await?;
        let partitions = select(&described, &config.partitions)?;
        let starts = starts(&client, topic, &partitions, &config.start).await?;
        let ends = match config.until_end {
            true => offsets(&client, topic, &partitions, OffsetSpec::Latest).await?,
            false => vec![None; partitions.len()],
        };
        let mut positions = Positions::default();
        for ((&partition, start), end) in partitions.iter().zip(starts).zip(ends) {
            positions.insert(partition, start, end);
        }
        Ok(Self {
            changes: client.metadata.changes(),
            client,
            topic: topic.into(),
            topic_id: described.topic_id,
            config,
            positions,
            streams: Vec::new(),
            events: StreamMap::new(),
            next_stream: 0,
            next_subscription: 0,
            ready: VecDeque::new(),
            stale: false,
            refresh: None,
        })
    }

    /// The next batch, or the error that ended a partition. None: every partition is at its end, or ended.
    /// May be dropped while it waits; nothing is lost.
    pub async fn next_batch(&mut self) -> Option<Result<FetchedBatch, ClientError>> {
        loop {
            while let Some(ready) = self.ready.pop_front() {
                if let Some(item) = self.hand_out(ready) {
                    return Some(item);
                }
            }
            if self.positions.is_over() {
                return None;
            }
            self.mend(Instant::now());
            if !self.ready.is_empty() {
                continue;
            }
            let mend_at = self.positions.next_retry();
            let Self { events, refresh, changes, .. } = self;
            tokio::select! {
                Some((stream, event)) = events.next() => match event {
                    Event::Message(message) => self.on_message(stream, message),
                    Event::Ended(error) => self.on_ended(stream, &error),
                },
                () = async { sleep_until(mend_at.expect("only with a time")).await },
                    if mend_at.is_some() => {}
                () = async { refresh.as_mut().expect("only if there is one").await },
                    if refresh.is_some() => self.refresh = None,
                Ok(()) = changes.changed() => self.on_metadata(),
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
        let Some(tracked) = self.positions.get_mut(partition) else { return };
        let end = tracked.end;
        self.unsubscribe(partition);
        self.positions.insert(partition, offset, end);
        self.ready.retain(|ready| match ready {
            Ready::Batch(batch) => batch.partition != partition,
            Ready::Error(_) | Ready::Credit { .. } => true,
        });
    }

    /// How far each partition has been read.
    pub fn positions(&self) -> Vec<Position> {
        self.positions.all()
    }

    fn hand_out(&mut self, ready: Ready) -> Option<Result<FetchedBatch, ClientError>> {
        let batch = match ready {
            Ready::Batch(batch) => batch,
            Ready::Error(error) => return Some(Err(error)),
            Ready::Credit { stream, bytes } => {
                if let Some(stream) = self.streams.iter_mut().find(|open| open.number == stream) {
                    stream.consumed(bytes);
                }
                return None;
            }
        };
        let ReadyBatch { partition, header, payload, high_watermark } = *batch;
        let tracked = self.positions.get_mut(partition)?;
        let wanted = tracked.next;
        match RecordSet::decode(&header, payload, self.config.limits) {
            Ok(records) => {
                tracked.next = header.end_offset();
                if header.attributes.is_control() {
                    return None;
                }
                let topic = self.topic.clone();
                Some(Ok(FetchedBatch { partition, header, high_watermark, topic, wanted, records }))
            }
            Err(cause) => {
                let (topic, offset) = (self.topic.to_string(), header.base_offset);
                self.give_up(partition);
                Some(Err(ClientError::Corrupt { topic, partition, offset, cause }))
            }
        }
    }

    fn give_up(&mut self, partition: PartitionId) {
        self.ready
            .retain(|ready| !matches!(ready, Ready::Batch(batch) if batch.partition == partition));
        self.unsubscribe(partition);
        if let Some(tracked) = self.positions.get_mut(partition) {
            tracked.source = Source::Over;
        }
    }

    /// Tells the partition's node to push no more of it.
    fn unsubscribe(&mut self, partition: PartitionId) {
        let source = self.positions.get(partition).map(|tracked| tracked.source);
        let wire = self.to_wire(partition);
        for stream in &mut self.streams {
            if source == Some(Source::Stream(stream.number)) {
                stream.drop_partition(wire.clone());
            }
        }
    }

    fn on_message(&mut self, stream: u64, message: FetchStreamResponse) {
        let bytes = message.batches.len() as u64;
        self.receive(stream, message);
        self.ready.push_back(Ready::Credit { stream, bytes });
    }

    fn receive(&mut self, stream: u64, message: FetchStreamResponse) {
        let number = message.partition.as_ref().and_then(|at| u32::try_from(at.partition).ok());
        let Some(partition) = number.map(PartitionId) else { return };
        let Some(tracked) = self.positions.get_mut(partition) else { return };
        // A node goes on until it hears that a partition is wanted no more, or from elsewhere: what was under way
        // then, records or a refusal, is no answer to the last question.
        if tracked.source != Source::Stream(stream) || tracked.subscription != message.subscription
        {
            return;
        }
        let high_watermark = Offset::from_wire(message.high_watermark);
        tracked.high_watermark = high_watermark.or(tracked.high_watermark);
        if let Some(detail) = message.error {
            return self.on_refusal(partition, Refusal::from(detail));
        }
        tracked.served();
        let key = PartitionKey { topic_id: self.topic_id, partition };
        let batches = match self.config.check_crc {
            true => Batches::verified(message.batches, key),
            false => Batches::new(message.batches),
        };
        for batch in batches {
            match batch {
                // Had before the stream broke.
                Ok((header, _)) if header.end_offset() <= tracked.received => {}
                Ok((header, payload)) => {
                    let high_watermark = high_watermark.unwrap_or(header.end_offset());
                    let batch = ReadyBatch { partition, header, payload, high_watermark };
                    self.ready.push_back(Ready::Batch(Box::new(batch)));
                    if tracked.received(header.end_offset()) {
                        break;
                    }
                }
                Err(cause) => {
                    let (topic, offset) = (self.topic.to_string(), tracked.received);
                    tracked.source = Source::Over;
                    let error = ClientError::Corrupt { topic, partition, offset, cause };
                    self.ready.push_back(Ready::Error(error));
                    break;
                }
            }
        }
        if tracked.source == Source::Over {
            let wire = self.to_wire(partition);
            let open = self.streams.iter_mut().find(|open| open.number == stream);
            if let Some(open) = open {
                open.drop_partition(wire);
            }
        }
    }

    /// The node has dropped the partition.
    fn on_refusal(&mut self, partition: PartitionId, refusal: Refusal) {
        let Some(tracked) = self.positions.get_mut(partition) else { return };
        let now = Instant::now();
        // It was there when this reader began, so its leader may only not know it yet.
        let unknown = matches!(refusal.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition);
        let over = if unknown { tracked.unknown(now) } else { !refusal.is_retriable() };
        if over {
            tracked.source = Source::Over;
            self.ready.push_back(Ready::Error(refusal.into()));
            return;
        }
        if !unknown {
            tracked.refused(now);
        }
        let moved = self.client.metadata.take_hint(&self.topic, partition, &refusal);
        self.stale |= refusal.code.refresh_metadata() && !moved;
    }

    fn on_ended(&mut self, stream: u64, error: &ClientError) {
        let Some(open) = self.close(stream) else { return };
        tracing::debug!(endpoint = %open.endpoint, %error, "a fetch stream ended");
        self.client.connections.lost(&open.endpoint, Purpose::Fetch);
        self.positions.lose(stream, Instant::now());
        self.stale = true;
    }

    fn close(&mut self, stream: u64) -> Option<NodeStream> {
        let place = self.streams.iter().position(|open| open.number == stream)?;
        self.events.remove(&stream);
        Some(self.streams.remove(place))
    }

    fn to_wire(&self, partition: PartitionId) -> TopicPartition {
        TopicPartition {
            topic: self.topic.to_string(),
            partition: partition.0 as i32,
            topic_id: self.topic_id.to_wire(),
        }
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
    client: &Inner,
    topic: &str,
    partitions: &[PartitionId],
    start: &Start,
) -> Result<Vec<Offset>, ClientError> {
    let found = match start {
        Start::Offset(offset) => return Ok(vec![*offset; partitions.len()]),
        Start::Earliest => offsets(client, topic, partitions, OffsetSpec::Earliest).await?,
        Start::Latest => offsets(client, topic, partitions, OffsetSpec::Latest).await?,
        Start::Timestamp(ms) => {
            let mut found = offsets(client, topic, partitions, OffsetSpec::Timestamp(*ms)).await?;
            if found.contains(&None) {
                let latest = offsets(client, topic, partitions, OffsetSpec::Latest).await?;
                for (found, latest) in found.iter_mut().zip(latest) {
                    *found = found.or(latest);
                }
            }
            found
        }
        Start::Each(each) => {
            let earliest = offsets(client, topic, partitions, OffsetSpec::Earliest).await?;
            let named = partitions.iter().map(|partition| each.get(partition).copied());
            named.zip(earliest).map(|(named, earliest)| named.or(earliest)).collect()
        }
    };
    Ok(found.into_iter().map(|offset| offset.unwrap_or(Offset::ZERO)).collect())
}

async fn offsets(
    client: &Inner,
    topic: &str,
    partitions: &[PartitionId],
    spec: OffsetSpec,
) -> Result<Vec<Option<Offset>>, ClientError> {
    let queries: Vec<_> = partitions.iter().map(|&partition| (partition, spec)).collect();
    let listed = client.list_offsets(topic, &queries).await?;
    Ok(listed.into_iter().map(|listed| listed.offset).collect())
}
