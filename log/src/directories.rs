//! The directories of a node: that of its metadata, those of its partitions, and which partition belongs where.
//!
//! ```text
//! <metadata directory>/log-directories           the id of each directory of log.dirs, by path
//! <metadata directory>/partition-directories     see [`Inventory`]
//! ```
//!
//! Promises: the directory of the metadata is there, or nothing is opened. One of the others that was there before and
//! is not, or is empty, is offline: its disk may not be mounted, and nobody writes to what stands in its place. A
//! partition whose directory is offline is nowhere else.
//! Never here: into which directory a new partition goes.

use crate::LogError;
use crate::checkpoint::{self, decode_directory_id};
use crate::directory::{DataDirectory, DirectoryError, MetaProperties, PartitionDirectory};
use crate::disk::{Disk, FileDisk};
use crate::inventory::{FILE as INVENTORY, Inventory};
use crate::log_directory::LogDirectory;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use troupe_proto::ids::{DirectoryId, PartitionId, TopicId};

/// Which directories there are, by path.
pub(crate) const KNOWN: &str = "log-directories";

/// See the module. Serves all threads.
#[derive(Debug)]
pub struct LogDirectories {
    metadata: Metadata,
    /// As `log.dirs` names them.
    all: Vec<Arc<LogDirectory>>,
    pub inventory: Inventory,
    /// Partitions that were found twice, of which nobody remembers the right one; and where.
    ambiguous: Mutex<BTreeMap<String, Vec<PathBuf>>>,
}

#[derive(Debug)]
enum Metadata {
    /// It has no partitions.
    Alone(DataDirectory),
    /// One of `log.dirs`, by its place there.
    Among(usize),
}

/// Where a partition's log is, or will be.
#[derive(Clone, Debug)]
pub struct Location {
    pub directory: Arc<LogDirectory>,
    pub path: PathBuf,
}

impl LogDirectories {
    /// Opens and locks them.
    ///
    /// # Errors
    /// The directory of the metadata cannot be used, or none of the others; another node has one of them; two are one.
    pub fn open(metadata: &Path, paths: &[PathBuf]) -> Result<LogDirectories, DirectoryError> {
        check_apart(paths)?;
        let own = DataDirectory::open(metadata)?;
        let known = read_known(own.path());
        let device = own.device().ok();
        let place = paths.iter().position(|path| is_same(path, metadata));
        let others = paths.iter().enumerate().filter(|(index, _)| Some(*index) != place);
        let mut all = Vec::new();
        for (_, path) in others {
            all.push(Arc::new(open_one(path, known.get(path).copied(), device)?));
        }
        let inventory = Inventory::open(own.path());
        let metadata = match place {
            Some(place) => {
                all.insert(place, Arc::new(LogDirectory::online(own, device)));
                Metadata::Among(place)
            }
            None => Metadata::Alone(own),
        };
        if all.iter().all(|directory| directory.is_offline()) {
            let reasons = all.iter().map(|directory| {
                format!(
                    "{} ({})",
                    directory.path().display(),
                    directory.failure().unwrap_or_default()
                )
            });
            return Err(DirectoryError::AllOffline {
                reasons: reasons.collect::<Vec<_>>().join("; "),
            });
        }
        Ok(LogDirectories { metadata, all, inventory, ambiguous: Mutex::default() })
    }

    /// One directory for everything.
    ///
    /// # Errors
    /// As [`DataDirectory::open`].
    pub fn single(path: &Path) -> Result<LogDirectories, DirectoryError> {
        LogDirectories::open(path, &[path.to_owned()])
    }

    /// Where the node keeps what is its own.
    pub fn metadata(&self) -> &Path {
        match &self.metadata {
            Metadata::Alone(data) => data.path(),
            Metadata::Among(place) => self.all[*place].path(),
        }
    }

    /// As `log.dirs` names them.
    pub fn all(&self) -> &[Arc<LogDirectory>] {
        &self.all
    }

    /// Those that serve.
    pub fn online(&self) -> impl Iterator<Item = &Arc<LogDirectory>> {
        self.all.iter().filter(|directory| !directory.is_offline())
    }

    /// Those on the file system of the metadata, for which room is made when it is full.
    pub fn beside_metadata(&self) -> impl Iterator<Item = &Path> {
        self.all.iter().filter(|it| it.is_beside_metadata()).map(|it| it.path())
    }

