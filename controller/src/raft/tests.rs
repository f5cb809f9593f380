//! openraft's own suite on this storage, and what it cannot know.

mod damage;

use super::entries::EntryLog;
use super::image::ImageMachine;
use super::snapshot::{self, Meta};
use super::storage::Storage;
use super::types::TypeConfig;
use crate::{Controller, ControllerConfig, MetadataLogContent, MetadataPayload, MetadataReadError};
use openraft::alias::EntryOf;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::testing::log_id;
use openraft::{RaftSnapshotBuilder, StorageError};
use std::sync::Arc;
use tempfile::TempDir;
use troupe_machines::cluster::{ClusterImage, CreateTopic, DeleteTopic, RegisterBroker};
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1::MetadataRecord;
use troupe_proto::internal::v1::metadata_record::Record;

fn a_broker() -> RegisterBroker {
    RegisterBroker {
        node_id: NodeId(1),
        incarnation: [1; 16],
        endpoint: "localhost:9092".into(),
        ..RegisterBroker::default()
    }
}

/// Threads of sled's own hold a database a little longer than whoever has dropped it.
pub(super) async fn when_free<T>(open: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match open() {
            Err(error) if super::storage::is_locked(&error) => {}
            opened => return opened,
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

struct Builder;

/// Keeps the directory, and in it everything that is open, until a test is over.
struct Opened {
    storage: Storage,
    _dir: TempDir,
}

impl StoreBuilder<TypeConfig, EntryLog, ImageMachine, Opened> for Builder {
    async fn build(&self) -> Result<(Opened, EntryLog, ImageMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), || Ok(())).unwrap();
        let entries = EntryLog::open(&storage).unwrap();
        let machine = ImageMachine::restore(&storage, &Arc::default()).unwrap();
        Ok((Opened { storage, _dir: dir }, entries, machine))
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

/// The entries behind the newer one may be purged: with the older one in the file, nobody could tell what they said.
#[tokio::test]
async fn a_snapshot_that_took_its_time_does_not_replace_a_newer_one() {
    let (opened, _, mut machine) = Builder.build().await.unwrap();
    let image = snapshot::encode_image(&ClusterImage::default()).unwrap();
    let until =
        |index| Meta { last_log_id: Some(log_id::<TypeConfig>(1, 0, index)), ..Meta::default() };
    machine.install_snapshot(&until(2), image.clone()).await.unwrap();
    let mut slow = machine.get_snapshot_builder().await;
    machine.install_snapshot(&until(5), image).await.unwrap();
    let built = slow.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, until(2).last_log_id);
    let kept = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(kept.meta.last_log_id, until(5).last_log_id);
    let mut again = ImageMachine::restore(&opened.storage, &Arc::default()).unwrap();
    assert_eq!(again.applied_state().await.unwrap().0, until(5).last_log_id);
}

/// K9: however long it goes on, the log has no more entries than those behind its last snapshot.
#[actix::test]
async fn a_log_of_what_comes_and_goes_stays_small() {
    const LIMIT: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let config = ControllerConfig {
        snapshot_bytes: LIMIT,
        snapshot_entries: 1 << 40,
        ..ControllerConfig::new(NodeId(1), dir.path())
    };
    let handle = Controller::start(config).await.unwrap();
    handle.register_unfenced_broker(a_broker()).await.unwrap();
    for number in 0..300 {
        let name = format!("topic-{number}");
        let creation = CreateTopic { name: name.clone(), ..CreateTopic::default() };
        handle.create_topic(creation).await.unwrap();
        let deletion = DeleteTopic { name, internal: false, validate_only: false };
        handle.delete_topic(deletion).await.unwrap();
    }
    handle.shutdown().await.unwrap();
    let storage = when_free(|| Storage::open(dir.path(), || Ok(()))).await.unwrap();
    let state = EntryLog::open(&storage).unwrap().get_log_state().await.unwrap();
    let (last, purged) =
        (state.last_log_id.unwrap().index, state.last_purged_log_id.unwrap().index);
    assert!(last >= 600);
    // Behind the last snapshot, and what came while that one and the one before it were made.
    let kept = super::ENTRIES_BEHIND_SNAPSHOT + 3 * LIMIT / super::image::ENTRY_BYTES;
    assert!(last - purged <= kept, "{} of {last} entries are left", last - purged);
}

/// What a node that stopped has decided is shown, and nothing of it is changed.
#[actix::test]
async fn a_metadata_log_is_read_without_being_touched() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        ControllerConfig { snapshot_entries: 10, ..ControllerConfig::new(NodeId(1), dir.path()) };
    let handle = Controller::start(config).await.unwrap();
    handle.register_unfenced_broker(a_broker()).await.unwrap();
    for number in 0..30 {
        let creation = CreateTopic { name: format!("topic-{number}"), ..CreateTopic::default() };
        handle.create_topic(creation).await.unwrap();
    }
    let read = || MetadataLogContent::read(dir.path());
    assert!(matches!(read(), Err(MetadataReadError::InUse { .. })), "it is left alone");
    handle.shutdown().await.unwrap();
    let content = loop {
        match read() {
            Err(MetadataReadError::InUse { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            content => break content.unwrap(),
        }
    };
    let before = files(dir.path());
    assert_eq!(read().unwrap(), content);
    assert_eq!(files(dir.path()), before);
    assert_eq!(content.damage, Vec::<String>::new());
    assert_eq!(content.vote.map(|vote| (vote.node_id, vote.granted)), Some((NodeId(1), true)));
    assert_eq!(content.snapshot.as_ref().unwrap().voters, [NodeId(1)]);
    let is_topic = |record: &MetadataRecord| matches!(record.record, Some(Record::Topic(_)));
    let decided = content.entries.iter().flat_map(|entry| match &entry.payload {
        MetadataPayload::Decision { records, .. } => records.clone(),
        _ => Vec::new(),
    });
    assert_eq!(decided.filter(is_topic).count(), 30, "all is in the log that is not purged yet");
    let indexes = content.entries.iter().map(|entry| entry.position.index);
    assert!(indexes.clone().zip(indexes.skip(1)).all(|(one, next)| next == one + 1));
}

fn files(dir: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}
