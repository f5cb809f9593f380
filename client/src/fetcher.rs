//! The engine of readers and consumers: the records of some partitions, in order for each, from where one says.
//!
//! Nodes push batches on streams of their own connections as long as they have credit; credit is granted
//! again as batches are handed out, so who is slow costs a bounded amount of memory. Partitions come, go, are
//! moved and paused while it runs; the others do not notice.
//!
//! Promises: every record from the start on is handed out once and in the order of its partition, over
//! broken streams and changes of leader. What cannot be mended (OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC that
//! lasts, corrupt data; a log that was cut below what was read) comes out as an error that ends its
//! partition until it is moved; the others go on.
//! Never here: which partitions, groups, commits. `leaders` finds the streams, `nearby` followers to read from.

mod batch;
mod check;
mod config;
mod leaders;
mod nearby;
mod node_stream;
mod positions;

pub use batch::{ConsumerRecord, FetchedBatch};
pub(crate) use config::FetcherConfig;
pub(crate) use positions::Tracked;

use crate::bulk::Event;
use crate::client::Inner;
use crate::connection::Purpose;
use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::topic_partition::TopicPartition;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use node_stream::{Events, NodeStream};
use positions::{Positions, Source};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamMap;
use troupe_proto::batch::{BatchHeader, Batches, CommittedFilter, RecordSet};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset, PartitionKey, TopicId};
use troupe_proto::log::v1 as wire;
use troupe_proto::wire::FetchStreamResponse;

/// What ended a partition, until it is moved.
#[derive(Debug)]
pub(crate) struct Failure {
    pub at: TopicPartition,
    pub error: ClientError,
}

/// Fetches some partitions of some topics.
pub(crate) struct Fetcher {
    client: Arc<Inner>,
    config: FetcherConfig,
    positions: Positions,
    streams: Vec<NodeStream>,
    /// By the streams' numbers. Removing one cancels the call.
    events: StreamMap<u64, Events>,
    next_stream: u64,
    /// What the newest questions of each partition are about.
    subscribed: HashMap<u64, TopicPartition>,
    next_subscription: u64,
    ready: VecDeque<Ready>,
    /// Received of partitions that are paused.
    held: BTreeMap<TopicPartition, VecDeque<Ready>>,
    /// Partitions of which something was passed over since somebody asked, and up to where.
    skipped: BTreeMap<TopicPartition, Offset>,
    changes: watch::Receiver<u64>,
    /// Topics about which what led to an error may be old; and the question whether it is, while it is asked.
    stale: BTreeSet<Arc<str>>,
    refresh: Option<Exclusive<BoxFuture<'static, ()>>>,
    checks: FuturesUnordered<Exclusive<BoxFuture<'static, check::Checked>>>,
    next_check: u64,
}

/// Received, not handed out yet.
enum Ready {
    Batch(Box<ReadyBatch>),
    /// Was handed out, and given back.
    Unpacked(Box<FetchedBatch>),
    Failure(Box<Failure>),
    /// The bytes of a message have all been read.
    Credit {
        stream: u64,
        bytes: u64,
    },
}

struct ReadyBatch {
    at: TopicPartition,
    header: BatchHeader,
    payload: Bytes,
    high_watermark: Offset,
    /// It is for no application: a marker, or of a transaction that was aborted.
    skip: bool,
}

impl Ready {
    fn is_of(&self, partition: &TopicPartition) -> bool {
        match self {
            Self::Batch(batch) => batch.at == *partition,
            Self::Unpacked(batch) => batch.is_of(partition),
            Self::Failure(failure) => failure.at == *partition,
            Self::Credit { .. } => false,
        }
    }
}

impl Fetcher {
    /// The client's metadata has to be watched, and each topic known before its partitions are added.
    pub(crate) fn new(client: Arc<Inner>, config: FetcherConfig) -> Self {
        Self {
            changes: client.metadata.changes(),
            client,
            config,
            positions: Positions::default(),
            streams: Vec::new(),
            events: StreamMap::new(),
            next_stream: 0,
            subscribed: HashMap::new(),
            next_subscription: 0,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            skipped: BTreeMap::new(),
            stale: BTreeSet::new(),
            refresh: None,
            checks: FuturesUnordered::new(),
            next_check: 0,
        }
    }

