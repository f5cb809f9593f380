//! Faults of a disk that somebody has asked for: its flushes take long, hang or fail, or there is no room on it.
//!
//! ```text
//! FileDisk ──► flush, write, create ──► is any fault injected? ──no──► the system
//!                                             └─yes─► is it of the directory that the file is in?
//! ```
//!
//! Owns the table of what is injected in this process. Promises: as long as there is nothing in it, each flush, write
//! and creation costs one relaxed load more; a fault is over when its [`InjectedFault`] is dropped, and whoever it had
//! held goes on at once.
//! Never here: for how long, or why. What is read is never touched: a slow or full disk has most of it in memory too.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the disk of a directory is ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Each flush takes so much longer.
    Slow(Duration),
    /// No flush comes back.
    Hung,
    /// Nothing can be written or created: ENOSPC.
    Full,
    /// Each flush fails: EIO. What it should have made durable is where it was.
    FsyncError,
}

/// Whether the table has entries.
static ANY: AtomicBool = AtomicBool::new(false);
static TABLE: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Entry {
    /// Where links lead.
    dir: PathBuf,
    fault: DiskFault,
    hits: AtomicU64,
    over: Mutex<bool>,
    ends: Condvar,
}

impl Entry {
    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Until the fault is over, or so long. None: until it is over.
    fn hold(&self, longest: Option<Duration>) {
        let over = lock(&self.over);
        match longest {
            Some(longest) => {
                drop(self.ends.wait_timeout_while(over, longest, |over| !*over));
            }
            None => drop(self.ends.wait_while(over, |over| !*over)),
        }
    }
}

/// A fault that lasts as long as this.
#[derive(Debug)]
pub struct InjectedFault(Arc<Entry>);

impl InjectedFault {
    /// Of everything in a directory, also of what is open already.
    ///
    /// # Errors
    /// There is no such directory, or this system does not tell where an open file is.
    pub fn new(dir: &Path, fault: DiskFault) -> io::Result<InjectedFault> {
        path_of(&File::open(dir)?)?;
        let entry = Arc::new(Entry {
            dir: dir.canonicalize()?,
            fault,
            hits: AtomicU64::new(0),
            over: Mutex::new(false),
            ends: Condvar::new(),
        });
        let mut table = lock(&TABLE);
        table.push(Arc::clone(&entry));
        ANY.store(true, Ordering::Relaxed);
        Ok(InjectedFault(entry))
    }

    /// Flushes and writes that it has held or failed.
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Relaxed)
    }
}

impl Drop for InjectedFault {
    fn drop(&mut self) {
        let mut table = lock(&TABLE);
        table.retain(|entry| !Arc::ptr_eq(entry, &self.0));
        ANY.store(!table.is_empty(), Ordering::Relaxed);
        drop(table);
        *lock(&self.0.over) = true;
        self.0.ends.notify_all();
    }
}

/// Nothing that is done under these locks can leave anything half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Before an open file, or a directory, is made durable.
#[inline]
pub(crate) fn before_flush(file: &File) -> io::Result<()> {
    if ANY.load(Ordering::Relaxed) { flush(&path_of(file)?) } else { Ok(()) }
}

/// Before something is written into an open file.
#[inline]
pub(crate) fn before_write(file: &File) -> io::Result<()> {
    if ANY.load(Ordering::Relaxed) { write(&path_of(file)?) } else { Ok(()) }
}

/// Before a file or directory is made there.
#[inline]
pub(crate) fn before_create(path: &Path) -> io::Result<()> {
    if !ANY.load(Ordering::Relaxed) {
        return Ok(());
    }
    match path.parent().map(Path::canonicalize) {
        Some(Ok(parent)) => write(&parent),
        // Whoever makes it will find out why not.
        Some(Err(_)) | None => Ok(()),
    }
}

/// For what is made durable in a directory by other means than [`FileDisk`](super::FileDisk): waits as a flush of it
/// would, and fails as one.
///
/// # Errors
/// [`DiskFault::FsyncError`]'s.
pub fn before_other_flush(dir: &Path) -> io::Result<()> {
    match ANY.load(Ordering::Relaxed).then(|| dir.canonicalize()) {
        Some(Ok(dir)) => flush(&dir),
        Some(Err(_)) | None => Ok(()),
    }
}

/// Whether somebody wants no room to be found there.
#[inline]
pub(crate) fn is_full(path: &Path) -> bool {
    ANY.load(Ordering::Relaxed)
        && path.canonicalize().is_ok_and(|path| found(&path, |it| it == DiskFault::Full).is_some())
}

