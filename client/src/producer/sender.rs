//! The sender: one task per producer that drains the queues into streams and takes the answers.
//!
//! It sleeps until something happens: a queue is listed, an answer comes, metadata changes, a time is
//! reached. Each time it looks only at the queues concerned.
//! Promise: when it ends, every record has been answered or given up. Never here: rules about batches;
//! [`super::queue`] has them.

mod background;
mod ending;
mod streams;

use super::accumulator::{Accumulator, PartitionQueue};
use super::batch::Encoded;
use super::config::Acks;
use super::delivery::Placed;
use super::node_stream::{Events, NodeStream, Unanswered};
use super::queue::{
    Destination, Drain, Failure, InFlight, Outgoing, OutgoingContent, StreamId, stream_broke,
};
use super::sequences::Session;
use super::timers::{Timer, Timers};
use crate::bulk::Event;
use crate::client::Inner;
use crate::connection::Purpose;
use crate::error::ClientError;
use crate::metadata::{Leader, LeaderAt, Leadership, UNKNOWN_TOPIC_PATIENCE};
use background::Done;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};
use tokio_stream::StreamMap;
use troupe_proto::ids::Offset;
use troupe_proto::log::v1::{ProduceStreamResponse, TopicPartition};
use troupe_proto::wire::ProduceStreamRequest;

/// A leader answers that time is up; only if it does not either is the stream broken.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// While a stream takes no more.
const CONGESTED: Duration = Duration::from_millis(1);
/// Between two looks at every queue while somebody waits for buffer memory.
const PRESS_PAUSE: Duration = Duration::from_millis(1);
/// What the producer's handle asks of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    /// Send what is there, then end.
    Drained,
    /// Give up what is there and end.
    Now,
}

pub(crate) struct Sender {
    client: Arc<Inner>,
    accumulator: Arc<Accumulator>,
    stop: watch::Receiver<Stop>,
    /// Queues that hold something.
    active: HashMap<u64, Active>,
    timers: Timers,
    next_press: Instant,
    /// Metadata has changed, which may concern every queue.
    moved: bool,
    streams: HashMap<Arc<str>, NodeStream>,
    /// Removing one cancels the call.
    events: StreamMap<StreamId, Events>,
    next_stream: u64,
    next_correlation: u64,
    /// Counts its wakings: what goes to a node in one of them is one request of Kafka's.
    turn: u64,
    sessions: Sessions,
    /// Topics to be asked for, and whether some are being asked for.
    stale: BTreeSet<Arc<str>>,
    refreshing: bool,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
}

struct Active {
    queue: Arc<PartitionQueue>,
    unknown_since: Option<Instant>,
}

#[derive(Default)]
struct Sessions {
    newest: Option<Session>,
    requested: bool,
    /// By number: a queue is looked at often while a call is under way.
    waiting: HashMap<u64, Arc<PartitionQueue>>,
}

