//! Moves records: reads batches of the source, sends their records, and counts what is acknowledged.

use super::positions::{Position, Positions};
use super::report::Report;
use super::route::Route;
use super::track::Track;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::pace::Pace;
use crate::producer::send;
use crate::streams::notice;
use crate::waiting::{Pending, Progress};
use futures::FutureExt;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;
use troupe_client::{
    ClientError, Delivery, FetchedBatch, IsolationLevel, OffsetSpec, Producer, Reader,
    ReaderConfig, Record, RecordMetadata, Start, TopicProducer,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{Offset, PartitionId};

/// How often it is written down how far the copy is: so much is compared when a killed one goes on.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// While the source has nothing new.
const IDLE_INTERVAL: Duration = Duration::from_millis(200);

/// A record that was sent.
struct Sent {
    delivery: Delivery,
    partition: PartitionId,
    /// Of the source.
    offset: Offset,
}

pub struct Transfer<'a> {
    route: &'a Route,
    positions: &'a Positions,
    reader: Reader,
    producer: Producer,
    topic: TopicProducer,
    tracks: BTreeMap<PartitionId, Track>,
    sent: VecDeque<Sent>,
    pace: Option<Pace>,
    commit_at: Instant,
    progress: Answers,
    pub report: Report,
}

/// How many records were sent and how many of them are acknowledged, for whoever looks on.
#[derive(Clone, Default)]
pub struct Answers {
    sent: Progress,
    acknowledged: Progress,
}

impl Answers {
    /// What the copy waits for, if it does.
    pub fn pending(&self) -> Option<Pending> {
        let (sent, acknowledged) = (self.sent.get(), self.acknowledged.get());
        let what = format!("{} records to be acknowledged", sent.saturating_sub(acknowledged));
        let progress = sent.saturating_add(acknowledged);
        (sent > acknowledged).then_some(Pending { what, progress, may_idle: false })
    }
}

