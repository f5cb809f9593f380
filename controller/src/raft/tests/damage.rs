//! What a node that decides alone makes of a damaged log, and what an earlier version left.

use super::*;
use crate::ControllerStartError;
use crate::raft::conversion::write_old;
use crate::raft::types::{Decided, leader_vote};
use std::path::Path;

/// Positions from a seed: mostly in what was written, sometimes anywhere.
struct Positions(u64);

impl Positions {
    fn next(&mut self, bytes: &[u8]) -> usize {
        let mut draw = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) as usize % bytes.len()
        };
        for _ in 0..64 {
            let at = draw();
            if bytes[at] != 0 {
                return at;
            }
        }
        draw()
    }
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, bytes).unwrap();
    }
    std::fs::create_dir_all(to.join("raft/blobs")).unwrap();
}

async fn started(dir: &Path) -> Result<crate::ControllerHandle, ControllerStartError> {
    let config = ControllerConfig { snapshot_entries: 12, ..ControllerConfig::new(NodeId(1), dir) };
    Controller::start(config).await
}

/// A log with a snapshot and entries behind it.
async fn written(dir: &Path) -> Arc<ClusterImage> {
    with_topics(dir, 140).await
}

/// What was decided: a broker, and so many topics.
async fn with_topics(dir: &Path, topics: u32) -> Arc<ClusterImage> {
    let handle = started(dir).await.unwrap();
    handle.register_unfenced_broker(a_broker()).await.unwrap();
    for number in 0..topics {
        let creation = CreateTopic { name: format!("topic-{number}"), ..CreateTopic::default() };
        handle.create_topic(creation).await.unwrap();
    }
    let image = handle.image().borrow().clone();
    handle.shutdown().await.unwrap();
    image
}

/// Flips one byte at each of these many positions of each file. How many were refused.
async fn flip_each(count: usize, seed: u64) -> usize {
    let whole = tempfile::tempdir().unwrap();
    let image = written(whole.path()).await;
    let mut positions = Positions(seed);
    let mut refused = 0;
    let kept: Vec<_> = files(whole.path()).into_iter().filter(|(_, it)| !it.is_empty()).collect();
    for round in 0..count {
        let (path, bytes) = &kept[round % kept.len()];
        let (name, at) = (path.strip_prefix(whole.path()).unwrap(), positions.next(bytes));
        let dir = tempfile::tempdir().unwrap();
        copy(whole.path(), dir.path());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (round % 8);
        std::fs::write(dir.path().join(name), flipped).unwrap();
        let before = files(dir.path());
        match started(dir.path()).await {
            Ok(handle) => {
                assert_eq!(*handle.image().borrow(), image, "{name:?} at {at}, seed {seed}");
                handle.shutdown().await.unwrap();
            }
            Err(ControllerStartError::Damaged { .. }) => {
                refused += 1;
                assert_eq!(files(dir.path()), before, "{name:?} at {at}: nothing is changed");
            }
            Err(error) => panic!("{name:?} at {at}, seed {seed}: {error}"),
        }
    }
    refused
}

#[actix::test]
async fn a_flipped_byte_changes_nothing_that_was_decided_or_the_node_refuses_to_start() {
    assert!(flip_each(40, 12).await > 5);
}

#[actix::test]
#[ignore = "minutes"]
async fn a_thousand_flipped_bytes_change_nothing_that_was_decided() {
    assert!(flip_each(1_000, 2026).await > 100);
}

/// As sled leaves it that finds its last segment torn, and says nothing.
#[actix::test]
async fn a_log_that_lost_its_end_is_not_taken_for_one_that_ended_there() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let handle = started(dir.path()).await.unwrap();
    handle.shutdown().await.unwrap();
    copy(dir.path(), old.path());
    written(dir.path()).await;
    std::fs::remove_dir_all(dir.path().join("raft")).unwrap();
    copy(&old.path().join("raft"), &dir.path().join("raft"));
    let refused = started(dir.path()).await.err().unwrap();
    assert!(matches!(refused, ControllerStartError::Damaged { .. }), "{refused}");
    std::fs::remove_dir_all(dir.path().join("raft")).unwrap();
    let refused = started(dir.path()).await.err().unwrap();
    assert!(matches!(refused, ControllerStartError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("backup"), "{refused}");
}

/// A snapshot that only repeats the log is made again from it.
#[actix::test]
async fn a_damaged_snapshot_is_no_loss_while_the_log_has_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let image = with_topics(dir.path(), 30).await;
    let path = dir.path().join("metadata.snapshot");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let handle = started(dir.path()).await.unwrap();
    assert_eq!(*handle.image().borrow(), image);
    handle.shutdown().await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("metadata.snapshot.damaged-1")).unwrap(), bytes);
}

