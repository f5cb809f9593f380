//! The producer: records in, deliveries out.
//!
//! ```text
//! send -> partitioner -> queue of the partition (batches) -> sender -> stream to the leader's node
//!                                                              ^                 |
//! Delivery <- Completion of the batch <- settled in order <----+---- answer -----+
//! ```
//!
//! - `accumulator`: queues and buffer memory; `queue`: one partition's rules; `sequences`: what makes it
//!   idempotent; `sender`: the task that moves batches; `partitioner`: where a record goes.
//!
//! Promises: `send` waits for metadata and buffer space only (P1, P2). With idempotence, the default, each
//! record is appended once and in order, whatever breaks, until its delivery times out (P25). Every
//! delivery resolves. A producer whose last handle is dropped sends what it has.

mod accumulator;
mod batch;
mod config;
mod delivery;
mod interceptor;
mod node_stream;
mod partitioner;
mod queue;
#[cfg(test)]
mod queue_tests;
mod record;
mod rules;
mod sender;
mod sequences;
mod timers;
mod typed;

pub(crate) use accumulator::Accumulator;
pub use config::{Acks, ProducerConfig};
pub use delivery::Delivery;
pub use interceptor::{Acknowledgement, ProducerInterceptor};
pub use partitioner::{Partitioner, PartitionerConfig};
pub use record::{HeaderRef, ProducerRecord, Record, RecordMetadata};
pub(crate) use sequences::Session;
pub use typed::{TypedProducer, TypedProducerRecord};

use crate::client::{Inner, Missing};
use crate::error::ClientError;
use crate::metadata::UNKNOWN_TOPIC_PATIENCE;
use crate::transactions::Transactions;
use accumulator::{Blocked, TopicQueues};
use delivery::Callback;
use sender::{Sender, Stop};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{SemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::PartitionId;

/// Sends records. Cheap to clone; clones share buffer, session and connections.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

/// A producer's handle for one topic: the fast path.
#[derive(Clone)]
pub struct TopicProducer {
    shared: Arc<Shared>,
    topic: Arc<TopicQueues>,
}

/// Why [`TopicProducer::try_send`] did not take a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TrySendError {
    #[error("the buffer is full")]
    Full,
    #[error(transparent)]
    Failed(#[from] ClientError),
}

/// What a producer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerMetrics {
    pub records_sent: u64,
    pub records_failed: u64,
    /// Each attempt counts.
    pub batches_sent: u64,
    pub bytes_sent: u64,
    pub retries: u64,
    /// Free bytes of buffer memory.
    pub buffer_available: usize,
}

struct Shared {
    client: Arc<Inner>,
    accumulator: Arc<Accumulator>,
    stop: watch::Sender<Stop>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(transactions) = &self.accumulator.transactions {
            transactions.abandon(&self.accumulator, None);
        }
        self.accumulator.closed.store(true, Ordering::Release);
        drop(self.accumulator.flush());
        raise(&self.stop, Stop::Drained);
    }
}

fn raise(stop: &watch::Sender<Stop>, to: Stop) {
    stop.send_modify(|stop| *stop = to.max(*stop));
}

impl Producer {
    pub(crate) fn start(client: Arc<Inner>, config: ProducerConfig) -> Result<Self, ClientError> {
        let idempotent = config.validate()?;
        client.watch_metadata();
        let transactions = Transactions::of(&client, &config);
        let accumulator = Arc::new(Accumulator::new(config, idempotent, transactions));
        let (stop, stopped) = watch::channel(Stop::No);
        tokio::spawn(Sender::new(client.clone(), accumulator.clone(), stopped).run());
        Ok(Self { shared: Arc::new(Shared { client, accumulator, stop }) })
    }

