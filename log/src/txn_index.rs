//! Which transactions were aborted, by segment: what readers of committed records leave out (X13).
//!
//! ```text
//! <base>.txnindex     |TXNI|version:4|  (producer id:8|first offset:8|last offset:8|CRC-32C:4) …     big-endian
//! ```
//!
//! An entry stands beside the segment that holds the transaction's marker, which is its last offset; entries are in the
//! order of their markers. The owner tells of each ([`Log::note_aborted`]) when it has appended the marker: the entry is
//! written at once, and synced with the flush that covers the marker. A log without aborted transactions has no such
//! file, and pays nothing.
//!
//! - `list`: the entries, in memory and in bytes. `batches`: what the batches themselves say, where the file does not.
//! - `found`: what becomes of the files when the log is opened.
//!
//! Promises: of all markers in the log, the index knows those that have aborted something, whatever was lost. What a
//! checkpoint has counted is missed; behind it, each marker that is found has to have its entry; and what is missing is
//! made again from the batches before the log is open. No entry is believed whose checksum does not hold.
//! Never here: which transactions are open.

mod batches;
mod found;
mod list;

pub(crate) use found::FoundAborted;
pub use list::VERSION;
pub(crate) use list::{ENTRY, HEADER, List, count_in, decode_entry};

use crate::disk::{Disk, write_all_at};
use crate::place::{Kind, Place, is_unreadable};
use crate::{Log, LogError};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use troupe_proto::ids::{Offset, ProducerId};

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aborted {
    pub producer_id: ProducerId,
    /// Where its first batch begins.
    pub first_offset: Offset,
    /// Of its marker.
    pub last_offset: Offset,
}

/// The index of one segment, which has an entry at least.
pub(crate) struct TxnIndex<D: Disk> {
    base: Offset,
    count: usize,
    /// Where the earliest of its transactions begins.
    earliest: Offset,
    /// Read when somebody asks.
    list: OnceLock<List>,
    /// Open as long as entries come.
    file: Option<Arc<D::File>>,
    /// The file does not hold what the list does.
    behind: bool,
    /// The file was found not to hold what was written to it.
    wrong: AtomicBool,
}

impl<D: Disk> TxnIndex<D> {
    /// As it is in its file, or is to be there.
    pub(crate) fn of(base: Offset, list: List, behind: bool) -> Self {
        let mut index = TxnIndex {
            base,
            count: 0,
            earliest: Offset::ZERO,
            list: OnceLock::from(list),
            file: None,
            behind,
            wrong: AtomicBool::new(false),
        };
        index.recount();
        index
    }

    /// Entries.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn recount(&mut self) {
        let Some(list) = self.list.get() else { return };
        self.count = list.len();
        self.earliest = list.earliest().unwrap_or_default();
    }

    /// Memory and descriptor; they come back when needed.
    pub(crate) fn release(&mut self) {
        self.file = None;
        if !self.behind {
            self.list.take();
        }
    }

    fn name(&self) -> String {
        Kind::TxnIndex.name(self.base)
    }

    /// As it is in the file; `None` if that does not hold what was written.
    fn read(&self, place: &Place<D>) -> Result<Option<List>, LogError> {
        let content = match place.read(&self.name()) {
            Err(LogError::Io { source, .. }) if is_unreadable(&source) => None,
            content => content?,
        };
        let found = content.map(|content| List::decode(self.base, &content));
        Ok(found.filter(|(list, whole)| *whole && list.len() == self.count).map(|(list, _)| list))
    }

    /// The last entry of the list goes to the file's end; whether the file is new.
    fn write_last(&mut self, place: &Place<D>) -> Result<bool, LogError> {
        let Some(list) = self.list.get() else { return Ok(false) };
        let path = place.path(&self.name());
        let (position, bytes) = list.encode_last(self.base);
        let is_new = position == 0;
        let mut write = || -> io::Result<()> {
            let file = match &self.file {
                Some(file) => file,
                None if is_new => self.file.insert(Arc::new(place.disk.create(&path)?)),
                None => self.file.insert(Arc::new(place.disk.open(&path)?)),
            };
            write_all_at(file.as_ref(), position, &mut [IoSlice::new(&bytes)])
        };
        write().map_err(|error| LogError::io("write", &path, error))?;
        Ok(is_new)
    }

    /// The whole file anew, durably but for its name.
    fn rewrite(&mut self, place: &Place<D>) -> Result<(), LogError> {
        let Some(list) = self.list.get() else { return Ok(()) };
        self.file = None;
        place.replace(&self.name(), &list.encode(self.base), true)?;
        self.behind = false;
        self.wrong = AtomicBool::new(false);
        Ok(())
    }
}