/// The image goes further than any snapshot of it.
#[tokio::test]
async fn a_snapshot_that_is_damaged_while_the_node_runs_is_written_anew() {
    let (opened, _, mut machine) = Builder.build().await.unwrap();
    let image = snapshot::encode_image(&ClusterImage::default()).unwrap();
    let meta = Meta { last_log_id: Some(log_id::<TypeConfig>(1, 0, 2)), ..Meta::default() };
    machine.install_snapshot(&meta, image.clone()).await.unwrap();
    std::fs::write(opened.storage.snapshot_path(), "rot").unwrap();
    let healed = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!((healed.meta.last_log_id, healed.snapshot), (meta.last_log_id, image));
    assert!(snapshot::read(&opened.storage.snapshot_path()).unwrap().is_some());
}

/// What the last version left is opened, sealed, and no longer opened by it.
#[tokio::test]
async fn a_log_of_the_first_version_is_converted_whole() {
    let dir = tempfile::tempdir().unwrap();
    let vote = leader_vote(3, 1);
    let entry = |index: u64| {
        let decided = Decided { base_offset: Some(index), batch: vec![7; 9_000].into(), term: 3 };
        let mut entry = EntryOf::<TypeConfig>::new_blank(log_id::<TypeConfig>(3, 1, index));
        entry.payload = openraft::EntryPayload::Normal(decided);
        entry
    };
    let entries: Vec<_> = (0..20).map(entry).collect();
    let db = sled::Config::new().path(dir.path().join("raft")).open().unwrap();
    write_old(&db, &vote, &entries).unwrap();
    drop(db);
    let storage = when_free(|| Storage::open(dir.path(), || Ok(()))).await.unwrap();
    let mut log = EntryLog::open(&storage).unwrap();
    log.verify(None, None).unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.try_get_log_entries(0..100).await.unwrap(), entries);
    drop(log);
    storage.close().unwrap();
    let config = sled::Config::new().path(dir.path().join("raft"));
    let db = when_free(|| config.open().map_err(std::io::Error::other)).await.unwrap();
    let old = db.open_tree("raft_marks").unwrap().get("identity").unwrap().unwrap();
    assert!(crate::raft::entries::decode::<crate::raft::identity::Identity>(&old).is_err());
}

/// Checksums alone would let it pass.
#[tokio::test]
async fn an_older_entry_in_the_place_of_a_newer_one_is_found() {
    let (opened, mut log, _) = Builder.build().await.unwrap();
    let blank =
        |term, index| EntryOf::<TypeConfig>::new_blank(log_id::<TypeConfig>(term, 0, index));
    log.blocking_append((0..=5).map(|index| blank(1, index))).await.unwrap();
    let tree = opened.storage.tree(crate::raft::entries::ENTRIES).unwrap();
    let key = crate::raft::entries::key(4, 0);
    let old = tree.get(key).unwrap().unwrap();
    log.truncate_after(Some(log_id::<TypeConfig>(1, 0, 3))).await.unwrap();
    log.blocking_append((4..=6).map(|index| blank(2, index))).await.unwrap();
    log.verify(None, None).unwrap();
    tree.insert(key, old).unwrap();
    assert!(log.verify(None, None).is_err());
    tree.remove(key).unwrap();
    assert!(log.try_get_log_entries(3..6).await.is_err(), "nor does a hole");
}

/// On a file system of two megabytes. What is refused for want of room is refused, and what was durable stays.
#[actix::test]
#[ignore = "mounts a file system, for which it has to be root"]
async fn a_disk_that_is_full_loses_nothing_and_is_used_again_when_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0]).args(&arguments[1..]).status().unwrap();
        assert!(done.success(), "{arguments:?}");
    };
    let at = place.path().to_str().unwrap();
    mount(&["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", at]);
    let handle = started(&place.path().join("metadata")).await.unwrap();
    handle.register_unfenced_broker(a_broker()).await.unwrap();
    let ballast = place.path().join("ballast");
    let mut created = 0;
    let mut health = handle.metadata_health();
    let create = |number: usize| CreateTopic {
        name: format!("topic-{number}"),
        partitions: Some(200),
        ..CreateTopic::default()
    };
    for _ in 0..5 {
        handle.create_topic(create(created)).await.unwrap();
        created += 1;
    }
    // All that is left is taken.
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 1024]).is_ok() {}
    let mut number = created;
    while health.borrow().failure.is_none() {
        let creation = handle.create_topic(create(number));
        tokio::select! {
            done = creation => match done {
                Ok(_) => { number += 1; created += 1; }
                Err(error) => assert!(error.is_retriable(), "{error}"),
            },
            failed = health.wait_for(|health| health.failure.is_some()) => drop(failed.unwrap()),
        }
    }
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    drop(health.wait_for(|health| health.failure.is_none()).await.unwrap());
    while handle.await_active().await.is_err() {}
    handle
        .create_topic(CreateTopic { name: "after".into(), ..CreateTopic::default() })
        .await
        .unwrap();
    let image = handle.image().borrow().clone();
    assert!((0..created).all(|number| image.topic(&format!("topic-{number}")).is_some()));
    handle.shutdown().await.unwrap();
    let handle = started(&place.path().join("metadata")).await.unwrap();
    assert_eq!(*handle.image().borrow(), image);
    handle.shutdown().await.unwrap();
    drop(handle);
    mount(&["umount", "-l", at]);
}