impl Sender {
    pub(crate) fn new(
        client: Arc<Inner>,
        accumulator: Arc<Accumulator>,
        stop: watch::Receiver<Stop>,
    ) -> Self {
        Self {
            client,
            accumulator,
            stop,
            active: HashMap::new(),
            timers: Timers::default(),
            next_press: Instant::now(),
            moved: false,
            streams: HashMap::new(),
            events: StreamMap::new(),
            next_stream: 0,
            next_correlation: 0,
            turn: 0,
            sessions: Sessions::default(),
            stale: BTreeSet::new(),
            refreshing: false,
            tasks: FuturesUnordered::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        let mut changes = self.client.metadata.changes();
        let accumulator = self.accumulator.clone();
        loop {
            self.turn += 1;
            let wake_at = self.timers.next();
            tokio::select! {
                () = accumulator.inbox.notify.notified() => {}
                Some((id, event)) = self.events.next() => self.on_event(id, event),
                Some(done) = self.tasks.next() => self.on_done(done),
                Ok(()) = changes.changed() => self.moved = true,
                Ok(()) = self.stop.changed() => {}
                () = async { sleep_until(wake_at.expect("only with a time")).await },
                    if wake_at.is_some() => {}
            }
            // What has come in the meantime, so that one waking serves many answers.
            while let Some(Some((id, event))) = self.events.next().now_or_never() {
                self.on_event(id, event);
            }
            // Before looking: what was listed before the order to stop is seen.
            let stop = *self.stop.borrow_and_update();
            self.look();
            if stop == Stop::Now || (stop == Stop::Drained && self.active.is_empty()) {
                break;
            }
        }
        self.end().await;
    }

    /// Looks at every queue that something happened to.
    fn look(&mut self) {
        // After the answers that had come by then: what they say need not be asked again.
        if std::mem::take(&mut self.moved) {
            self.on_metadata();
        }
        for queue in self.accumulator.inbox.take() {
            self.poll(&queue);
        }
        if self.accumulator.transactions.as_ref().is_some_and(|it| it.take_failed()) {
            self.poll_all();
        }
        let now = Instant::now();
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Queue(number) => {
                    if let Some(active) = self.active.get(&number) {
                        self.poll(&active.queue.clone());
                    }
                }
                Timer::Stream(id) => self.check_stream(id, now),
                Timer::Pressed => {}
            }
        }
        if self.accumulator.waiters.load(Ordering::Acquire) > 0 {
            if now >= self.next_press {
                self.next_press = now + PRESS_PAUSE;
                self.poll_all();
            } else {
                self.timers.set(Timer::Pressed, self.next_press);
            }
        }
    }

    fn poll_all(&mut self) {
        let queues: Vec<_> = self.active.values().map(|active| active.queue.clone()).collect();
        queues.iter().for_each(|queue| self.poll(queue));
    }

    /// Sends what this queue may send, and notes when to look again.
    fn poll(&mut self, queue: &Arc<PartitionQueue>) {
        let now = Instant::now();
        let expired = queue.with(|queue| queue.expire(now));
        self.accumulator.finish(expired);
        self.give_up_failed(queue);
        if queue.with(|queue| queue.is_empty()) {
            return self.forget(queue);
        }
        self.active
            .entry(queue.number)
            .or_insert_with(|| Active { queue: queue.clone(), unknown_since: None });
        let wake_at = match self.client.metadata.leader(&queue.topic, queue.partition) {
            Leader::Known(leader) => self.drain(queue, &leader, now),
            Leader::None => Some(self.without_leader(queue, now)),
            Leader::UnknownTopic => self.without_topic(queue, now),
        };
        match wake_at.into_iter().chain(queue.with(|queue| queue.expiry())).min() {
            Some(at) => self.timers.set(Timer::Queue(queue.number), at),
            None => self.forget(queue),
        }
    }

    /// The queue holds nothing any more; it is listed when it does.
    fn forget(&mut self, queue: &PartitionQueue) {
        self.active.remove(&queue.number);
        self.timers.cancel(Timer::Queue(queue.number));
    }

    fn without_leader(&mut self, queue: &PartitionQueue, now: Instant) -> Instant {
        self.refresh(&queue.topic);
        now + self.accumulator.config.retry_backoff
    }

    fn without_topic(&mut self, queue: &PartitionQueue, now: Instant) -> Option<Instant> {
        let again = self.without_leader(queue, now);
        let active = self.active.get_mut(&queue.number)?;
        let since = *active.unknown_since.get_or_insert(now);
        if now.duration_since(since) >= UNKNOWN_TOPIC_PATIENCE {
            let error = ClientError::unknown_topic(&queue.topic);
            let settled = queue.with(|queue| queue.fail_waiting(&error, 0));
            self.accumulator.finish(settled);
        }
        Some(again)
    }

    fn drain(
        &mut self,
        queue: &Arc<PartitionQueue>,
        leader: &LeaderAt,
        now: Instant,
    ) -> Option<Instant> {
        if let Some(active) = self.active.get_mut(&queue.number) {
            active.unknown_since = None;
        }
        let in_flight = queue.with(|queue| {
            queue.stands_in(leader.topic_id);
            queue.in_flight(now, leader.leadership)
        });
        match in_flight {
            InFlight::Fine => {}
            InFlight::Until(at) => return Some(at),
            InFlight::Outdated(id) => self.call_back(queue, id, now),
        }
        let transactions = self.accumulator.transactions.clone();
        loop {
            let pressed = self.accumulator.waiters.load(Ordering::Acquire) > 0;
            let newest = match &transactions {
                Some(transactions) => transactions.writes(),
                None => (self.sessions.newest, 0),
            };
            let (turn, limit) = (self.turn, self.accumulator.config.max_in_flight_per_node);
            let stream = self.stream(&leader.endpoint);
            if stream.requests.capacity() == 0 {
                return Some(now + CONGESTED);
            }
            if limit.is_some_and(|limit| !stream.has_room_for(queue, turn, limit)) {
                // An answer lists it.
                return None;
            }
            let destination = Destination { stream: stream.id, leadership: leader.leadership };
            let drained = queue.with(|queue| {
                let drained = queue.drain(now, destination, newest, pressed);
                if let (Drain::Send(_), Some(transactions)) = (&drained, &transactions) {
                    // Under the lock: an abort that finds nothing to give up here knows what it has to end.
                    transactions.note_written();
                }
                drained
            });
            match drained {
                Drain::Send(outgoing) => self.send(queue, leader, outgoing, now),
                Drain::Wait(wake_at) => return wake_at,
                // It comes with the next transaction.
                Drain::NeedSession if transactions.is_some() => return None,
                Drain::NeedSession => {
                    self.sessions.waiting.insert(queue.number, queue.clone());
                    self.request_session();
                    return None;
                }
            }
        }
    }

    /// Encodes a batch and hands it to its leader's stream.
    fn send(
        &mut self,
        queue: &Arc<PartitionQueue>,
        leader: &LeaderAt,
        outgoing: Outgoing,
        now: Instant,
    ) {
        let config = &self.accumulator.config;
        let producer = outgoing.stamp.map(|stamp| stamp.producer);
        let encoded = match outgoing.content {
            OutgoingContent::Encoded(encoded) => {
                self.accumulator.counters.retries.fetch_add(1, Ordering::Relaxed);
                let records = encoded.header.record_count;
                self.accumulator.telemetry.left_its_queue(None, records);
                encoded
            }
            OutgoingContent::Records(builder) => {
                let transactional = self.accumulator.transactions.is_some();
                let queued = now.saturating_duration_since(outgoing.created);
                self.accumulator.telemetry.left_its_queue(Some(queued), builder.count());
                match Encoded::new(builder, self.accumulator.packing, producer, transactional) {
                    Ok(encoded) => encoded,
                    Err(error) => {
                        let error = ClientError::Batch(error);
                        return self.fail(queue, outgoing.id, leader.leadership, error);
                    }
                }
            }
        };
        self.next_correlation += 1;
        let request = ProduceStreamRequest {
            chain: 0,
            leader_epoch: Some(leader.leadership.epoch.0),
            correlation_id: self.next_correlation,
            acks: config.acks.to_wire(),
            timeout_ms: config.request_timeout.as_millis() as u32,
            partition: Some(TopicPartition {
                topic: queue.topic.to_string(),
                partition: queue.partition.0 as i32,
                topic_id: leader.topic_id.to_wire(),
            }),
            transactional_id: match &self.accumulator.transactions {
                Some(transactions) => transactions.id.clone(),
                None => String::new(),
            },
            batch: encoded.wire.clone(),
        };
        self.accumulator.note_sent(&encoded);
        let (acks, give_up_after) = (config.acks, config.request_timeout + ANSWER_GRACE);
        queue.with(|queue| queue.encoded(outgoing.id, encoded));
        let correlation = self.next_correlation;
        let stream = self.stream(&leader.endpoint);
        // There was room just now, and this task alone fills it. A stream that has ended says so itself.
        let _ = stream.requests.try_send(request);
        if acks == Acks::None {
            let placed = Placed { base_offset: None, append_time_ms: None };
            let settled = queue.with(|queue| queue.placed(outgoing.id, placed));
            self.accumulator.finish(settled);
            return;
        }
        let (first, id) = (stream.unanswered.is_empty(), stream.id);
        let (queue, sent_to) = (queue.clone(), leader.leadership);
        let request = stream.join_request(queue.number);
        let unanswered = Unanswered { queue, batch: outgoing.id, request, sent_to, sent_at: now };
        stream.unanswered.insert(correlation, unanswered);
        if first {
            self.timers.set(Timer::Stream(id), now + give_up_after);
        }
    }

    fn on_event(&mut self, id: StreamId, event: Event<ProduceStreamResponse>) {
        let Some(endpoint) = self.endpoint_of(id) else { return };
        match event {
            Event::Message(answer) => self.on_answer(&endpoint, answer),
            Event::Ended(error) => self.on_ended(&endpoint, &error),
        }
    }

    fn endpoint_of(&self, id: StreamId) -> Option<Arc<str>> {
        self.streams.values().find(|stream| stream.id == id).map(|stream| stream.endpoint.clone())
    }

    fn on_answer(&mut self, endpoint: &Arc<str>, answer: ProduceStreamResponse) {
        let Some(stream) = self.streams.get_mut(endpoint) else { return };
        let Some(unanswered) = stream.unanswered.remove(&answer.correlation_id) else {
            return;
        };
        stream.list_blocked(&self.accumulator.inbox);
        let Unanswered { queue, batch, sent_to, sent_at, .. } = unanswered;
        self.accumulator.telemetry.answered(sent_at.elapsed());
        let Some(result) = answer.result else {
            let what = "an answer without a result".to_owned();
            let error = ClientError::Protocol { server: endpoint.to_string(), what };
            return self.fail(&queue, batch, sent_to, error);
        };
        match result.error {
            None => {
                let placed = Placed {
                    base_offset: Offset::from_wire(result.base_offset),
                    append_time_ms: Some(result.log_append_time_ms).filter(|&ms| ms >= 0),
                };
                let settled = queue.with(|queue| queue.placed(batch, placed));
                self.accumulator.finish(settled);
                self.poll(&queue);
            }
            Some(detail) => {
                let refusal = troupe_proto::error::Error::from(detail);
                self.client.metadata.take_hint(&queue.topic, queue.partition, &refusal);
                self.fail(&queue, batch, sent_to, refusal.into());
            }
        }
    }

    fn fail(
        &mut self,
        queue: &Arc<PartitionQueue>,
        batch: u64,
        sent_to: Leadership,
        error: ClientError,
    ) {
        tracing::debug!(topic = %queue.topic, partition = %queue.partition, %error, "produce");
        let leads = self.client.metadata.leadership(&queue.topic, queue.partition);
        let moved = leads.is_some_and(|leads| leads != sent_to);
        if error.refresh_metadata() && !moved {
            self.refresh(&queue.topic);
        }
        let failure = Failure { now: Instant::now(), chance: rand::random() };
        let settled = queue.with(|queue| queue.failed(batch, error, failure));
        self.accumulator.finish(settled);
        // Not at once from here: a batch that fails before it is sent comes from within `poll`.
        self.accumulator.inbox.list(queue);
    }

    /// Everything unanswered has an unknown outcome, and is sent again as it was (I4).
    fn on_ended(&mut self, endpoint: &Arc<str>, error: &ClientError) {
        let Some(stream) = self.close_stream(endpoint) else { return };
        self.client.connections.lost(endpoint, Purpose::Produce);
        let error = stream_broke(error);
        let batches = stream.unanswered.len();
        // A node that is down is tried again and again; that it went was told once.
        if batches > 0 && !matches!(error, ClientError::CannotConnect { .. }) {
            tracing::info!(%endpoint, batches, %error, "a produce stream broke");
        }
        for Unanswered { queue, batch, sent_to, .. } in stream.unanswered.into_values() {
            self.fail(&queue, batch, sent_to, error.clone());
        }
    }

    /// P16: a leader that does not even say that time is up is not there any more.
    fn check_stream(&mut self, id: StreamId, now: Instant) {
        let Some(endpoint) = self.endpoint_of(id) else { return };
        let give_up_after = self.accumulator.config.request_timeout + ANSWER_GRACE;
        let oldest = self.streams[&endpoint].unanswered.values().next();
        let Some(due) = oldest.map(|oldest| oldest.sent_at + give_up_after) else { return };
        if due > now {
            self.timers.set(Timer::Stream(id), due);
        } else {
            let what = format!("{endpoint} did not answer within {} ms", give_up_after.as_millis());
            self.on_ended(&endpoint, &ClientError::outcome_unknown(what));
        }
    }

    fn on_metadata(&mut self) {
        for topic in self.accumulator.topics() {
            if let Some(described) = self.client.metadata.topic_of_any_age(&topic.name) {
                self.accumulator.describe(&described);
            }
        }
        self.poll_all();
    }
}
