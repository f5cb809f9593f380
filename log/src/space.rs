//! A little space that a full disk leaves to what has to be written all the same: the metadata log, which is what
//! a node starts from, and by which retention is lowered.
//!
//! A file of the data directory holds it while nobody needs it, and is removed when there is nothing else left.
//! From then on the disk is *low*: records are refused, so that they do not take what was meant for others, until
//! there is room again and the file stands there again.

use crate::disk::Disk;
use crate::disk::FileDisk;
use crate::disk::injected;
use crate::retention::DELETED;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = ".reserve";
/// What is kept.
const RESERVE: u64 = 2 << 20;
/// With less room than this, what is kept is given away.
const LOW: u64 = 512 << 10;
/// With so much more room than what is kept, it is kept again.
const AMPLE: u64 = 2 << 20;

/// See the module. Serves all threads.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    low: AtomicBool,
}

impl Space {
    /// Of this data directory. Makes what is kept, if there is room for it.
    pub fn open(dir: &Path) -> Space {
        let space = Space { dir: dir.to_owned(), low: AtomicBool::new(false) };
        space.look();
        space
    }

    /// What is kept was given away, and there is not much room yet.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Before something is written that must not fail for want of space. True: what was kept has been given away
    /// for that just now.
    pub fn make_room(&self) -> bool {
        if self.free().is_none_or(|free| free >= LOW) {
            return false;
        }
        self.low.store(true, Ordering::Relaxed);
        fs::remove_file(self.dir.join(FILE)).is_ok()
    }

    /// Once in a while: keeps again what was given away, as soon as there is ample room. True: records are taken
    /// again.
    pub fn look(&self) -> bool {
        let path = self.dir.join(FILE);
        let kept = fs::metadata(&path).is_ok_and(|found| found.len() >= RESERVE);
        if !kept {
            if self.free().is_none_or(|free| free < RESERVE + AMPLE) {
                return false;
            }
            // With so much room records are taken, even if nothing can be kept for harder times.
            let _ = fill(&path);
        }
        self.low.swap(false, Ordering::Relaxed)
    }

    /// For a start without room: empties what retention has deleted already. The names stay: they tell the logs
    /// that nothing has vanished.
    pub fn clear_deleted(dir: &Path) {
        for partition in entries(dir) {
            for file in entries(&partition) {
                let is_deleted = file.to_str().is_some_and(|name| name.ends_with(DELETED));
                if is_deleted && let Ok(file) = OpenOptions::new().write(true).open(&file) {
                    // What cannot be emptied takes its space as before.
                    let _ = file.set_len(0);
                }
            }
        }
    }

    /// Bytes that this process may still write; `None` if the file system does not say.
    fn free(&self) -> Option<u64> {
        volume_of(&self.dir).map(|volume| volume.usable_bytes)
    }
}

/// A file system, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    pub total_bytes: u64,
    /// What this process may still write.
    pub usable_bytes: u64,
    pub read_only: bool,
}

/// That of a path; `None` if it does not say.
pub(crate) fn volume_of(path: &Path) -> Option<Volume> {
    let is_full = injected::is_full(path);
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all-zero is a value of this struct of numbers.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a string that lives across the call, and the struct is ours to write.
    if unsafe { libc::statvfs(path.as_ptr(), &mut found) } != 0 {
        return None;
    }
    Some(Volume {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        usable_bytes: match is_full {
            true => 0,
            false => found.f_bavail.saturating_mul(found.f_frsize),
        },
        read_only: found.f_flag & libc::ST_RDONLY != 0,
    })
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let names = FileDisk.list(dir).ok().flatten().unwrap_or_default();
    names.into_iter().map(|name| dir.join(name)).collect()
}

/// Takes the space for good, where the file system can promise that.
fn fill(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let len = libc::off_t::try_from(RESERVE).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open.
    let filled = match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        libc::EOPNOTSUPP | libc::EINVAL | libc::ENODEV | libc::ENOSYS => write_zeros(&file),
        error => Err(io::Error::from_raw_os_error(error)),
    };
    if filled.is_err() {
        drop(file);
        // Half of it helps nobody.
        let _ = fs::remove_file(path);
    }
    filled
}

/// Where the file system promises no space, it has to be taken.
fn write_zeros(file: &File) -> io::Result<()> {
    let zeros = vec![0; RESERVE as usize];
    crate::disk::write_all_at(file, 0, &mut [io::IoSlice::new(&zeros)])?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stands_there_as_long_as_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::open(dir.path());
        let kept = || fs::metadata(dir.path().join(FILE)).map(|found| found.len()).ok();
        assert!(!space.is_low());
        assert_eq!(kept(), Some(RESERVE));
        assert!(!space.make_room(), "there is room");
        // as if it had been given away
        space.low.store(true, Ordering::Relaxed);
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(space.look() && !space.is_low());
        assert_eq!(kept(), Some(RESERVE));
    }

    #[test]
    fn records_are_taken_again_where_no_space_can_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        // nothing can be kept under this name
        fs::create_dir(dir.path().join(FILE)).unwrap();
        let space = Space::open(dir.path());
        space.low.store(true, Ordering::Relaxed);
        assert!(space.look() && !space.is_low());
    }

    #[test]
    fn space_is_taken_by_writing_where_it_is_not_promised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        write_zeros(&File::create(&path).unwrap()).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.len(), RESERVE);
        assert!(std::os::unix::fs::MetadataExt::blocks(&found) * 512 >= RESERVE);
    }

    #[test]
    fn what_retention_deleted_is_emptied_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let partition = dir.path().join("a-0");
        fs::create_dir(&partition).unwrap();
        for name in ["0.log", "0.log.deleted"] {
            fs::write(partition.join(name), "records").unwrap();
        }
        Space::clear_deleted(dir.path());
        assert_eq!(fs::metadata(partition.join("0.log")).unwrap().len(), 7);
        assert_eq!(fs::metadata(partition.join("0.log.deleted")).unwrap().len(), 0);
    }
}
