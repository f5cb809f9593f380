//! Fetch and FetchStream: slices of segments go out as they lie in the page cache.
//!
//! Promise: what is read is never copied here; whoever waits at the end of a partition hears of records, and of another
//! leader.
//! Never here: how a slice looks on the wire.

mod aborted;
mod news;
mod position;
mod pusher;

pub use position::{FetchPosition, FetchUpdate, Fetched};

use crate::address_book::AddressBook;
use crate::metadata_cache::MetadataCache;
use crate::partition::{CROWD_PATIENCE, PartitionHandle, REBUILD_PATIENCE, ReadAnswer, ReadFrom};
use crate::shutdown::shutting_down;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use news::worth_reading;
use pusher::Pusher;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use troupe_proto::error::Error;

/// Below the 4 MiB that generated clients accept, with room for headers.
const DEFAULT_ANSWER_BYTES: usize = (4 << 20) - (64 << 10);
/// Slices that wait for the client; each refers to the page cache and costs next to nothing.
const SLICES_AHEAD: usize = 4;

pub struct Fetch {
    metadata: Arc<MetadataCache>,
}

/// A single fetch.
pub struct FetchRequest {
    pub max_wait: Duration,
    pub min_bytes: u32,
    /// 0: as much as is usual.
    pub max_bytes: u32,
    pub positions: Vec<FetchPosition>,
}

impl Fetch {
    pub fn new(metadata: Arc<MetadataCache>) -> Self {
        Self { metadata }
    }

    /// With a long poll: answered when `min_bytes` are there, something failed, or the time is over.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Vec<Fetched>, Error> {
        let deadline = Instant::now() + request.max_wait;
        let min_bytes = request.min_bytes.max(1) as usize;
        let patience = if request.positions.len() > 1 { CROWD_PATIENCE } else { REBUILD_PATIENCE };
        loop {
            let mut answer = Vec::with_capacity(request.positions.len());
            let mut left = match request.max_bytes {
                0 => DEFAULT_ANSWER_BYTES,
                limit => limit as usize,
            };
            let (mut bytes, mut told, mut waits) = (0, false, FuturesUnordered::new());
            for position in &request.positions {
                let limit = position.limit();
                // The first non-empty partition always yields a batch, however large (S29).
                let limit = if bytes == 0 { limit.min(left).max(1) } else { limit.min(left) };
                let read = match limit {
                    0 => continue,
                    limit => self.read_at(position, limit, patience).await,
                };
                let partition = position.partition.clone();
                match read {
                    Ok((handle, read)) => {
                        bytes += read.bytes.len();
                        // A client that is to turn elsewhere has nothing to wait for here.
                        told |= read.preferred_replica.is_some();
                        left = left.saturating_sub(read.bytes.len());
                        let next = read.next;
                        // What the limits cut off is there already: only an end is worth waiting at.
                        let isolation = position.isolation;
                        if read.is_at_end(isolation) {
                            let reader = self.metadata.reader(&handle.key(), position.rack());
                            let more =
                                worth_reading(&self.metadata, handle, next, reader, isolation);
                            waits.push(more);
                        }
                        answer.push(Fetched { partition, subscription: 0, answer: Ok(read) });
                    }
                    Err(error) => {
                        told = true;
                        answer.push(Fetched::refused(&self.metadata, partition, 0, error));
                    }
                }
            }
            if bytes >= min_bytes || told || Instant::now() >= deadline || waits.is_empty() {
                return Ok(answer);
            }
            tokio::select! {
                _ = waits.next() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.metadata.shutdown.cancelled() => return Err(shutting_down()),
            }
        }
    }

    async fn read_at(
        &self,
        position: &FetchPosition,
        limit: usize,
        patience: Duration,
    ) -> Result<(Arc<PartitionHandle>, ReadAnswer), Error> {
        let handle = self.metadata.partition(position.partition.as_ref())?;
        handle.serves(patience).await?;
        let reader = self.metadata.reader(&handle.key(), position.rack());
        let read = ReadFrom {
            from: position.start()?,
            max_bytes: limit,
            expected_leader_epoch: position.leader_epoch,
            reader,
            isolation: position.isolation,
        };
        let read = handle.read(read).await?;
        Ok((handle, read))
    }

    /// Pushes what is read from the positions that the client adds, as far as it grants credit. Ends with the requests
    /// and what they grant, or when nobody takes the answers any more.
    pub fn stream<E: From<Error> + Send + 'static>(
        &self,
        updates: impl Stream<Item = Result<FetchUpdate, E>> + Send + 'static,
        addresses: AddressBook,
    ) -> mpsc::Receiver<Result<Fetched, E>> {
        let (outgoing, fetched) = mpsc::channel(SLICES_AHEAD);
        tokio::spawn(Pusher::new(Arc::clone(&self.metadata), addresses, outgoing).run(updates));
        fetched
    }
}
