//! Opening, closing, and opening again.

use crate::batches::*;
use std::path::PathBuf;
use troupe_log::disk::{Disk, FileDisk, Loss};
use troupe_log::{Log, LogConfig, LogError};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey, TopicId};

#[test]
fn a_partition_that_was_never_written_leaves_nothing_on_disk() {
    let disk = memory();
    let (mut log, recovery) = open(&disk, small());
    assert!(recovery.clean);
    log.assign_epoch(LeaderEpoch(4), Offset(0));
    log.checkpoint(Offset(0)).unwrap();
    log.write_producer_snapshot(Offset(0), b"nothing").unwrap();
    log.close_clean(Offset(0)).unwrap();
    assert!(disk.files().is_empty());
}

#[test]
fn a_log_on_a_real_disk_is_the_same_after_closing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("topic-3");
    let open = || Log::open(FileDisk, dir.clone(), key(), small(), NOW).unwrap();
    let (mut log, _) = open();
    for i in 0..30 {
        append(&mut log, i / 10, 1 + i as usize % 3, 100).unwrap();
    }
    assert!(log.segment_count() > 3);
    let before = contents(&log, Offset(0));
    let end = log.log_end();
    log.write_producer_snapshot(end, b"state").unwrap();
    log.close_clean(Offset(17)).unwrap();

    let (mut log, recovery) = open();
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(recovery.snapshot.unwrap(), (end, "state".into()));
    assert_eq!(recovery.replay_from, end);
    assert_eq!(recovery.high_watermark, Some(Offset(17)));
    assert_eq!((log.log_end(), log.flushed_end()), (end, end));
    assert_eq!(contents(&log, Offset(0)), before);
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(2)));
    append(&mut log, 2, 1, 10).unwrap();
    assert_eq!(contents(&log, end).len(), 1);
}

#[test]
fn a_kill_costs_a_scan_from_the_recovery_point_and_loses_nothing() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 2, 100).unwrap();
    log.flush().unwrap();
    log.checkpoint(Offset(2)).unwrap();
    let flushed = log.size_bytes();
    append(&mut log, 0, 3, 100).unwrap();
    let before = contents(&log, Offset(0));
    let scanned = log.size_bytes() - flushed;
    drop(log);

    let disk = disk.crash(Loss::Nothing);
    let (log, recovery) = open(&disk, LogConfig::default());
    assert_eq!((recovery.clean, recovery.scanned_bytes), (false, scanned));
    assert_eq!(contents(&log, Offset(0)), before);
    assert_eq!(log.flushed_end(), log.log_end());
    drop(log);
    assert!(open(&disk.crash(Loss::Unsynced), LogConfig::default()).0.log_end() == Offset(5));
    assert!(open(&disk, LogConfig::default()).1.clean);
}

#[test]
fn another_topics_directory_is_refused() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    append(&mut log, 0, 1, 1).unwrap();
    drop(log);
    let other = PartitionKey { topic_id: TopicId::random(), ..key() };
    let error = Log::open(disk, dir(), other, small(), NOW).err().unwrap();
    assert!(matches!(error, LogError::OtherTopic { .. }), "{error}");
}

#[test]
fn leftovers_of_interrupted_removals_go() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    append(&mut log, 0, 1, 1).unwrap();
    log.close_clean(Offset(1)).unwrap();
    for name in ["00000000000000000000.log.deleted", "x.tmp", "00000000000000000009.index"] {
        disk.create(&dir().join(name)).unwrap();
    }
    let (log, _) = open(&disk, small());
    assert_eq!(log.log_end(), Offset(1));
    let left: Vec<PathBuf> = disk.files().into_keys().collect();
    assert!(left.iter().all(|path| {
        let name = path.to_str().unwrap();
        !name.ends_with(".tmp") && !name.ends_with(".deleted") && !name.contains("09.index")
    }));
}

/// After a power cut what stands behind a bad batch may have come to the disk before it, and goes; after a kill it was
/// written, and stays.
#[test]
fn recovery_cuts_at_a_flipped_bit_unless_what_is_behind_it_was_surely_written() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    let sizes = [0, 1, 2].map(|_| {
        append(&mut log, 0, 1, 100).unwrap();
        log.size_bytes() as usize
    });
    log.flush().unwrap();
    drop(log);
    let flushed = disk;
    let path = dir().join("00000000000000000000.log");
    let content = flushed.read(&path).unwrap().unwrap();
    for bit in sizes[0] * 8..sizes[1] * 8 {
        let mut damaged = content.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let rotten = |loss| {
            let disk = flushed.crash(loss);
            disk.replace(&path, &damaged, true).map(drop).unwrap();
            let (log, recovery) = open(&disk, LogConfig::default());
            (disk, log, recovery)
        };
        let (disk, log, recovery) = rotten(Loss::Unsynced);
        assert_eq!(log.log_end(), Offset(1), "bit {bit}");
        assert_eq!(recovery.truncated_bytes as usize, sizes[2] - sizes[0]);
        assert_eq!(disk.read(&path).unwrap().unwrap(), content[..sizes[0]]);
        let (disk, log, recovery) = rotten(Loss::Nothing);
        assert_eq!(log.log_end(), Offset(3), "bit {bit}");
        let damage = recovery.damage.unwrap();
        assert_eq!((damage.complete_below, damage.resumes_at), (Offset(1), Some(Offset(2))));
        assert_eq!(disk.read(&path).unwrap().unwrap(), damaged);
    }
}

#[test]
fn recovery_does_not_take_another_partitions_batches() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 1, 100).unwrap();
    drop(log);
    disk.remove(&dir().join("partition.metadata")).unwrap();
    let other = PartitionKey { topic_id: TopicId::random(), ..key() };
    let (log, _) = Log::open(disk, dir(), other, small(), NOW).unwrap();
    assert_eq!(log.log_end(), Offset(0));
}

/// Found by the simulation: a replica led in epoch 1 and wrote nothing, and followed a leader that still had
/// batches of epoch 0. The file gave those to epoch 1, and the next leader cut them off though they were committed.
#[test]
fn an_epoch_that_got_no_batch_is_forgotten_with_the_next_batch_of_an_older_one() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    append(&mut log, 0, 2, 10).unwrap();
    log.flush().unwrap();
    log.assign_epoch(LeaderEpoch(1), Offset(2));
    log.close_clean(Offset(2)).unwrap();
    let (mut log, recovery) = open(&disk, small());
    assert!(recovery.clean);
    append(&mut log, 0, 2, 10).unwrap();
    log.close_clean(Offset(4)).unwrap();
    let (log, recovery) = open(&disk, small());
    assert!(recovery.clean);
    assert_eq!(log.epoch_at(Offset(3)), Some(LeaderEpoch(0)));
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(4))));
}
