//! Where records wait: topics, their partitions' queues, and the buffer memory that bounds them all.
//!
//! Promises: what is buffered and unanswered never exceeds `buffer_memory` (P3), and who waits for space
//! is served in order of arrival (P2). The sender hears of every queue that has something for it.
//! Never here: connections, retries, answers.

use super::batch::Encoded;
use super::config::ProducerConfig;
use super::delivery::{Callback, Delivery};
use super::interceptor::Interceptors;
use super::partitioner::{Candidate, Choice, Sticky, draw};
use super::queue::{Incoming, NotAppended, Queue, Settled};
use super::record::Record;
use super::rules::Rules;
use crate::error::ClientError;
use crate::metadata::{PartitionLeader, TopicMetadata};
use crate::telemetry::ProducerTelemetry;
use crate::transactions::Transactions;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use troupe_proto::batch::Packing;
use troupe_proto::ids::{NodeId, PartitionId};

/// What a record takes in a batch beside its key, value and headers, at most; and a header beside its own.
const RECORD_OVERHEAD: usize = 48;
const HEADER_OVERHEAD: usize = 24;

/// All queues of one producer.
pub(crate) struct Accumulator {
    pub config: ProducerConfig,
    pub rules: Arc<Rules>,
    pub interceptors: Interceptors,
    pub packing: Packing,
    pub telemetry: ProducerTelemetry,
    /// Of a producer that has a transactional id.
    pub transactions: Option<Arc<Transactions>>,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicQueues>>>,
    next_queue: AtomicU64,
    /// Free bytes of buffer memory.
    pub memory: Semaphore,
    /// Sends that wait for memory.
    pub waiters: AtomicUsize,
    pub inbox: Inbox,
    /// No more records.
    pub closed: AtomicBool,
    pub counters: Counters,
}

/// Queues that the sender has to look at.
#[derive(Default)]
pub(crate) struct Inbox {
    queues: Mutex<Vec<Arc<PartitionQueue>>>,
    pub notify: Notify,
}

/// What a producer has done so far.
#[derive(Default)]
pub(crate) struct Counters {
    pub records_sent: AtomicU64,
    pub records_failed: AtomicU64,
    pub batches_sent: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub retries: AtomicU64,
}

/// The queues of one topic.
pub(crate) struct TopicQueues {
    pub name: Arc<str>,
    view: ArcSwap<View>,
    sticky: Sticky,
}

/// A topic as it was described last, and a queue for each of its partitions.
struct View {
    topic: Arc<TopicMetadata>,
    queues: Vec<Arc<PartitionQueue>>,
}

/// One partition's queue, shared by those who send and the sender.
pub(crate) struct PartitionQueue {
    pub topic: Arc<str>,
    pub partition: PartitionId,
    /// Its name within this producer.
    pub number: u64,
    queue: Mutex<Queue>,
    /// Batches not on their way (T26).
    waiting: AtomicU32,
    /// It stands in the inbox already.
    listed: AtomicBool,
}

/// Why a record was not taken at once.
#[derive(Debug)]
pub(crate) enum Blocked {
    Memory(usize),
    UnknownPartition { partition: PartitionId, count: u32 },
    Failed(ClientError),
}

