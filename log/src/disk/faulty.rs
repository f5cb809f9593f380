//! A disk that fails as a script says. It counts what it is asked to change, so that a test can crash after
//! every single I/O; what a crash leaves is the business of [`MemDisk::crash`].

use super::memory::MemFile;
use super::{Disk, DiskFile, MemDisk};
use bytes::Bytes;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the disk is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Open,
    Create,
    Read,
    Write,
    Truncate,
    Sync,
    SyncDir,
    Rename,
    Remove,
    CreateDir,
}

impl Operation {
    const fn changes_something(self) -> bool {
        !matches!(self, Operation::Open | Operation::Read)
    }
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO; nothing was done.
    Io,
    /// ENOSPC; nothing was done.
    Full,
    /// EMFILE; nothing was done.
    Descriptors,
    /// A write of so many bytes at most, without an error: the rest has to be written by another call.
    Short(usize),
    /// So many bytes are written, then EIO.
    TornIo(usize),
    /// So many bytes are written, then the machine is gone: everything fails from here on.
    Crash(usize),
}

/// See the module. Clones share script and content.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    memory: MemDisk,
    script: Arc<Mutex<Script>>,
    /// Apart from the script, because a simulation asks after every event.
    crashed: Arc<AtomicBool>,
}

/// An open file of a [`FaultDisk`].
#[derive(Debug)]
pub struct FaultFile {
    disk: FaultDisk,
    path: PathBuf,
    file: MemFile,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    crash_at: Option<(u64, usize)>,
    capacity: Option<u64>,
    changes: u64,
}

#[derive(Debug)]
struct Rule {
    operation: Operation,
    suffix: String,
    skip: u64,
    times: u64,
    fault: Fault,
}

impl FaultDisk {
    pub fn new(memory: MemDisk) -> FaultDisk {
        FaultDisk { memory, script: Arc::default(), crashed: Arc::default() }
    }

    /// What lies under the faults.
    pub fn memory(&self) -> &MemDisk {
        &self.memory
    }

    /// From the `skip`-th time on, `times` times: this operation fails on paths that end so.
    pub fn fail(&self, operation: Operation, suffix: &str, skip: u64, times: u64, fault: Fault) {
        let suffix = suffix.to_owned();
        self.script().rules.push(Rule { operation, suffix, skip, times, fault });
    }

    /// Crashes at the change with this number, from 0. If it is a write, `torn` of its bytes are written.
    pub fn crash_at(&self, change: u64, torn: usize) {
        self.script().crash_at = Some((change, torn));
    }

