//! Records of thin clients become batches here, and answers of batches become results of records.

use super::shutting_down;
use crate::context::Context;
use crate::forward::{Batch, Entry, Lane, Target};
use crate::partition::{Appended, wall_clock};
use crate::registry::TopicEntry;
use futures::future::{join, join_all};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use troupe_proto::batch::{Compression, OVERHEAD, RecordSetBuilder};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::partitioner::partition_of_key;
use troupe_proto::v1 as pb;

/// Records of one request and partition are cut into batches of about this size.
const BATCH_BYTES: usize = 512 << 10;
/// Bytes of one stream's batches that may be unanswered.
const STREAM_BYTES: usize = 32 << 20;
/// The budget is counted in units, so that small batches are bounded in number too.
const BUDGET_UNIT: usize = 4 << 10;
const STREAM_UNITS: usize = STREAM_BYTES / BUDGET_UNIT;
/// Batches that may wait for a lane to take them.
const LANE_QUEUE: usize = 16;

/// A batch to be sent, and which records of the request it holds, in order, with their timestamps.
struct Cut {
    target: Target,
    batch: Batch,
    records: Vec<(usize, i64)>,
}

/// A batch under way.
struct Pending {
    partition: i32,
    records: Vec<(usize, i64)>,
    answer: oneshot::Receiver<Result<Appended, Error>>,
}

/// Everything of one request, submitted.
pub(super) struct Submitted {
    count: usize,
    pending: Vec<Pending>,
}

/// A batch being filled.
struct Filling {
    keyless: bool,
    builder: RecordSetBuilder,
    records: Vec<(usize, i64)>,
}

impl Filling {
    fn new() -> Self {
        Self { keyless: false, builder: RecordSetBuilder::new(), records: Vec::new() }
    }

    fn push(&mut self, index: usize, record: &pb::Record, timestamp: i64) {
        let headers =
            record.headers.iter().map(|header| (header.key.as_str(), header.value.as_deref()));
        self.keyless |= record.key.is_none();
        self.builder.push_with(timestamp, record.key.as_deref(), record.value.as_deref(), headers);
        self.records.push((index, timestamp));
    }

    fn finish(self, target: Target) -> Result<Cut, Error> {
        let built = self
            .builder
            .finish(Compression::None, None)
            .map_err(|error| Error::new(error.code(), error.to_string()))?;
        Ok(Cut { target, batch: Batch::new(built, self.keyless), records: self.records })
    }
}

