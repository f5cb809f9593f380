//! A log in which damage was found.

use super::*;
use troupe_log::disk::FileDisk;
use troupe_log::{Damage, Log};

/// Whoever led by it would have the others truncate what it lacks.
#[test]
fn a_replica_whose_log_was_found_damaged_does_not_lead_before_the_controller_knows() {
    System::new().block_on(async {
        let (shard, mut asked) = Shard::with_controller(1);
        let handle = shard.open("flipped");
        shard.lead(&handle, 1, &[1]);
        append(&handle, b"acknowledged").await.unwrap();
        let path = shard.directory.path().join("flipped-0/00000000000000000000.log");
        let log = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let last = log.metadata().unwrap().len() - 1;
        std::os::unix::fs::FileExt::write_all_at(&log, b"?", last).unwrap();
        handle.tell(Die::Stop);
        handle.rebuilt(1, REBUILD_PATIENCE).await.unwrap();
        assert!(handle.board.is_damaged() && handle.board.owes_report());
        // elected meanwhile, of those that count for in sync
        shard.lead_at(&handle, 3, &[1, 2], 6);
        shard.settled().await;
        let role = async || handle.describe().await.unwrap().role;
        assert_eq!(role().await, Role::Idle);
        let elections = [1, 3].map(|epoch| (handle.key(), LeaderEpoch(epoch)));
        assert_eq!(asked.elections(), elections);
        handle.command(LossKnown { from: Some(PartitionEpoch(7)) });
        assert_eq!(role().await, Role::Idle, "what is known here is older");
        assert!(handle.board.is_damaged());
        shard.lead_at(&handle, 5, &[1], 8);
        shard.settled().await;
        assert_eq!(role().await, Role::Leader, "nobody has more");
        assert!(handle.board.is_damaged(), "and what it lacks is lost");
    });
}

/// Of the first batch the beginning was deleted, and the end is to be filled again.
#[test]
fn a_gap_within_the_first_batch_is_cut_off_with_all_of_it() {
    System::new().block_on(async {
        let shard = Shard::start(1);
        let (key, dir) = (new_key(), shard.directory.path().join("gap-0"));
        let mut records = RecordSetBuilder::new();
        (0..5).for_each(|n| records.push(n, None, Some(b"value"), &[]));
        let built = records.finish(Compression::None, None).unwrap();
        let config = opening::log_config(&TopicConfig::default(), key);
        let (mut log, _) = Log::open(FileDisk, dir, key, config, 0).unwrap();
        log.append(&built.header, &Rope::from(built.payload), 0).unwrap();
        log.set_log_start(Offset(2)).unwrap();
        log.note_damage(Damage::from(Offset(3), "a test")).unwrap();
        log.close_clean(Offset(5)).unwrap();
        let followed = PartitionState {
            leader: Some(NodeId(2)),
            replicas: vec![NodeId(1), NodeId(2)],
            isr: vec![NodeId(2)],
            ..PartitionState::clone(&state())
        };
        let handle = shard.open_as("gap", key, Arc::new(followed));
        assert_eq!(handle.describe().await.unwrap().role, Role::Idle);
        handle.command(LossKnown { from: Some(PartitionEpoch(0)) });
        let found = handle.describe().await.unwrap();
        assert_eq!(found.role, Role::Follower);
        assert_eq!((found.log_start, found.log_end), (Offset(2), Offset(2)));
        assert_eq!(handle.board.high_watermark(), Offset(2));
        assert_eq!(handle.board.restarts(), 0);
    });
}

/// A follower that was told to start anew has nothing, and its directory is there.
#[test]
fn an_empty_log_is_no_lost_directory() {
    let temp = tempfile::tempdir().unwrap();
    let (key, dir, config) = (new_key(), temp.path().join("reset"), TopicConfig::default());
    let inventory = troupe_log::Inventory::open(temp.path());
    let open =
        || opening::open(dir.clone(), key, NodeId(1), &config, TIMES, &inventory).unwrap().log;
    let mut records = RecordSetBuilder::new();
    records.push(0, None, Some(b"value"), &[]);
    let built = records.finish(Compression::None, None).unwrap();
    let mut log = open();
    log.append(&built.header, &Rope::from(built.payload), 0).unwrap();
    inventory.add("reset", key.topic_id).unwrap();
    log.truncate_fully_and_start_at(Offset(0)).unwrap();
    drop(log);
    assert_eq!(open().damage(), None);
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(open().damage().is_some());
}
