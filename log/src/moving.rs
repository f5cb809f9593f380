//! A copy of a log in another directory of the same node: built beside the log while that serves, and made complete
//! when next to nothing is lacking.
//!
//! Batches are taken as a follower takes them from its leader, so that a copy is a log like any other wherever it is
//! interrupted. What the batches do not tell is added at the end. Never here: when the copy takes the log's place.

use crate::disk::Disk;
use crate::{Log, LogConfig, LogError};
use std::path::PathBuf;
use troupe_proto::ids::{Offset, PartitionKey};

/// What is read at once for the end of a copy.
const PIECE: usize = 1 << 20;

impl<D: Disk> Log<D> {
    /// An empty copy in `dir`, whose first batch is to be the one that holds `start`.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn begin_copy(
        disk: D,
        dir: PathBuf,
        key: PartitionKey,
        config: LogConfig,
        (start, now_ms): (Offset, i64),
    ) -> Result<Log<D>, LogError> {
        let (mut copy, _) = Log::open(disk, dir, key, config, now_ms)?;
        copy.make_directory()?;
        if start > Offset::ZERO {
            copy.truncate_fully_and_start_at(start)?;
        }
        Ok(copy)
    }

    /// Adds to a copy what it still lacks of this log, and closes it. Afterwards it is durable, and opens as this log
    /// would: the same batches, leader epochs and start, cleaned as far, with this snapshot of its producers.
    ///
    /// # Errors
    /// Errors of either disk; [`LogError::NotNext`] if the log does not give out all that it has. It is as it was.
    pub fn complete_copy(
        &self,
        mut copy: Log<D>,
        high_watermark: Offset,
        producers: &[u8],
        now_ms: i64,
    ) -> Result<(), LogError> {
        if copy.end < self.start {
            // All that it has was deleted meanwhile.
            copy.truncate_fully_and_start_at(self.start)?;
        }
        while copy.end < self.end {
            let rest = self.read_copy(copy.end, self.end, PIECE)?;
            if rest.is_empty() {
                break;
            }
            copy.append_frames(rest.bytes, now_ms)?;
        }
        if copy.end != self.end {
            return Err(LogError::NotNext { expected: self.end, given: copy.end });
        }
        if copy.start < self.start {
            for removal in copy.set_log_start(self.start)? {
                removal.run()?;
            }
        }
        copy.epochs = self.epochs.clone();
        copy.epochs_changed = true;
        copy.write_epochs()?;
        copy.put_aborted(self.aborted(copy.oldest(), self.end)?)?;
        copy.flush()?;
        copy.write_producer_snapshot(copy.end, producers)?;
        if self.cleaned_below > Offset::ZERO {
            copy.tombstones = self.tombstones;
            copy.write_cleaned_below(self.cleaned_below)?;
        }
        if self.tombstones_gone_below != copy.tombstones_gone_below {
            copy.note_tombstones_gone(self.tombstones_gone_below)?;
        }
        // The original goes: nothing of this may be lost that is not lost with a log.
        copy.write_down(high_watermark, true)?;
        copy.sync_owed()?;
        copy.place.sync_dir()
    }

    /// This one, which was a copy, is the log from now on: it knows of the leader epoch that has no batch yet, and
    /// tickets of the original that are on their way prove nothing of its files.
    pub fn take_place_of(&mut self, original: &Log<D>) {
        self.flushing.generation = original.flushing.generation + 1;
        self.epochs_changed = self.epochs != original.epochs;
        self.epochs = original.epochs.clone();
    }
}
