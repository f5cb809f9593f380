//! The directory of the metadata log: a sled database, beside it the newest snapshot, and `quorum-state`.
//!
//! Owns the flusher, the one thread that makes things durable. Promise: what [`Flusher`] has acknowledged
//! survives a power cut, and `quorum-state` says so. sled's own `flush` on Linux is `sync_file_range`, which knows
//! neither metadata nor the disk's cache, so an fdatasync of its file follows it.

use super::conversion;
use super::fault::{Faults, damage, guarded};
use super::quorum_state::{self, Found, QuorumState, QuorumStateFile, unsynced};
use super::types::TypeConfig;
use crate::priority;
use openraft::storage::IOFlushed;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use tokio::sync::oneshot;

/// Callers that may wait for one flush; each of Raft's writers waits for its own.
const MAX_WAITING: usize = 4096;
/// Grows with what is read; the metadata of ten thousand partitions fits.
const CACHE_BYTES: u64 = 4 << 20;

pub(super) struct Storage {
    dir: PathBuf,
    db: sled::Db,
    flusher: Flusher,
    thread: thread::JoinHandle<()>,
    state: Arc<QuorumStateFile>,
    /// What stood in `quorum-state`.
    found: Found,
    faults: Faults,
}

impl Storage {
    /// Calls `before_flush` each time before it makes something durable. Blocks.
    ///
    /// # Errors
    /// Damage, or the disk's.
    pub fn open(
        dir: &Path,
        before_flush: impl Fn() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Storage> {
        Self::open_or_create(dir, before_flush, false)
    }

    /// Where the database was before nothing is left: a new one, beside the `quorum-state` that is there.
    pub fn create(
        dir: &Path,
        before_flush: impl Fn() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Storage> {
        Self::open_or_create(dir, before_flush, true)
    }

    fn open_or_create(
        dir: &Path,
        before_flush: impl Fn() -> io::Result<()> + Send + 'static,
        create: bool,
    ) -> io::Result<Storage> {
        std::fs::create_dir_all(dir)?;
        let path = database_path(dir);
        let found = quorum_state::read(dir)?;
        let opened = match open_database(&path) {
            // It had its lock when it found that, so the file is nobody's.
            Err(sled::Error::Corruption { .. }) if drop_unfinished_snapshots(&path)? => {
                open_database(&path)
            }
            opened => opened,
        };
        let db = opened.map_err(opening_error)?;
        let file = File::open(path.join("db"))?;
        for created in [dir, &path] {
            File::open(created)?.sync_all()?;
        }
        let was_used = !create && (found != Found::Nothing || snapshot_path(dir).exists());
        conversion::settle(&db, was_used, || sync(&db, &file))?;
        let state = match &found {
            Found::State(state) => state.clone(),
            Found::Nothing | Found::Damaged => QuorumState::default(),
        };
        let faults = Faults::default();
        let state = Arc::new(QuorumStateFile::new(dir, state, faults.clone()));
        let (flushed, said, noted) = (db.clone(), Arc::clone(&state), faults.clone());
        let (flusher, thread) = Flusher::start(move || {
            let wanted = said.wanted();
            noted.note(before_flush().and_then(|()| sync(&flushed, &file)))?;
            said.write(&wanted)
        })?;
        Ok(Storage { dir: dir.to_owned(), db, flusher, thread, state, found, faults })
    }

    pub fn tree(&self, name: &str) -> io::Result<sled::Tree> {
        guarded(|| self.db.open_tree(name))
    }

    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    pub fn state(&self) -> Arc<QuorumStateFile> {
        Arc::clone(&self.state)
    }

    pub fn found(&self) -> &Found {
        &self.found
    }

    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    pub fn snapshot_path(&self) -> PathBuf {
        snapshot_path(&self.dir)
    }

    /// Flushes and lets go of the directory. Everybody who had a [`Flusher`] or a tree must be gone.
    pub fn close(self) -> io::Result<()> {
        let Storage { db, flusher, thread, .. } = self;
        drop(flusher);
        thread.join().map_err(|_| io::Error::other("the flusher panicked"))?;
        guarded(|| db.flush())?;
        Ok(())
    }
}

/// Where sled's files are.
pub(super) fn database_path(dir: &Path) -> PathBuf {
    dir.join("raft")
}

pub(super) fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("metadata.snapshot")
}

/// Of what was damaged, and is kept for whoever wants to see it.
const SET_ASIDE: &str = ".damaged-";

/// Whether a file of that name was set aside.
pub(super) fn is_set_aside(name: &OsStr) -> bool {
    name.to_string_lossy().contains(SET_ASIDE)
}

/// Gives what is damaged another name, in the same directory, and says which. Blocks until that is durable.
pub(super) fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    if !path.exists() {
        return Ok(None);
    }
    let free =
        (1..).map(|number: u32| dir.join(format!("{}{SET_ASIDE}{number}", name.to_string_lossy())));
    let target = free.into_iter().find(|target| !target.exists());
    let target = target.ok_or_else(|| io::Error::other("no name is free"))?;
    std::fs::rename(path, &target)?;
    File::open(dir)?.sync_all()?;
    Ok(Some(target))
}

/// Copies the log in `from`, without what was set aside beside it, as it is on disk.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if is_set_aside(&entry.file_name()) {
            continue;
        }
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            std::fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            drop_cached(&File::open(entry.path())?);
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Asks the system to read the file from the disk the next time. It may decline.
fn drop_cached(file: &File) {
    // SAFETY: the descriptor is open for as long as the call takes, and no memory is handed over.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

fn open_database(path: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(path)
        // Every write that matters is flushed on purpose.
        .flush_every_ms(None)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::HighThroughput);
    // As an error of sled's, so that one match sees all that may be wrong.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
    opened.unwrap_or_else(|_| Err(sled::Error::ReportableBug("it panicked when opened".into())))
}

