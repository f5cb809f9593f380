//! Fetch and FetchStream: slices of segments go out as they lie in the page cache.

use crate::context::Context;
use crate::grpc::{
    Outgoing, Requests, ResponseBody, decode, encode, encode_all_with_payload, encode_with_payload,
};
use crate::page_cache;
use crate::partition::{CROWD_PATIENCE, PartitionHandle, REBUILD_PATIENCE, ReadAnswer};
use crate::shutdown::shutting_down;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::batch::chunks;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1 as pb;
use troupe_proto::wire;

/// Field number of the partitions in a unary fetch's answer.
const PARTITIONS_TAG: u32 = 1;
/// Field number of the batches in every fetch answer.
const BATCHES_TAG: u32 = 15;
const DEFAULT_PARTITION_BYTES: usize = 1 << 20;
/// Below the 4 MiB that generated clients accept, with room for headers.
const DEFAULT_ANSWER_BYTES: usize = (4 << 20) - (64 << 10);
/// One turn of the partition's actor reads as much as this many answers hold: the actor may live on another
/// shard, and a turn there costs a wake-up.
const ANSWERS_PER_READ: usize = 4;
/// How often a replica is asked that has not heard yet that it does not lead.
const NEWS_INTERVAL: Duration = Duration::from_millis(20);
/// Slices that wait for the client; each refers to the page cache and costs next to nothing.
const SLICES_AHEAD: usize = 4;

fn start_of(position: &pb::FetchPosition) -> Result<Offset, Error> {
    Offset::from_wire(position.offset).ok_or_else(|| {
        let message = format!(
            "offset {} is negative; ListOffsets finds the earliest and the latest",
            position.offset
        );
        Error::new(ErrorCode::InvalidRequest, message)
    })
}

fn limit_of(max_bytes: u32, default: usize) -> usize {
    match max_bytes {
        0 => default,
        limit => limit as usize,
    }
}

/// Unary, with a long poll. Answered when `min_bytes` are there, something failed, or the time is over.
pub(super) async fn fetch(
    context: &Context,
    request: pb::FetchRequest,
) -> Result<ResponseBody, Status> {
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.into());
    let min_bytes = request.min_bytes.max(1) as usize;
    let patience = if request.positions.len() > 1 { CROWD_PATIENCE } else { REBUILD_PATIENCE };
    loop {
        let mut answer = Vec::with_capacity(request.positions.len());
        let mut left = limit_of(request.max_bytes, DEFAULT_ANSWER_BYTES);
        let (mut bytes, mut failed, mut waits) = (0, false, FuturesUnordered::new());
        for position in &request.positions {
            let limit = limit_of(position.max_bytes, DEFAULT_PARTITION_BYTES);
            // The first non-empty partition always yields a batch, however large (S29).
            let limit = if bytes == 0 { limit.min(left).max(1) } else { limit.min(left) };
            let read = match limit {
                0 => continue,
                limit => read_at(context, position, limit, patience).await,
            };
            match read {
                Ok((handle, read)) => {
                    bytes += read.bytes.len();
                    left = left.saturating_sub(read.bytes.len());
                    let next = read.next;
                    // What the limits cut off is there already: only an end is worth waiting at.
                    if next >= read.high_watermark {
                        waits.push(worth_reading(context, handle, next));
                    }
                    answer.push(pushed(position.partition.clone(), 0, read));
                }
                Err(error) => {
                    failed = true;
                    answer.push(refused(context, position.partition.clone(), 0, error));
                }
            }
        }
        if bytes >= min_bytes || failed || Instant::now() >= deadline || waits.is_empty() {
            let items = answer.into_iter().map(with_payload).collect();
            let pieces = encode_all_with_payload(PARTITIONS_TAG, BATCHES_TAG, items);
            return Ok(ResponseBody::once(pieces));
        }
        tokio::select! {
            _ = waits.next() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = context.shutdown.cancelled() => return Err(shutting_down().into()),
        }
    }
}

