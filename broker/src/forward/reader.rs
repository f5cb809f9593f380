//! Reads partitions on, wherever they are led: here through handles, elsewhere by one FetchStream to each peer that
//! leads some of them.
//!
//! Promises: of each partition every slice from its position on, in order, across changes of leader; nothing is
//! read ahead beyond one slice of each partition here and the credit of each peer; of a partition that was removed,
//! or added again elsewhere, nothing comes that was under way before; no slice from behind a truncation; to a reader of
//! committed records nothing of a transaction that is open, and with each slice what of it was aborted.

mod check;
mod position;
mod slice;

pub use slice::{Failed, Slice, Start};

use super::backoff::Backoff;
use super::leaders::Leaders;
use super::peer_stream::{Came, FromPeer, PeerStream};
use super::route::{Route, Target, no_leader};
use crate::metadata_cache::LeaderAt;
use crate::partition::{Isolation, PartitionHandle, ReadAnswer, ReadFrom};
use crate::shutdown::shutting_down;
use bytes::Bytes;
use check::{Checked, PATIENCE, Verdict};
use futures::StreamExt;
use futures::future::{Aborted, BoxFuture, FutureExt, abortable};
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use position::{Place, Position};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use troupe_machines::cluster::ClusterImage;
use troupe_machines::replica::Reader;
use troupe_proto::batch::{Batches, CommittedFilter};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::log::v1::TopicPartition;

const READ_BYTES: usize = 1 << 20;

type FromHere = (PartitionKey, Result<Result<ReadAnswer, Error>, Aborted>);

/// A reader of some partitions.
pub struct TopicReader {
    leaders: Arc<Leaders>,
    isolation: Isolation,
    images: watch::Receiver<Arc<ClusterImage>>,
    positions: HashMap<PartitionKey, Position>,
    checks: FuturesUnordered<BoxFuture<'static, Checked>>,
    here: FuturesUnordered<BoxFuture<'static, FromHere>>,
    there: SelectAll<BoxStream<'static, FromPeer>>,
    /// By number.
    streams: HashMap<u64, PeerStream>,
    next_stream: u64,
    next_subscription: u64,
    /// Not told yet.
    failed: Vec<Failed>,
}

impl TopicReader {
    pub fn new(leaders: Arc<Leaders>, isolation: Isolation) -> Self {
        Self {
            images: leaders.metadata.image.clone(),
            leaders,
            isolation,
            positions: HashMap::new(),
            checks: FuturesUnordered::new(),
            here: FuturesUnordered::new(),
            there: SelectAll::new(),
            streams: HashMap::new(),
            next_stream: 0,
            next_subscription: 0,
            failed: Vec::new(),
        }
    }

