//! What the paths of the command line stand for.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::path::{Path, PathBuf};
use troupe_log::dump::FileKind;

/// Where a node keeps its metadata log, in its data directory.
const METADATA: &str = "metadata";
/// What stands in that directory: the database, or the snapshot before there is one.
const METADATA_FILES: [&str; 2] = ["raft", "metadata.snapshot"];

/// Something that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    File(PathBuf, FileKind),
    /// The directory of a partition, of which one of these is a file.
    Partition(PathBuf),
    /// The directory of a metadata log.
    MetadataLog(PathBuf),
}

/// The order is that of the command line; in a directory, that of names.
///
/// # Errors
/// A path leads nowhere, or to no file of a log.
pub fn find(paths: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let before = all.len();
        match (path.parent().filter(|_| is_metadata_file(path)), FileKind::of(path)) {
            (Some(dir), _) => all.push(Found::MetadataLog(dir.to_owned())),
            (None, _) if path.is_dir() => search(path, &mut all)?,
            (None, Some(kind)) => all.push(Found::File(path.clone(), kind)),
            (None, None) => return Err(unknown(path)),
        }
        if all.len() == before {
            return Err(unknown(path));
        }
    }
    Ok(all)
}

/// The files in a partition's directory that are known by their names, in the order of those.
///
/// # Errors
/// It cannot be listed.
pub fn of_partition(dir: &Path) -> Result<Vec<(PathBuf, FileKind)>, Failure> {
    let paths = list(dir)?.into_iter().filter(|path| !path.is_dir());
    Ok(paths.filter_map(|path| FileKind::of(&path).map(|kind| (path, kind))).collect())
}

fn search(dir: &Path, all: &mut Vec<Found>) -> Result<(), Failure> {
    if METADATA_FILES.iter().any(|name| dir.join(name).exists()) {
        all.push(Found::MetadataLog(dir.to_owned()));
        return Ok(());
    }
    let paths = list(dir)?;
    let partitions: Vec<&PathBuf> = paths
        .iter()
        .filter(|path| path.is_dir() && of_partition(path).is_ok_and(|files| !files.is_empty()))
        .collect();
    let metadata = dir.join(METADATA);
    let has_metadata = METADATA_FILES.iter().any(|name| metadata.join(name).exists());
    let own = of_partition(dir)?;
    let is_partition =
        own.iter().any(|(_, kind)| !matches!(kind, FileKind::Inventory | FileKind::Checkpoint));
    if is_partition || (partitions.is_empty() && !has_metadata && !is_data_directory(dir)) {
        if !own.is_empty() {
            all.push(Found::Partition(dir.to_owned()));
        }
        return Ok(());
    }
    all.extend(own.into_iter().map(|(path, kind)| Found::File(path, kind)));
    all.extend(partitions.into_iter().cloned().map(Found::Partition));
    if has_metadata {
        all.push(Found::MetadataLog(metadata));
    }
    Ok(())
}

/// Whether a node keeps its data here.
pub fn is_data_directory(dir: &Path) -> bool {
    [".lock", "meta.properties"].iter().any(|name| dir.join(name).exists())
}

fn is_metadata_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.exists() && METADATA_FILES.contains(&name)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let what = || format!("cannot list {}", dir.display());
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(what)? {
        inside.push(entry.with_context(what)?.path());
    }
    inside.sort();
    Ok(inside)
}

fn unknown(path: &Path) -> Failure {
    let what = format!("cannot read {}", path.display());
    if path.exists() {
        let hint = "name a .log, .index, .timeindex, .txnindex, .snapshot or checkpoint file, a partition's directory, \
                    a data directory or the metadata directory in it";
        Failure::new(Exit::Usage, what, "it is no file of a log").with_hint(hint)
    } else {
        Failure::new(Exit::NotFound, what, "there is no such file")
    }
}
