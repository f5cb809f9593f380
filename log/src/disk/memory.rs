//! A disk in memory that knows what a power cut would leave of it.
//!
//! Each file keeps its synced content and the changes since; each directory its durable entries and the
//! changes since. [`MemDisk::crash`] makes the disk that the next start finds: synced content, plus whatever
//! part of the rest [`Loss`] says. Deterministic; clones share the same content.

use super::{Disk, DiskFile};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// A power cut keeps or loses a write by such pieces.
const SECTOR: u64 = 512;

/// What a crash takes with it of all that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the process was killed, the machine runs on.
    Nothing,
    /// All of it.
    Unsynced,
    /// For each file nothing, everything, the changes up to some point, or any of its sectors; for each
    /// directory the changes up to some point.
    Seeded(u64),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MemDisk(Arc<Mutex<State>>);

/// An open file of a [`MemDisk`].
#[derive(Clone, Debug)]
pub struct MemFile {
    disk: MemDisk,
    inode: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(usize),
}

/// By whole paths, compared as bytes: that is many times faster than component by component, and simulations
/// do little else with a disk.
type Entries = BTreeMap<OsString, Entry>;

#[derive(Clone, Debug, Default)]
struct State {
    entries: Entries,
    durable: Entries,
    /// Changes of entries that no `sync_dir` has covered, in order.
    unsynced: Vec<EntryChange>,
    inodes: Vec<Inode>,
    /// Crashes that may have lost something.
    boot: u64,
}

#[derive(Clone, Debug)]
enum EntryChange {
    Add(OsString, Entry),
    Remove(OsString),
    Rename(OsString, OsString),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<ContentChange>,
}

#[derive(Clone, Debug)]
enum ContentChange {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl MemDisk {
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// The disk that the next start finds after a crash now. This one stays as it is.
    pub fn crash(&self, loss: Loss) -> MemDisk {
        let state = self.state();
        let mut dice = Dice::new(match loss {
            Loss::Seeded(seed) => seed,
            Loss::Nothing | Loss::Unsynced => 0,
        });
        let entries = state.surviving_entries(loss, &mut dice);
        let named: BTreeSet<usize> = entries.values().filter_map(Entry::inode).collect();
        let survive = |(at, inode): (usize, &Inode)| {
            let survivor = inode.survive(loss, &mut dice);
            // nobody can open one without a name any more: it keeps its place, and its part in chance
            if named.contains(&at) { survivor } else { Inode::default() }
        };
        let inodes = state.inodes.iter().enumerate().map(survive).collect();
        let boot = state.boot + u64::from(loss != Loss::Nothing);
        let durable = entries.clone();
        let found = State { durable, entries, unsynced: Vec::new(), inodes, boot };
        MemDisk(Arc::new(Mutex::new(found)))
    }

    /// A copy that shares nothing with this disk, unsynced changes included.
    pub fn snapshot(&self) -> MemDisk {
        MemDisk(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Bits of a file that lie on the disk for good turn over, from `position` on those that `mask` has: nobody has
    /// written anything, and no crash brings back what was there.
    pub fn decay(&self, path: &Path, position: u64, mask: &[u8]) {
        let mut state = self.state();
        let Ok(inode) = state.file(path) else { return };
        let Inode { content, synced, .. } = &mut state.inodes[inode];
        for kept in [content, synced] {
            for (byte, bits) in kept.iter_mut().skip(position as usize).zip(mask) {
                *byte ^= bits;
            }
        }
    }

    /// Every file and its content.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let files = state.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File(inode) => Some((PathBuf::from(path), state.inodes[*inode].content.clone())),
            Entry::Directory => None,
        });
        files.collect()
    }

    /// Bytes in all files that have a name.
    pub fn used(&self) -> u64 {
        let state = self.state();
        let sizes = state.entries.values().map(|entry| match entry {
            Entry::File(inode) => state.inodes[*inode].content.len() as u64,
            Entry::Directory => 0,
        });
        sizes.sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no method panics while it holds the lock")
    }
}