impl<'a> Transfer<'a> {
    /// # Errors
    /// One of the clusters does not answer.
    pub async fn open(
        route: &'a Route,
        positions: &'a Positions,
        producer: Producer,
        starts: &BTreeMap<PartitionId, Position>,
        follow: bool,
        rate: Option<u64>,
        report: Report,
    ) -> Result<Transfer<'a>, Failure> {
        let what = || route.what();
        let each = starts.iter().map(|(partition, start)| (*partition, start.source)).collect();
        let config = ReaderConfig {
            start: Start::Each(each),
            until_end: !follow,
            // In the copy they are of no transaction: what was aborted would count there.
            isolation_level: IsolationLevel::ReadCommitted,
            ..ReaderConfig::default()
        };
        let reader = route.source.reader(&route.from, config).await.with_context(what)?;
        let topic = producer.topic(&route.to).await.with_context(what)?;
        let tracks = starts.iter().map(|(partition, start)| (*partition, Track::new(*start)));
        Ok(Transfer {
            route,
            positions,
            reader,
            producer,
            topic,
            tracks: tracks.collect(),
            sent: VecDeque::new(),
            pace: rate.filter(|rate| *rate > 0).map(Pace::new),
            commit_at: Instant::now() + COMMIT_INTERVAL,
            progress: Answers::default(),
            report,
        })
    }

    pub fn answers(&self) -> Answers {
        self.progress.clone()
    }

    /// Until the end of the source as it was at the start, or for ever. Dropping the future is fine: what was sent is
    /// noted.
    ///
    /// # Errors
    /// A record cannot be copied; a topic is gone.
    pub async fn run(&mut self) -> Result<(), Failure> {
        loop {
            let next = tokio::time::timeout(IDLE_INTERVAL, self.reader.next_batch()).await;
            match next {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(batch))) => self.batch(&batch).await?,
                Ok(Some(Err(error))) => self.go_on_behind(error).await?,
                Err(_) => {}
            }
            self.settle_ready()?;
            if Instant::now() >= self.commit_at {
                self.commit().await?;
            }
            self.report.progress(self.tracks.values().map(|track| track.records).sum());
        }
    }

    async fn batch(&mut self, batch: &FetchedBatch) -> Result<(), Failure> {
        let partition = batch.partition;
        for record in batch.iter() {
            let record = record.with_context(|| self.route.what())?;
            if let Some(pause) = self.pace.as_mut().and_then(Pace::next) {
                self.settle_ready()?;
                tokio::time::sleep(pause).await;
            }
            let headers: Vec<_> = record.headers().collect();
            let sent = Record {
                key: record.key,
                value: record.value,
                headers: &headers,
                partition: Some(partition),
                timestamp_ms: Some(record.timestamp_ms),
            };
            let delivery = send(&self.topic, sent).await;
            let delivery =
                delivery.map_err(|error| self.failed(partition, record.offset, &error))?;
            self.sent.push_back(Sent { delivery, partition, offset: record.offset });
            self.progress.sent.set(self.progress.sent.get() + 1);
            let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            self.report.bytes += size as u64;
        }
        if let Some(track) = self.tracks.get_mut(&partition) {
            track.read_to = track.read_to.max(batch.header.end_offset());
        }
        Ok(())
    }

    /// Takes what is acknowledged off the front.
    fn settle_ready(&mut self) -> Result<(), Failure> {
        while let Some(Sent { delivery, .. }) = self.sent.front_mut() {
            let Some(outcome) = delivery.now_or_never() else { break };
            self.settle(outcome)?;
        }
        Ok(())
    }

    fn settle(&mut self, outcome: Result<RecordMetadata, ClientError>) -> Result<(), Failure> {
        let Some(Sent { partition, offset, .. }) = self.sent.pop_front() else { return Ok(()) };
        self.progress.acknowledged.set(self.progress.acknowledged.get() + 1);
        let placed = outcome.map_err(|error| self.failed(partition, offset, &error))?;
        if let Some(track) = self.tracks.get_mut(&partition)
            && let Some(other) = track.acknowledge(offset, placed.offset)
        {
            let to = &self.route.to;
            notice!(
                "warning: somebody else writes to {to} partition {partition}, at offset {other}: a copy that is killed \
                 cannot tell any more which records there are its own"
            );
        }
        Ok(())
    }

    fn failed(&self, partition: PartitionId, offset: Offset, error: &ClientError) -> Failure {
        let what = self.route.what();
        Failure::client(format!("{what}: partition {partition} offset {offset}"), error)
            .with_note("the same command goes on from there")
    }

    /// The source has deleted what was to be read next: that is told, and what is there is read. Anything else ends the
    /// copy.
    async fn go_on_behind(&mut self, error: ClientError) -> Result<(), Failure> {
        let what = self.route.what();
        if error.reason() == ErrorCode::UnknownTopic || error.reason() == ErrorCode::StaleTopicId {
            let cause = format!("{} is gone, or was made anew under its name", self.route.from);
            return Err(Failure::new(Exit::NotFound, what, cause));
        }
        if error.reason() != ErrorCode::OffsetOutOfRange {
            return Err(Failure::client(what, &error));
        }
        let queries: Vec<_> =
            self.tracks.keys().map(|partition| (*partition, OffsetSpec::Earliest)).collect();
        let listed = self.route.source.list_offsets(&self.route.from, &queries).await;
        let listed = listed.with_context(|| self.route.what())?;
        let behind: Vec<_> = self
            .reader
            .positions()
            .into_iter()
            .filter_map(|at| {
                let listed = listed.iter().find(|listed| listed.partition == at.partition)?;
                let earliest = listed.offset.filter(|earliest| at.next < *earliest)?;
                Some((at.partition, at.next, earliest))
            })
            .collect();
        if behind.is_empty() {
            return Err(Failure::client(what, &error));
        }
        for (partition, next, earliest) in behind {
            let from = &self.route.from;
            notice!(
                "warning: {from} partition {partition}: offsets {next} to {earliest} were deleted before they were copied"
            );
            if let Some(track) = self.tracks.get_mut(&partition) {
                track.deleted += earliest.0 - next.0;
            }
            self.reader.seek(partition, earliest);
        }
        Ok(())
    }

    /// Writes down how far the copy is, where that has changed.
    async fn commit(&mut self) -> Result<(), Failure> {
        let due: Vec<_> = self
            .tracks
            .iter()
            .filter_map(|(partition, track)| Some((*partition, track.uncommitted()?)))
            .collect();
        self.positions.write(due.iter().copied()).await?;
        for (partition, position) in due {
            if let Some(track) = self.tracks.get_mut(&partition) {
                track.committed = position;
            }
        }
        self.commit_at = Instant::now() + COMMIT_INTERVAL;
        Ok(())
    }

    /// Waits for the answers to what was sent, and writes down how far the copy is.
    ///
    /// # Errors
    /// A record was refused; the coordinator does not answer.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        // the deliveries say how it went
        let _ = self.producer.flush().await;
        while let Some(Sent { delivery, .. }) = self.sent.front_mut() {
            let outcome = delivery.await;
            self.settle(outcome)?;
        }
        self.commit().await
    }

    pub fn tracks(&self) -> &BTreeMap<PartitionId, Track> {
        &self.tracks
    }
}
