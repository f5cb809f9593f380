//! Producer-state snapshots: bytes of the owner's, by the offset up to which they hold.
//!
//! A file is a CRC-32C (four bytes, little-endian) and the content, a `troupe.log.v1.ProducerSnapshot`. A
//! snapshot that is damaged or lost costs a longer replay, as long as nothing was deleted: what the deleted
//! batches said of their producers stands in snapshots only, so one from behind them is kept on disk for
//! good. One from beyond the log's end never survives, and one from before a gap is not used.

use crate::disk::Disk;
use crate::place::{Kind, is_unreadable};
use crate::{Log, LogError};
use bytes::Bytes;
use std::sync::Arc;
use troupe_proto::ids::Offset;

pub(crate) const CRC_LEN: usize = 4;
/// The newest, and one more should that be damaged.
const KEPT: usize = 2;

/// The content behind its checksum, if that holds.
pub(crate) fn unseal(file: Vec<u8>) -> Option<Bytes> {
    let content = Bytes::from(file);
    let stored = u32::from_le_bytes(*content.first_chunk()?);
    let content = content.slice(CRC_LEN..);
    (crc_fast::crc32_iscsi(&content) == stored).then_some(content)
}

fn seal(content: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(CRC_LEN + content.len());
    file.extend_from_slice(&crc_fast::crc32_iscsi(content).to_le_bytes());
    file.extend_from_slice(content);
    file
}

impl<D: Disk> Log<D> {
    /// Keeps what the owner knows of its producers at `offset`: the state that the records before it have
    /// led to. For when a segment was rolled, at that offset, when something was deleted, and before closing.
    /// Synced here if only it knows of what was deleted; by the next ticket if it is the first one of the
    /// segment that takes appends; else not: should it be lost, the owner replays from an older one.
    ///
    /// # Errors
    /// The file cannot be written; older snapshots stay.
    pub fn write_producer_snapshot(
        &mut self,
        offset: Offset,
        content: &[u8],
    ) -> Result<(), LogError> {
        self.check_writable()?;
        debug_assert!(offset <= self.end, "a snapshot of what is not in the log");
        if !self.presence.directory {
            return Ok(());
        }
        let deleted = self.start > Offset::ZERO;
        let alone = deleted && self.durable_snapshot.is_none_or(|kept| kept < self.start);
        let newest = self.snapshots.last().copied();
        let active = self.segments.back().map(|active| active.base);
        let first = newest.is_none_or(|newest| active.is_some_and(|base| newest < base));
        let name = Kind::Snapshot.name(offset);
        let file = self.place.replace(&name, &seal(content), alone)?;
        if let Err(at) = self.snapshots.binary_search(&offset) {
            self.snapshots.insert(at, offset);
        }
        if alone {
            self.place.sync_dir()?;
            self.durable_snapshot = Some(offset);
        } else if first {
            self.flushing.owe_snapshot(offset, self.place.path(&name), Arc::new(file));
            self.flushing.owe_dir(&self.place.dir);
        }
        self.remove_old_snapshots()
    }

    fn remove_old_snapshots(&mut self) -> Result<(), LogError> {
        while self.snapshots.len() > KEPT && self.durable_snapshot != Some(self.snapshots[0]) {
            self.place.remove(&Kind::Snapshot.name(self.snapshots[0]))?;
            self.snapshots.remove(0);
        }
        Ok(())
    }

    /// The newest snapshot that can be used, and the offset at which it holds. Damaged ones are removed. One
    /// is of no use if batches behind it are deleted: a producer that has sent one of those would be taken to
    /// be where it was before, and be refused for ever.
    ///
    /// # Errors
    /// The disk's.
    pub fn newest_producer_snapshot(&mut self) -> Result<Option<(Offset, Bytes)>, LogError> {
        self.load_newest_snapshot(&mut Vec::new())
    }

    /// Says what was removed or set aside.
    pub(crate) fn load_newest_snapshot(
        &mut self,
        notices: &mut Vec<String>,
    ) -> Result<Option<(Offset, Bytes)>, LogError> {
        let oldest = self.oldest();
        while let Some(offset) = self.snapshots.last().copied().filter(|offset| *offset >= oldest) {
            let name = Kind::Snapshot.name(offset);
            match self.place.read(&name) {
                Ok(content) => {
                    if let Some(content) = content.and_then(unseal) {
                        return Ok(Some((offset, content)));
                    }
                    let path = self.place.path(&name);
                    notices.push(format!("{} is damaged: removed", path.display()));
                    self.place.remove(&name)?;
                }
                Err(LogError::Io { source, .. }) if is_unreadable(&source) => {
                    notices.push(self.place.set_aside(&name, &source)?);
                }
                Err(error) => return Err(error),
            }
            self.snapshots.pop();
        }
        Ok(None)
    }

    /// Offsets of the snapshots at hand, ascending.
    pub fn producer_snapshots(&self) -> &[Offset] {
        &self.snapshots
    }

    /// Removes the snapshots of what is no longer in the log. The caller syncs the directory.
    pub(crate) fn remove_snapshots_above(&mut self, end: Offset) -> Result<(), LogError> {
        while let Some(offset) = self.snapshots.last().copied().filter(|offset| *offset > end) {
            self.place.remove(&Kind::Snapshot.name(offset))?;
            self.snapshots.pop();
        }
        self.durable_snapshot = self.durable_snapshot.filter(|offset| *offset <= end);
        Ok(())
    }
}
