//! The directory of the metadata log: a sled database, and beside it the newest snapshot.
//!
//! Owns the flusher, the one thread that makes things durable. Promise: what [`Flusher`] has acknowledged
//! survives a power cut. sled's own `flush` on Linux is `sync_file_range`, which knows neither metadata nor
//! the disk's cache, so an fdatasync of its file follows it.

use super::types::TypeConfig;
use crate::config::BeforeFlush;
use crate::priority;
use openraft::storage::IOFlushed;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
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
}

impl Storage {
    /// Calls `before_flush` each time before it makes something durable.
    pub fn open(dir: &Path, before_flush: BeforeFlush) -> io::Result<Storage> {
        Self::open_with(dir, move |db, file| {
            before_flush.run();
            sync(db, file)
        })
    }

    /// On a disk whose flushes take this much longer.
    #[cfg(test)]
    pub fn open_slow(dir: &Path, delay: crate::tests::FlushDelay) -> io::Result<Storage> {
        Self::open_with(dir, move |db, file| {
            delay.wait();
            sync(db, file)
        })
    }

    fn open_with(
        dir: &Path,
        sync: impl Fn(&sled::Db, &File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Storage> {
        std::fs::create_dir_all(dir)?;
        let path = database_path(dir);
        let db = match open_database(&path) {
            // It had its lock when it found that, so the file is nobody's.
            Err(sled::Error::Corruption { .. }) if drop_unfinished_snapshots(&path)? => {
                open_database(&path)
            }
            opened => opened,
        }
        .map_err(io_error)?;
        let file = File::open(path.join("db"))?;
        for created in [dir, &path] {
            File::open(created)?.sync_all()?;
        }
        let flushed = db.clone();
        let (flusher, thread) = Flusher::start(move || sync(&flushed, &file))?;
        Ok(Storage { dir: dir.to_owned(), db, flusher, thread })
    }

    pub fn tree(&self, name: &str) -> io::Result<sled::Tree> {
        self.db.open_tree(name).map_err(io_error)
    }

    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    pub fn snapshot_path(&self) -> PathBuf {
        snapshot_path(&self.dir)
    }

    /// Flushes and lets go of the directory. Everybody who had a [`Flusher`] or a tree must be gone.
    pub fn close(self) -> io::Result<()> {
        let Storage { db, flusher, thread, .. } = self;
        drop(flusher);
        thread.join().map_err(|_| io::Error::other("the flusher panicked"))?;
        db.flush().map_err(io_error)?;
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
const SET_ASIDE: &str = ".damaged";

/// Whether a file of that name was set aside.
pub(super) fn is_set_aside(name: &OsStr) -> bool {
    name.to_string_lossy().contains(SET_ASIDE)
}

fn open_database(path: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(path)
        // Every write that matters is flushed on purpose.
        .flush_every_ms(None)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::HighThroughput)
        .open()
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

pub(super) fn io_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

enum Waiting {
    Raft(IOFlushed<TypeConfig>),
    Task(oneshot::Sender<io::Result<()>>),
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
}

fn sync(db: &sled::Db, file: &File) -> io::Result<()> {
    db.flush().map_err(io_error)?;
    file.sync_data()
}

fn gone() -> io::Error {
    io::Error::other("the metadata log is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a process leaves it that dies while it opens its database.
    #[test]
    fn a_snapshot_that_was_cut_off_does_not_keep_the_log_closed() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Storage::open(dir.path(), BeforeFlush::default()).unwrap();
        let storage = open();
        storage.tree("votes").unwrap().insert("mine", "one").unwrap();
        storage.close().unwrap();
        for torn in [&b""[..], b"not as long as a checksum covers it", &[0xa5; 4_000]] {
            let cut = dir.path().join("raft/snap.FFFFFFFFFFFFFFFF.generating");
            std::fs::write(&cut, torn).unwrap();
            let storage = open();
            assert_eq!(storage.tree("votes").unwrap().get("mine").unwrap().unwrap(), b"one");
            storage.close().unwrap();
            assert!(!cut.exists());
        }
    }

    /// Nothing but an unfinished snapshot is ever thrown away.
    #[test]
    fn a_log_that_is_damaged_stays_closed() {
        let dir = tempfile::tempdir().unwrap();
        Storage::open(dir.path(), BeforeFlush::default()).unwrap().close().unwrap();
        let raft = dir.path().join("raft");
        let whole = raft.join("snap.FFFFFFFFFFFFFFFF");
        std::fs::write(&whole, "torn").unwrap();
        assert!(Storage::open(dir.path(), BeforeFlush::default()).is_err());
        assert!(whole.exists());
    }
}
