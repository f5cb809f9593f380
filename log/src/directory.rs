//! One data directory of a node: the lock on it, whose it is, and the partitions in it.
//!
//! ```text
//! .lock                          held while a node runs
//! meta.properties                cluster and node that the data belongs to, and the directory's own id
//! <topic>-<partition>/           a partition; made at its first append
//! <topic>-<partition>.<number>-future/    one that is being moved here, until it is complete; of a long name the beginning
//! <topic>-<partition>.<topic id>-delete/    a deleted one, until its files are gone; of a long name the beginning
//! <name>.aside-<number>          what stood where something else has to stand
//! ```

use crate::checkpoint;
use crate::disk::{Disk, FileDisk, injected};
use crate::place::Kind;
use crate::retention::{DELETED, give_back};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use troupe_proto::ids::{DirectoryId, NodeId, PartitionId, TopicId};

const LOCK: &str = ".lock";
pub(crate) const META: &str = "meta.properties";
const PROBE: &str = ".probe";
const RETIRED: &str = "-delete";
const FUTURE: &str = "-future";
const ASIDE: &str = ".aside-";
/// Of a deleted topic's name: with partition, topic id and suffix it fits into the 255 bytes that file systems
/// allow. The id tells topics apart.
const RETIRED_NAME_LEN: usize = 180;

/// Why a data directory cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("another node is using the data directory {path}; stop it or choose another directory", path = path.display())]
    Locked { path: PathBuf },
    #[error("the data directory {path} cannot be written to: {source}; check its owner, permissions and mount", path = path.display())]
    ReadOnly { path: PathBuf, source: io::Error },
    #[error("the data directory {path} is not a directory", path = path.display())]
    NotADirectory { path: PathBuf },
    #[error("the data directory {path} belongs to node {found} of cluster {found_cluster}, not to node {expected} of cluster {expected_cluster}", path = path.display())]
    OtherNode {
        path: PathBuf,
        expected: NodeId,
        expected_cluster: String,
        found: NodeId,
        found_cluster: String,
    },
    #[error(
        "log.dirs names {inner} twice, or within another of its directories ({outer}); each needs a place of its own",
        inner = inner.display(), outer = outer.display()
    )]
    Nested { outer: PathBuf, inner: PathBuf },
    #[error("none of log.dirs can be used: {reasons}; mount their disks, or name others")]
    AllOffline { reasons: String },
    #[error("{path} is damaged; restore it from a backup or write it anew", path = path.display())]
    BadMeta { path: PathBuf },
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Whose data it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// One word.
    pub cluster_id: String,
    pub node_id: NodeId,
}

/// A partition's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDirectory {
    pub path: PathBuf,
    pub topic: String,
    pub partition: PartitionId,
}

/// See the module. The lock goes with it.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    lock: File,
    /// As it says itself, or will.
    id: OnceLock<DirectoryId>,
}