impl State {
    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.entries.get(path.as_os_str()) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Directory) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn is_directory(&self, dir: &Path) -> bool {
        let dir = dir.as_os_str();
        parent(dir).is_none() || self.entries.get(dir) == Some(&Entry::Directory)
    }

    fn check_parent_of(&self, path: &Path) -> io::Result<()> {
        let parent = parent(path.as_os_str()).ok_or(ErrorKind::InvalidInput)?;
        if self.is_directory(Path::new(parent)) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn change(&mut self, change: EntryChange) {
        change.apply(&mut self.entries);
        self.unsynced.push(change);
    }

    fn surviving_entries(&self, loss: Loss, dice: &mut Dice) -> Entries {
        let mut entries = self.durable.clone();
        let mut kept: BTreeMap<&OsStr, usize> = BTreeMap::new();
        for change in &self.unsynced {
            *kept.entry(change.dir()).or_default() += 1;
        }
        for count in kept.values_mut() {
            *count = match loss {
                Loss::Nothing => *count,
                Loss::Unsynced => 0,
                Loss::Seeded(_) => dice.below(*count as u64 + 1) as usize,
            };
        }
        for change in &self.unsynced {
            let left = kept.get_mut(change.dir()).expect("counted above");
            if *left > 0 {
                *left -= 1;
                change.apply(&mut entries);
            }
        }
        // what stood in a directory whose own entry is lost is lost with it; parents come first in order
        let mut found = Entries::new();
        for (path, entry) in entries {
            let dir = parent(&path).expect("no entry is the root");
            if parent(dir).is_none() || found.get(dir) == Some(&Entry::Directory) {
                found.insert(path, entry);
            }
        }
        found
    }
}

/// As [`Path::parent`], of paths without superfluous separators.
fn parent(path: &OsStr) -> Option<&OsStr> {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(0) if bytes.len() == 1 => None,
        Some(0) => Some(OsStr::from_bytes(&bytes[..1])),
        Some(at) => Some(OsStr::from_bytes(&bytes[..at])),
        None => (!bytes.is_empty()).then(|| OsStr::new("")),
    }
}

impl Entry {
    fn inode(&self) -> Option<usize> {
        match self {
            Entry::Directory => None,
            Entry::File(inode) => Some(*inode),
        }
    }
}

impl EntryChange {
    /// Whose entries change.
    fn dir(&self) -> &OsStr {
        let (EntryChange::Add(path, _) | EntryChange::Remove(path) | EntryChange::Rename(_, path)) =
            self;
        parent(path).expect("no entry is the root")
    }

    fn apply(&self, entries: &mut Entries) {
        match self {
            EntryChange::Add(path, entry) => {
                entries.insert(path.clone(), *entry);
            }
            EntryChange::Remove(path) => {
                entries.remove(path);
            }
            EntryChange::Rename(from, to) => {
                if let Some(entry) = entries.remove(from) {
                    entries.insert(to.clone(), entry);
                }
            }
        }
    }
}

impl Inode {
    fn change(&mut self, change: ContentChange) {
        change.apply(&mut self.content);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    fn survive(&self, loss: Loss, dice: &mut Dice) -> Inode {
        let mut content = self.synced.clone();
        match loss {
            Loss::Nothing => content.clone_from(&self.content),
            Loss::Unsynced => {}
            Loss::Seeded(_) => match dice.below(4) {
                0 => {}
                1 => content.clone_from(&self.content),
                2 => self.keep_up_to_some_point(&mut content, dice),
                _ => self.keep_any_sectors(&mut content, dice),
            },
        }
        Inode { synced: content.clone(), content, unsynced: Vec::new() }
    }

    fn keep_up_to_some_point(&self, content: &mut Vec<u8>, dice: &mut Dice) {
        let kept = dice.below(self.unsynced.len() as u64 + 1) as usize;
        for change in &self.unsynced[..kept] {
            change.apply(content);
        }
        if let Some(ContentChange::Write(position, bytes)) = self.unsynced.get(kept) {
            let torn = dice.below(bytes.len() as u64 + 1) as usize;
            ContentChange::Write(*position, bytes[..torn].to_vec()).apply(content);
        }
    }

    fn keep_any_sectors(&self, content: &mut Vec<u8>, dice: &mut Dice) {
        for change in &self.unsynced {
            match change {
                ContentChange::Truncate(_) if dice.below(2) == 0 => change.apply(content),
                ContentChange::Truncate(_) => {}
                ContentChange::Write(position, bytes) => {
                    let mut done = 0;
                    while done < bytes.len() {
                        let at = position + done as u64;
                        let len = ((SECTOR - at % SECTOR) as usize).min(bytes.len() - done);
                        if dice.below(2) == 0 {
                            let sector = bytes[done..done + len].to_vec();
                            ContentChange::Write(at, sector).apply(content);
                        }
                        done += len;
                    }
                }
            }
        }
    }
}

impl ContentChange {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            ContentChange::Write(position, bytes) => {
                let start = *position as usize;
                let end = start + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[start..end].copy_from_slice(bytes);
            }
            ContentChange::Truncate(len) => content.resize(*len as usize, 0),
        }
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn open(&self, path: &Path) -> io::Result<MemFile> {
        let inode = self.state().file(path)?;
        Ok(MemFile { disk: self.clone(), inode })
    }

