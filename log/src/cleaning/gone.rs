//! Below where tombstones are gone from a log: what those have to know who are filled from it, or go on to fill it.
//!
//! Stands in a file of its own, and is there before what it speaks of: a record that comes, a tombstone that goes. Promise,
//! of a log that says so of an offset: each tombstone that is missing and would delete the last value of its key lies
//! below; and of what the log has, nothing is superseded by any record below. It may lie behind the log's end, where the
//! log is filled from one that says the same.

use crate::checkpoint;
use crate::disk::Disk;
use crate::{Log, LogError};
use troupe_proto::ids::Offset;

/// In a log of an earlier version, or that no tombstone has gone from, there is no file. One that is damaged says that
/// all may be gone that a pass has seen.
pub(crate) fn found(content: Option<&[u8]>, first_dirty: Offset) -> Offset {
    content.map_or(Offset::ZERO, |content| decode(content).unwrap_or(first_dirty))
}

pub(crate) fn encode(below: Offset) -> Vec<u8> {
    checkpoint::seal(&format!("tombstones_gone_below {below}\n"))
}

fn decode(content: &[u8]) -> Option<Offset> {
    checkpoint::number(checkpoint::unseal(content)?, "tombstones_gone_below").map(Offset)
}

impl<D: Disk> Log<D> {
    /// See the module.
    pub fn tombstones_gone_below(&self) -> Offset {
        self.tombstones_gone_below
    }

    /// Before the log is filled on from its end, durably. A pass under way is of no use any more.
    ///
    /// # Errors
    /// Errors of the disk: nothing has changed.
    pub fn note_tombstones_gone(&mut self, below: Offset) -> Result<(), LogError> {
        self.check_writable()?;
        self.make_directory()?;
        self.write_tombstones_gone(below)?;
        self.tombstones_gone_below = below;
        self.tombstones_gone_changed = false;
        Ok(())
    }

    fn write_tombstones_gone(&self, below: Offset) -> Result<(), LogError> {
        // its list would bring back what it was made with
        self.overtake_cleaning(Offset::ZERO)?;
        self.place.replace(checkpoint::TOMBSTONES_GONE, &encode(below), true)?;
        self.place.sync_dir()
    }

    /// The log ends here and goes on otherwise than it did: of what comes, nothing is known. It reaches the file before
    /// the first batch does.
    pub(crate) fn cut_tombstones_gone(&mut self, end: Offset) {
        if self.tombstones_gone_below > end {
            self.tombstones_gone_below = end;
            self.tombstones_gone_changed = true;
        }
    }

    /// Before a batch is written.
    pub(crate) fn settle_tombstones_gone(&mut self) -> Result<(), LogError> {
        if self.tombstones_gone_changed {
            self.write_tombstones_gone(self.tombstones_gone_below)?;
            self.tombstones_gone_changed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_reads_as_it_was_written_and_a_damaged_file_says_that_all_is_that_a_pass_has_seen()
     {
        let (content, first_dirty) = (encode(Offset(9)), Offset(20));
        assert_eq!(found(Some(&content), first_dirty), Offset(9));
        for len in 0..content.len() {
            assert_eq!(found(Some(&content[..len]), first_dirty), first_dirty);
        }
        assert_eq!(found(None, first_dirty), Offset::ZERO);
    }
}