impl DataDirectory {
    /// Makes the directory if need be and locks it for this process.
    ///
    /// # Errors
    /// Another process has it; it cannot be written to.
    pub fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
        let path = path.to_owned();
        if let Err(source) = fs::create_dir_all(&path) {
            return Err(match source.kind() {
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                    DirectoryError::NotADirectory { path }
                }
                _ => unwritable("create", path, source),
            });
        }
        let lock_path = path.join(LOCK);
        set_directory_aside(&lock_path);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
        let lock = opened.map_err(|source| unwritable("open", path.clone(), source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::Locked { path }),
            Err(TryLockError::Error(source)) => {
                return Err(DirectoryError::Io { action: "lock", path: lock_path, source });
            }
        }
        // the lock file may stand there from better days
        set_directory_aside(&path.join(PROBE));
        let directory = DataDirectory { path, lock, id: OnceLock::new() };
        match directory.write_probe(false) {
            // whoever has to make room first has to start first
            Err(error) if !is_full(&error) => {
                return Err(unwritable("write to", directory.path, error));
            }
            _ => {}
        }
        if let Ok(Some((_, Some(id)))) = directory.read_properties() {
            directory.adopt(id);
        }
        Ok(directory)
    }

    /// Whether a process has it. Changes nothing, and holds nobody up.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn is_in_use(path: &Path) -> io::Result<bool> {
        let lock = match File::open(path.join(LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the directory is known by wherever it is mounted; drawn at random when it is first asked for.
    pub fn id(&self) -> DirectoryId {
        *self.id.get_or_init(DirectoryId::random)
    }

    /// Where the directory does not say any more who it is, it is the one that is remembered under its path.
    pub(crate) fn adopt(&self, id: DirectoryId) {
        // Who knows an id already keeps it.
        let _ = self.id.set(id);
    }

    /// What has the lock's name is the file that this process has locked: the directory is still where it was.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        let (held, found) = (self.lock.metadata()?, fs::metadata(self.path.join(LOCK))?);
        Ok((held.dev(), held.ino()) == (found.dev(), found.ino()))
    }

    /// Writes a little and removes it again; `durably`: waits for the disk to have taken it.
    pub(crate) fn write_probe(&self, durably: bool) -> io::Result<()> {
        let path = self.path.join(PROBE);
        let created = injected::before_create(&path).and_then(|()| File::create(&path));
        let written = created.and_then(|mut file| {
            file.write_all(b"probe")?;
            if durably {
                injected::before_flush(&file).and_then(|()| file.sync_all())
            } else {
                Ok(())
            }
        });
        let removed = fs::remove_file(&path);
        written.and(removed)
    }

    /// On which file system it is.
    pub(crate) fn device(&self) -> io::Result<u64> {
        Ok(self.lock.metadata()?.dev())
    }

    /// Whose directory this is; `None` if nobody has said so yet.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn read_meta(&self) -> Result<Option<MetaProperties>, DirectoryError> {
        Ok(self.read_properties()?.map(|(meta, _)| meta))
    }

    /// The same, and the directory's own id; earlier versions gave it none.
    fn read_properties(&self) -> Result<Option<Properties>, DirectoryError> {
        let path = self.path.join(META);
        match FileDisk.read(&path) {
            Ok(None) => Ok(None),
            Ok(Some(content)) => match decode_meta(&content) {
                Some(meta) => Ok(Some(meta)),
                None => Err(DirectoryError::BadMeta { path }),
            },
            Err(error) if error.kind() == ErrorKind::IsADirectory => {
                Err(DirectoryError::BadMeta { path })
            }
            Err(source) => Err(DirectoryError::Io { action: "read", path, source }),
        }
    }

    /// Says whose directory this is, durably.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_meta(&self, meta: &MetaProperties) -> Result<(), DirectoryError> {
        let path = self.path.join(META);
        let MetaProperties { cluster_id, node_id } = meta;
        let id = self.id();
        let lines = format!("cluster.id {cluster_id}\nnode.id {node_id}\ndirectory.id {id}\n");
        let written = FileDisk.replace(&path, &checkpoint::seal(&lines), true);
        let synced = written.and_then(|_| FileDisk.sync_dir(&self.path));
        synced.map_err(|source| DirectoryError::Io { action: "write", path, source })
    }

    /// Takes possession of a new directory; of another one makes sure that it is this node's. A file that does
    /// not say any more whose it was is set aside: the caller knows, and the directory's lock is its own.
    ///
    /// # Errors
    /// [`DirectoryError::OtherNode`], and as reading and writing.
    pub fn check_meta(&self, meta: &MetaProperties) -> Result<(), DirectoryError> {
        let found = match self.read_properties() {
            Err(DirectoryError::BadMeta { path }) => {
                set_aside(&path).map_err(|source| DirectoryError::Io {
                    action: "set aside",
                    path,
                    source,
                })?;
                None
            }
            found => found?,
        };
        match found {
            None => self.write_meta(meta),
            Some((found, Some(_))) if found == *meta => Ok(()),
            Some((found, None)) if found == *meta => self.write_meta(meta),
            Some((found, _)) => Err(DirectoryError::OtherNode {
                path: self.path.clone(),
                expected: meta.node_id,
                expected_cluster: meta.cluster_id.clone(),
                found: found.node_id,
                found_cluster: found.cluster_id,
            }),
        }
    }

    /// Where a partition's log is or will be.
    pub fn partition_dir(&self, topic: &str, partition: PartitionId) -> PathBuf {
        self.path.join(format!("{topic}-{partition}"))
    }

    /// The partitions that have something on disk, in no order. Files that are named like one are not among
    /// them.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn partitions(&self) -> Result<Vec<PartitionDirectory>, DirectoryError> {
        let named = |name: String| {
            let (topic, partition) = parse_partition(&name)?;
            let path = self.path.join(&name);
            path.is_dir().then_some(PartitionDirectory { path, topic, partition })
        };
        Ok(self.names()?.into_iter().filter_map(named).collect())
    }

    /// Takes a deleted partition's directory out of the way, so that a topic of the same name can be made
    /// at once. `None` if nothing was ever written.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn retire(
        &self,
        topic: &str,
        partition: PartitionId,
        topic_id: TopicId,
    ) -> Result<Option<PathBuf>, DirectoryError> {
        let from = self.partition_dir(topic, partition);
        let mut to = self.path.join(retired_name(topic, partition, topic_id));
        if to.exists() {
            // An earlier replica of the same partition, whose files are not deleted yet.
            let number = DirectoryId::random().0.simple();
            to.set_file_name(format!("{}-{partition}.{number}{RETIRED}", beginning_of(topic)));
        }
        match fs::rename(&from, &to) {
            Ok(()) => {
                let synced = FileDisk.sync_dir(&self.path);
                synced.map_err(|source| DirectoryError::Io {
                    action: "sync",
                    path: self.path.clone(),
                    source,
                })?;
                Ok(Some(to))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DirectoryError::Io { action: "rename", path: from, source }),
        }
    }

    /// Directories of deleted partitions whose files are still there, and of moves that never came to their end.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn retired(&self) -> Result<Vec<PathBuf>, DirectoryError> {
        let names = self.names()?.into_iter();
        let leftovers = names.filter(|name| is_retired(name) || is_future(name));
        Ok(leftovers.map(|name| self.path.join(name)).collect())
    }

    /// Copies that are being built here, of partitions that move.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn futures(&self) -> Result<Vec<PartitionDirectory>, DirectoryError> {
        let named = |name: String| {
            let (partition, _) = name.strip_suffix(FUTURE)?.rsplit_once('.')?;
            let (topic, partition) = parse_partition(partition)?;
            Some(PartitionDirectory { path: self.path.join(&name), topic, partition })
        };
        Ok(self.names()?.into_iter().filter_map(named).collect())
    }

    /// Where a partition's log is built that moves here. No other move uses the same.
    pub fn future_dir(&self, topic: &str, partition: PartitionId) -> PathBuf {
        let number = DirectoryId::random().0.simple();
        self.path.join(format!("{}-{partition}.{number}{FUTURE}", beginning_of(topic)))
    }

    /// What was built there is the partition's log from now on, for good.
    ///
    /// # Errors
    /// It cannot be renamed; something else has its name.
    pub fn install(
        &self,
        future: &Path,
        topic: &str,
        partition: PartitionId,
    ) -> Result<PathBuf, DirectoryError> {
        let to = self.partition_dir(topic, partition);
        let renamed = fs::rename(future, &to).and_then(|()| FileDisk.sync_dir(&self.path));
        let path = future.to_owned();
        renamed.map_err(|source| DirectoryError::Io { action: "rename", path, source })?;
        Ok(to)
    }

    /// Deletes one of [`DataDirectory::retired`], with a `rest` after each piece of a large file, for those who wait for
    /// the same file system. May take a while.
    ///
    /// # Errors
    /// It is not one of them; it cannot be removed.
    pub fn delete_retired(
        &self,
        path: &Path,
        mut rest: impl FnMut(),
    ) -> Result<(), DirectoryError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.parent() != Some(&self.path) || !(is_retired(name) || is_future(name)) {
            return Err(DirectoryError::Io {
                action: "delete",
                path: path.to_owned(),
                source: ErrorKind::InvalidInput.into(),
            });
        }
        let kind = |name: &str| Kind::parse(name.strip_suffix(DELETED).unwrap_or(name));
        // where it cannot be listed, removing it says so
        for name in FileDisk.list(path).ok().flatten().unwrap_or_default() {
            if kind(&name).is_some_and(|(_, kind)| kind == Kind::Log) {
                give_back(&FileDisk, &path.join(name), &mut rest);
            }
        }
        let removed = match fs::remove_dir_all(path) {
            // no directory at all: somebody has put a file in its place
            Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
            removed => removed,
        };
        match removed {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(DirectoryError::Io { action: "delete", path: path.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<String>, DirectoryError> {
        let listed = FileDisk.list(&self.path);
        let names = listed.map_err(|source| DirectoryError::Io {
            action: "list",
            path: self.path.clone(),
            source,
        })?;
        Ok(names.unwrap_or_default())
    }
}

impl PartitionDirectory {
    /// The topic that the directory was made for; `None` if it does not say.
    ///
    /// # Errors
    /// The file that says so cannot be read.
    pub fn topic_id(&self) -> Result<Option<TopicId>, DirectoryError> {
        let path = self.path.join(checkpoint::METADATA);
        let content = FileDisk.read(&path);
        let content =
            content.map_err(|source| DirectoryError::Io { action: "read", path, source })?;
        let key = content.and_then(|content| checkpoint::decode_metadata(&content));
        Ok(key.map(|key| key.topic_id))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Renames what stands at `path` so that something else can; says as what.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 0.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{ASIDE}{number}"));
        let to = PathBuf::from(name);
        if !to.try_exists()? {
            fs::rename(path, &to)?;
            return Ok(to);
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Of a file of the node's own whose name a directory has. If that fails, opening the file tells.
fn set_directory_aside(path: &Path) {
    if path.is_dir() {
        let _ = set_aside(path);
    }
}

fn retired_name(topic: &str, partition: PartitionId, topic_id: TopicId) -> String {
    format!("{}-{partition}.{topic_id}{RETIRED}", beginning_of(topic))
}

/// As much of a topic's name as leaves room for what tells such directories apart.
fn beginning_of(topic: &str) -> &str {
    let cut = (0..=RETIRED_NAME_LEN.min(topic.len())).rev().find(|at| topic.is_char_boundary(*at));
    &topic[..cut.unwrap_or_default()]
}

fn unwritable(action: &'static str, path: PathBuf, source: io::Error) -> DirectoryError {
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            DirectoryError::ReadOnly { path, source }
        }
        _ => DirectoryError::Io { action, path, source },
    }
}

type Properties = (MetaProperties, Option<DirectoryId>);

fn decode_meta(content: &[u8]) -> Option<Properties> {
    let mut lines = checkpoint::unseal(content)?.lines();
    let cluster_id = lines.next()?.strip_prefix("cluster.id ")?.to_owned();
    let node_id = lines.next()?.strip_prefix("node.id ")?.parse().ok()?;
    let id = lines.find_map(|line| line.strip_prefix("directory.id "));
    let id = id.and_then(checkpoint::decode_directory_id);
    Some((MetaProperties { cluster_id, node_id: NodeId(node_id) }, id))
}

/// Topic and partition of `<topic>-<partition>`, which is how the number is written and no other way.
fn parse_partition(name: &str) -> Option<(String, PartitionId)> {
    let (topic, digits) = name.rsplit_once('-')?;
    let partition: u32 = digits.parse().ok()?;
    let is_canonical = !topic.is_empty() && partition.to_string() == digits;
    is_canonical.then(|| (topic.to_owned(), PartitionId(partition)))
}

fn is_retired(name: &str) -> bool {
    is_leftover(name, RETIRED)
}

fn is_future(name: &str) -> bool {
    is_leftover(name, FUTURE)
}

fn is_leftover(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(partition, _)| parse_partition(partition).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(node: i32) -> MetaProperties {
        MetaProperties { cluster_id: "c1".into(), node_id: NodeId(node) }
    }

    #[test]
    fn a_second_node_on_the_same_directory_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(dir.path()).unwrap();
        assert!(matches!(DataDirectory::open(dir.path()), Err(DirectoryError::Locked { .. })));
        drop(first);
        DataDirectory::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_keeps_to_its_node() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(data.read_meta().unwrap(), None);
        data.check_meta(&meta(1)).unwrap();
        data.check_meta(&meta(1)).unwrap();
        assert!(matches!(data.check_meta(&meta(2)), Err(DirectoryError::OtherNode { .. })));
        fs::write(data.path().join(META), "version 1\n").unwrap();
        assert!(matches!(data.read_meta(), Err(DirectoryError::BadMeta { .. })));
    }

    #[test]
    fn a_directory_is_known_by_its_id_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&dir.path().join("a")).unwrap();
        data.check_meta(&meta(1)).unwrap();
        let id = data.id();
        drop(data);
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert_eq!(DataDirectory::open(&dir.path().join("b")).unwrap().id(), id);
        // As an earlier version wrote it.
        let before = checkpoint::seal("cluster.id c1\nnode.id 1\n");
        fs::write(dir.path().join("b").join(META), before).unwrap();
        let data = DataDirectory::open(&dir.path().join("b")).unwrap();
        data.check_meta(&meta(1)).unwrap();
        let given = data.id();
        drop(data);
        assert_eq!(DataDirectory::open(&dir.path().join("b")).unwrap().id(), given);
    }

    #[test]
    fn a_directory_that_is_gone_or_another_is_not_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let data = DataDirectory::open(&path).unwrap();
        assert!(data.is_in_place().unwrap());
        fs::rename(&path, dir.path().join("b")).unwrap();
        assert_eq!(data.is_in_place().unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(LOCK), "").unwrap();
        assert!(!data.is_in_place().unwrap());
    }

    #[test]
    fn a_move_that_never_came_to_its_end_is_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(dir.path()).unwrap();
        let (abandoned, complete) =
            (data.future_dir("a", PartitionId(0)), data.future_dir("a", PartitionId(0)));
        assert_ne!(abandoned, complete);
        for path in [&abandoned, &complete] {
            fs::create_dir(path).unwrap();
        }
        assert!(data.partitions().unwrap().is_empty());
        let installed = data.install(&complete, "a", PartitionId(0)).unwrap();
        assert_eq!(installed, data.partition_dir("a", PartitionId(0)));
        assert_eq!(data.retired().unwrap(), std::slice::from_ref(&abandoned));
        data.delete_retired(&abandoned, || {}).unwrap();
        assert_eq!(data.partitions().unwrap().len(), 1);
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        let error = DataDirectory::open(&path).unwrap_err();
        assert!(matches!(error, DirectoryError::NotADirectory { .. }), "{error}");
    }

    /// Root may write anywhere, so that tests cannot provoke these.
    #[test]
    fn a_directory_that_cannot_be_written_to_is_told_so() {
        for code in [libc::EACCES, libc::EROFS] {
            let error = unwritable("open", "/d".into(), io::Error::from_raw_os_error(code));
            assert!(matches!(error, DirectoryError::ReadOnly { .. }), "{error}");
        }
        let error = unwritable("open", "/d".into(), io::Error::from_raw_os_error(libc::EIO));
        assert!(matches!(error, DirectoryError::Io { .. }), "{error}");
    }

    #[test]
    fn the_longest_names_are_retired_and_their_leftovers_found() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(dir.path()).unwrap();
        for (len, partition) in [(1, 0), (180, 7), (210, 10_000), (249, 0), (249, 99_999)] {
            let (topic, partition) = ("d".repeat(len), PartitionId(partition));
            let (one, other) = (TopicId::random(), TopicId::random());
            for id in [one, other] {
                fs::create_dir(data.partition_dir(&topic, partition)).unwrap();
                data.retire(&topic, partition, id).unwrap().unwrap();
            }
            assert!(data.partitions().unwrap().is_empty(), "{len} characters");
            let retired = data.retired().unwrap();
            assert_eq!(retired.len(), 2, "{len} characters");
            retired.iter().for_each(|path| data.delete_retired(path, || {}).unwrap());
            assert!(data.retired().unwrap().is_empty());
        }
    }

    #[test]
    fn what_stands_in_the_way_of_the_nodes_own_files_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        for name in [LOCK, PROBE, META] {
            fs::create_dir_all(dir.path().join(name).join("inside")).unwrap();
        }
        let data = DataDirectory::open(dir.path()).unwrap();
        data.check_meta(&meta(1)).unwrap();
        for damaged in ["", "version 1\n"] {
            fs::write(data.path().join(META), damaged).unwrap();
            data.check_meta(&meta(1)).unwrap();
            assert_eq!(data.read_meta().unwrap(), Some(meta(1)));
        }
        assert!(dir.path().join(".lock.aside-0/inside").exists(), "nothing is thrown away");
        assert!(dir.path().join("meta.properties.aside-2").exists());
    }

    #[test]
    fn partitions_are_listed_and_retired_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(dir.path()).unwrap();
        for name in ["a-b.c-12", "x-01", "-3", "x", "lost+found"] {
            fs::create_dir(data.path().join(name)).unwrap();
        }
        let found = data.partitions().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].topic.as_str(), found[0].partition), ("a-b.c", PartitionId(12)));
        assert_eq!(found[0].path, data.partition_dir("a-b.c", PartitionId(12)));
        assert_eq!(found[0].topic_id().unwrap(), None);

        let id = TopicId::random();
        let retired = data.retire("a-b.c", PartitionId(12), id).unwrap().unwrap();
        assert_eq!(data.retire("a-b.c", PartitionId(12), id).unwrap(), None);
        assert!(data.partitions().unwrap().is_empty());
        assert_eq!(data.retired().unwrap(), std::slice::from_ref(&retired));
        assert!(data.delete_retired(&data.path().join("x"), || {}).is_err());
        let large = File::create(retired.join("00000000000000000000.log")).unwrap();
        large.set_len(5 << 20).unwrap();
        drop(large);
        let mut rests = 0;
        data.delete_retired(&retired, || rests += 1).unwrap();
        assert_eq!(rests, 3, "piece by piece");
        data.delete_retired(&retired, || {}).unwrap();
        assert!(data.retired().unwrap().is_empty());
    }
}