async fn read_at(
    context: &Context,
    position: &pb::FetchPosition,
    limit: usize,
    patience: Duration,
) -> Result<(Arc<PartitionHandle>, ReadAnswer), Error> {
    let handle = context.metadata.partition(position.partition.as_ref())?;
    handle.serves(patience).await?;
    let epoch = position.leader_epoch.map(LeaderEpoch);
    let read = handle.read(start_of(position)?, limit, epoch).await?;
    page_cache::make_resident(&read.bytes).await;
    Ok((handle, read))
}

/// Returns when there is something to read, or somebody else leads, of which a reader at the end of a partition
/// would otherwise not hear.
async fn worth_reading(context: &Context, handle: Arc<PartitionHandle>, next: Offset) {
    let (key, mut images) = (handle.key(), context.metadata.image.clone());
    let led_here = |image: &ClusterImage| {
        image.partition(&key).is_none_or(|partition| partition.leader == Some(context.node_id))
    };
    let led_elsewhere = async {
        if images.wait_for(|image| !led_here(image)).await.is_err() {
            // Nobody writes images any more: there is no news.
            std::future::pending::<()>().await;
        }
        // The replica hears of it at about the same time; until then it finds nothing to read.
        tokio::time::sleep(NEWS_INTERVAL).await;
    };
    tokio::select! {
        () = handle.readable(next) => {}
        () = led_elsewhere => {}
    }
}

/// An answer and, apart from it, the batches that go out as they lie.
fn with_payload(mut answer: wire::PartitionFetch) -> (wire::PartitionFetch, bytes::Bytes) {
    let batches = std::mem::take(&mut answer.batches);
    (answer, batches)
}

fn pushed(
    partition: Option<pb::TopicPartition>,
    subscription: u64,
    read: ReadAnswer,
) -> wire::PartitionFetch {
    wire::PartitionFetch {
        partition,
        subscription,
        high_watermark: read.high_watermark.to_wire(),
        log_start_offset: read.log_start.to_wire(),
        error: None,
        batches: read.bytes,
    }
}

fn refused(
    context: &Context,
    partition: Option<pb::TopicPartition>,
    subscription: u64,
    error: Error,
) -> wire::PartitionFetch {
    wire::PartitionFetch {
        subscription,
        high_watermark: -1,
        log_start_offset: -1,
        error: Some(context.metadata.hinted(error, partition.as_ref()).into()),
        partition,
        batches: bytes::Bytes::new(),
    }
}

/// One partition of a stream. Removing or moving it bumps the generation, so that a read that is under
/// way for the old position is recognised and thrown away.
struct Position {
    partition: pb::TopicPartition,
    /// What the client calls it.
    subscription: u64,
    handle: Arc<PartitionHandle>,
    next: Offset,
    /// That the client knows.
    leader_epoch: Option<LeaderEpoch>,
    max_bytes: usize,
    generation: u64,
    /// The client was told that it has read everything.
    told_caught_up: bool,
    /// Dropped with the position: what it waits for is of no interest then.
    waiting: Option<oneshot::Sender<()>>,
}

type Name = (String, i32);

/// What one position waited for.
enum Step {
    /// There is something to read.
    Readable,
    /// A read ended, for which this much credit was set aside.
    Read { reserved: i64, answer: Result<ReadAnswer, Error> },
}

type Stepped = (Name, u64, Step);

/// The state of one FetchStream: positions, credit, and one wait or read under way per position.
struct Pusher {
    context: Arc<Context>,
    outgoing: mpsc::Sender<Outgoing>,
    positions: HashMap<Name, Position>,
    generations: u64,
    /// Bytes granted and neither sent nor set aside. Negative after a batch that was larger than what was
    /// left: the debt is paid from the next grant.
    credit: i64,
    /// Partitions with something to read that wait for credit.
    starved: VecDeque<Name>,
    steps: FuturesUnordered<BoxFuture<'static, Stepped>>,
    /// Reads that are under way, with the credit that was set aside for them.
    reads: usize,
}

pub(super) fn fetch_stream(context: Arc<Context>, requests: Requests) -> ResponseBody {
    let (outgoing, body) = ResponseBody::channel(SLICES_AHEAD);
    let pusher = Pusher {
        context,
        outgoing,
        positions: HashMap::new(),
        generations: 0,
        credit: 0,
        starved: VecDeque::new(),
        steps: FuturesUnordered::new(),
        reads: 0,
    };
    tokio::spawn(pusher.run(requests));
    body
}

