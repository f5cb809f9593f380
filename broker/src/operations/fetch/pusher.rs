//! FetchStream: positions that are read on from, and the credit that it takes.

use super::aborted::of_chunk;
use super::news::worth_reading;
use super::position::{FetchPosition, FetchUpdate, Fetched};
use crate::address_book::AddressBook;
use crate::metadata_cache::MetadataCache;
use crate::partition::{Isolation, PartitionHandle, REBUILD_PATIENCE, ReadAnswer, ReadFrom};
use crate::shutdown::shutting_down;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use troupe_machines::replica::Reader;
use troupe_proto::batch::chunks;
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1::TopicPartition;

/// One turn of the partition's actor reads as much as this many answers hold: the actor may live on another
/// shard, and a turn there costs a wake-up.
const ANSWERS_PER_READ: usize = 4;

/// One partition of a stream. Removing or moving it bumps the generation, so that a read that is under
/// way for the old position is recognised and thrown away.
struct Position {
    partition: TopicPartition,
    /// What the client calls it.
    subscription: u64,
    handle: Arc<PartitionHandle>,
    next: Offset,
    /// That the client knows.
    leader_epoch: Option<LeaderEpoch>,
    client_rack: Option<Arc<str>>,
    max_bytes: usize,
    isolation: Isolation,
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
pub struct Pusher<E> {
    metadata: Arc<MetadataCache>,
    /// What the reader is told.
    addresses: AddressBook,
    outgoing: mpsc::Sender<Result<Fetched, E>>,
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

/// The client went away: nothing is left to do.
struct Gone;

impl<E: From<Error>> Pusher<E> {
    pub fn new(
        metadata: Arc<MetadataCache>,
        addresses: AddressBook,
        outgoing: mpsc::Sender<Result<Fetched, E>>,
    ) -> Self {
        Self {
            metadata,
            addresses,
            outgoing,
            positions: HashMap::new(),
            generations: 0,
            credit: 0,
            starved: VecDeque::new(),
            steps: FuturesUnordered::new(),
            reads: 0,
        }
    }

    /// Serves one stream to its end.
    pub async fn run(mut self, updates: impl Stream<Item = Result<FetchUpdate, E>>) {
        let mut updates = pin!(updates);
        let shutdown = self.metadata.shutdown.clone();
        let mut updates_open = true;
        loop {
            let step = tokio::select! {
                update = updates.next(), if updates_open => match update {
                    Some(Ok(update)) => self.on_update(update).await,
                    // A client may close its half and go on reading what it has credit for. Then the stream ends.
                    None => {
                        updates_open = false;
                        Ok(())
                    }
                    Some(Err(end)) => self.end(end).await,
                },
                Some(stepped) = self.steps.next() => {
                    let done = self.on_step(stepped).await;
                    self.feed_starved();
                    done
                }
                () = shutdown.cancelled() => self.end(shutting_down().into()).await,
                () = self.outgoing.closed() => Err(Gone),
            };
            if step.is_err() || !updates_open && self.is_spent() {
                return;
            }
        }
    }

    /// Without another grant, nothing can be sent any more.
    fn is_spent(&self) -> bool {
        self.positions.is_empty() || self.credit <= 0 && self.reads == 0
    }

    async fn end(&mut self, end: E) -> Result<(), Gone> {
        // Either way the stream is over.
        let _ = self.outgoing.send(Err(end)).await;
        Err(Gone)
    }

    async fn on_update(&mut self, update: FetchUpdate) -> Result<(), Gone> {
        for partition in update.drop {
            self.forget(&(partition.topic, partition.partition));
        }
        let granted = i64::try_from(update.credit_bytes).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(granted);
        for position in update.positions {
            self.add(position).await?;
        }
        self.feed_starved();
        Ok(())
    }