    /// Begins with a partition, or goes on with it from another offset: also one that an error has ended. What
    /// was received and not handed out is forgotten. `end`: where to stop.
    pub(crate) fn add(
        &mut self,
        at: &TopicPartition,
        topic_id: TopicId,
        start: Offset,
        end: Option<Offset>,
    ) {
        let paused = self.positions.get(at).is_some_and(|tracked| tracked.paused);
        self.forget(at);
        self.positions.insert(at.clone(), topic_id, start, end);
        self.positions.keep(at, self.client.metadata.hold(&at.topic));
        if let Some(tracked) = self.positions.get_mut(at) {
            tracked.paused = paused;
        }
    }

    /// What comes before the partition's position was read in that leader epoch, or was there in it.
    pub(crate) fn was_read_in(&mut self, at: &TopicPartition, epoch: LeaderEpoch) {
        if let Some(tracked) = self.positions.get_mut(at) {
            tracked.after = Some(epoch);
        }
    }

    /// Goes on from another offset. False: there is no such partition here.
    pub(crate) fn seek(&mut self, at: &TopicPartition, offset: Offset) -> bool {
        let Some(&Tracked { topic_id, end, .. }) = self.positions.get(at) else { return false };
        self.add(at, topic_id, offset, end);
        true
    }

    /// Ends with a partition; what was received of it is forgotten.
    pub(crate) fn remove(&mut self, at: &TopicPartition) {
        self.forget(at);
        self.positions.remove(at);
        self.close_unused();
    }

    /// Hands nothing out of the partition and asks for nothing more of it; what was received is kept.
    pub(crate) fn pause(&mut self, at: &TopicPartition) {
        let Some(tracked) = self.positions.get(at).filter(|tracked| !tracked.paused) else {
            return;
        };
        let served = matches!(tracked.source, Source::Stream(_));
        self.unsubscribe(at);
        if let Some(tracked) = self.positions.get_mut(at) {
            tracked.paused = true;
            if served {
                tracked.source = Source::None;
            }
        }
        let (held, others) = self.ready.drain(..).partition(|ready| ready.is_of(at));
        self.ready = others;
        self.held.insert(at.clone(), held);
    }

    /// Goes on with a partition that was paused.
    pub(crate) fn resume(&mut self, at: &TopicPartition) {
        let Some(tracked) = self.positions.get_mut(at).filter(|tracked| tracked.paused) else {
            return;
        };
        tracked.paused = false;
        let held = self.held.remove(at).unwrap_or_default();
        held.into_iter().rev().for_each(|ready| self.ready.push_front(ready));
    }

    /// Where reading goes on behind what was for no application, since this was asked last.
    pub(crate) fn take_skipped(&mut self) -> BTreeMap<TopicPartition, Offset> {
        std::mem::take(&mut self.skipped)
    }

    /// A batch that was handed out last of its partition and not read to its end is the next one again.
    pub(crate) fn give_back(&mut self, batch: FetchedBatch) {
        let at = batch.topic_partition();
        let Some(tracked) = self.positions.get_mut(&at) else { return };
        tracked.next = batch.wanted;
        let ready = Ready::Unpacked(Box::new(batch));
        match tracked.paused {
            true => self.held.entry(at).or_default().push_front(ready),
            false => self.ready.push_front(ready),
        }
    }

