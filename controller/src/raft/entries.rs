//! Raft's log and vote in sled.
//!
//! An entry is cut into chunks, because sled puts a large value into a file of its own that it never
//! syncs. Key: index and number of the chunk, big-endian, so that the tree's order is the log's.
//! Promises: whatever is read back is what was written, or damage is said. An entry is sealed as a whole, with the
//! entry before it, so that an older one in its place does not pass; where the log begins and ends is known besides.

use super::fault::{Faults, damage, guarded};
use super::identity::Identity;
use super::quorum_state::QuorumStateFile;
use super::sealed::{seal, unseal};
use super::storage::{Flusher, Storage};
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
use std::sync::{Arc, Mutex, PoisonError};

/// sled merges about 16 values into a page, and a page of more than 128 KiB goes to a file of its own.
pub(super) const CHUNK_BYTES: usize = 4096;
pub(super) const ENTRIES: &str = "log.1";
pub(super) const MARKS: &str = "marks.1";
pub(super) const VOTE: &str = "vote";
pub(super) const COMMITTED: &str = "committed";
pub(super) const PURGED: &str = "purged";
pub(super) const IDENTITY: &str = "identity";

/// An entry, and the one before it.
type Chained = (Option<LogIdOf<TypeConfig>>, EntryOf<TypeConfig>);

#[derive(Clone)]
pub(super) struct EntryLog {
    entries: sled::Tree,
    marks: sled::Tree,
    flusher: Flusher,
    state: Arc<QuorumStateFile>,
    bounds: Arc<Mutex<Bounds>>,
    faults: Faults,
}

/// What is in the log, whatever the database says.
#[derive(Clone, Copy, Default)]
struct Bounds {
    purged: Option<LogIdOf<TypeConfig>>,
    /// Of the first entry; without meaning if there is none.
    first: u64,
    last: Option<LogIdOf<TypeConfig>>,
}

impl EntryLog {
    pub fn open(storage: &Storage) -> io::Result<EntryLog> {
        let (entries, marks) = (storage.tree(ENTRIES)?, storage.tree(MARKS)?);
        let (flusher, state, faults) = (storage.flusher(), storage.state(), storage.faults());
        let bounds = Arc::default();
        let log = EntryLog { entries, marks, flusher, state, bounds, faults };
        log.find_bounds()?;
        Ok(log)
    }

    fn find_bounds(&self) -> io::Result<()> {
        let purged: Option<LogIdOf<TypeConfig>> = self.mark(PURGED)?;
        // A purge that was cut off behind its mark has left entries below it: they are gone all the same.
        let begin = purged.map_or(0, |purged| purged.index.saturating_add(1));
        let mut rest = self.entries.range(key(begin, 0)..);
        let first = guarded(|| rest.next().transpose())?;
        let last = guarded(|| self.entries.last())?;
        let (first, last) = match (first, last) {
            (Some((first, _)), Some((last, _))) => {
                let last = index_of(&last)?;
                let read = self.read_within(last..=last)?.pop();
                let (_, entry) = read.ok_or_else(|| damage("the last entry is not there"))?;
                (index_of(&first)?, Some(entry.log_id()))
            }
            _ => (begin, purged),
        };
        *self.bounds() = Bounds { purged, first, last };
        self.state.change(|state| state.last = last);
        Ok(())
    }

