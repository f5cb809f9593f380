//! What is still in memory of what was written.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Waits until everything that is dirty on the disk of `path` is written.
pub fn sync_file_system(path: &Path) -> std::io::Result<()> {
    let directory = File::open(path)?;
    // SAFETY: the descriptor is open for as long as the call takes.
    match unsafe { libc::syncfs(directory.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
