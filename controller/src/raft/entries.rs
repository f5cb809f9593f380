//! Raft's log and vote in sled.
//!
//! An entry is cut into chunks, because sled puts a large value into a file of its own that it never
//! syncs. Key: index and number of the chunk, big-endian, so that the tree's order is the log's.

use super::identity::Identity;
use super::storage::{Flusher, Storage, io_error};
use super::types::TypeConfig;
use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};

/// sled merges about 16 values into a page, and a page of more than 128 KiB goes to a file of its own.
const CHUNK_BYTES: usize = 4096;
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const IDENTITY: &str = "identity";

#[derive(Clone)]
pub(super) struct EntryLog {
    entries: sled::Tree,
    marks: sled::Tree,
    flusher: Flusher,
}

impl EntryLog {
    pub fn open(storage: &Storage) -> io::Result<EntryLog> {
        let (entries, marks) = (storage.tree("raft_log")?, storage.tree("raft_marks")?);
        Ok(EntryLog { entries, marks, flusher: storage.flusher() })
    }

    fn mark<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        self.marks.get(name).map_err(io_error)?.map(|bytes| decode(&bytes)).transpose()
    }

    fn set_mark<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.marks.insert(name, encode(value)?).map_err(io_error)?;
        Ok(())
    }

    /// As a purge leaves it that is cut off after its mark.
    #[cfg(test)]
    pub fn mark_purged(&self, upto: LogIdOf<TypeConfig>) -> io::Result<()> {
        self.set_mark(PURGED, &upto)
    }

    /// Of the quorum this log belongs to; `None` if it has never had several voters.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        self.mark(IDENTITY)
    }

    pub async fn set_identity(&mut self, identity: &Identity) -> io::Result<()> {
        self.set_mark(IDENTITY, identity)?;
        self.flusher.flush().await
    }

    pub fn vote(&self) -> io::Result<Option<VoteOf<TypeConfig>>> {
        self.mark(VOTE)
    }

    /// Each entry for itself, in order.
    pub fn read_each(&self) -> Vec<io::Result<EntryOf<TypeConfig>>> {
        let mut indexes: Vec<_> = self
            .entries
            .iter()
            .map(|chunk| chunk.map_err(io_error).and_then(|(key, _)| index_of(&key)))
            .collect();
        indexes.dedup_by(|a, b| matches!((a, b), (Ok(a), Ok(b)) if a == b));
        let entry = |index| {
            let missing = || io::Error::other(format!("entry {index} is not there"));
            self.read(index..=index)?.pop().ok_or_else(missing)
        };
        indexes.into_iter().map(|index| index.and_then(entry)).collect()
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> io::Result<bool> {
        let purged = self.mark::<LogIdOf<TypeConfig>>(PURGED)?;
        let voted = self.mark::<VoteOf<TypeConfig>>(VOTE)?;
        Ok(self.entries.is_empty() && purged.is_none() && voted.is_none())
    }

    /// Whole entries of these indexes, in order.
    fn read(&self, indexes: RangeInclusive<u64>) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        let mut entries = Vec::new();
        let mut gathered: Option<(u64, Vec<u8>)> = None;
        let keys = key(*indexes.start(), 0)..=key(*indexes.end(), u32::MAX);
        for chunk in self.entries.range(keys) {
            let (key, bytes) = chunk.map_err(io_error)?;
            let index = index_of(&key)?;
            match &mut gathered {
                Some((current, whole)) if *current == index => whole.extend_from_slice(&bytes),
                _ => {
                    if let Some((_, whole)) = gathered.replace((index, bytes.to_vec())) {
                        entries.push(decode(&whole)?);
                    }
                }
            }
        }
        if let Some((_, whole)) = gathered {
            entries.push(decode(&whole)?);
        }
        Ok(entries)
    }

    fn last_log_id(&self) -> io::Result<Option<LogIdOf<TypeConfig>>> {
        let Some((key, _)) = self.entries.last().map_err(io_error)? else { return Ok(None) };
        let index = index_of(&key)?;
        Ok(self.read(index..=index)?.pop().map(|entry| entry.log_id()))
    }

    fn remove(&self, indexes: RangeInclusive<u64>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        let keys = key(*indexes.start(), 0)..=key(*indexes.end(), u32::MAX);
        for chunk in self.entries.range(keys) {
            batch.remove(chunk.map_err(io_error)?.0);
        }
        self.entries.apply_batch(batch).map_err(io_error)
    }
}

impl RaftLogReader<TypeConfig> for EntryLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        let first = match range.start_bound() {
            Bound::Included(index) => Some(*index),
            Bound::Excluded(index) => index.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let last = match range.end_bound() {
            Bound::Included(index) => Some(*index),
            Bound::Excluded(index) => index.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => self.read(first..=last),
            _ => Ok(Vec::new()),
        }
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<TypeConfig>>> {
        self.mark(VOTE)
    }
}

impl RaftLogStorage<TypeConfig> for EntryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id: Option<LogIdOf<TypeConfig>> = self.mark(PURGED)?;
        // A purge that was cut off behind its mark has left entries below it: they are gone all the same.
        let is_there = |last: &LogIdOf<TypeConfig>| {
            last_purged_log_id.as_ref().is_none_or(|purged| last.index > purged.index)
        };
        let last_log_id = self.last_log_id()?.filter(is_there).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> io::Result<()> {
        self.set_mark(VOTE, vote)?;
        self.flusher.flush().await
    }

    /// A hint for the next start; it may be lost.
    async fn save_committed(&mut self, committed: Option<LogIdOf<TypeConfig>>) -> io::Result<()> {
        self.set_mark(COMMITTED, &committed)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<TypeConfig>>> {
        Ok(self.mark::<Option<_>>(COMMITTED)?.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = sled::Batch::default();
        for entry in entries {
            let bytes = encode(&entry)?;
            for (number, chunk) in (0..).zip(bytes.chunks(CHUNK_BYTES)) {
                batch.insert(&key(entry.index(), number), chunk);
            }
        }
        self.entries.apply_batch(batch).map_err(io_error)?;
        self.flusher.notify(callback)
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> io::Result<()> {
        let first = last.map_or(0, |last| last.index + 1);
        self.remove(first..=u64::MAX)?;
        self.flusher.flush().await
    }

    /// The mark comes first: entries without it would look like a log with a hole.
    async fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> io::Result<()> {
        self.set_mark(PURGED, &upto)?;
        self.remove(0..=upto.index)?;
        self.flusher.flush().await
    }
}

fn key(index: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> io::Result<u64> {
    let index = key.first_chunk().ok_or_else(|| io::Error::other("a malformed key in the log"))?;
    Ok(u64::from_be_bytes(*index))
}

pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(io::Error::other)
}