    /// Puts a record into its partition's batch. Waits for metadata and buffer space only (P2); the
    /// delivery resolves when the batch is answered, and may be dropped.
    ///
    /// # Errors
    /// RECORD_TOO_LARGE (P3), UNKNOWN_TOPIC, UNKNOWN_PARTITION, [`ClientError::BufferExhausted`],
    /// [`ClientError::Closed`]; of a transactional producer [`ClientError::IllegalState`] and
    /// [`ClientError::TransactionFailed`]. The record surely was not sent.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        self.shared.noted(self.shared.send_owned(record, None).await)
    }

    /// The same; `callback` runs on the sender task, in send order for each partition (P11). It must not
    /// block.
    ///
    /// # Errors
    /// As [`Producer::send`]; then the callback does not run.
    pub async fn send_with(
        &self,
        record: ProducerRecord,
        callback: impl FnOnce(Result<RecordMetadata, ClientError>) + Send + 'static,
    ) -> Result<(), ClientError> {
        let callback: Callback = Box::new(move |_, result| callback(result));
        let sent = self.shared.send_owned(record, Some(callback)).await;
        self.shared.noted(sent).map(drop)
    }

    /// A handle for one topic. One that does not exist is created where the nodes' `auto.create.topics.enable` allows it,
    /// as it is by [`Producer::send`].
    ///
    /// # Errors
    /// UNKNOWN_TOPIC, after as long as a new topic may take to be known everywhere.
    pub async fn topic(&self, name: &str) -> Result<TopicProducer, ClientError> {
        let deadline = Instant::now() + self.shared.accumulator.config.max_block;
        let topic = self.shared.topic(name, deadline).await?;
        Ok(TopicProducer { shared: self.shared.clone(), topic })
    }

    /// Sends everything now, and waits until all that was sent before is answered (P23). Each delivery
    /// says for itself how it went.
    ///
    /// # Errors
    /// None at present.
    pub async fn flush(&self) -> Result<(), ClientError> {
        self.shared.accumulator.flushed().await;
        Ok(())
    }

    /// Takes no more records, flushes, and after `timeout` gives up what is left (P23). A transaction that is open is
    /// aborted.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if something was given up.
    pub async fn close(&self, timeout: Duration) -> Result<(), ClientError> {
        let shared = &self.shared;
        let deadline = Instant::now() + timeout;
        if let Some(transactions) = &shared.accumulator.transactions {
            transactions.close(&shared.accumulator, timeout).await;
        }
        shared.accumulator.closed.store(true, Ordering::Release);
        shared.accumulator.memory.close();
        let flushed = timeout_at(deadline, self.flush()).await;
        raise(&shared.stop, if flushed.is_ok() { Stop::Drained } else { Stop::Now });
        shared.stop.closed().await;
        flushed.unwrap_or(Err(ClientError::Closed { sent: true }))
    }

    pub(crate) fn accumulator(&self) -> &Accumulator {
        &self.shared.accumulator
    }

    pub(crate) fn shared_accumulator(&self) -> &Arc<Accumulator> {
        &self.shared.accumulator
    }

    /// Who had the transaction of this number is gone.
    pub(crate) fn abandon(&self, number: u64) {
        if let Some(transactions) = &self.shared.accumulator.transactions {
            transactions.abandon(&self.shared.accumulator, Some(number));
        }
    }

    pub fn metrics(&self) -> ProducerMetrics {
        let accumulator = &self.shared.accumulator;
        let counters = &accumulator.counters;
        ProducerMetrics {
            records_sent: counters.records_sent.load(Ordering::Relaxed),
            records_failed: counters.records_failed.load(Ordering::Relaxed),
            batches_sent: counters.batches_sent.load(Ordering::Relaxed),
            bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            buffer_available: accumulator.memory.available_permits(),
        }
    }
}

