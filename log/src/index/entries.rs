//! Entries of a fixed width, in memory or mapped, and how they reach their file.

use crate::disk::{Disk, DiskFile, write_all_at};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::path::Path;

/// So many entries, and their checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntriesMark {
    pub(crate) count: u64,
    pub(crate) crc: u32,
}

impl EntriesMark {
    /// The entries that this mark vouches for, if the file still holds them.
    pub(crate) fn check<'a, const N: usize>(&self, content: &'a [u8]) -> Option<&'a [u8]> {
        let len = usize::try_from(self.count).ok()?.checked_mul(N)?;
        let entries = content.get(..len)?;
        (crc_fast::crc32_iscsi(entries) == self.crc).then_some(entries)
    }
}

/// A row of `N`-byte entries.
#[derive(Debug)]
pub(crate) struct Entries<const N: usize> {
    bytes: Store,
    /// Bytes that already stand in the file.
    persisted: usize,
    /// The file may hold more than that, which no longer counts.
    stale: bool,
    /// What was written last nobody was told to sync.
    unsynced: bool,
}

#[derive(Debug)]
enum Store {
    Growing(Vec<u8>),
    Closed(Bytes),
}

impl<const N: usize> Entries<N> {
    pub(crate) fn empty() -> Self {
        Entries { bytes: Store::Growing(Vec::new()), persisted: 0, stale: false, unsynced: false }
    }

    /// `None` if the length is no multiple of an entry's.
    pub(crate) fn from_bytes(bytes: Bytes) -> Option<Self> {
        let persisted = bytes.len();
        let is_whole = persisted.is_multiple_of(N);
        let bytes = Store::Closed(bytes);
        is_whole.then_some(Entries { bytes, persisted, stale: false, unsynced: false })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Store::Growing(bytes) => bytes,
            Store::Closed(bytes) => bytes,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.bytes().len() / N
    }

    pub(crate) fn get(&self, index: usize) -> Option<&[u8; N]> {
        self.bytes().as_chunks().0.get(index)
    }

    pub(crate) fn all(&self) -> &[[u8; N]] {
        self.bytes().as_chunks().0
    }

    pub(crate) fn grow(&mut self) {
        if let Store::Closed(bytes) = &self.bytes {
            self.bytes = Store::Growing(bytes.to_vec());
        }
    }

    /// # Panics
    /// On entries that are not growing: only the segment that takes appends gets new ones.
    pub(crate) fn push(&mut self, entry: [u8; N]) {
        match &mut self.bytes {
            Store::Growing(bytes) => bytes.extend_from_slice(&entry),
            Store::Closed(_) => panic!("an entry for a closed segment"),
        }
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.grow();
        if let Store::Growing(bytes) = &mut self.bytes {
            bytes.truncate(count * N);
            self.stale |= self.persisted > bytes.len();
            self.persisted = self.persisted.min(bytes.len());
        }
    }

    /// The file may hold more than these entries.
    pub(crate) fn set_stale(&mut self) {
        self.stale = true;
    }

    pub(crate) fn mark(&self, count: usize) -> EntriesMark {
        let crc = crc_fast::crc32_iscsi(&self.bytes()[..count * N]);
        EntriesMark { count: count as u64, crc }
    }

    /// Brings the file up to date; it then holds exactly these entries. Not synced: of a segment that is `closing`,
    /// whoever gets the file is to do that, since nothing vouches for its entries afterwards. Without entries there
    /// need be no file until then.
    pub(crate) fn persist<D: Disk>(
        &mut self,
        disk: &D,
        path: &Path,
        closing: bool,
    ) -> io::Result<Option<D::File>> {
        let bytes = self.bytes();
        let is_current = self.persisted == bytes.len() && !self.stale;
        if is_current && (!closing || !bytes.is_empty() && !self.unsynced) {
            return Ok(None);
        }
        let file = if self.persisted == 0 { disk.create(path)? } else { disk.open(path)? };
        let new = &bytes[self.persisted..];
        write_all_at(&file, self.persisted as u64, &mut [IoSlice::new(new)])?;
        if self.stale {
            file.truncate(bytes.len() as u64)?;
        }
        self.persisted = bytes.len();
        self.stale = false;
        self.unsynced = !closing;
        Ok(Some(file))
    }
}