    pub(crate) fn get(&self, at: &TopicPartition) -> Option<&Tracked> {
        self.positions.get(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Tracked)> {
        self.positions.iter()
    }

    /// The next batch, or what ended a partition. None: every partition is at its end, or ended.
    /// May be dropped while it waits; nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Result<FetchedBatch, Failure>> {
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
            if self.ready.is_empty() {
                self.happen().await;
            }
        }
    }

    /// Waits until about so many bytes, or an error, can be handed out without waiting. May be dropped;
    /// nothing is lost.
    pub(crate) async fn gather(&mut self, bytes: usize) {
        while !self.has_ready(bytes) {
            self.mend(Instant::now());
            self.happen().await;
        }
    }

    fn has_ready(&self, bytes: usize) -> bool {
        let mut ready = 0;
        self.ready.iter().any(|item| {
            ready += match item {
                Ready::Batch(batch) => batch.header.encoded_len(),
                Ready::Unpacked(batch) => batch.encoded_len(),
                Ready::Failure(_) => bytes,
                Ready::Credit { .. } => 0,
            };
            ready >= bytes
        })
    }

    /// Whatever comes next.
    async fn happen(&mut self) {
        let mend_at = self.positions.next_retry();
        let Self { events, refresh, changes, checks, .. } = self;
        tokio::select! {
            Some((stream, event)) = events.next() => match event {
                Event::Message(message) => self.on_message(stream, message),
                Event::Ended(error) => self.on_ended(stream, &error),
            },
            Some(checked) = checks.next() => self.on_checked(checked),
            () = async { sleep_until(mend_at.expect("only with a time")).await },
                if mend_at.is_some() => {}
            () = async { refresh.as_mut().expect("only if there is one").await },
                if refresh.is_some() => self.refresh = None,
            Ok(()) = changes.changed() => self.follow_leaders(),
        }
    }

    fn hand_out(&mut self, ready: Ready) -> Option<Result<FetchedBatch, Failure>> {
        let batch = match ready {
            Ready::Batch(batch) => batch,
            Ready::Unpacked(batch) => {
                self.positions.get_mut(&batch.topic_partition())?.next = batch.header.end_offset();
                return Some(Ok(*batch));
            }
            Ready::Failure(failure) => return Some(Err(*failure)),
            Ready::Credit { stream, bytes } => {
                if let Some(stream) = self.streams.iter_mut().find(|open| open.number == stream) {
                    stream.consumed(bytes);
                }
                return None;
            }
        };
        let ReadyBatch { at, header, payload, high_watermark, skip } = *batch;
        let tracked = self.positions.get_mut(&at)?;
        let wanted = tracked.next;
        if skip {
            tracked.next = header.end_offset();
            self.skipped.insert(at, header.end_offset());
            return None;
        }
        match RecordSet::decode(&header, payload, self.config.limits) {
            Ok(records) => {
                tracked.next = header.end_offset();
                let TopicPartition { topic, partition } = at;
                Some(Ok(FetchedBatch { partition, header, high_watermark, topic, wanted, records }))
            }
            Err(cause) => {
                let (topic, partition) = (at.topic.to_string(), at.partition);
                let offset = header.base_offset;
                self.forget(&at);
                if let Some(tracked) = self.positions.get_mut(&at) {
                    tracked.source = Source::Over;
                }
                let error = ClientError::Corrupt { topic, partition, offset, cause };
                Some(Err(Failure { at, error }))
            }
        }
    }

    /// What is under way is no answer any more, and what was received is not handed out.
    fn forget(&mut self, at: &TopicPartition) {
        self.unsubscribe(at);
        self.ready.retain(|ready| !ready.is_of(at));
        self.held.remove(at);
        self.skipped.remove(at);
    }

    /// Tells the partition's node to push no more of it.
    fn unsubscribe(&mut self, at: &TopicPartition) {
        let Some(tracked) = self.positions.get(at) else { return };
        self.subscribed.remove(&tracked.subscription);
        let wire = to_wire(at, tracked.topic_id);
        for stream in &mut self.streams {
            if tracked.source == Source::Stream(stream.number) {
                stream.drop_partition(wire.clone());
            }
        }
    }

    /// A little later, from behind what was received.
    fn ask_again(&mut self, at: &TopicPartition) {
        self.unsubscribe(at);
        if let Some(tracked) = self.positions.get_mut(at) {
            tracked.refused(Instant::now());
        }
    }

    fn on_message(&mut self, stream: u64, message: FetchStreamResponse) {
        let bytes = message.batches.len() as u64;
        self.receive(stream, message);
        self.ready.push_back(Ready::Credit { stream, bytes });
    }

    fn receive(&mut self, stream: u64, message: FetchStreamResponse) {
        // A node goes on until it hears that a partition is wanted no more, or from elsewhere: what was under way
        // then, records or a refusal, is no answer to the last question.
        let Some(at) = self.subscribed.get(&message.subscription).cloned() else { return };
        let Some(tracked) = self.positions.get_mut(&at) else { return };
        if tracked.source != Source::Stream(stream) {
            return;
        }
        let high_watermark = Offset::from_wire(message.high_watermark);
        tracked.high_watermark = high_watermark.or(tracked.high_watermark);
        if high_watermark.is_some() {
            tracked.last_stable = Offset::from_wire(message.last_stable_offset);
        }
        if let Some(detail) = message.error {
            return self.on_refusal(at, Refusal::from(detail));
        }
        tracked.served();
        if let Some(node) = message.preferred_read_replica {
            return self.turn_to(&at, NodeId(node));
        }
        if !message.batches.is_empty() {
            tracked.nearby.served();
        }
        let key = PartitionKey { topic_id: tracked.topic_id, partition: at.partition };
        let batches = match self.config.check_crc {
            true => Batches::verified(message.batches, key),
            false => Batches::new(message.batches),
        };
        // Without read_committed nodes name no transactions, and only markers are sorted out.
        let mut committed = CommittedFilter::from_wire(&message.aborted_transactions);
        for batch in batches {
            let skip = batch.as_ref().is_ok_and(|(header, _)| !committed.keep(header));
            match batch {
                // Had before the stream broke.
                Ok((header, _)) if header.end_offset() <= tracked.received => {}
                Ok((header, payload)) => {
                    let high_watermark = high_watermark.unwrap_or(header.end_offset());
                    // Where reading stops, cleaning may have left a gap.
                    if tracked.end.is_none_or(|end| header.base_offset < end) {
                        let at = at.clone();
                        let batch = ReadyBatch { at, header, payload, high_watermark, skip };
                        self.ready.push_back(Ready::Batch(Box::new(batch)));
                    }
                    if tracked.received(header.end_offset(), header.leader_epoch) {
                        break;
                    }
                }
                // The leader may have what it was.
                Err(_) if tracked.nearby.is_follower() => return self.leave_follower(&at),
                Err(_) if tracked.first_garbled() => return self.ask_again(&at),
                Err(cause) => {
                    let (topic, offset) = (at.topic.to_string(), tracked.received);
                    tracked.source = Source::Over;
                    let partition = at.partition;
                    let error = ClientError::Corrupt { topic, partition, offset, cause };
                    let failure = Failure { at: at.clone(), error };
                    self.ready.push_back(Ready::Failure(Box::new(failure)));
                    break;
                }
            }
        }
        if tracked.source == Source::Over {
            let wire = to_wire(&at, tracked.topic_id);
            let open = self.streams.iter_mut().find(|open| open.number == stream);
            if let Some(open) = open {
                open.drop_partition(wire);
            }
        }
    }

    /// The node has dropped the partition.
    fn on_refusal(&mut self, at: TopicPartition, refusal: Refusal) {
        let Some(tracked) = self.positions.get_mut(&at) else { return };
        let now = Instant::now();
        if tracked.nearby.is_follower() {
            // Whatever it says, it is for the leader to say, which is asked now.
            tracing::debug!(partition = %at, %refusal, "a follower does not serve");
            tracked.left(now);
            if self.client.metadata.take_hint(&at.topic, at.partition, &refusal) {
                return;
            }
            if refusal.code.refresh_metadata() {
                self.stale.insert(at.topic);
            }
            return;
        }
        // It was there when it was added, so its leader may only not know it yet.
        let unknown = matches!(refusal.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition);
        let over = if unknown { tracked.unknown(now) } else { !refusal.is_retriable() };
        if over {
            tracked.source = Source::Over;
            let failure = Failure { at, error: refusal.into() };
            self.ready.push_back(Ready::Failure(Box::new(failure)));
            return;
        }
        if !unknown {
            tracked.refused(now);
        }
        let moved = self.client.metadata.take_hint(&at.topic, at.partition, &refusal);
        if refusal.code.refresh_metadata() && !moved {
            self.stale.insert(at.topic);
        }
    }

    fn on_ended(&mut self, stream: u64, error: &ClientError) {
        let Some(open) = self.close(stream) else { return };
        tracing::debug!(endpoint = %open.endpoint, %error, "a fetch stream ended");
        self.client.connections.lost(&open.endpoint, Purpose::Fetch);
        let lost = self.positions.lose(stream, Instant::now());
        self.stale.extend(lost);
    }

    fn close(&mut self, stream: u64) -> Option<NodeStream> {
        let place = self.streams.iter().position(|open| open.number == stream)?;
        self.events.remove(&stream);
        Some(self.streams.remove(place))
    }
}

fn to_wire(at: &TopicPartition, topic_id: TopicId) -> wire::TopicPartition {
    wire::TopicPartition {
        topic: at.topic.to_string(),
        partition: at.partition.0 as i32,
        topic_id: topic_id.to_wire(),
    }
}