/// The client went away: nothing is left to do.
struct Gone;

impl Pusher {
    async fn run(mut self, mut requests: Requests) {
        let shutdown = self.context.shutdown.clone();
        let mut requests_open = true;
        loop {
            let step = tokio::select! {
                request = requests.next(), if requests_open => match request {
                    Ok(Some(message)) => match decode(message) {
                        Ok(request) => self.on_request(request).await,
                        Err(status) => self.end(status).await,
                    },
                    // A client may close its half and go on reading what it has credit for. Then the stream ends.
                    Ok(None) => {
                        requests_open = false;
                        Ok(())
                    }
                    Err(status) => self.end(status).await,
                },
                Some(stepped) = self.steps.next() => {
                    let done = self.on_step(stepped).await;
                    self.feed_starved();
                    done
                }
                () = shutdown.cancelled() => self.end(shutting_down().into()).await,
                () = self.outgoing.closed() => Err(Gone),
            };
            if step.is_err() || !requests_open && self.is_spent() {
                return;
            }
        }
    }

    /// Without another grant, nothing can be sent any more.
    fn is_spent(&self) -> bool {
        self.positions.is_empty() || self.credit <= 0 && self.reads == 0
    }

    async fn end(&mut self, status: Status) -> Result<(), Gone> {
        // Either way the stream is over.
        let _ = self.outgoing.send(Err(status)).await;
        Err(Gone)
    }

    async fn on_request(&mut self, request: pb::FetchStreamRequest) -> Result<(), Gone> {
        for partition in request.drop {
            self.forget(&(partition.topic, partition.partition));
        }
        let granted = i64::try_from(request.credit_bytes).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(granted);
        for position in request.positions {
            self.add(position).await?;
        }
        self.feed_starved();
        Ok(())
    }

    async fn add(&mut self, position: pb::FetchPosition) -> Result<(), Gone> {
        let partition = position.partition.clone().unwrap_or_default();
        let name = (partition.topic.clone(), partition.partition);
        let found = self.context.metadata.partition(Some(&partition));
        let leader_epoch = position.leader_epoch.map(LeaderEpoch);
        let subscription = position.subscription;
        match found.and_then(|handle| Ok((handle, start_of(&position)?))) {
            Ok((handle, next)) => {
                self.generations += 1;
                let position = Position {
                    partition,
                    subscription,
                    handle,
                    next,
                    leader_epoch,
                    max_bytes: limit_of(position.max_bytes, DEFAULT_PARTITION_BYTES),
                    generation: self.generations,
                    told_caught_up: false,
                    waiting: None,
                };
                self.forget(&name);
                self.positions.insert(name.clone(), position);
                self.read(&name);
                Ok(())
            }
            Err(error) => {
                self.send(refused(&self.context, Some(partition), subscription, error)).await
            }
        }
    }

    /// Removes a position, also from where it queues: added again, it would be read twice.
    fn forget(&mut self, name: &Name) {
        self.positions.remove(name);
        self.starved.retain(|starved| starved != name);
    }

    /// Nobody starves while there is credit, wherever it came from: a grant, or a read that took less.
    fn feed_starved(&mut self) {
        while self.credit > 0 {
            let Some(name) = self.starved.pop_front() else { return };
            self.read(&name);
        }
    }

    /// Reads on from a position, or waits first if everything has been read.
    fn go_on(&mut self, name: &Name) {
        let Some(position) = self.positions.get(name) else { return };
        if !position.told_caught_up {
            return self.read(name);
        }
        let (context, handle) = (Arc::clone(&self.context), Arc::clone(&position.handle));
        let next = position.next;
        let readable = async move {
            worth_reading(&context, handle, next).await;
            Step::Readable
        };
        self.wait(name, readable);
    }