    /// Why the node cannot go on: what it stands on is gone.
    pub fn lost(&self) -> Option<String> {
        let told = |directory: &LogDirectory| {
            let reason = directory.failure().unwrap_or_default();
            format!("{}: {reason}", directory.path().display())
        };
        match &self.metadata {
            Metadata::Among(place) if self.all[*place].is_offline() => Some(format!(
                "the directory of its metadata has failed ({})",
                told(&self.all[*place])
            )),
            _ if self.online().next().is_none() => {
                let all: Vec<_> = self.all.iter().map(|directory| told(directory)).collect();
                Some(format!("every directory of log.dirs has failed ({})", all.join("; ")))
            }
            _ => None,
        }
    }

    /// Every directory that could be opened, that of the metadata first.
    pub fn opened(&self) -> Vec<&DataDirectory> {
        let own = match &self.metadata {
            Metadata::Alone(data) => Some(data),
            Metadata::Among(place) => self.all[*place].data(),
        };
        let others = self.all.iter().filter_map(|directory| directory.data());
        let others = others.filter(|data| data.path() != self.metadata());
        own.into_iter().chain(others).collect()
    }

    /// Something of a node's own that stands in another directory than it should: it was moved within `log.dirs`, and
    /// its beginning anew would forget all. `names`: of what else only the metadata's directory has.
    pub fn astray(&self, names: &[&str]) -> Option<PathBuf> {
        let own = self.metadata().to_owned();
        let others = self.opened().into_iter().map(DataDirectory::path).filter(|path| *path != own);
        let mut paths =
            others.flat_map(|path| names.iter().chain(&[INVENTORY]).map(|name| path.join(name)));
        paths.find(|path| path.exists())
    }

    /// Makes sure that all are this node's, gives each its id, and remembers them.
    ///
    /// # Errors
    /// One belongs to another node; the metadata's cannot be written.
    pub fn take_possession(&self, meta: &MetaProperties) -> Result<(), DirectoryError> {
        if let Metadata::Alone(data) = &self.metadata {
            data.check_meta(meta)?;
        }
        for directory in &self.all {
            let Some(data) = directory.data() else { continue };
            match data.check_meta(meta) {
                Ok(()) => {}
                Err(error @ DirectoryError::OtherNode { .. }) => return Err(error),
                Err(error) if data.path() == self.metadata() => return Err(error),
                Err(error) => drop(directory.fail(error.to_string())),
            }
        }
        self.write_known()
    }

    fn write_known(&self) -> Result<(), DirectoryError> {
        let path = self.metadata().join(KNOWN);
        let mut lines = String::new();
        for directory in &self.all {
            if let Some(id) = directory.id() {
                let _infallible = writeln!(lines, "{id} {}", directory.path().display());
            }
        }
        let content = checkpoint::seal(&lines);
        if FileDisk.read(&path).ok().flatten().as_deref() == Some(content.as_slice()) {
            return Ok(());
        }
        let written = FileDisk.replace(&path, &content, true);
        let synced = written.and_then(|_| FileDisk.sync_dir(self.metadata()));
        synced.map_err(|source| DirectoryError::Io { action: "write", path, source })
    }

    /// All partitions that have something on disk, as far as their directories can be listed: one that cannot has
    /// failed.
    pub fn partitions(&self) -> Vec<(Arc<LogDirectory>, PartitionDirectory)> {
        let mut found = Vec::new();
        for directory in &self.all {
            let Some(data) = directory.data() else { continue };
            match data.partitions() {
                Ok(partitions) => {
                    found.extend(partitions.into_iter().map(|one| (Arc::clone(directory), one)));
                }
                Err(error) => drop(directory.fail(error.to_string())),
            }
        }
        found
    }

    /// Whether partitions may be in directories that nobody can look into.
    pub fn any_offline(&self) -> bool {
        self.all.iter().any(|directory| directory.is_offline())
    }

    fn by_id(&self, id: DirectoryId) -> Option<&Arc<LogDirectory>> {
        self.all.iter().find(|directory| directory.id() == Some(id))
    }

    /// The partition was found there. False: it belongs elsewhere, and what was found is left over from a move.
    pub fn found(&self, directory: &LogDirectory, name: &str, topic_id: TopicId) -> bool {
        let Some(id) = directory.id() else { return true };
        match self.inventory.directory_of(name, topic_id).and_then(|known| self.by_id(known)) {
            Some(other) if other.id() != Some(id) => {
                let is_there = other.is_offline() || other.path().join(name).is_dir();
                if !is_there {
                    self.inventory.find(name, topic_id, id);
                }
                !is_there
            }
            _ => {
                self.inventory.find(name, topic_id, id);
                true
            }
        }
    }

    /// It was found in several, and nobody remembers in which it belongs.
    pub fn note_ambiguous(&self, name: &str, paths: Vec<PathBuf>) {
        let mut ambiguous = self.ambiguous.lock().unwrap_or_else(PoisonError::into_inner);
        ambiguous.insert(name.to_owned(), paths);
    }