impl Accumulator {
    pub(crate) fn new(
        config: ProducerConfig,
        idempotent: bool,
        transactions: Option<Arc<Transactions>>,
    ) -> Self {
        let rules = Rules {
            batch_size: config.batch_size,
            linger: config.linger,
            max_in_flight: config.max_in_flight,
            idempotent,
            transactional: transactions.is_some(),
            retries: config.retries,
            delivery_timeout: config.delivery_timeout,
            retry_backoff: config.retry_backoff,
            retry_backoff_max: config.retry_backoff_max,
        };
        Self {
            telemetry: ProducerTelemetry::new(&client_id(&config), config.buffer_memory),
            memory: Semaphore::new(config.buffer_memory),
            interceptors: config.interceptors.as_slice().into(),
            // Validated before.
            packing: config.packing().unwrap_or_default(),
            config,
            rules: Arc::new(rules),
            transactions,
            topics: RwLock::default(),
            next_queue: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            inbox: Inbox::default(),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<TopicQueues>> {
        self.topics.read().get(name).cloned()
    }

    pub(crate) fn topics(&self) -> Vec<Arc<TopicQueues>> {
        self.topics.read().values().cloned().collect()
    }

    /// Takes a description in: a topic that is new, or has more partitions, or other leaders.
    pub(crate) fn describe(&self, topic: &Arc<TopicMetadata>) -> Arc<TopicQueues> {
        let mut topics = self.topics.write();
        if let Some(known) = topics.get(topic.name.as_str()) {
            let view = known.view.load();
            if !Arc::ptr_eq(&view.topic, topic) {
                let queues = view.queues.clone();
                known.view.store(Arc::new(self.view(&known.name, topic, queues)));
            }
            return known.clone();
        }
        let name: Arc<str> = topic.name.as_str().into();
        let view = self.view(&name, topic, Vec::new());
        let first = view.draw(&self.config);
        let known = Arc::new(TopicQueues {
            name: name.clone(),
            view: ArcSwap::from_pointee(view),
            sticky: Sticky::new(self.config.batch_size, first),
        });
        topics.insert(name, known.clone());
        known
    }

    fn view(
        &self,
        name: &Arc<str>,
        topic: &Arc<TopicMetadata>,
        mut queues: Vec<Arc<PartitionQueue>>,
    ) -> View {
        for number in queues.len()..topic.partitions.len() {
            let partition = PartitionId(number as u32);
            queues.push(Arc::new(PartitionQueue {
                topic: name.clone(),
                partition,
                number: self.next_queue.fetch_add(1, Ordering::Relaxed),
                queue: Mutex::new(Queue::new(name.clone(), partition, self.rules.clone())),
                waiting: AtomicU32::new(0),
                listed: AtomicBool::new(false),
            }));
        }
        View { topic: topic.clone(), queues }
    }

    /// Adds a record to its partition's queue without waiting. `permit`: memory that was waited for.
    pub(crate) fn append(
        &self,
        topic: &TopicQueues,
        record: &Record<'_>,
        permit: &mut Option<SemaphorePermit<'_>>,
        callback: &mut Option<Callback>,
    ) -> Result<Delivery, Blocked> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Blocked::Failed(ClientError::Closed { sent: false }));
        }
        let bound = bound(record);
        self.check_size(bound)?;
        let view = topic.view.load();
        let choice = self.config.partitioner.choose(&view.topic, record).map_err(|what| {
            Blocked::Failed(ClientError::Partitioner { topic: topic.name.to_string(), what })
        })?;
        let partition = match choice {
            Choice::This(partition) => partition,
            Choice::Sticky => topic.sticky_partition(&view, &self.config),
        };
        let Some(queue) = view.queue(partition) else {
            return Err(Blocked::UnknownPartition { partition, count: view.partitions() });
        };
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(wall_clock_ms);
        let appended = {
            let mut state = queue.queue.lock();
            let transaction = match &self.transactions {
                Some(transactions) => transactions.take(bound).map_err(Blocked::Failed)?,
                None => 0,
            };
            let reserve = |bytes| self.take_memory(permit, bytes);
            let incoming = Incoming { record, timestamp_ms, bound, transaction, callback };
            let appended = state.append(incoming, reserve, Instant::now);
            queue.waiting.store(state.waiting() as u32, Ordering::Relaxed);
            if let (Err(_), Some(transactions)) = (&appended, &self.transactions) {
                transactions.give_back(bound);
            }
            appended
        };
        let appended = appended.map_err(|not| match not {
            NotAppended::NeedMemory(bytes) => Blocked::Memory(bytes),
            NotAppended::Closed(error) => Blocked::Failed(error),
        })?;
        if appended.wake {
            self.inbox.list(queue);
        }
        if choice == Choice::Sticky && topic.sticky.produced(partition, bound, appended.closed) {
            topic.sticky.switch_to(view.draw(&self.config));
        }
        Ok(Delivery::new(appended.completion, appended.index, timestamp_ms))
    }

    /// P3.
    fn check_size(&self, bound: usize) -> Result<(), Blocked> {
        let actual = super::batch::batch_len(bound);
        let limits = [
            ("max_request_size", self.config.max_request_size),
            ("buffer_memory", self.config.buffer_memory),
        ];
        match limits.into_iter().find(|&(_, limit)| actual > limit) {
            None => Ok(()),
            Some((setting, limit)) => {
                Err(Blocked::Failed(ClientError::RecordTooLarge { actual, limit, setting }))
            }
        }
    }

    /// From what was waited for, or from what is free. Permits are given back when the batch is settled.
    fn take_memory(&self, permit: &mut Option<SemaphorePermit<'_>>, bytes: usize) -> bool {
        let waited_for = permit.as_mut().and_then(|permit| permit.split(bytes));
        let taken = match waited_for {
            Some(permit) => permit,
            None => match self.memory.try_acquire_many(bytes as u32) {
                Ok(permit) => permit,
                Err(_) => return false,
            },
        };
        taken.forget();
        true
    }

    /// Tells a batch's records what became of them, and frees its memory.
    pub(crate) fn finish(&self, settled: Vec<Settled>) {
        for batch in settled {
            let records = u64::from(batch.records);
            let counter = match batch.outcome {
                Ok(_) => &self.counters.records_sent,
                Err(_) => &self.counters.records_failed,
            };
            counter.fetch_add(records, Ordering::Relaxed);
            self.memory.add_permits(batch.reserved);
            let free = self.memory.available_permits();
            self.telemetry.settled(records, batch.outcome.is_ok(), free);
            if let (Err(error), Some(transactions)) = (&batch.outcome, &self.transactions) {
                transactions.fail(error, batch.transaction);
                self.tell_of_failure();
            }
            batch.completion.settle(batch.records, batch.outcome);
        }
    }

    /// A batch goes out.
    pub(crate) fn note_sent(&self, encoded: &Encoded) {
        let (records, bytes) = (encoded.header.record_count, encoded.wire.len());
        self.counters.batches_sent.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.telemetry.sent(records, bytes, self.memory.available_permits());
    }

    /// Lets every open batch go (P23). The last record of each partition that is not answered yet.
    pub(crate) fn flush(&self) -> Vec<Delivery> {
        let mut last = Vec::new();
        for queue in self.queues() {
            let flushed = queue.with(Queue::flush);
            if let Some((completion, index)) = flushed {
                self.inbox.list(&queue);
                last.push(Delivery::new(completion, index, 0));
            }
        }
        last
    }

    /// The same, and waits until all that was sent before is answered.
    pub(crate) async fn flushed(&self) {
        for last in self.flush() {
            // A failure is the delivery's to tell.
            let _ = last.await;
        }
    }

    /// The same of what was sent up to and in this transaction.
    pub(crate) async fn flushed_through(&self, transaction: u64) {
        let mut last = Vec::new();
        for queue in self.queues() {
            if let Some((completion, index)) = queue.with(|it| it.flush_through(transaction)) {
                self.inbox.list(&queue);
                last.push(Delivery::new(completion, index, 0));
            }
        }
        for last in last {
            let _ = last.await;
        }
    }

    /// The sender looks at everything.
    pub(crate) fn list_all(&self) {
        self.queues().iter().for_each(|queue| self.inbox.list(queue));
        self.inbox.notify.notify_one();
    }

    /// Gives up everything behind this transaction that is not answered; more may come.
    pub(crate) fn give_up(&self, error: &ClientError, behind: u64) {
        for queue in self.queues() {
            let settled = queue.with(|queue| queue.give_up_all(error, behind));
            self.finish(settled);
        }
    }

    /// A record was not taken: whatever else of the transaction waits is not sent either.
    pub(crate) fn note_refusal(&self, error: &ClientError) {
        if let Some(transactions) = &self.transactions {
            transactions.refuse(error);
            self.tell_of_failure();
        }
    }

    fn tell_of_failure(&self) {
        if self.transactions.as_ref().is_some_and(|transactions| transactions.has_failed()) {
            self.inbox.notify.notify_one();
        }
    }

    pub(crate) fn queues(&self) -> Vec<Arc<PartitionQueue>> {
        self.topics().iter().flat_map(|topic| topic.view.load().queues.clone()).collect()
    }
}