impl<D: Disk> Log<D> {
    /// A transaction was aborted whose marker is in the log. In the order of the markers; one that is known already is
    /// fine. For when the marker was appended, before the flush that is to cover it is begun, and for who replays.
    ///
    /// # Errors
    /// It is not in the file. [`Log::aborted`] knows it all the same, and so does whoever opens the log anew.
    pub fn note_aborted(&mut self, aborted: Aborted) -> Result<(), LogError> {
        self.check_writable()?;
        let marker = aborted.last_offset;
        debug_assert!(marker < self.end, "the marker of a transaction is not in the log");
        let Some(at) = self.segment_of(marker).filter(|_| marker < self.end) else {
            return Ok(());
        };
        let is_flushed = marker < self.flushed_end();
        let base = self.segments[at].base;
        if let Some(index) = self.aborted.get(&base)
            && self.list_of(index)?.has(marker)
        {
            return Ok(());
        }
        let fresh = || TxnIndex::of(base, List::default(), false);
        let index = self.aborted.entry(base).or_insert_with(fresh);
        let Some(list) = index.list.get_mut() else { return Ok(()) };
        let is_last = list.push(aborted);
        if !is_last {
            list.merge(vec![aborted]);
        }
        index.recount();
        if is_flushed || !is_last || index.behind || at + 1 < self.segments.len() {
            // of a marker that nobody flushes any more, or out of order
            index.behind = true;
            self.presence.checkpoint = None;
            return self.write_aborted();
        }
        match index.write_last(&self.place) {
            Ok(is_new) => {
                let file = index.file.clone();
                let path = self.place.path(&index.name());
                file.into_iter().for_each(|file| self.flushing.owe_again(&path, file));
                if is_new {
                    self.flushing.owe_dir(&self.place.dir);
                }
                Ok(())
            }
            Err(error) => {
                index.behind = true;
                Err(error)
            }
        }
    }

