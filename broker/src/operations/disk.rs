//! The disks that the node's directories are on: whether appends are taken, for how long still, and which are away.

use crate::clock::now;
use crate::metrics::DiskFull;
use crate::partition::Volumes;

/// With less than this no append is taken: what is left is kept for the metadata log.
const DISK_FULL_BYTES: u64 = 512 << 10;
/// Refusals for want of space count for so long: whoever appends tries again sooner.
const DISK_FULL_MS: u64 = 60_000;
/// With less than this the next segment may not fit. Appends go on until there is next to nothing.
const DISK_LOW_BYTES: u64 = 64 << 20;

/// How a node is off for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// So many bytes are left.
    Low(u64),
    /// Appends are, or were a moment ago, refused.
    None,
}

pub struct Disk {
    volumes: Volumes,
    refusals: DiskFull,
}

impl Disk {
    pub fn new(volumes: Volumes, refusals: DiskFull) -> Self {
        Self { volumes, refusals }
    }

    pub fn room(&self) -> Room {
        let refused = self.refusals.last();
        let refuses = refused.is_some_and(|at| now().0.saturating_sub(at.0) < DISK_FULL_MS);
        room_of(refuses, self.free_bytes())
    }

    /// What this process may use on the fullest of them. `None`: none says so.
    pub fn free_bytes(&self) -> Option<u64> {
        self.volumes.free_bytes()
    }

    /// Directories that have failed, or could not be opened: where they are, and why.
    pub fn offline(&self) -> Vec<String> {
        self.volumes.offline()
    }
}

/// Who does not say what is free has enough, until something is refused.
fn room_of(refuses: bool, free: Option<u64>) -> Room {
    match free {
        _ if refuses => Room::None,
        Some(free) if free < DISK_FULL_BYTES => Room::None,
        Some(free) if free < DISK_LOW_BYTES => Room::Low(free),
        Some(_) | None => Room::Enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left still takes records.
    #[test]
    fn a_disk_is_full_when_appends_are_refused_and_low_before() {
        let few = DISK_LOW_BYTES - 1;
        assert_eq!(room_of(false, Some(few)), Room::Low(few));
        assert_eq!(room_of(false, Some(DISK_FULL_BYTES - 1)), Room::None, "nobody has tried");
        assert_eq!(room_of(true, Some(few)), Room::None);
        assert_eq!(room_of(true, Some(DISK_LOW_BYTES)), Room::None);
        assert_eq!(room_of(false, Some(DISK_LOW_BYTES)), Room::Enough);
        assert_eq!(room_of(false, None), Room::Enough);
    }
}
