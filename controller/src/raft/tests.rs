//! openraft's own suite on this storage, and what it cannot know.

use super::entries::EntryLog;
use super::image::ImageMachine;
use super::storage::Storage;
use super::types::TypeConfig;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

/// Keeps the directory, and in it everything that is open, until a test is over.
struct Opened {
    _storage: Storage,
    _dir: TempDir,
}

impl StoreBuilder<TypeConfig, EntryLog, ImageMachine, Opened> for Builder {
    async fn build(&self) -> Result<(Opened, EntryLog, ImageMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path()).unwrap();
        let entries = EntryLog::open(&storage).unwrap();
        let machine = ImageMachine::restore(&storage).unwrap();
        Ok((Opened { _storage: storage, _dir: dir }, entries, machine))
    }
}

#[test]
fn openrafts_own_suite_passes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}