/// Those in whose directory the path is.
fn found(path: &Path, wanted: impl Fn(DiskFault) -> bool) -> Option<Arc<Entry>> {
    let table = lock(&TABLE);
    let mut hit = table.iter().filter(|entry| wanted(entry.fault) && path.starts_with(&entry.dir));
    // Of several that are slow, the slowest.
    let slowness = |entry: &&Arc<Entry>| match entry.fault {
        DiskFault::Slow(delay) => delay,
        DiskFault::Hung | DiskFault::Full | DiskFault::FsyncError => Duration::ZERO,
    };
    hit.by_ref().max_by_key(slowness).cloned()
}

#[cold]
fn flush(path: &Path) -> io::Result<()> {
    if let Some(entry) = found(path, |fault| fault == DiskFault::Hung) {
        entry.hit();
        entry.hold(None);
    }
    if let Some(entry) = found(path, |fault| matches!(fault, DiskFault::Slow(_)))
        && let DiskFault::Slow(delay) = entry.fault
    {
        entry.hit();
        entry.hold(Some(delay));
    }
    match found(path, |fault| fault == DiskFault::FsyncError) {
        Some(entry) => {
            entry.hit();
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
        None => Ok(()),
    }
}

#[cold]
fn write(path: &Path) -> io::Result<()> {
    match found(path, |fault| fault == DiskFault::Full) {
        Some(entry) => {
            entry.hit();
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
        None => Ok(()),
    }
}

/// Where an open file is now, as the system says it.
#[cfg(target_os = "linux")]
fn path_of(file: &File) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn path_of(_: &File) -> io::Result<PathBuf> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, DiskFile, FileDisk, write_all_at};
    use super::*;
    use std::io::IoSlice;
    use std::time::Instant;

    fn write_to(file: &File) -> io::Result<()> {
        write_all_at(file, 0, &mut [IoSlice::new(b"seven b")])
    }

    fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_over_and_others_take_all() {
        let (full, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = FileDisk.create(&full.path().join("open")).unwrap();
        let beside = FileDisk.create(&other.path().join("open")).unwrap();
        let fault = InjectedFault::new(full.path(), DiskFault::Full).unwrap();
        assert_eq!(errno(write_to(&open)), Some(libc::ENOSPC));
        assert_eq!(errno(FileDisk.create(&full.path().join("new"))), Some(libc::ENOSPC));
        assert_eq!(errno(FileDisk.create_dir(&full.path().join("d"))), Some(libc::ENOSPC));
        assert_eq!(
            errno(FileDisk.replace(&full.path().join("r"), b"x", true).map(drop)),
            Some(libc::ENOSPC)
        );
        assert!(is_full(full.path()) && !is_full(other.path()));
        DiskFile::sync(&open).unwrap();
        write_to(&beside).unwrap();
        assert_eq!(fault.hits(), 4);
        drop(fault);
        write_to(&open).unwrap();
        assert!(!is_full(full.path()));
    }

    #[test]
    fn each_flush_fails_as_long_as_it_shall_and_what_was_written_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileDisk.create(&dir.path().join("f")).unwrap();
        let fault = InjectedFault::new(dir.path(), DiskFault::FsyncError).unwrap();
        write_to(&file).unwrap();
        assert_eq!(errno(DiskFile::sync(&file)), Some(libc::EIO));
        assert_eq!(errno(file.write_back(0..7, 0)), Some(libc::EIO));
        // As of the real one: it is no shortage, whatever it says.
        assert!(!super::super::is_shortage(&FileDisk.sync_dir(dir.path()).unwrap_err()));
        assert_eq!(fault.hits(), 3);
        drop(fault);
        DiskFile::sync(&file).unwrap();
        assert_eq!(FileDisk.read(&dir.path().join("f")).unwrap().unwrap(), b"seven b");
    }

    #[test]
    fn a_flush_takes_longer_and_one_that_hangs_goes_on_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileDisk.create(&dir.path().join("f")).unwrap();
        let slow = InjectedFault::new(dir.path(), DiskFault::Slow(Duration::from_millis(30)));
        let begun = Instant::now();
        DiskFile::sync(&file).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert_eq!(slow.unwrap().hits(), 1);
        let hung = InjectedFault::new(dir.path(), DiskFault::Hung).unwrap();
        let flushing = std::thread::spawn(move || DiskFile::sync(&file));
        while hung.hits() == 0 {
            std::thread::yield_now();
        }
        assert!(!flushing.is_finished());
        drop(hung);
        flushing.join().unwrap().unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_cannot_be_ill() {
        let dir = tempfile::tempdir().unwrap();
        let missing = InjectedFault::new(&dir.path().join("d"), DiskFault::Full);
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