impl Inbox {
    /// The sender will look at this queue.
    pub(crate) fn list(&self, queue: &Arc<PartitionQueue>) {
        if !queue.listed.swap(true, Ordering::AcqRel) {
            self.queues.lock().push(queue.clone());
            self.notify.notify_one();
        }
    }

    /// Everything that was listed; it may be listed again from now on.
    pub(crate) fn take(&self) -> Vec<Arc<PartitionQueue>> {
        let queues = std::mem::take(&mut *self.queues.lock());
        for queue in &queues {
            queue.listed.store(false, Ordering::Release);
        }
        queues
    }
}

impl View {
    /// There may be more queues: of a topic that was deleted and came back with fewer partitions.
    fn partitions(&self) -> u32 {
        self.topic.partitions.len() as u32
    }

    fn queue(&self, partition: PartitionId) -> Option<&Arc<PartitionQueue>> {
        let exists = partition.0 < self.partitions();
        self.queues.get(partition.0 as usize).filter(|_| exists)
    }

    /// Another sticky partition (T25, T26): among those that have a leader, without those of nodes that do not take what
    /// is ready for them; or among all if that leaves none.
    fn draw(&self, config: &ProducerConfig) -> PartitionId {
        let blocked = self.blocked_nodes(config);
        let is_free = |node: NodeId| !blocked.contains(&node);
        let mut found = self.candidates(|it| it.leader.is_some_and(is_free));
        if found.is_empty() && !blocked.is_empty() {
            found = self.candidates(|it| it.leader.is_some());
        }
        if found.is_empty() {
            found = self.candidates(|_| true);
        }
        let chance = rand::random();
        draw(&found, config.partitioner.adaptive, chance).unwrap_or(PartitionId(0))
    }