    fn create(&self, path: &Path) -> io::Result<MemFile> {
        let mut state = self.state();
        let inode = match state.file(path) {
            Ok(inode) => {
                state.inodes[inode].change(ContentChange::Truncate(0));
                inode
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                state.check_parent_of(path)?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.change(EntryChange::Add(path.into(), Entry::File(inode)));
                inode
            }
            Err(error) => return Err(error),
        };
        drop(state);
        Ok(MemFile { disk: self.clone(), inode })
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        match state.file(path) {
            Ok(inode) => Ok(Some(state.inodes[inode].content.clone())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.inodes[state.file(path)?].content.len() as u64)
    }

    fn list(&self, dir: &Path) -> io::Result<Option<Vec<String>>> {
        let state = self.state();
        if !state.is_directory(dir) {
            return Ok(None);
        }
        let inside = state.entries.keys().filter(|path| parent(path) == Some(dir.as_os_str()));
        let names =
            inside.filter_map(|path| Some(Path::new(path).file_name()?.to_str()?.to_owned()));
        Ok(Some(names.collect()))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.is_directory(dir) {
            state.check_parent_of(dir)?;
            state.change(EntryChange::Add(dir.into(), Entry::Directory));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(from)?;
        state.check_parent_of(to)?;
        if parent(from.as_os_str()) != parent(to.as_os_str()) {
            return Err(ErrorKind::CrossesDevices.into());
        }
        state.change(EntryChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.file(path) {
            Ok(_) => {
                state.check_parent_of(path)?;
                state.change(EntryChange::Remove(path.into()));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.is_directory(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let unsynced = std::mem::take(&mut state.unsynced);
        for change in unsynced {
            if change.dir() == dir.as_os_str() {
                change.apply(&mut state.durable);
            } else {
                state.unsynced.push(change);
            }
        }
        Ok(())
    }

    fn modified_ms(&self, _path: &Path) -> io::Result<Option<i64>> {
        Ok(None)
    }

    fn boot(&self) -> Option<String> {
        Some(self.state().boot.to_string())
    }
}

impl DiskFile for MemFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].content.len() as u64)
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let content = &state.inodes[self.inode].content;
        let start = content.len().min(position as usize);
        let read = into.len().min(content.len() - start);
        into[..read].copy_from_slice(&content[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, position: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let written = bytes.len();
        let change = ContentChange::Write(position, bytes);
        self.disk.state().inodes[self.inode].change(change);
        Ok(written)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.state().inodes[self.inode].change(ContentChange::Truncate(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().inodes[self.inode].sync();
        Ok(())
    }

    fn map(&self, _len: u64) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

/// splitmix64: a seed gives the same numbers everywhere.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number in `0..bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_all_at;
    use super::*;

    fn write(file: &MemFile, position: u64, bytes: &[u8]) {
        write_all_at(file, position, &mut [IoSlice::new(bytes)]).unwrap();
    }

    #[test]
    fn a_synced_file_without_a_synced_entry_is_lost() {
        let disk = MemDisk::new();
        disk.create_dir(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        write(&file, 0, b"abc");
        file.sync().unwrap();
        assert!(disk.crash(Loss::Unsynced).files().is_empty());
        disk.sync_dir(Path::new("/d")).unwrap();
        let left = disk.crash(Loss::Unsynced);
        assert_eq!(left.read(Path::new("/d/f")).unwrap().unwrap(), b"abc");
    }

    #[test]
    fn an_entry_in_a_directory_that_is_lost_is_lost() {
        let disk = MemDisk::new();
        disk.create_dir(Path::new("/d")).unwrap();
        disk.create(Path::new("/d/f")).unwrap().sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        assert!(disk.crash(Loss::Unsynced).list(Path::new("/d")).unwrap().is_none());
    }

    #[test]
    fn what_decays_on_the_disk_no_crash_brings_back() {
        let disk = MemDisk::new();
        let path = Path::new("/f");
        disk.replace(path, b"abcd", true).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.decay(path, 1, &[0x20, 0, 0x20, 0xff]);
        for loss in [Loss::Nothing, Loss::Unsynced] {
            assert_eq!(disk.crash(loss).read(path).unwrap().unwrap(), b"aBcD");
        }
        disk.decay(Path::new("/g"), 0, &[1]);
    }

    #[test]
    fn a_kill_loses_nothing() {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/f")).unwrap();
        write(&file, 2, b"abc");
        let left = disk.crash(Loss::Nothing);
        assert_eq!(left.read(Path::new("/f")).unwrap().unwrap(), b"\0\0abc");
    }

    #[test]
    fn a_rename_without_a_synced_directory_shows_the_old_or_the_new_content() {
        let disk = MemDisk::new();
        let path = Path::new("/f");
        disk.replace(path, b"old", true).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.replace(path, b"new", true).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            seen.insert(disk.crash(Loss::Seeded(seed)).read(path).unwrap().unwrap());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [b"new".to_vec(), b"old".to_vec()]);
    }
}