/// What is no disk's error is the content's: sled reads past the end, or where nothing can be.
fn opening_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) if is_locked(&error) => error,
        sled::Error::Io(error) => match error.raw_os_error() {
            None | Some(libc::EINVAL | libc::EFBIG | libc::EOVERFLOW) => damage(error),
            Some(_) => error,
        },
        other => damage(other),
    }
}

/// sled writes a snapshot of its own tables as `snap.N.generating` and renames it when it is whole; but whoever
/// opens the database takes the file for a snapshot under either name, and a torn one for corruption. What the
/// snapshot stands for is in the log that it was made from. True: there was one.
fn drop_unfinished_snapshots(path: &Path) -> io::Result<bool> {
    let mut found = false;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(%name, "dropping a snapshot that was cut off while it was written");
            std::fs::remove_file(entry.path())?;
            found = true;
        }
    }
    Ok(found)
}

/// Whether a database could not be opened because somebody has it open.
pub(super) fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

enum Waiting {
    Raft(IOFlushed<TypeConfig>),
    Task(oneshot::Sender<io::Result<()>>),
    /// Wants a copy of that directory there, of a moment at which nothing is being flushed.
    Copy(PathBuf, PathBuf, oneshot::Sender<io::Result<()>>),
}

/// Asks for durability. All that wait when a flush begins are served by that one: group commit.
#[derive(Clone)]
pub(super) struct Flusher {
    waiting: mpsc::SyncSender<Waiting>,
}

impl Flusher {
    fn start(
        sync: impl Fn() -> io::Result<()> + Send + 'static,
    ) -> io::Result<(Flusher, thread::JoinHandle<()>)> {
        let (waiting, queue) = mpsc::sync_channel(MAX_WAITING);
        let thread = thread::Builder::new().name("metadata-flush".to_owned()).spawn(move || {
            priority::first();
            while let Ok(first) = queue.recv() {
                let all: Vec<_> = std::iter::once(first).chain(queue.try_iter()).collect();
                let result = sync().map_err(Arc::new);
                for waiting in all {
                    // One failure, told to each: an io::Error cannot be copied.
                    let result = result.clone().map_err(|e| io::Error::new(e.kind(), e));
                    match waiting {
                        Waiting::Raft(callback) => callback.io_completed(result),
                        Waiting::Task(task) => drop(task.send(result)),
                        Waiting::Copy(from, to, task) => {
                            drop(task.send(result.and_then(|()| copy(&from, &to))));
                        }
                    }
                }
            }
        })?;
        Ok((Flusher { waiting }, thread))
    }

    /// Tells Raft once everything written up to now is durable.
    pub fn notify(&self, callback: IOFlushed<TypeConfig>) -> io::Result<()> {
        self.waiting.send(Waiting::Raft(callback)).map_err(|_| gone())
    }

    /// Waits until everything written up to now is durable.
    pub async fn flush(&self) -> io::Result<()> {
        let (task, flushed) = oneshot::channel();
        self.waiting.send(Waiting::Task(task)).map_err(|_| gone())?;
        flushed.await.map_err(|_| gone())?
    }

    /// Copies a directory, with what was written up to now, when nothing is being flushed.
    pub async fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (task, copied) = oneshot::channel();
        let waiting = Waiting::Copy(from.to_owned(), to.to_owned(), task);
        self.waiting.send(waiting).map_err(|_| gone())?;
        copied.await.map_err(|_| gone())?
    }

    /// As [`Flusher::flush`]. Blocks.
    pub fn flush_now(&self) -> io::Result<()> {
        let (task, flushed) = oneshot::channel();
        self.waiting.send(Waiting::Task(task)).map_err(|_| gone())?;
        flushed.blocking_recv().map_err(|_| gone())?
    }
}

fn sync(db: &sled::Db, file: &File) -> io::Result<()> {
    guarded(|| db.flush())?;
    file.sync_data().map_err(unsynced)
}

fn gone() -> io::Error {
    io::Error::other("the metadata log is closed")
}

#[cfg(test)]
mod tests {
    use super::super::tests::when_free;
    use super::*;

    async fn open(dir: &Path) -> io::Result<Storage> {
        when_free(|| Storage::open(dir, || Ok(()))).await
    }

    /// As a process leaves it that dies while it opens its database.
    #[tokio::test]
    async fn a_snapshot_that_was_cut_off_does_not_keep_the_log_closed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path()).await.unwrap();
        storage.tree("votes").unwrap().insert("mine", "one").unwrap();
        storage.close().unwrap();
        for torn in [&b""[..], b"not as long as a checksum covers it", &[0xa5; 4_000]] {
            let cut = dir.path().join("raft/snap.FFFFFFFFFFFFFFFF.generating");
            std::fs::write(&cut, torn).unwrap();
            let storage = open(dir.path()).await.unwrap();
            assert_eq!(storage.tree("votes").unwrap().get("mine").unwrap().unwrap(), b"one");
            storage.close().unwrap();
            assert!(!cut.exists());
        }
    }

    /// Nothing but an unfinished snapshot is ever thrown away.
    #[tokio::test]
    async fn a_log_that_is_damaged_stays_closed() {
        let dir = tempfile::tempdir().unwrap();
        Storage::open(dir.path(), || Ok(())).unwrap().close().unwrap();
        let raft = dir.path().join("raft");
        let whole = raft.join("snap.FFFFFFFFFFFFFFFF");
        std::fs::write(&whole, "torn").unwrap();
        assert!(open(dir.path()).await.is_err());
        assert!(whole.exists());
    }
}