impl TopicProducer {
    /// As [`Producer::send`], without owning the record's bytes.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery, ClientError> {
        if !self.shared.accumulator.interceptors.is_empty() {
            let record = record.owned_to(&self.topic.name);
            return self.shared.noted(self.shared.send_owned(record, None).await);
        }
        match self.shared.accumulator.append(&self.topic, &record, &mut None, &mut None) {
            Ok(delivery) => Ok(delivery),
            Err(blocked) => {
                let deadline = Instant::now() + self.shared.accumulator.config.max_block;
                let sent =
                    self.shared.wait(&self.topic, &record, &mut None, blocked, deadline).await;
                self.shared.noted(sent)
            }
        }
    }

    /// As [`TopicProducer::send`], without waiting for anything.
    ///
    /// # Errors
    /// [`TrySendError::Full`], or what `send` says.
    #[inline]
    pub fn try_send(&self, record: Record<'_>) -> Result<Delivery, TrySendError> {
        let accumulator = &self.shared.accumulator;
        if !accumulator.interceptors.is_empty() {
            return self.try_send_seen(&record);
        }
        let appended = accumulator.append(&self.topic, &record, &mut None, &mut None);
        appended.map_err(|blocked| self.not_taken(blocked))
    }

    /// As interceptors want it.
    fn try_send_seen(&self, record: &Record<'_>) -> Result<Delivery, TrySendError> {
        let accumulator = &self.shared.accumulator;
        let mut record = record.owned_to(&self.topic.name);
        interceptor::on_send(&accumulator.interceptors, &mut record);
        let callback = interceptor::acknowledging(&accumulator.interceptors, &record, None);
        let headers = record.header_refs();
        let as_sent = record.borrowed(&headers);
        let appended = accumulator.append(&self.topic, &as_sent, &mut None, &mut Some(callback));
        appended.map_err(|blocked| {
            let needed = if let Blocked::Memory(needed) = &blocked { *needed } else { 0 };
            let error = self.not_taken(blocked);
            let told = match &error {
                TrySendError::Failed(error) => error,
                TrySendError::Full => {
                    &ClientError::BufferExhausted { needed, waited: Duration::ZERO }
                }
            };
            interceptor::on_refused(&accumulator.interceptors, &record, told);
            error
        })
    }

    fn not_taken(&self, blocked: Blocked) -> TrySendError {
        match blocked {
            Blocked::Memory(_) => {
                // So that what lingers goes out and makes room.
                self.shared.accumulator.inbox.notify.notify_one();
                TrySendError::Full
            }
            Blocked::UnknownPartition { partition, count } => {
                let error = unknown_partition(&self.topic, partition, count, Duration::ZERO);
                TrySendError::Failed(self.shared.note(error))
            }
            Blocked::Failed(error) => TrySendError::Failed(self.shared.note(error)),
        }
    }
}

impl Shared {
    /// A transaction of which a record was not even taken is not committed.
    fn noted<T>(&self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        result.map_err(|error| self.note(error))
    }

    fn note(&self, error: ClientError) -> ClientError {
        self.accumulator.note_refusal(&error);
        error
    }

    async fn send_owned(
        &self,
        mut record: ProducerRecord,
        callback: Option<Callback>,
    ) -> Result<Delivery, ClientError> {
        let interceptors = &self.accumulator.interceptors;
        if interceptors.is_empty() {
            return self.send_as_it_is(&record, callback).await;
        }
        interceptor::on_send(interceptors, &mut record);
        let callback = interceptor::acknowledging(interceptors, &record, callback);
        let sent = self.send_as_it_is(&record, Some(callback)).await;
        sent.inspect_err(|error| interceptor::on_refused(interceptors, &record, error))
    }

    async fn send_as_it_is(
        &self,
        record: &ProducerRecord,
        mut callback: Option<Callback>,
    ) -> Result<Delivery, ClientError> {
        let deadline = Instant::now() + self.accumulator.config.max_block;
        let topic = match self.accumulator.topic(&record.topic) {
            Some(topic) => topic,
            None => self.topic(&record.topic, deadline).await?,
        };
        let headers = record.header_refs();
        let record = record.borrowed(&headers);
        match self.accumulator.append(&topic, &record, &mut None, &mut callback) {
            Ok(delivery) => Ok(delivery),
            Err(blocked) => self.wait(&topic, &record, &mut callback, blocked, deadline).await,
        }
    }

