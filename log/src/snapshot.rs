//! Producer-state snapshots: bytes of the owner's, by the offset up to which they hold.
//!
//! A file is a CRC-32C (four bytes, little-endian) and the content, a `troupe.log.v1.ProducerSnapshot`. A
//! snapshot that is damaged or lost costs a longer replay; one from beyond the log's end never survives.

use crate::disk::Disk;
use crate::place::{Kind, Place};
use crate::{Log, LogError};
use bytes::Bytes;
use troupe_proto::ids::Offset;

const CRC_LEN: usize = 4;
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

/// The newest usable one of `snapshots`, which ascend; damaged ones are removed from disk and list.
pub(crate) fn load_newest<D: Disk>(
    place: &Place<D>,
    snapshots: &mut Vec<Offset>,
) -> Result<Option<(Offset, Bytes)>, LogError> {
    while let Some(offset) = snapshots.last().copied() {
        let name = Kind::Snapshot.name(offset);
        if let Some(content) = place.read(&name)?.and_then(unseal) {
            return Ok(Some((offset, content)));
        }
        place.remove(&name)?;
        snapshots.pop();
    }
    Ok(None)
}

impl<D: Disk> Log<D> {
    /// Keeps what the owner knows of its producers at `offset`: the state that the records before it have
    /// led to. For when a segment was rolled, at that offset, and before closing. Not synced: should it be
    /// lost, the owner replays from an older one.
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
        self.place.replace(&Kind::Snapshot.name(offset), &seal(content), false)?;
        if let Err(at) = self.snapshots.binary_search(&offset) {
            self.snapshots.insert(at, offset);
        }
        while self.snapshots.len() > KEPT {
            self.place.remove(&Kind::Snapshot.name(self.snapshots[0]))?;
            self.snapshots.remove(0);
        }
        Ok(())
    }

    /// The newest snapshot that can be read, and the offset at which it holds. Damaged ones are removed.
    ///
    /// # Errors
    /// The disk's.
    pub fn newest_producer_snapshot(&mut self) -> Result<Option<(Offset, Bytes)>, LogError> {
        load_newest(&self.place, &mut self.snapshots)
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
        Ok(())
    }
}
