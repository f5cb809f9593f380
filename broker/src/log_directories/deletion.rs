//! Removes what a partition has left on a disk, at a pace at which the others that wait for it can go on.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use troupe_log::LogDirectory;

/// After a piece of a large file.
const REST: Duration = Duration::from_millis(10);
/// What takes longer goes on without rests: somebody may wait for the room.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks until it is gone. What cannot be removed is told, and left for the next start.
pub fn delete(directory: &Arc<LogDirectory>, path: &Path) {
    let Some(data) = directory.data() else { return };
    let begin = Instant::now();
    let rest = || {
        if begin.elapsed() < PATIENCE {
            thread::sleep(REST);
        }
    };
    if let Err(error) = data.delete_retired(path, rest) {
        let path = path.display();
        tracing::warn!(%path, %error, "left for the next start to remove");
    }
}
