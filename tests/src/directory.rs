//! Directories for data. On the disk that holds the build, because `/tmp` may be memory, where an fsync
//! promises nothing.

use std::path::PathBuf;
use tempfile::TempDir;

/// The build's target directory: the test executable lies in `target/PROFILE/deps`.
pub(crate) fn target() -> PathBuf {
    let executable = std::env::current_exe().expect("a test executable has a path");
    let target = executable.ancestors().nth(3).expect("target/PROFILE/deps/NAME");
    target.to_owned()
}

/// An empty directory that is removed when it is dropped.
pub fn temporary_directory() -> TempDir {
    let parent = target().join("test-data");
    std::fs::create_dir_all(&parent).expect("the target directory can be written");
    tempfile::Builder::new()
        .prefix("troupe-")
        .tempdir_in(parent)
        .expect("the target directory can be written")
}
