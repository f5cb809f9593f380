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

/// What was written of a file is not in memory any more: whoever reads it waits for the disk.
pub fn forget_file(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    file.sync_data()?;
    // SAFETY: takes no memory, and the descriptor is open for as long as the call takes.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

/// The same of the files in a directory.
pub fn forget_files_in(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            forget_file(&entry.path())?;
        }
    }
    Ok(())
}