    /// All aborted transactions of which something lies from `from` on, and something below `to`; in the order of their
    /// markers, which may lie higher. Two searches by halves, and the entries that are found.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn aborted(&self, from: Offset, to: Offset) -> Result<Vec<Aborted>, LogError> {
        let mut found = Vec::new();
        let first = self.segment_of(from).map_or(from, |at| self.segments[at].base);
        for (_, index) in self.aborted.range(first..) {
            if index.earliest < to {
                self.list_of(index)?.overlapping(from, to, &mut found);
            }
        }
        Ok(found)
    }

    /// Where the file is no good, the batches tell.
    fn list_of<'a>(&self, index: &'a TxnIndex<D>) -> Result<&'a List, LogError> {
        if index.list.get().is_none() {
            let list = match index.read(&self.place)? {
                Some(list) => list,
                None => {
                    index.wrong.store(true, Ordering::Relaxed);
                    self.list_from_batches(index.base)?
                }
            };
            let _already_set = index.list.set(list);
        }
        Ok(index.list.get().expect("just set"))
    }

    /// How many entries each segment has, of markers below this place.
    pub(crate) fn count_aborted(&self, segment: Offset, end: Offset) -> Vec<(Offset, u64)> {
        let known = self.aborted.range(..=segment);
        let count = |(base, index): (&Offset, &TxnIndex<D>)| {
            let list = if *base == segment { self.list_of(index).ok() } else { None };
            let count = list.map_or(index.count, |list| list.below(end));
            (count > 0).then_some((*base, count as u64))
        };
        known.filter_map(count).collect()
    }

    /// Several at once, in whatever order, durably.
    pub(crate) fn put_aborted(&mut self, entries: Vec<Aborted>) -> Result<(), LogError> {
        self.merge_aborted(entries)?;
        self.write_aborted()
    }

    /// The same in memory.
    fn merge_aborted(&mut self, entries: Vec<Aborted>) -> Result<(), LogError> {
        let mut by_segment: BTreeMap<Offset, Vec<Aborted>> = BTreeMap::new();
        for entry in entries {
            let at = self.segment_of(entry.last_offset).filter(|_| entry.last_offset < self.end);
            let Some(at) = at else { continue };
            by_segment.entry(self.segments[at].base).or_default().push(entry);
        }
        for (base, entries) in by_segment {
            if let Some(index) = self.aborted.get(&base) {
                self.list_of(index)?;
            }
            let fresh = || TxnIndex::of(base, List::default(), false);
            let index = self.aborted.entry(base).or_insert_with(fresh);
            if let Some(list) = index.list.get_mut() {
                index.behind |= list.merge(entries);
            }
            index.recount();
        }
        Ok(())
    }

    /// Files that lack something are written anew, durably.
    pub(crate) fn write_aborted(&mut self) -> Result<(), LogError> {
        let mut wrote = false;
        for index in self.aborted.values_mut().filter(|index| index.behind) {
            index.rewrite(&self.place)?;
            wrote = true;
        }
        if wrote { self.place.sync_dir() } else { Ok(()) }
    }

    /// The segment takes no more appends.
    pub(crate) fn seal_aborted(&mut self, base: Offset) {
        if let Some(index) = self.aborted.get_mut(&base) {
            index.release();
        }
    }

    /// Before the log is cut at `end`, durably: what comes there next is no transaction of before. Interrupted, markers
    /// that are still there are found without an entry.
    pub(crate) fn cut_aborted(&mut self, base: Offset, end: Offset) -> Result<(), LogError> {
        let Some(index) = self.aborted.get(&base) else { return Ok(()) };
        self.list_of(index)?;
        let Some(index) = self.aborted.get_mut(&base) else { return Ok(()) };
        let Some(list) = index.list.get_mut().filter(|list| list.below(end) < list.len()) else {
            return Ok(());
        };
        list.truncate(end);
        index.recount();
        if index.count == 0 {
            return self.remove_aborted(base);
        }
        index.behind = true;
        self.write_aborted()
    }

    /// With its segment.
    pub(crate) fn remove_aborted(&mut self, base: Offset) -> Result<(), LogError> {
        match self.aborted.remove(&base) {
            Some(index) => self.place.remove(&index.name()),
            None => Ok(()),
        }
    }

    /// The segments whose index was found to be wrong.
    pub(crate) fn wrong_aborted(&self) -> impl Iterator<Item = Offset> {
        let wrong = self.aborted.values().filter(|index| index.wrong.load(Ordering::Relaxed));
        wrong.map(|index| index.base)
    }

    /// The index of a segment is written anew, from the batches if its file is no good.
    pub(crate) fn mend_aborted(&mut self, base: Offset) -> Result<(), LogError> {
        let Some(index) = self.aborted.get(&base) else { return Ok(()) };
        if !index.wrong.load(Ordering::Relaxed) && index.read(&self.place)?.is_some() {
            return Ok(());
        }
        self.list_of(index)?;
        if let Some(index) = self.aborted.get_mut(&base) {
            index.behind = true;
            index.recount();
        }
        self.presence.checkpoint = None;
        self.write_aborted()
    }
}