    /// Waits for the topic to be known.
    async fn topic(&self, name: &str, deadline: Instant) -> Result<Arc<TopicQueues>, ClientError> {
        let patience = deadline.min(Instant::now() + UNKNOWN_TOPIC_PATIENCE);
        let mut last_error = ClientError::no_leader(name, PartitionId(0));
        loop {
            if self.accumulator.closed.load(Ordering::Acquire) {
                return Err(ClientError::Closed { sent: false });
            }
            let error =
                match timeout_at(deadline, self.client.refresh_topic(name, Missing::IsCreated))
                    .await
                {
                    Ok(Ok(topic)) if !topic.partitions.is_empty() => {
                        return Ok(self.accumulator.describe(&topic));
                    }
                    Ok(Ok(_)) => ClientError::no_leader(name, PartitionId(0)),
                    Ok(Err(error)) => error,
                    Err(_) => return Err(last_error),
                };
            let until = match error.reason() {
                ErrorCode::UnknownTopic => patience,
                _ if error.is_retriable() => deadline,
                _ => return Err(error),
            };
            let again = Instant::now() + self.accumulator.config.retry_backoff;
            if again >= until {
                return Err(error);
            }
            last_error = error;
            sleep_until(again).await;
        }
    }

    /// Waits for whatever keeps the record out of its queue, until the deadline (P2).
    async fn wait(
        &self,
        topic: &TopicQueues,
        record: &Record<'_>,
        callback: &mut Option<Callback>,
        mut blocked: Blocked,
        deadline: Instant,
    ) -> Result<Delivery, ClientError> {
        let started = Instant::now();
        let mut permit = None;
        loop {
            match blocked {
                Blocked::Failed(error) => return Err(error),
                Blocked::Memory(needed) => {
                    let acquired = timeout_at(deadline, self.acquire(&mut permit, needed)).await;
                    match acquired {
                        Ok(true) => {}
                        Ok(false) => return Err(ClientError::Closed { sent: false }),
                        Err(_) => {
                            let waited = started.elapsed();
                            return Err(ClientError::BufferExhausted { needed, waited });
                        }
                    }
                }
                Blocked::UnknownPartition { partition, count } => {
                    if Instant::now() >= deadline {
                        let waited = started.elapsed();
                        return Err(unknown_partition(topic, partition, count, waited));
                    }
                    if let Ok(described) =
                        self.client.refresh_topic(&topic.name, Missing::IsCreated).await
                    {
                        self.accumulator.describe(&described);
                    }
                    let backoff = self.accumulator.config.retry_backoff;
                    let known = self.accumulator.topic(&topic.name);
                    if known.is_none_or(|known| known.partitions() <= partition.0) {
                        sleep(backoff.min(deadline.duration_since(Instant::now()))).await;
                    }
                }
            }
            match self.accumulator.append(topic, record, &mut permit, callback) {
                Ok(delivery) => return Ok(delivery),
                Err(again) => blocked = again,
            }
        }
    }

    /// Adds to the permit until it covers `needed`. False: the producer was closed.
    async fn acquire<'a>(
        &'a self,
        permit: &mut Option<SemaphorePermit<'a>>,
        needed: usize,
    ) -> bool {
        let held = permit.as_ref().map_or(0, SemaphorePermit::num_permits);
        let _waiting = Waiting::new(&self.accumulator);
        let missing = needed.saturating_sub(held).max(1);
        let Ok(more) = self.accumulator.memory.acquire_many(missing as u32).await else {
            return false;
        };
        match permit {
            Some(permit) => permit.merge(more),
            None => *permit = Some(more),
        }
        true
    }
}

/// Counts a send that waits for memory, so that nothing lingers meanwhile (P5).
struct Waiting<'a>(&'a Accumulator);

impl<'a> Waiting<'a> {
    fn new(accumulator: &'a Accumulator) -> Self {
        accumulator.waiters.fetch_add(1, Ordering::AcqRel);
        accumulator.inbox.notify.notify_one();
        Self(accumulator)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

fn unknown_partition(
    topic: &TopicQueues,
    partition: PartitionId,
    count: u32,
    waited: Duration,
) -> ClientError {
    ClientError::UnknownPartition { topic: topic.name.to_string(), partition, count, waited }
}