    fn candidates(&self, counts: impl Fn(&PartitionLeader) -> bool) -> Vec<Candidate> {
        let partitions = self.topic.partitions.iter().filter(|partition| counts(partition));
        let queues = partitions.filter_map(|it| self.queues.get(it.partition.0 as usize));
        queues.map(|queue| queue.candidate()).collect()
    }

    /// Leaders that something of this topic has been ready for, and did not go to, for as long as
    /// `availability_timeout`. Asked once in a batch, and of nothing unless there is such a time-out.
    fn blocked_nodes(&self, config: &ProducerConfig) -> Vec<NodeId> {
        let timeout = config.partitioner.availability_timeout;
        if timeout.is_zero() || !config.partitioner.adaptive {
            return Vec::new();
        }
        let now = Instant::now();
        let is_blocked = |it: &&PartitionLeader| {
            let queue = self.queues.get(it.partition.0 as usize);
            let since = queue.and_then(|queue| queue.queue.lock().ready_since());
            since.is_some_and(|since| now.saturating_duration_since(since) >= timeout)
        };
        self.topic.partitions.iter().filter(is_blocked).filter_map(|it| it.leader).collect()
    }
}

impl TopicQueues {
    pub(crate) fn partitions(&self) -> u32 {
        self.view.load().partitions()
    }

    fn sticky_partition(&self, view: &View, config: &ProducerConfig) -> PartitionId {
        let current = self.sticky.current();
        if view.queue(current).is_some() {
            return current;
        }
        let drawn = view.draw(config);
        self.sticky.switch_to(drawn);
        drawn
    }
}

impl PartitionQueue {
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock();
        let result = change(&mut queue);
        self.waiting.store(queue.waiting() as u32, Ordering::Relaxed);
        result
    }

    fn candidate(&self) -> Candidate {
        Candidate { partition: self.partition, queue: self.waiting.load(Ordering::Relaxed) }
    }
}

/// At least what the record takes in a batch.
fn bound(record: &Record<'_>) -> usize {
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers.iter();
    let headers: usize =
        headers.map(|(name, value)| HEADER_OVERHEAD + name.len() + len(*value)).sum();
    RECORD_OVERHEAD + len(record.key) + len(record.value) + headers
}

/// Kafka's names for those who have none.
fn client_id(config: &ProducerConfig) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    match config.client_id.as_str() {
        "" => format!("producer-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        given => given.to_owned(),
    }
}

/// T11: create time.
fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
