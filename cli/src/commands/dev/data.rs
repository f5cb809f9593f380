//! Where `troupe dev` keeps everything: a directory that was named and stays, or a temporary one that goes.
//!
//! A temporary one goes at every end that lets something be done; what a `kill -9` left behind goes with the next
//! start. A lock in it tells those from the ones that are in use: the system lets go of it with the process.

use crate::failure::{Context, Failure};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = "troupe-dev-";
/// What filters of TROUPE_LOG know it by.
const TARGET: &str = "troupe::dev::data";
/// Held while the directory is in use.
const LOCK: &str = ".dev.lock";
/// Nodes that nobody has stopped may still be making files while they are removed.
const REMOVALS: usize = 10;

pub struct Data {
    pub dir: PathBuf,
    temporary: Option<Temporary>,
    pub fate: &'static str,
}

/// Removed when it is dropped, after the nodes have stopped.
struct Temporary {
    dir: TempDir,
    _lock: File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(self.dir.path());
    }
}

impl Data {
    pub fn new(chosen: Option<PathBuf>) -> Result<Data, Failure> {
        if let Some(dir) = chosen {
            return Ok(Data { dir, temporary: None, fate: "kept" });
        }
        let place = std::env::temp_dir();
        remove_leftovers(&place);
        let what = || format!("cannot make a temporary directory in {}", place.display());
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&place).with_context(what)?;
        let lock = lock_new(dir.path()).with_context(what)?;
        let path = dir.path().to_owned();
        let temporary = Some(Temporary { dir, _lock: lock });
        Ok(Data { dir: path, temporary, fate: "removed when this stops" })
    }

    /// For an end that drops nothing: removes what is temporary, though nodes may be at work in it.
    pub fn remover(&self) -> impl FnOnce() + Send + 'static {
        let dir = self.temporary.as_ref().map(|temporary| temporary.dir.path().to_owned());
        move || dir.iter().for_each(|dir| remove(dir))
    }
}

fn remove(dir: &Path) {
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ => return,
        }
    }
}

/// It has its name only when it is locked, so that nobody takes it for a leftover.
fn lock_new(dir: &Path) -> io::Result<File> {
    let before = dir.join(".dev.lock.new");
    let lock = File::create(&before)?;
    lock.lock()?;
    fs::rename(&before, dir.join(LOCK))?;
    Ok(lock)
}

/// What others of this user have left and do not use. That it cannot be removed is nothing to fail for.
fn remove_leftovers(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_named_so = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_named_so && is_own_directory(&path) {
            let Ok(lock) = File::open(path.join(LOCK)) else { continue };
            if lock.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok() {
                tracing::info!(target: TARGET, path = %path.display(), "removed what an earlier `troupe dev` left");
            }
        }
    }
}

/// Not one that somebody else has put there, nor a link to somewhere else.
fn is_own_directory(path: &Path) -> bool {
    // SAFETY: the call has no arguments and cannot fail.
    let user = unsafe { libc::geteuid() };
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_uses_is_a_leftover() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let dir = place.path().join(name);
            fs::create_dir_all(dir.join("topic-0")).unwrap();
            dir
        };
        let in_use = make("troupe-dev-a");
        let lock = lock_new(&in_use).unwrap();
        let left = make("troupe-dev-b");
        drop(lock_new(&left).unwrap());
        // Of a version that locks nothing, or of somebody who is about to lock it.
        let unlocked = make("troupe-dev-c");
        let other = make("somebodys");
        drop(lock_new(&other).unwrap());
        std::os::unix::fs::symlink(&other, place.path().join("troupe-dev-d")).unwrap();
        remove_leftovers(place.path());
        assert!(in_use.is_dir() && unlocked.is_dir() && other.join("topic-0").is_dir());
        assert!(!left.exists());
        drop(lock);
        remove_leftovers(place.path());
        assert!(!in_use.exists());
    }
}