    fn bounds(&self) -> std::sync::MutexGuard<'_, Bounds> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let found = guarded(|| self.marks.get(name))?;
        let read = found.map(|bytes| unseal(name.as_bytes(), &bytes)).transpose();
        read.map_err(|error| damage(format!("the {name} mark: {error}")))
    }

    fn set_mark<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let sealed = seal(name.as_bytes(), value)?;
        self.faults.note(guarded(|| self.marks.insert(name, sealed)).map(drop))
    }

    /// As a purge leaves it that is cut off after its mark.
    #[cfg(test)]
    pub fn mark_purged(&self, upto: LogIdOf<TypeConfig>) -> io::Result<()> {
        self.set_mark(PURGED, &upto)?;
        self.find_bounds()
    }

    /// Of the quorum this log belongs to; `None` if it has never had several voters.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        self.mark(IDENTITY)
    }

    pub async fn set_identity(&mut self, identity: &Identity) -> io::Result<()> {
        self.set_mark(IDENTITY, identity)?;
        self.state.change(|state| state.identity = Some(identity.clone()));
        self.flusher.flush().await
    }

    /// The higher of the two that are kept: a voter that gave one has written both.
    pub fn vote(&self) -> io::Result<Option<VoteOf<TypeConfig>>> {
        let vote: Option<VoteOf<TypeConfig>> = self.mark(VOTE)?;
        let known = self.state.wanted().vote;
        Ok(match (vote, known) {
            (Some(vote), Some(known)) if known > vote => Some(known),
            (vote, known) => vote.or(known),
        })
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> io::Result<bool> {
        let voted = self.mark::<VoteOf<TypeConfig>>(VOTE)?;
        Ok(self.bounds().last.is_none() && voted.is_none())
    }

    pub fn purged(&self) -> Option<LogIdOf<TypeConfig>> {
        self.bounds().purged
    }

    /// Looks at everything: that no entry is missing, that each follows the one before it, that the log reaches as far
    /// as it was durable, and that a snapshot up to `snapshot` stands for what is purged. Blocks.
    ///
    /// # Errors
    /// Damage.
    pub fn verify(
        &self,
        snapshot: Option<LogIdOf<TypeConfig>>,
        durable: Option<LogIdOf<TypeConfig>>,
    ) -> io::Result<()> {
        let Bounds { purged, last, .. } = *self.bounds();
        if purged > snapshot {
            return Err(damage(format!(
                "entries up to {purged:?} are gone, and no snapshot has them"
            )));
        }
        let begin = purged.map_or(0, |purged| purged.index + 1);
        let (mut before, mut next) = (purged, begin);
        let mut reached = durable <= snapshot || durable <= purged;
        if let Some(last) = last.filter(|last| last.index >= begin) {
            for (previous, entry) in self.read_within(begin..=last.index)? {
                let id = entry.log_id();
                if id.index != next || previous != before {
                    return Err(damage(format!("entry {next} is not the one that was written")));
                }
                reached |= durable == Some(id);
                (before, next) = (Some(id), id.index + 1);
            }
            if before != Some(last) {
                return Err(damage(format!("entry {next} is not there")));
            }
        }
        if !reached {
            return Err(damage(format!("it was durable up to {durable:?}, and ends at {last:?}")));
        }
        self.vote()?;
        self.identity()?;
        self.mark::<Option<LogIdOf<TypeConfig>>>(COMMITTED).map(drop)
    }

    /// Each entry for itself, in order.
    pub fn read_each(&self) -> Vec<io::Result<EntryOf<TypeConfig>>> {
        let chunks = self.entries.iter();
        let mut indexes: Vec<_> =
            chunks.map(|chunk| guarded(|| chunk).and_then(|(key, _)| index_of(&key))).collect();
        indexes.dedup_by(|a, b| matches!((a, b), (Ok(a), Ok(b)) if a == b));
        let entry = |index| {
            let missing = || damage(format!("entry {index} is not there"));
            Ok(self.read_within(index..=index)?.pop().ok_or_else(missing)?.1)
        };
        indexes.into_iter().map(|index| index.and_then(entry)).collect()
    }

    /// Whole entries of these indexes, in order, those that are there.
    fn read_within(&self, indexes: RangeInclusive<u64>) -> io::Result<Vec<Chained>> {
        let mut entries = Vec::new();
        let mut gathered: Option<(u64, Vec<u8>)> = None;
        let keys = key(*indexes.start(), 0)..=key(*indexes.end(), u32::MAX);
        let mut chunks = self.entries.range(keys);
        while let Some((key, bytes)) = guarded(|| chunks.next().transpose())? {
            let index = index_of(&key)?;
            match &mut gathered {
                Some((current, whole)) if *current == index => whole.extend_from_slice(&bytes),
                _ => {
                    if let Some((of, whole)) = gathered.replace((index, bytes.to_vec())) {
                        entries.push(unseal_entry(of, &whole)?);
                    }
                }
            }
        }
        if let Some((of, whole)) = gathered {
            entries.push(unseal_entry(of, &whole)?);
        }
        Ok(entries)
    }

    /// All entries of these indexes that the log has.
    fn read(&self, indexes: RangeInclusive<u64>) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        let Bounds { first, last, .. } = *self.bounds();
        let from = first.max(*indexes.start());
        let upto = last.map(|last| last.index.min(*indexes.end()));
        let read: Vec<_> = self.read_within(indexes)?.into_iter().map(|(_, entry)| entry).collect();
        let expected = upto.map_or(0, |upto| (upto + 1).saturating_sub(from));
        let there = read.iter().filter(|entry| entry.index() >= from);
        if (there.count() as u64) < expected {
            return Err(damage(format!("entries {from} to {upto:?} are not all there")));
        }
        Ok(read)
    }

    fn remove(&self, indexes: RangeInclusive<u64>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        let keys = key(*indexes.start(), 0)..=key(*indexes.end(), u32::MAX);
        let mut chunks = self.entries.range(keys);
        while let Some((key, _)) = guarded(|| chunks.next().transpose())? {
            batch.remove(key);
        }
        self.faults.note(guarded(|| self.entries.apply_batch(batch)))
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
            (Some(first), Some(last)) if first <= last => self.faults.note(self.read(first..=last)),
            _ => Ok(Vec::new()),
        }
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<TypeConfig>>> {
        self.faults.note(self.vote())
    }
}

