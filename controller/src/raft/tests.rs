//! openraft's own suite on this storage, and what it cannot know.

use super::entries::EntryLog;
use super::image::ImageMachine;
use super::storage::Storage;
use super::types::TypeConfig;
use openraft::StorageError;
use openraft::alias::EntryOf;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::testing::log_id;
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

/// The mark of a purge may be on disk without the purge: whoever was killed then opens again.
#[tokio::test]
async fn a_purge_that_was_cut_off_behind_its_mark_has_happened() {
    let (_opened, mut entries, _) = Builder.build().await.unwrap();
    let id = |index| log_id::<TypeConfig>(1, 0, index);
    let blank = |index| EntryOf::<TypeConfig>::new_blank(id(index));
    entries.blocking_append((0..=3).map(blank)).await.unwrap();
    entries.mark_purged(id(10)).unwrap();
    let state = entries.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(10)), Some(id(10))));
    entries.blocking_append([blank(11)]).await.unwrap();
    let state = entries.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(10)), Some(id(11))));
    let read = entries.try_get_log_entries(11..).await.unwrap();
    assert_eq!(read, [blank(11)]);
}
