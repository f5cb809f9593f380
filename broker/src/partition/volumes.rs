//! The disks that the partitions of a node are on, as those see them who never see a log.

use std::sync::Arc;
use troupe_log::{LogDirectories, LogDirectory};

#[derive(Clone)]
pub struct Volumes {
    directories: Arc<LogDirectories>,
}

impl Volumes {
    pub fn new(directories: Arc<LogDirectories>) -> Self {
        Self { directories }
    }

    /// What this process may use on the fullest of the file systems. `None`: none says so.
    pub fn free_bytes(&self) -> Option<u64> {
        let volumes = self.directories.online().filter_map(|directory| directory.volume());
        volumes.map(|volume| volume.usable_bytes).min()
    }

    /// Directories that have failed, or could not be opened: where they are, and why.
    pub fn offline(&self) -> Vec<String> {
        let told = |directory: &Arc<LogDirectory>| {
            let reason = directory.failure()?;
            Some(format!("{} ({reason})", directory.path().display()))
        };
        self.directories.all().iter().filter_map(told).collect()
    }
}
