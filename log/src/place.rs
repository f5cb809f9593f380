//! A partition's directory: the names in it, and files as a whole.

use crate::LogError;
use crate::disk::{Disk, DiskFile, read_exact_at};
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};
use troupe_proto::ids::{Offset, PartitionKey};

/// What was set aside is named so, and numbered.
pub(crate) const ASIDE: &str = ".aside-";

/// Whether a file cannot be read and never will be: something else has its name, or its sectors are gone.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::PermissionDenied)
        || error.raw_os_error() == Some(libc::EIO)
}

/// A disk, a partition's directory on it, and how its errors are told.
#[derive(Clone, Debug)]
pub(crate) struct Place<D> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    /// Whose batches stand there, if that is known: their headers are believed only if they are sealed for it.
    pub(crate) key: Option<PartitionKey>,
}

impl<D: Disk> Place<D> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn file_of(&self, base: Offset, kind: Kind) -> PathBuf {
        self.path(&kind.name(base))
    }

    pub(crate) fn sync_dir(&self) -> Result<(), LogError> {
        self.disk.sync_dir(&self.dir).map_err(|e| LogError::sync_dir(&self.dir, e))
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), LogError> {
        let path = self.path(name);
        self.disk.remove(&path).map_err(|e| LogError::io("remove", &path, e))
    }

    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        let path = self.path(name);
        self.disk.read(&path).map_err(|e| LogError::io("read", &path, e))
    }

    /// Removes a leftover. What is no file is set aside: then it says so.
    pub(crate) fn clear(&self, name: &str) -> Result<Option<String>, LogError> {
        match self.remove(name) {
            Err(LogError::Io { source, .. }) if is_unreadable(&source) => {
                self.set_aside(name, &source).map(Some)
            }
            removed => removed.map(|()| None),
        }
    }

    /// Renames what cannot be used and is not needed, so that it can be made again; says what was done.
    /// What was set aside before keeps its own name.
    pub(crate) fn set_aside(&self, name: &str, cause: &io::Error) -> Result<String, LogError> {
        let listed = self.disk.list(&self.dir).map_err(|e| LogError::io("list", &self.dir, e))?;
        let taken = listed.unwrap_or_default();
        let mut names = (0u64..).map(|number| format!("{name}{ASIDE}{number}"));
        let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
        let (from, to) = (self.path(name), self.path(&free));
        self.disk.rename(&from, &to).map_err(|e| LogError::io("set aside", &from, e))?;
        Ok(format!("{} cannot be read ({cause}) and was set aside", from.display()))
    }

    /// Gives back what a file takes, and keeps its name. Slices of it stay valid. Where there is no room even for
    /// another file without content, the name goes too.
    pub(crate) fn empty(&self, name: &str) -> Result<(), LogError> {
        match self.replace(name, &[], false) {
            Err(LogError::DiskFull { .. }) => self.remove(name),
            replaced => replaced.map(drop),
        }
    }

    pub(crate) fn replace(
        &self,
        name: &str,
        content: &[u8],
        durably: bool,
    ) -> Result<D::File, LogError> {
        let path = self.path(name);
        self.disk.replace(&path, content, durably).map_err(|e| LogError::io("write", &path, e))
    }
}

/// The files that carry an offset in their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    OffsetIndex,
    TimeIndex,
    TxnIndex,
    Snapshot,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex, Kind::TxnIndex, Kind::Snapshot];
    /// Beside a segment, what follows from its batches.
    pub(crate) const INDEXES: [Kind; 3] = [Kind::OffsetIndex, Kind::TimeIndex, Kind::TxnIndex];

    const fn suffix(self) -> &'static str {
        match self {
            Kind::Log => ".log",
            Kind::OffsetIndex => ".index",
            Kind::TimeIndex => ".timeindex",
            Kind::TxnIndex => ".txnindex",
            Kind::Snapshot => ".snapshot",
        }
    }

    /// Twenty digits, so that names sort as offsets do (S2).
    pub(crate) fn name(self, base: Offset) -> String {
        // without the machinery of formatting: every access to a file by its name comes by here
        let (mut digits, mut rest) = ([b'0'; 20], base.0);
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        let mut name = String::with_capacity(digits.len() + self.suffix().len());
        name.extend(digits.map(char::from));
        name.push_str(self.suffix());
        name
    }

    pub(crate) fn parse(name: &str) -> Option<(Offset, Kind)> {
        let kind = Self::ALL.into_iter().find(|kind| name.ends_with(kind.suffix()))?;
        let digits = name.strip_suffix(kind.suffix())?;
        if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // offsets travel as signed numbers: larger ones are nobody's
        let offset = digits.parse().ok().and_then(Offset::from_wire)?;
        Some((offset, kind))
    }
}

/// A whole file, if there is one.
pub(crate) fn read_or_empty<D: Disk>(place: &Place<D>, path: &Path) -> Result<Vec<u8>, LogError> {
    let content = place.disk.read(path).map_err(|e| LogError::io("read", path, e))?;
    Ok(content.unwrap_or_default())
}

/// A whole file, mapped if the disk can; `None` if there is none.
pub(crate) fn map_file<D: Disk>(place: &Place<D>, path: &Path) -> Result<Option<Bytes>, LogError> {
    let file = match place.disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io("open", path, error)),
    };
    let read = || -> io::Result<Bytes> {
        let len = file.size()?;
        if let Some(map) = file.map(len)? {
            return Ok(map);
        }
        let mut bytes = vec![0; len as usize];
        read_exact_at(&file, 0, &mut bytes)?;
        Ok(Bytes::from(bytes))
    };
    read().map(Some).map_err(|e| LogError::io("read", path, e))
}