impl RaftLogStorage<TypeConfig> for EntryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let Bounds { purged, last, .. } = *self.bounds();
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> io::Result<()> {
        self.set_mark(VOTE, vote)?;
        self.state.change(|state| {
            if state.vote < Some(*vote) {
                state.vote = Some(*vote);
            }
        });
        self.flusher.flush().await
    }

    /// A hint for the next start; it may be lost.
    async fn save_committed(&mut self, committed: Option<LogIdOf<TypeConfig>>) -> io::Result<()> {
        self.set_mark(COMMITTED, &committed)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<TypeConfig>>> {
        let committed = self.faults.note(self.mark::<Option<_>>(COMMITTED))?.flatten();
        // It is written without a flush, and may be there without what it speaks of.
        Ok(committed.min(self.bounds().last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = sled::Batch::default();
        let mut bounds = *self.bounds();
        for entry in entries {
            let id = entry.log_id();
            if bounds.last == bounds.purged {
                bounds.first = id.index;
            }
            insert(&mut batch, &(bounds.last, entry))?;
            bounds.last = Some(id);
        }
        self.faults.note(guarded(|| self.entries.apply_batch(batch)))?;
        *self.bounds() = bounds;
        self.state.change(|state| state.last = bounds.last);
        self.flusher.notify(callback)
    }

    /// That the log ends earlier is written down before it does.
    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> io::Result<()> {
        let last = {
            let mut bounds = self.bounds();
            bounds.last = bounds.last.min(last);
            bounds.last
        };
        self.state.change(|state| state.last = last);
        self.flusher.flush().await?;
        let first = last.map_or(0, |last| last.index + 1);
        self.remove(first..=u64::MAX)?;
        self.flusher.flush().await
    }

    /// The mark comes first: entries without it would look like a log with a hole.
    async fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> io::Result<()> {
        self.set_mark(PURGED, &upto)?;
        {
            let mut bounds = self.bounds();
            bounds.purged = Some(upto);
            bounds.first = upto.index + 1;
            bounds.last = bounds.last.max(Some(upto));
        }
        self.remove(0..=upto.index)?;
        self.state.change(|state| state.last = state.last.max(Some(upto)));
        self.flusher.flush().await
    }
}

/// An entry in chunks.
pub(super) fn insert(batch: &mut sled::Batch, chained: &Chained) -> io::Result<()> {
    let index = chained.1.index();
    let sealed = seal(&index.to_be_bytes(), chained)?;
    for (number, chunk) in (0..).zip(sealed.chunks(CHUNK_BYTES)) {
        batch.insert(&key(index, number), chunk);
    }
    Ok(())
}

fn unseal_entry(index: u64, sealed: &[u8]) -> io::Result<Chained> {
    let read: io::Result<Chained> = unseal(&index.to_be_bytes(), sealed);
    read.map_err(|error| damage(format!("entry {index}: {error}")))
}

pub(super) fn key(index: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(super) fn index_of(key: &[u8]) -> io::Result<u64> {
    let index = key.first_chunk().ok_or_else(|| damage("a malformed key in the log"))?;
    Ok(u64::from_be_bytes(*index))
}

pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(io::Error::other)
}