    /// Writes fail with ENOSPC when all files together would exceed this; they write what fits.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.script().capacity = bytes;
    }

    /// Forgets all rules.
    pub fn heal(&self) {
        let mut script = self.script();
        script.rules.clear();
        script.capacity = None;
    }

    /// How many changes were asked for so far.
    pub fn changes(&self) -> u64 {
        self.script().changes
    }

    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::Acquire)
    }

    fn crash(&self) {
        self.crashed.store(true, Ordering::Release);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no method panics while it holds the lock")
    }

    /// The fault that this operation meets, if any.
    fn meet(&self, operation: Operation, path: &Path) -> Option<Fault> {
        let mut script = self.script();
        if self.has_crashed() {
            return Some(Fault::Crash(0));
        }
        if operation.changes_something() {
            let number = script.changes;
            script.changes += 1;
            if let Some((at, torn)) = script.crash_at
                && at == number
            {
                self.crash();
                return Some(Fault::Crash(torn));
            }
        }
        if script.rules.is_empty() {
            return None;
        }
        let name = path.to_string_lossy();
        let mut rules = script.rules.iter_mut();
        let rule = rules.find(|rule| {
            rule.operation == operation && rule.times > 0 && name.ends_with(&rule.suffix)
        })?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        let fault = rule.fault;
        if matches!(fault, Fault::Crash(_)) {
            self.crash();
        }
        Some(fault)
    }

    /// For operations that happen as a whole or not at all.
    fn check(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match self.meet(operation, path) {
            None | Some(Fault::Short(_)) => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Full => io::Error::from_raw_os_error(libc::ENOSPC),
            Fault::Descriptors => io::Error::from_raw_os_error(libc::EMFILE),
            Fault::Io | Fault::TornIo(_) => io::Error::from_raw_os_error(libc::EIO),
            Fault::Short(_) => ErrorKind::Interrupted.into(),
            Fault::Crash(_) => io::Error::other("the machine is gone"),
        }
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    fn open(&self, path: &Path) -> io::Result<FaultFile> {
        self.check(Operation::Open, path)?;
        let file = self.memory.open(path)?;
        Ok(FaultFile { disk: self.clone(), path: path.to_owned(), file })
    }

    fn create(&self, path: &Path) -> io::Result<FaultFile> {
        self.check(Operation::Create, path)?;
        let file = self.memory.create(path)?;
        Ok(FaultFile { disk: self.clone(), path: path.to_owned(), file })
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.check(Operation::Read, path)?;
        self.memory.read(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.check(Operation::Read, path)?;
        self.memory.size(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Option<Vec<String>>> {
        self.check(Operation::Read, dir)?;
        self.memory.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(Operation::CreateDir, dir)?;
        self.memory.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename, to)?;
        self.memory.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove, path)?;
        self.memory.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(Operation::SyncDir, dir)?;
        self.memory.sync_dir(dir)
    }

    fn modified_ms(&self, path: &Path) -> io::Result<Option<i64>> {
        self.memory.modified_ms(path)
    }

    fn boot(&self) -> Option<String> {
        self.memory.boot()
    }
}

impl FaultFile {
    fn write_some(&self, position: u64, pieces: &[IoSlice<'_>], limit: usize) -> io::Result<usize> {
        let mut left = limit;
        let mut kept = Vec::new();
        for piece in pieces {
            let len = piece.len().min(left);
            left -= len;
            kept.push(IoSlice::new(&piece[..len]));
        }
        self.file.write_at(position, &kept)
    }

    /// How many bytes from `position` on fit onto the disk.
    fn room(&self, position: u64) -> io::Result<Option<usize>> {
        let Some(capacity) = self.disk.script().capacity else { return Ok(None) };
        let free = capacity.saturating_sub(self.disk.memory.used());
        let overwritten = self.file.size()?.saturating_sub(position);
        Ok(Some(usize::try_from(free + overwritten).unwrap_or(usize::MAX)))
    }
}

impl DiskFile for FaultFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.check(Operation::Read, &self.path)?;
        self.file.size()
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.check(Operation::Read, &self.path)?;
        self.file.read_at(position, into)
    }

    fn write_at(&self, position: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.disk.meet(Operation::Write, &self.path) {
            Some(Fault::Short(limit)) => return self.write_some(position, pieces, limit.max(1)),
            Some(fault @ (Fault::TornIo(torn) | Fault::Crash(torn))) => {
                self.write_some(position, pieces, torn)?;
                return Err(fault.error());
            }
            Some(fault @ (Fault::Io | Fault::Full | Fault::Descriptors)) => {
                return Err(fault.error());
            }
            None => {}
        }
        match self.room(position)? {
            Some(0) => Err(Fault::Full.error()),
            Some(room) => self.write_some(position, pieces, room),
            None => self.file.write_at(position, pieces),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.check(Operation::Truncate, &self.path)?;
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.check(Operation::Sync, &self.path)?;
        self.file.sync()
    }

    fn map(&self, len: u64) -> io::Result<Option<Bytes>> {
        self.file.map(len)
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_all_at;
    use super::*;

    #[test]
    fn short_writes_are_continued() {
        let disk = FaultDisk::new(MemDisk::new());
        disk.fail(Operation::Write, "f", 0, 3, Fault::Short(1));
        let file = disk.create(Path::new("/f")).unwrap();
        write_all_at(&file, 0, &mut [IoSlice::new(b"ab"), IoSlice::new(b"cdef")]).unwrap();
        assert_eq!(disk.read(Path::new("/f")).unwrap().unwrap(), b"abcdef");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = FaultDisk::new(MemDisk::new());
        disk.set_capacity(Some(4));
        let file = disk.create(Path::new("/f")).unwrap();
        let error = write_all_at(&file, 0, &mut [IoSlice::new(b"abcdef")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(disk.read(Path::new("/f")).unwrap().unwrap(), b"abcd");
    }

    #[test]
    fn nothing_works_after_a_crash() {
        let disk = FaultDisk::new(MemDisk::new());
        disk.crash_at(1, 2);
        let file = disk.create(Path::new("/f")).unwrap();
        assert!(write_all_at(&file, 0, &mut [IoSlice::new(b"abc")]).is_err());
        assert!(file.sync().is_err() && disk.read(Path::new("/f")).is_err());
        assert_eq!(disk.memory().read(Path::new("/f")).unwrap().unwrap(), b"ab");
    }
}