    /// Whether nothing is left to read or to tell.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.failed.is_empty()
    }

    /// Reads a partition from `start` on, up to `end` if there is one; one that is read already is moved.
    pub fn add(&mut self, target: Target, start: Start, end: Option<Offset>) {
        let verified = self.positions.get(&target.key).and_then(|position| position.verified);
        self.remove(&target.key);
        let Start { next, after } = start;
        if end.is_some_and(|end| next >= end) {
            return;
        }
        let (key, place) = (target.key, Place::Nowhere(Instant::now()));
        let position = Position {
            target,
            next,
            end,
            after,
            verified,
            place,
            led: None,
            lost: None,
            backoff: Backoff::new(),
        };
        self.positions.insert(key, position);
    }

    /// Reads a partition no more.
    pub fn remove(&mut self, key: &PartitionKey) {
        self.leave(*key, Instant::now());
        self.positions.remove(key);
        self.close_unused();
    }

    /// The next slice of any partition; none when all have been read to their ends.
    ///
    /// # Errors
    /// What a leader refused, or why no leader has been found for [`PATIENCE`]: that partition is not read any more.
    pub async fn next(&mut self) -> Result<Option<Slice>, Failed> {
        if let Some(failed) = self.failed.pop() {
            return Err(failed);
        }
        loop {
            let retry = self.find_places()?;
            if self.positions.is_empty() {
                return Ok(None);
            }
            let again = async {
                match retry {
                    Some(retry) => sleep_until(retry).await,
                    None => std::future::pending().await,
                }
            };
            let slice = tokio::select! {
                Some((key, checked)) = self.checks.next() => {
                    if let Ok(verdict) = checked {
                        self.on_checked(key, verdict)?;
                    }
                    None
                }
                Some((key, read)) = self.here.next() => match read {
                    Ok(read) => self.on_read(key, read)?,
                    Err(Aborted) => None,
                },
                Some((stream, came)) = self.there.next() => self.on_response(stream, came)?,
                changed = self.images.changed() => {
                    if changed.is_err() {
                        return Err(Failed { target: None, error: Box::new(shutting_down()) });
                    }
                    self.follow_leaders();
                    None
                }
                () = again => None,
            };
            if slice.is_some() {
                return Ok(slice);
            }
        }
    }

    /// Has every partition read from its leader; returns when to look again for those that have none.
    fn find_places(&mut self) -> Result<Option<Instant>, Failed> {
        let now = Instant::now();
        let lost = |position: &Position| matches!(position.place, Place::Nowhere(_));
        let keys: Vec<PartitionKey> = self
            .positions
            .iter()
            .filter(|(_, position)| lost(position))
            .map(|(key, _)| *key)
            .collect();
        let mut retry: Option<Instant> = None;
        for key in keys {
            let Some(position) = self.positions.get_mut(&key) else { continue };
            let led = position.target.led(&self.images.borrow());
            let due =
                led != position.led || matches!(position.place, Place::Nowhere(at) if at <= now);
            position.led = led;
            let doubtful = position.is_doubtful();
            match position.target.route(&self.leaders.metadata) {
                Ok(_) if due && let Some(after) = doubtful => self.check(key, after),
                Ok(Route::Here(handle)) if due => self.read_here(key, handle),
                Ok(Route::There(leader)) if due => self.read_there(key, &leader)?,
                Ok(_) => {}
                Err(error) => self.displace(key, error)?,
            }
            let place = self.positions.get(&key).map(|position| &position.place);
            if let Some(Place::Nowhere(at)) = place {
                retry = Some(retry.map_or(*at, |retry| retry.min(*at)));
            }
        }
        Ok(retry)
    }

    /// Partitions that somebody else leads now are read there.
    fn follow_leaders(&mut self) {
        let image = self.images.borrow_and_update().clone();
        let moved: Vec<PartitionKey> = self
            .positions
            .iter()
            .filter(|(_, position)| position.target.led(&image) != position.led)
            .map(|(key, _)| *key)
            .collect();
        for key in moved {
            self.leave(key, Instant::now());
        }
    }

    /// Reads no more where the partition was read, and somewhere else not before `again`.
    fn leave(&mut self, key: PartitionKey, again: Instant) {
        let Some(position) = self.positions.get_mut(&key) else { return };
        match std::mem::replace(&mut position.place, Place::Nowhere(again)) {
            Place::Checking(task) | Place::Here(task) => task.abort(),
            Place::There(stream, _) => {
                let named = position.target.named();
                self.streams.entry(stream).and_modify(|stream| stream.drop_position(named));
                self.close_unused();
            }
            Place::Nowhere(_) => {}
        }
    }

    fn close_unused(&mut self) {
        let used = |number: u64| {
            let there = |position: &Position| matches!(position.place, Place::There(stream, _) if stream == number);
            self.positions.values().any(there)
        };
        self.streams.retain(|number, _| used(*number));
    }

    /// A partition could not be read where it was: it is looked for again, if that may help.
    fn displace(&mut self, key: PartitionKey, error: Error) -> Result<(), Failed> {
        let Some(position) = self.positions.get_mut(&key) else { return Ok(()) };
        if !position.target.is_readable_elsewhere(&self.leaders.metadata, &error) {
            return Err(self.fail(key, error));
        }
        let now = Instant::now();
        let (since, _) = position.lost.get_or_insert_with(|| (now, error.clone()));
        if now.duration_since(*since) >= PATIENCE {
            let error = self.leaders.metadata.redirect(error, &key);
            return Err(self.fail(key, error));
        }
        let again = match position.place {
            Place::Nowhere(at) if at > now => at,
            _ => now + position.backoff.next(),
        };
        self.leave(key, again);
        Ok(())
    }

    /// Gives a partition up.
    fn fail(&mut self, key: PartitionKey, error: Error) -> Failed {
        let target = self.positions.get(&key).map(|position| position.target.clone());
        self.remove(&key);
        Failed { target, error: Box::new(error) }
    }

    fn check(&mut self, key: PartitionKey, after: LeaderEpoch) {
        let Some(position) = self.positions.get_mut(&key) else { return };
        let (leaders, target) = (Arc::clone(&self.leaders), position.target.clone());
        let place = (position.next, after);
        let (checking, abort) =
            abortable(async move { check::check(&leaders, &target, place).await });
        position.place = Place::Checking(abort);
        self.checks.push(checking.map(move |checked| (key, checked)).boxed());
    }

    /// What leads to another leader epoch than the one that was asked has it asked anew.
    fn on_checked(&mut self, key: PartitionKey, verdict: Verdict) -> Result<(), Failed> {
        let Some(position) = self.positions.get_mut(&key) else { return Ok(()) };
        match verdict {
            Ok(None) => {
                position.verified = position.led.map(|(_, epoch)| epoch);
                position.place = Place::Nowhere(Instant::now());
                Ok(())
            }
            Ok(Some(error)) => Err(self.fail(key, error)),
            Err(error) => self.displace(key, error),
        }
    }

    fn read_here(&mut self, key: PartitionKey, handle: Arc<PartitionHandle>) {
        let Some(position) = self.positions.get_mut(&key) else { return };
        let answered = position.lost.is_none() && matches!(position.place, Place::Here(_));
        let (next, epoch) = (position.next, position.led.map(|led| led.1));
        let (reading, abort) = abortable(read(handle, (next, self.isolation), epoch, answered));
        position.place = Place::Here(abort);
        self.here.push(reading.map(move |read| (key, read)).boxed());
    }

    fn on_read(
        &mut self,
        key: PartitionKey,
        read: Result<ReadAnswer, Error>,
    ) -> Result<Option<Slice>, Failed> {
        let read = match read {
            Ok(read) => read,
            Err(error) => return self.displace(key, error).map(|()| None),
        };
        let readable_end = match self.isolation {
            Isolation::Uncommitted => read.high_watermark,
            Isolation::Committed => read.last_stable,
        };
        let aborted = read.aborted.iter().map(|it| (it.producer_id, it.first_offset));
        let filter = CommittedFilter::new(aborted);
        let slice = self.take(key, read.bytes, read.next, (readable_end, filter));
        // On from there, if that is not the end.
        if let Some(position) = self.positions.get(&key) {
            match position.target.route(&self.leaders.metadata) {
                Ok(Route::Here(handle)) => self.read_here(key, handle),
                Ok(Route::There(_)) => self.leave(key, Instant::now()),
                Err(error) => {
                    if let Err(failed) = self.displace(key, error) {
                        self.failed.push(failed);
                    }
                }
            }
        }
        Ok(slice)
    }

    fn read_there(&mut self, key: PartitionKey, leader: &LeaderAt) -> Result<(), Failed> {
        let open = self.streams.iter().find(|(_, stream)| stream.endpoint == leader.endpoint);
        let stream = match open {
            Some((stream, _)) => *stream,
            None => {
                self.next_stream += 1;
                let (stream, answers) =
                    match PeerStream::open(&self.leaders, leader, self.isolation) {
                        Ok(opened) => opened,
                        Err(error) => return self.displace(key, error),
                    };
                let name = self.next_stream;
                self.there.push(answers.map(move |answer| (name, answer)).boxed());
                self.streams.insert(name, stream);
                name
            }
        };
        let (Some(position), Some(open)) =
            (self.positions.get_mut(&key), self.streams.get_mut(&stream))
        else {
            return Ok(());
        };
        self.next_subscription += 1;
        let subscription = self.next_subscription;
        position.place = Place::There(stream, subscription);
        let epoch = position.led.map(|led| led.1.0);
        let named = position.target.named();
        if open.add_position(named, position.next, epoch, subscription) {
            return Ok(());
        }
        self.displace(key, no_leader("the stream to the leader takes nothing more"))
    }

    fn on_response(&mut self, stream: u64, came: Option<Came>) -> Result<Option<Slice>, Failed> {
        let (response, was_waited_for) = match came {
            Some(Came { answer: Ok(response), was_waited_for }) => (response, was_waited_for),
            Some(Came { answer: Err(error), .. }) => {
                return self.on_broken(stream, error).map(|()| None);
            }
            None => {
                let error = no_leader("the leader ended the stream");
                return self.on_broken(stream, error).map(|()| None);
            }
        };
        if let Some(open) = self.streams.get_mut(&stream) {
            open.give_back(response.batches.len(), was_waited_for);
        }
        let Some(key) = response.partition.as_ref().and_then(key_of) else { return Ok(None) };
        // What was under way when the partition was asked for anew belongs to the question before.
        let read_there = |position: &&Position| matches!(position.place, Place::There(_, asked) if asked == response.subscription);
        let Some(position) = self.positions.get(&key).filter(read_there) else {
            return Ok(None);
        };
        if let Some(detail) = response.error {
            return self.displace(key, detail.into()).map(|()| None);
        }
        let next = match end_of(&response.batches, position.next) {
            Ok(next) => next,
            Err(error) => return Err(self.fail(key, error)),
        };
        let readable_end = match self.isolation {
            Isolation::Uncommitted => response.high_watermark,
            // A node that knows no transactions says nothing of it, and has none.
            Isolation::Committed if response.last_stable_offset == 0 => response.high_watermark,
            Isolation::Committed => response.last_stable_offset,
        };
        let readable_end = Offset::from_wire(readable_end).unwrap_or_default();
        let filter = CommittedFilter::from_wire(&response.aborted_transactions);
        Ok(self.take(key, response.batches, next, (readable_end, filter)))
    }

    fn on_broken(&mut self, stream: u64, error: Error) -> Result<(), Failed> {
        self.streams.remove(&stream);
        let lost: Vec<PartitionKey> = self
            .positions
            .iter()
            .filter(
                |(_, position)| matches!(position.place, Place::There(place, _) if place == stream),
            )
            .map(|(key, _)| *key)
            .collect();
        for key in lost {
            if let Err(failed) = self.displace(key, error.clone()) {
                self.failed.push(failed);
            }
        }
        self.failed.pop().map_or(Ok(()), Err)
    }

    /// The partition was answered for; what came is handed on, unless it is nothing.
    fn take(
        &mut self,
        key: PartitionKey,
        bytes: Bytes,
        next: Offset,
        (readable_end, filter): (Offset, CommittedFilter),
    ) -> Option<Slice> {
        let position = self.positions.get_mut(&key)?;
        (position.lost, position.backoff) = (None, Backoff::new());
        let from = position.next;
        position.next = next.max(from);
        if let Some(epoch) = last_epoch(&bytes) {
            position.after = Some(epoch);
            position.verified = position.led.map(|(_, led)| led);
        }
        let (target, next, end) = (position.target.clone(), position.next, position.end);
        if end.is_some_and(|end| next >= end) {
            self.remove(&key);
        }
        (!bytes.is_empty()).then_some(Slice {
            target,
            from,
            end,
            bytes,
            next,
            readable_end,
            filter,
        })
    }
}

