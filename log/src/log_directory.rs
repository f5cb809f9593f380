//! One entry of `log.dirs`: whether it serves, what failed if it does not, and how much is in it.
//!
//! Promises: a directory that has failed stays away until the node starts anew, whatever its disk does meanwhile:
//! nobody knows what of the last writes it took. A disk that lacks something for the moment (room, descriptors,
//! memory) has not failed.
//! Never here: which partition belongs where.

use crate::LogError;
use crate::directory::{DataDirectory, DirectoryError};
use crate::disk::{Disk, FileDisk, is_shortage};
use crate::place::Kind;
use crate::space::{Volume, volume_of};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use troupe_proto::ids::DirectoryId;

/// See the module. Serves all threads.
#[derive(Debug)]
pub struct LogDirectory {
    path: PathBuf,
    /// None: it could not be opened.
    data: Option<DataDirectory>,
    /// Of one that could not be opened, as it is remembered.
    known: Option<DirectoryId>,
    failure: OnceLock<String>,
    /// Something in it has failed since it was last looked at.
    suspected: AtomicBool,
    /// On the same file system as the node's metadata, for which a little room is kept.
    beside_metadata: bool,
}

/// The bytes of a partition in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    /// As its directory: `<topic>-<partition>`.
    pub name: String,
    pub bytes: u64,
    /// Of a copy that is being built here, and does not serve yet.
    pub is_future: bool,
}

impl LogDirectory {
    pub(crate) fn online(data: DataDirectory, metadata_device: Option<u64>) -> LogDirectory {
        let device = data.device().ok();
        LogDirectory {
            path: data.path().to_owned(),
            known: None,
            failure: OnceLock::new(),
            suspected: AtomicBool::new(false),
            beside_metadata: device.is_some() && device == metadata_device,
            data: Some(data),
        }
    }

    pub(crate) fn offline(path: PathBuf, known: Option<DirectoryId>, reason: String) -> Self {
        LogDirectory {
            path,
            data: None,
            known,
            failure: OnceLock::from(reason),
            suspected: AtomicBool::new(false),
            beside_metadata: false,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `None`: it could not be opened, and was never seen before.
    pub fn id(&self) -> Option<DirectoryId> {
        self.data.as_ref().map(DataDirectory::id).or(self.known)
    }

    /// The directory, as long as it serves.
    pub fn data(&self) -> Option<&DataDirectory> {
        self.data.as_ref().filter(|_| !self.is_offline())
    }

    pub fn is_offline(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Why it does not serve.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// # Errors
    /// [`LogError::DirectoryOffline`].
    pub fn check(&self) -> Result<(), LogError> {
        match self.failure() {
            None => Ok(()),
            Some(cause) => {
                let (path, cause) = (self.path.clone(), cause.into());
                Err(LogError::DirectoryOffline { path, cause })
            }
        }
    }

    /// It serves no more. True: it did until now.
    pub fn fail(&self, reason: String) -> bool {
        self.failure.set(reason).is_ok()
    }

    /// A write or a flush in it has failed: is it the directory, or that one file?
    pub fn suspect(&self) {
        self.suspected.store(true, Ordering::Release);
    }

    /// Whether anybody suspects it, once.
    pub fn take_suspicion(&self) -> bool {
        self.suspected.swap(false, Ordering::AcqRel)
    }

    pub fn is_beside_metadata(&self) -> bool {
        self.beside_metadata
    }

    /// Whether it is still there and may be written to, as cheaply as that can be told.
    ///
    /// # Errors
    /// Why it has failed, in words.
    pub fn look(&self) -> Result<(), String> {
        let Some(data) = self.data() else { return Ok(()) };
        match data.is_in_place() {
            Ok(true) => {}
            Ok(false) => return Err("something else stands at its path now".to_owned()),
            Err(error) if is_shortage(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err("it has vanished from its path".to_owned());
            }
            Err(error) => return Err(format!("it cannot be looked at: {error}")),
        }
        match volume_of(&self.path) {
            Some(Volume { read_only: true, .. }) => {
                Err("its file system is mounted read-only".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The same by writing to it; `durably`: and waiting for the disk. May take long.
    ///
    /// # Errors
    /// Why it has failed, in words.
    pub fn probe(&self, durably: bool) -> Result<(), String> {
        let Some(data) = self.data() else { return Ok(()) };
        self.look()?;
        match data.write_probe(durably) {
            Err(error) if is_shortage(&error) || is_full(&error) => Ok(()),
            Err(error) => Err(format!("it cannot be written to: {error}")),
            Ok(()) => Ok(()),
        }
    }

    /// Its file system, if that says how large it is.
    pub fn volume(&self) -> Option<Volume> {
        self.data().and_then(|data| volume_of(data.path()))
    }

    /// The bytes of the segments of each partition in it, as Kafka counts them.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn sizes(&self) -> Result<Vec<PartitionSize>, DirectoryError> {
        let Some(data) = self.data() else { return Ok(Vec::new()) };
        let sizes = data.partitions()?.into_iter().map(|found| (found, false));
        let futures = data.futures()?.into_iter().map(|found| (found, true));
        let sizes = sizes.chain(futures).map(|(found, is_future)| PartitionSize {
            bytes: segment_bytes(&found.path),
            name: format!("{}-{}", found.topic, found.partition),
            is_future,
        });
        Ok(sizes.collect())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What vanishes while it is counted counts for nothing.
fn segment_bytes(dir: &Path) -> u64 {
    let names = FileDisk.list(dir).ok().flatten().unwrap_or_default();
    let is_segment = |name: &String| matches!(Kind::parse(name), Some((_, Kind::Log)));
    let segments = names.iter().filter(|name| is_segment(name));
    segments.filter_map(|name| FileDisk.size(&dir.join(name)).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &Path) -> LogDirectory {
        LogDirectory::online(DataDirectory::open(path).unwrap(), None)
    }

    #[test]
    fn a_directory_that_vanishes_or_is_replaced_has_failed_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let directory = open(&path);
        directory.look().unwrap();
        directory.probe(true).unwrap();
        fs::rename(&path, dir.path().join("b")).unwrap();
        assert!(directory.look().unwrap_err().contains("vanished"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(".lock"), "").unwrap();
        assert!(directory.probe(false).unwrap_err().contains("something else"));
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "no directory").unwrap();
        let reason = directory.look().unwrap_err();
        assert!(directory.fail(reason) && !directory.fail("again".to_owned()));
        let error = directory.check().unwrap_err();
        assert!(matches!(error, LogError::DirectoryOffline { .. }), "{error}");
        assert!(directory.data().is_none());
    }

    #[test]
    fn partitions_are_counted_by_their_segments_alone() {
        let dir = tempfile::tempdir().unwrap();
        let directory = open(dir.path());
        let future = directory.data().unwrap().future_dir("b", troupe_proto::ids::PartitionId(3));
        for path in [dir.path().join("a-0"), future] {
            fs::create_dir(&path).unwrap();
            for name in ["00000000000000000000.log", "00000000000000000009.log", "x.index"] {
                fs::write(path.join(name), "seven b").unwrap();
            }
        }
        let mut sizes = directory.sizes().unwrap();
        sizes.sort_by(|a, b| a.name.cmp(&b.name));
        let size =
            |name: &str, is_future| PartitionSize { name: name.into(), bytes: 14, is_future };
        assert_eq!(sizes, [size("a-0", false), size("b-3", true)]);
    }
}