/// Cuts a request into batches, in order for each partition. What would be refused is refused before any
/// record of the request is sent.
fn cut(topic: &TopicEntry, records: &[pb::Record]) -> Result<Vec<Cut>, Error> {
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let unkeyed = i32::try_from(rand::random_range(0..count.max(1))).unwrap_or(0);
    let partitions = records
        .iter()
        .map(|record| match (&record.partition, &record.key) {
            (Some(partition), _) => topic.partition(*partition).map(|_| *partition),
            (None, Some(key)) => Ok(i32::try_from(partition_of_key(key, count).0).unwrap_or(0)),
            (None, None) => Ok(unkeyed),
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for record in records {
        check_record(topic, record)?;
    }
    let target = |partition: i32| {
        let (key, _) = topic.partition(partition)?;
        Ok::<_, Error>(Target { topic: Arc::clone(&topic.name), key })
    };
    let clock = wall_clock().as_timestamp();
    let mut filling: BTreeMap<i32, Filling> = BTreeMap::new();
    let mut cuts = Vec::new();
    for ((index, record), partition) in records.iter().enumerate().zip(partitions) {
        let batch = filling.entry(partition).or_insert_with(Filling::new);
        if !batch.builder.is_empty() && batch.builder.len() + size_of(record) > BATCH_BYTES {
            cuts.push(std::mem::replace(batch, Filling::new()).finish(target(partition)?)?);
        }
        batch.push(index, record, record.timestamp_ms.unwrap_or(clock));
    }
    for (partition, batch) in filling {
        cuts.push(batch.finish(target(partition)?)?);
    }
    Ok(cuts)
}

/// About what a record takes in a batch; never less.
fn size_of(record: &pb::Record) -> usize {
    const FRAMING: usize = 32;
    let headers = record
        .headers
        .iter()
        .map(|header| {
            FRAMING + header.key.len() + header.value.as_ref().map_or(0, |value| value.len())
        })
        .sum::<usize>();
    FRAMING
        + record.key.as_ref().map_or(0, |key| key.len())
        + record.value.as_ref().map_or(0, |value| value.len())
        + headers
}

/// What would be refused is refused before any record of the request is appended.
fn check_record(topic: &TopicEntry, record: &pb::Record) -> Result<(), Error> {
    let (actual, limit) = (size_of(record) + OVERHEAD, topic.config().max_message_bytes);
    if actual as u64 > limit {
        let message = format!(
            "a record of about {actual} bytes is over the topic's max.message.bytes of {limit}"
        );
        return Err(Error::new(ErrorCode::RecordTooLarge, message)
            .with("limit", limit)
            .with("actual", actual));
    }
    if topic.config().cleanup.compact && record.key.is_none() {
        let message = format!("topic `{}` is compacted: every record needs a key", topic.name);
        return Err(Error::new(ErrorCode::InvalidRecord, message));
    }
    Ok(())
}

/// A cut as a lane takes it, and as it is waited for.
fn under_way(
    cut: Cut,
    deadline: Instant,
    budget: Option<OwnedSemaphorePermit>,
) -> (Entry, Pending) {
    let (answer, answered) = oneshot::channel();
    let partition = cut.target.number();
    let pending = Pending { partition, records: cut.records, answer: answered };
    (Entry { batch: cut.batch, deadline, answer, budget }, pending)
}

/// Publishes the records of one request.
pub(super) async fn publish(
    context: &Arc<Context>,
    topic: &TopicEntry,
    acks: pb::Acks,
    records: &[pb::Record],
    deadline: Instant,
) -> Result<Vec<pb::RecordResult>, Error> {
    if context.shutdown.is_cancelled() {
        return Err(shutting_down());
    }
    let mut lanes: BTreeMap<i32, Lane> = BTreeMap::new();
    let mut submitted = Submitted { count: records.len(), pending: Vec::new() };
    for cut in cut(topic, records)? {
        let lane = lanes
            .entry(cut.target.number())
            .or_insert_with(|| Lane::new(Arc::clone(context), cut.target.clone(), acks));
        let (entry, pending) = under_way(cut, deadline, None);
        lane.push(entry);
        submitted.pending.push(pending);
    }
    let delivered = join_all(lanes.into_values().map(Lane::run));
    join(delivered, answered(submitted)).await.1
}

/// Publishes the records of one stream: each partition has its lane.
pub(super) struct Publisher {
    context: Arc<Context>,
    pub topic: Arc<TopicEntry>,
    acks: pb::Acks,
    lanes: HashMap<i32, mpsc::Sender<Entry>>,
    budget: Arc<Semaphore>,
}

impl Publisher {
    pub fn new(context: Arc<Context>, topic: Arc<TopicEntry>, acks: pb::Acks) -> Self {
        let budget = Arc::new(Semaphore::new(STREAM_UNITS));
        Self { context, topic, acks, lanes: HashMap::new(), budget }
    }

    /// Hands records over; waits while too much of the stream is unanswered.
    pub async fn submit(&mut self, records: &[pb::Record]) -> Result<Submitted, Error> {
        if self.context.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        let mut submitted = Submitted { count: records.len(), pending: Vec::new() };
        for cut in cut(&self.topic, records)? {
            let units = cut.batch.len().div_ceil(BUDGET_UNIT).clamp(1, STREAM_UNITS) as u32;
            let budget = Arc::clone(&self.budget).acquire_many_owned(units).await.ok();
            let lane = self.lane(&cut.target);
            let deadline = Instant::now() + self.context.request_timeout();
            let (entry, pending) = under_way(cut, deadline, budget);
            // A lane ends only with the node; then nobody answers, and that is the answer.
            let _ = lane.send(entry).await;
            submitted.pending.push(pending);
        }
        Ok(submitted)
    }

    fn lane(&mut self, target: &Target) -> mpsc::Sender<Entry> {
        let lane = self.lanes.entry(target.number()).or_insert_with(|| {
            let (entries, taken) = mpsc::channel(LANE_QUEUE);
            let lane = Lane::new(Arc::clone(&self.context), target.clone(), self.acks);
            tokio::spawn(lane.serve(taken));
            entries
        });
        lane.clone()
    }
}

/// Waits for every batch; the first failure is the request's.
pub(super) async fn answered(submitted: Submitted) -> Result<Vec<pb::RecordResult>, Error> {
    let mut results = vec![pb::RecordResult::default(); submitted.count];
    let (mut failure, mut appended_some): (Option<Error>, bool) = (None, false);
    for pending in submitted.pending {
        let answer = pending.answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorCode::OutcomeUnknown, "the node is stopping; try again elsewhere"))
        });
        match answer {
            Ok(appended) => {
                appended_some = true;
                for ((index, timestamp), delta) in pending.records.into_iter().zip(0..) {
                    results[index] = pb::RecordResult {
                        partition: pending.partition,
                        offset: appended
                            .base_offset
                            .map_or(-1, |base| Offset::to_wire(base.plus(delta))),
                        timestamp_ms: appended.log_append_time_ms.unwrap_or(timestamp),
                    };
                }
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(results),
        // Part of the request is in the log: the request as a whole did not surely not happen.
        Some(error) if appended_some && error.surely_not_done() => {
            let message = format!("some records were appended, others refused: {error}");
            Err(Error { code: ErrorCode::OutcomeUnknown, message, ..error })
        }
        Some(error) => Err(error),
    }
}