/// Reads what is there; if the leader has answered before, waits until something is.
async fn read(
    handle: Arc<PartitionHandle>,
    (next, isolation): (Offset, Isolation),
    leader_epoch: Option<LeaderEpoch>,
    answered: bool,
) -> Result<ReadAnswer, Error> {
    loop {
        if answered {
            handle.readable(next, &Reader::OfLeader, isolation).await;
        }
        let read = ReadFrom {
            from: next,
            max_bytes: READ_BYTES,
            expected_leader_epoch: leader_epoch,
            isolation,
            ..ReadFrom::default()
        };
        let read = handle.read(read).await?;
        if answered && read.bytes.is_empty() {
            continue;
        }
        return Ok(read);
    }
}

/// The partition that an answer is about.
fn key_of(named: &TopicPartition) -> Option<PartitionKey> {
    let topic_id = TopicId::from_wire(&named.topic_id)?;
    Some(PartitionKey { topic_id, partition: PartitionId(u32::try_from(named.partition).ok()?) })
}

/// The leader epoch of the last of these batches.
fn last_epoch(batches: &Bytes) -> Option<LeaderEpoch> {
    let batches = Batches::new(batches.clone()).map_while(Result::ok);
    batches.last().map(|(header, _)| header.leader_epoch)
}

/// Where the last of these batches ends.
fn end_of(batches: &Bytes, start: Offset) -> Result<Offset, Error> {
    Batches::new(batches.clone()).try_fold(start, |end, batch| match batch {
        Ok((header, _)) => Ok(end.max(header.end_offset())),
        Err(error) => {
            let message = format!("what the leader sent is damaged: {error}");
            Err(Error::new(ErrorCode::CorruptLog, message))
        }
    })
}
