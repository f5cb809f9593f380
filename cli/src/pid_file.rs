//! What a node that runs leaves in its data directory for who wants to stop it, or waits for it.
//!
//! ```text
//! troupe.pid    the number of its process, while it runs
//! .started      where it listens and how far it is, in JSON: for who has started it
//! ```
//!
//! Promise: what a node has left that ended without a word is taken for nothing.
//! Never here: sending signals.

use crate::streams::notice;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fs, io};

const PID: &str = "troupe.pid";
const STARTED: &str = ".started";

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub pid: u32,
    pub grpc: String,
    pub http: String,
    /// It serves; else it waits for the cluster.
    pub ready: bool,
}

/// The files of the node of this process. They go with it.
pub struct PidFile {
    directory: PathBuf,
}

impl PidFile {
    /// A node whose directory cannot be written to has other troubles; it runs all the same.
    pub fn write(directory: &Path, started: &Started) -> PidFile {
        let written = fs::write(directory.join(PID), format!("{}\n", started.pid));
        if let Err(error) = written.and_then(|()| write_started(directory, started)) {
            notice!("cannot write {}: {error}", directory.join(PID).display());
        }
        PidFile { directory: directory.to_owned() }
    }

    /// The node has got further.
    pub fn update(&self, started: &Started) {
        if let Err(error) = write_started(&self.directory, started) {
            notice!("cannot write {}: {error}", self.directory.join(STARTED).display());
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        for name in [STARTED, PID] {
            // What is left is taken for nothing.
            let _ = fs::remove_file(self.directory.join(name));
        }
    }
}

/// Whoever reads it finds all of it, or nothing.
fn write_started(directory: &Path, started: &Started) -> io::Result<()> {
    let new = directory.join(format!("{STARTED}.new"));
    fs::write(&new, serde_json::to_vec(started)?)?;
    fs::rename(&new, directory.join(STARTED))
}

/// The process that has said so here, if any has.
pub fn read(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join(PID)).ok()?.trim().parse().ok()
}

/// How far the node is that this process is.
pub fn started(directory: &Path, pid: u32) -> Option<Started> {
    let text = fs::read(directory.join(STARTED)).ok()?;
    let started: Started = serde_json::from_slice(&text).ok()?;
    (started.pid == pid).then_some(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_has_left_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!((read(path), started(path, 7)), (None, None));
        let mut state =
            Started { pid: 7, grpc: "a:1".to_owned(), http: "a:2".to_owned(), ready: false };
        let file = PidFile::write(path, &state);
        assert_eq!((read(path), started(path, 7)), (Some(7), Some(state.clone())));
        assert_eq!(started(path, 8), None);
        state.ready = true;
        file.update(&state);
        assert!(started(path, 7).unwrap().ready);
        drop(file);
        assert_eq!((read(path), started(path, 7)), (None, None));
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
    }
}