    /// Waits for a step as long as the position stands.
    fn wait(&mut self, name: &Name, step: impl Future<Output = Step> + Send + 'static) {
        let Some(position) = self.positions.get_mut(name) else { return };
        let (waiting, dropped) = oneshot::channel::<()>();
        position.waiting = Some(waiting);
        let (name, generation) = (name.clone(), position.generation);
        let wait = async move {
            let step = tokio::select! {
                step = step => step,
                // Nobody looks at the step of a position that is gone.
                _ = dropped => Step::Readable,
            };
            (name, generation, step)
        };
        self.steps.push(wait.boxed());
    }

    /// Reads with what credit there is, or queues for more. Waiting takes no credit; reading sets it aside,
    /// so that many partitions together do not read more than was granted.
    fn read(&mut self, name: &Name) {
        let Some(position) = self.positions.get(name) else { return };
        if self.credit <= 0 {
            if !self.starved.contains(name) {
                self.starved.push_back(name.clone());
            }
            return;
        }
        let handle = Arc::clone(&position.handle);
        if !handle.answers_now() {
            // Its actor is being rebuilt: credit set aside for that long would starve the others.
            let rebuilt = async move {
                match handle.serves(REBUILD_PATIENCE).await {
                    Ok(()) => Step::Readable,
                    Err(error) => Step::Read { reserved: 0, answer: Err(error) },
                }
            };
            return self.wait(name, rebuilt);
        }
        let wanted = position.max_bytes.saturating_mul(ANSWERS_PER_READ);
        let limit = wanted.min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        let reserved = i64::try_from(limit).unwrap_or(i64::MAX);
        self.credit -= reserved;
        self.reads += 1;
        let (next, name, generation) = (position.next, name.clone(), position.generation);
        let leader_epoch = position.leader_epoch;
        let read = async move {
            let answer = handle.read(next, limit, leader_epoch).await;
            if let Ok(read) = &answer {
                page_cache::make_resident(&read.bytes).await;
            }
            (name, generation, Step::Read { reserved, answer })
        };
        self.steps.push(read.boxed());
    }

    async fn on_step(&mut self, (name, generation, step): Stepped) -> Result<(), Gone> {
        if let Step::Read { reserved, .. } = &step {
            self.credit = self.credit.saturating_add(*reserved);
            self.reads -= usize::from(*reserved > 0);
        }
        let Some(position) = self.positions.get_mut(&name) else { return Ok(()) };
        if position.generation != generation {
            return Ok(());
        }
        let (partition, subscription) = (Some(position.partition.clone()), position.subscription);
        match step {
            Step::Readable => {
                self.read(&name);
                Ok(())
            }
            Step::Read { answer: Ok(read), .. } => {
                let tell = !read.bytes.is_empty() || !position.told_caught_up;
                position.next = read.next;
                // Whoever gets the last readable record sees so by the high watermark beside it.
                position.told_caught_up = read.next >= read.high_watermark;
                self.credit -= i64::try_from(read.bytes.len()).unwrap_or(i64::MAX);
                let max_bytes = position.max_bytes;
                self.go_on(&name);
                match tell {
                    true => self.push(pushed(partition, subscription, read), max_bytes).await,
                    false => Ok(()),
                }
            }
            Step::Read { answer: Err(error), .. } => {
                self.forget(&name);
                self.send(refused(&self.context, partition, subscription, error)).await
            }
        }
    }

    /// Sends what was read, in answers of the size that the client asked for.
    async fn push(
        &mut self,
        mut answer: wire::FetchStreamResponse,
        max_bytes: usize,
    ) -> Result<(), Gone> {
        let bytes = std::mem::take(&mut answer.batches);
        if bytes.is_empty() {
            return self.send(answer).await;
        }
        for batches in chunks(bytes, max_bytes) {
            self.send(wire::FetchStreamResponse { batches, ..answer.clone() }).await?;
        }
        Ok(())
    }

    async fn send(&mut self, mut answer: wire::FetchStreamResponse) -> Result<(), Gone> {
        let batches = std::mem::take(&mut answer.batches);
        let pieces = if batches.is_empty() {
            vec![encode(&answer)]
        } else {
            encode_with_payload(&answer, BATCHES_TAG, batches).into()
        };
        self.outgoing.send(Ok(pieces)).await.map_err(|_| Gone)
    }
}