    /// Whether a directory has to be chosen for it: it belongs nowhere, or to one that is in `log.dirs` no more. Not
    /// while any is offline of which nobody knows the id: it may be that one.
    pub fn wants_place(&self, name: &str, topic_id: TopicId) -> bool {
        match self.inventory.directory_of(name, topic_id) {
            Some(id) => self.by_id(id).is_none() && !self.hides_unknown(),
            None => true,
        }
    }

    fn hides_unknown(&self) -> bool {
        self.all.iter().any(|directory| directory.id().is_none())
    }

    /// Where a partition that has its place is.
    ///
    /// # Errors
    /// [`LogError::DirectoryOffline`], [`LogError::FoundTwice`].
    pub fn locate(
        &self,
        topic: &str,
        partition: PartitionId,
        topic_id: TopicId,
    ) -> Result<Location, LogError> {
        let name = format!("{topic}-{partition}");
        let ambiguous = self.ambiguous.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(paths) = ambiguous.get(&name) {
            return Err(LogError::FoundTwice { paths: paths.clone().into() });
        }
        drop(ambiguous);
        let id = self.inventory.directory_of(&name, topic_id);
        let directory = match id.map(|id| self.by_id(id)) {
            Some(Some(directory)) => directory,
            // It belongs to a directory that nobody knows: to one that cannot be asked, if there is any.
            _ => match self.all.iter().find(|directory| directory.id().is_none()) {
                Some(hidden) if id.is_some() => hidden,
                _ => self.online().next().unwrap_or(&self.all[0]),
            },
        };
        directory.check()?;
        Ok(Location { directory: Arc::clone(directory), path: directory.path().join(name) })
    }

    /// The directory of `log.dirs` with this path, as it is written there: no disk is asked where a path leads.
    pub fn at(&self, path: &Path) -> Option<&Arc<LogDirectory>> {
        self.all.iter().find(|directory| directory.path() == path)
    }
}

fn open_one(
    path: &Path,
    known: Option<DirectoryId>,
    metadata_device: Option<u64>,
) -> Result<LogDirectory, DirectoryError> {
    let offline = |reason: String| Ok(LogDirectory::offline(path.to_owned(), known, reason));
    if known.is_some() && !path.exists() {
        return offline("it has vanished: is its disk mounted?".to_owned());
    }
    if known.is_some() && is_empty(path) {
        let reason = "it was in use and is empty now: mount its disk, or, if what was in it is lost for good, \
                      `troupe storage format` it anew";
        return offline(reason.to_owned());
    }
    match DataDirectory::open(path) {
        Ok(data) => {
            // What says nothing of itself any more is the one that was there.
            if let (Some(known), Ok(None) | Err(_)) = (known, data.read_meta()) {
                data.adopt(known);
            }
            Ok(LogDirectory::online(data, metadata_device))
        }
        Err(error @ (DirectoryError::Locked { .. } | DirectoryError::OtherNode { .. })) => {
            Err(error)
        }
        Err(error) => offline(error.to_string()),
    }
}

/// Nothing in it but what every file system has.
fn is_empty(path: &Path) -> bool {
    let names = FileDisk.list(path).ok().flatten();
    names.is_some_and(|names| names.iter().all(|name| name == "lost+found"))
}

fn read_known(metadata: &Path) -> BTreeMap<PathBuf, DirectoryId> {
    let content = FileDisk.read(&metadata.join(KNOWN)).ok().flatten().unwrap_or_default();
    let lines = checkpoint::unseal(&content).unwrap_or_default().lines();
    let known = lines.filter_map(|line| {
        let (id, path) = line.split_once(' ')?;
        Some((PathBuf::from(path), decode_directory_id(id)?))
    });
    known.collect()
}

/// Where a path leads, as far as it is there.
fn resolve(path: &Path) -> PathBuf {
    std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || resolve(one) == resolve(other)
}

/// # Errors
/// [`DirectoryError::Nested`].
pub fn check_apart(paths: &[PathBuf]) -> Result<(), DirectoryError> {
    let resolved: Vec<PathBuf> = paths.iter().map(|path| resolve(path)).collect();
    let mut seen = BTreeSet::new();
    for (path, place) in resolved.iter().zip(paths) {
        let outer =
            resolved.iter().zip(paths).find(|(other, _)| path != *other && path.starts_with(other));
        if let Some((_, outer)) = outer {
            return Err(DirectoryError::Nested { outer: outer.clone(), inner: place.clone() });
        }
        if !seen.insert(path) {
            return Err(DirectoryError::Nested { outer: place.clone(), inner: place.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