    async fn add(&mut self, position: FetchPosition) -> Result<(), Gone> {
        let partition = position.partition.clone().unwrap_or_default();
        let name = (partition.topic.clone(), partition.partition);
        let found = self.metadata.partition(Some(&partition));
        let subscription = position.subscription;
        match found.and_then(|handle| Ok((handle, position.start()?))) {
            Ok((handle, next)) => {
                self.generations += 1;
                let position = Position {
                    partition,
                    subscription,
                    handle,
                    next,
                    leader_epoch: position.leader_epoch,
                    max_bytes: position.limit(),
                    isolation: position.isolation,
                    client_rack: position.client_rack,
                    generation: self.generations,
                    told_caught_up: false,
                    waiting: None,
                };
                self.forget(&name);
                self.positions.insert(name.clone(), position);
                self.read(&name);
                Ok(())
            }
            Err(error) => self.refuse(Some(partition), subscription, error).await,
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
        let (metadata, handle) = (Arc::clone(&self.metadata), Arc::clone(&position.handle));
        let (next, reader) = (position.next, self.reader(position));
        let isolation = position.isolation;
        let readable = async move {
            worth_reading(&metadata, handle, next, reader, isolation).await;
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
        let (leader_epoch, reader) = (position.leader_epoch, self.reader(position));
        let wanted = position.max_bytes.saturating_mul(ANSWERS_PER_READ);
        let limit = wanted.min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        let reserved = i64::try_from(limit).unwrap_or(i64::MAX);
        self.credit -= reserved;
        self.reads += 1;
        let (name, generation) = (name.clone(), position.generation);
        let read = ReadFrom {
            from: position.next,
            max_bytes: limit,
            expected_leader_epoch: leader_epoch,
            reader,
            isolation: position.isolation,
        };
        let read = async move {
            let answer = handle.read(read).await;
            (name, generation, Step::Read { reserved, answer })
        };
        self.steps.push(read.boxed());
    }

    fn reader(&self, position: &Position) -> Reader {
        self.metadata.reader(&position.handle.key(), position.client_rack.as_deref())
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
            Step::Read { answer: Ok(read), .. } if read.preferred_replica.is_some() => {
                self.forget(&name);
                self.send(Fetched { partition, subscription, answer: Ok(read) }).await
            }
            Step::Read { answer: Ok(read), .. } => {
                let tell = !read.bytes.is_empty() || !position.told_caught_up;
                position.next = read.next;
                // Whoever gets the last readable record sees so by the end beside it.
                position.told_caught_up = read.is_at_end(position.isolation);
                self.credit -= i64::try_from(read.bytes.len()).unwrap_or(i64::MAX);
                let max_bytes = position.max_bytes;
                self.go_on(&name);
                match tell {
                    true => self.push(partition, subscription, read, max_bytes).await,
                    false => Ok(()),
                }
            }
            Step::Read { answer: Err(error), .. } => {
                self.forget(&name);
                self.refuse(partition, subscription, error).await
            }
        }
    }

    /// Sends what was read, in answers of the size that the client asked for.
    async fn push(
        &mut self,
        partition: Option<TopicPartition>,
        subscription: u64,
        mut read: ReadAnswer,
        max_bytes: usize,
    ) -> Result<(), Gone> {
        let bytes = std::mem::take(&mut read.bytes);
        if bytes.is_empty() {
            return self.send(Fetched { partition, subscription, answer: Ok(read) }).await;
        }
        let all = std::mem::take(&mut read.aborted);
        for bytes in chunks(bytes, max_bytes) {
            let aborted = of_chunk(&all, &bytes);
            let answer = ReadAnswer { bytes, aborted, ..read };
            let (partition, answer) = (partition.clone(), Ok(answer));
            self.send(Fetched { partition, subscription, answer }).await?;
        }
        Ok(())
    }

    async fn refuse(
        &mut self,
        partition: Option<TopicPartition>,
        subscription: u64,
        error: Error,
    ) -> Result<(), Gone> {
        let refused = Fetched::refused(&self.metadata, partition, subscription, error);
        self.send(refused.told(&self.addresses)).await
    }

    async fn send(&mut self, fetched: Fetched) -> Result<(), Gone> {
        self.outgoing.send(Ok(fetched)).await.map_err(|_| Gone)
    }
}
