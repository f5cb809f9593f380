//! A machine that lacks something for the moment: it heals by itself, and nothing is lost or given up.

use crate::batches::*;
use std::time::{Duration, SystemTime};
use troupe_log::disk::{Disk, Fault, FaultDisk, FileDisk, Loss, Operation};
use troupe_log::{Log, LogConfig, LogError, RetentionPolicy};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, Offset};

const HOUR: i64 = 3_600_000;

fn faulty() -> FaultDisk {
    FaultDisk::new(memory())
}

#[test]
fn a_directory_that_cannot_be_opened_for_its_sync_is_no_failed_fsync() {
    let disk = faulty();
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 1, 100).unwrap();
    disk.fail(Operation::SyncDir, "", 0, 2, Fault::Descriptors);
    for _ in 0..2 {
        let error = log.flush().unwrap_err();
        assert!(error.is_temporary() && !log.is_poisoned(), "{error}");
        assert_eq!((error.code(), log.flushed_end()), (ErrorCode::StorageUnavailable, Offset(0)));
    }
    assert_eq!(log.flush().unwrap(), Offset(1));
    let (log, _) = open(&disk.memory().crash(Loss::Unsynced), LogConfig::default());
    assert_eq!(log.log_end(), Offset(1));
}

#[test]
fn an_fsync_that_fails_for_want_of_space_or_memory_has_failed() {
    for (operation, fault) in [
        (Operation::Sync, Fault::Full),
        (Operation::Sync, Fault::Descriptors),
        (Operation::SyncDir, Fault::Full),
    ] {
        let disk = faulty();
        let (mut log, _) = open(&disk, LogConfig::default());
        append(&mut log, 0, 1, 100).unwrap();
        disk.fail(operation, "", 0, 1, fault);
        let error = log.flush().unwrap_err();
        assert!(!error.is_temporary() && log.is_poisoned(), "{operation:?}, {fault:?}: {error}");
    }
}

/// Each operation of the first append, of a roll and of a flush fails once; the next try succeeds.
#[test]
fn without_descriptors_an_append_is_refused_and_the_log_stays_whole() {
    for operation in [Operation::Open, Operation::Create, Operation::CreateDir, Operation::Rename] {
        for skip in 0..40 {
            let disk = faulty();
            let (mut log, _) = open(&disk, small());
            disk.fail(operation, "", skip, 1, Fault::Descriptors);
            let mut refused = 0;
            while log.log_end() < Offset(20) {
                if let Err(error) = append(&mut log, 0, 1, 100) {
                    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{operation:?}");
                    refused += 1;
                }
                assert!(!log.is_poisoned());
            }
            assert!(refused < 2);
            disk.heal();
            log.flush().unwrap();
            assert_eq!(contents(&log, Offset(0)).len(), 20);
            let (log, recovery) = open(&disk.memory().crash(Loss::Unsynced), small());
            assert_eq!(
                (log.log_end(), recovery.damage),
                (Offset(20), None),
                "{operation:?} {skip}"
            );
        }
    }
}

/// A log of 40 batches that uses all that the disk has, and how much that is.
fn on_a_full_disk() -> (FaultDisk, Log<FaultDisk>, u64) {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    for _ in 0..40 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    log.checkpoint(Offset(40)).unwrap();
    let full = disk.memory().used();
    disk.set_capacity(Some(full));
    (disk, log, full)
}

#[test]
fn on_a_full_disk_retention_removes_before_anything_is_written() {
    let (disk, mut log, full) = on_a_full_disk();
    assert_eq!(append(&mut log, 0, 1, 500).unwrap_err().code(), ErrorCode::DiskFull);
    let policy = RetentionPolicy { retention_bytes: Some(1500), ..Default::default() };
    let retained = log.apply_retention(&policy, NOW, Offset(40));
    assert!(retained.failure.is_none(), "{:?}", retained.failure);
    retained.removals.into_iter().for_each(|removal| removal.run().unwrap());
    assert!(disk.memory().used() < full / 2, "{} of {full}", disk.memory().used());
    // also the segment that takes appends, of which the indexes have no room
    disk.set_capacity(Some(disk.memory().used()));
    let policy = RetentionPolicy { retention_bytes: Some(0), ..Default::default() };
    let retained = log.apply_retention(&policy, NOW, Offset(40));
    assert!(retained.failure.is_none(), "{:?}", retained.failure);
    retained.removals.into_iter().for_each(|removal| removal.run().unwrap());
    assert_eq!(log.log_start(), Offset(40));
    append(&mut log, 0, 1, 100).unwrap();
    log.close_clean(Offset(41)).unwrap();
    let (log, recovery) = open(disk.memory(), small());
    assert_eq!((log.log_start(), log.log_end(), recovery.damage), (Offset(40), Offset(41), None));
}

/// Also if the process ends right behind it, and starts when there is still no room.
#[test]
fn what_a_full_disk_made_retention_remove_is_not_missed() {
    let (disk, mut log, full) = on_a_full_disk();
    let policy = RetentionPolicy { retention_bytes: Some(1500), ..Default::default() };
    let retained = log.apply_retention(&policy, NOW, Offset(40));
    assert!(retained.removals.len() > 1 && retained.failure.is_none());
    assert!(log.owes_checkpoint(), "there was no room for one");
    retained.removals.into_iter().for_each(|removal| removal.run().unwrap());
    assert!(disk.memory().used() < full / 2, "{} of {full}", disk.memory().used());
    let killed = disk.memory().crash(Loss::Nothing);
    assert_eq!(open(&killed, small()).1.damage, None);
    let deleted = |disk: &FaultDisk| {
        let files = disk.memory().files().into_keys();
        files.filter(|path| path.to_str().unwrap().ends_with(".deleted")).count()
    };
    // a start without room, and a kill behind that
    disk.set_capacity(Some(disk.memory().used()));
    drop(log);
    for _ in 0..2 {
        let (log, recovery) = open(&disk, small());
        assert_eq!((recovery.damage, log.log_end()), (None, Offset(40)));
        assert!(log.owes_checkpoint() && deleted(&disk) > 1);
    }
    let (mut log, _) = open(&disk, small());
    disk.heal();
    log.checkpoint(Offset(40)).unwrap();
    assert!(!log.owes_checkpoint());
    assert_eq!(deleted(&disk), 0);
    assert_eq!(open(&disk, small()).1.damage, None);
}

/// What a start without room finds deleted gives its space back first.
#[test]
fn at_a_start_what_was_deleted_makes_room_for_the_checkpoint() {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    for _ in 0..40 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.close_clean(Offset(40)).unwrap();
    let (mut log, _) = open(&disk, small());
    drop((log.remove_oldest().unwrap(), log));
    disk.set_capacity(Some(disk.memory().used()));
    let (log, recovery) = open(&disk, small());
    assert_eq!((recovery.damage, recovery.notices), (None, Vec::new()));
    assert!(!log.owes_checkpoint());
}

#[test]
fn a_change_that_lacks_something_half_way_is_finished_by_opening_the_log_anew() {
    for (operation, suffix, fault) in [
        (Operation::Create, "offset-checkpoint.tmp", Fault::Descriptors),
        (Operation::Write, "offset-checkpoint.tmp", Fault::Full),
        (Operation::SyncDir, "topic-3", Fault::Descriptors),
        (Operation::Create, "leader-epoch-checkpoint.tmp", Fault::Full),
    ] {
        let disk = faulty();
        let (mut log, _) = open(&disk, small());
        while log.segment_count() < 3 {
            append(&mut log, 0, 1, 100).unwrap();
        }
        log.flush().unwrap();
        log.assign_epoch(LeaderEpoch(3), log.log_end());
        append(&mut log, 3, 1, 100).unwrap();
        let asked_for = log.begin_flush().unwrap();
        disk.fail(operation, suffix, 0, 1, fault);
        let error = log.truncate_to(Offset(2), Offset(2)).unwrap_err();
        assert!(error.is_temporary() && log.is_poisoned(), "{operation:?}: {error}");
        let refused = [
            asked_for.run().err(),
            log.flush().err(),
            append(&mut log, 3, 1, 100).err(),
            log.checkpoint(Offset(0)).err(),
            log.truncate_to(Offset(0), Offset(0)).err(),
        ];
        for error in refused.into_iter().map(Option::unwrap) {
            assert!(matches!(error, LogError::Interrupted { .. }), "{operation:?}: {error}");
            assert!(error.is_temporary(), "no fsync has failed");
        }
        drop(log);
        let (mut log, recovery) = open(&disk, small());
        assert_eq!(recovery.damage, None);
        log.truncate_to(Offset(2), Offset(2)).unwrap();
        append(&mut log, 4, 1, 100).unwrap();
        assert_eq!((log.flush().unwrap(), contents(&log, Offset(0)).len()), (Offset(3), 3));
    }
}

#[test]
fn a_failed_fsync_outweighs_a_want() {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    append(&mut log, 0, 2, 100).unwrap();
    append(&mut log, 0, 1, 100).unwrap();
    let ticket = log.begin_flush().unwrap();
    disk.fail(Operation::Sync, ".log", 0, 1, Fault::Io);
    ticket.run().unwrap_err();
    let error = log.truncate_to(Offset(2), Offset(2)).unwrap_err();
    assert!(matches!(error, LogError::Poisoned { .. }) && !error.is_temporary(), "{error}");
}

#[test]
fn what_was_removed_is_given_back_even_if_the_pass_fails_later() {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    for _ in 0..40 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    disk.fail(Operation::Rename, ".log.deleted", 2, 1, Fault::Io);
    let policy = RetentionPolicy { retention_bytes: Some(0), ..Default::default() };
    let retained = log.apply_retention(&policy, NOW, Offset(40));
    assert_eq!((retained.removals.len(), retained.failure.is_some()), (2, true));
}

#[test]
fn a_log_opens_on_a_disk_that_is_full() {
    for flushed in [false, true] {
        let disk = faulty();
        let (mut log, _) = open(&disk, small());
        for n in 0..20 {
            append(&mut log, n / 7, 1, 100).unwrap();
        }
        if flushed {
            log.flush().unwrap();
            log.checkpoint(Offset(11)).unwrap();
            append(&mut log, 2, 1, 100).unwrap();
        }
        let end = log.log_end();
        drop(log);
        disk.create(&dir().join("00000000000000000000.log.deleted")).unwrap();
        disk.set_capacity(Some(disk.memory().used()));
        let (mut log, recovery) = open(&disk, small());
        assert_eq!((log.log_end(), recovery.damage), (end, None));
        assert_eq!(contents(&log, Offset(0)).len() as u64, end.0);
        assert_eq!(append(&mut log, 2, 1, 900).unwrap_err().code(), ErrorCode::DiskFull);
        disk.heal();
        append(&mut log, 2, 1, 900).unwrap();
        log.close_clean(end).unwrap();
        let (log, recovery) = open(&disk, small());
        assert!(recovery.clean && log.log_end() == end.plus(1));
    }
}

/// Without a timestamp, from before 1970, or dated into the future: the file's time counts.
#[test]
fn segments_without_believable_timestamps_are_judged_by_their_files_time() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    for timestamp in [-1, -86_400_000, i64::MIN / 2, 4_070_908_800_000, now + 2 * HOUR] {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("topic-3");
        let (mut log, _) = Log::open(FileDisk, path.clone(), key(), small(), now).unwrap();
        for _ in 0..20 {
            append_at(&mut log, 0, &[timestamp], &[7; 100]).unwrap();
        }
        let policy = RetentionPolicy { retention_ms: Some(HOUR as u64), ..Default::default() };
        let retained = log.apply_retention(&policy, now, Offset(20));
        assert!(
            retained.removals.is_empty() && retained.judged.by_file_time,
            "{timestamp}: written now"
        );
        let first = path.join("00000000000000000000.log");
        let first = std::fs::File::options().write(true).open(first).unwrap();
        let modified = SystemTime::now() - Duration::from_secs(2 * 3600);
        first.set_modified(modified).unwrap();
        let retained = log.apply_retention(&policy, now, Offset(20));
        assert_eq!(retained.removals.len(), 1, "{timestamp}: written two hours ago");
        assert!(retained.failure.is_none());
    }
}

/// Dated 1970, say: they are old when they come, and go at once, but not unnoticed.
#[test]
fn records_that_come_with_old_dates_are_deleted_and_told_apart_from_those_that_have_aged() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    for (timestamp, age_ms, old_dates) in [(1_000, 0, true), (now - 2 * HOUR, 2 * HOUR, false)] {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("topic-3");
        let (mut log, _) = Log::open(FileDisk, path.clone(), key(), small(), now).unwrap();
        append_at(&mut log, 0, &[timestamp], &[7; 100]).unwrap();
        let first = path.join("00000000000000000000.log");
        let first = std::fs::File::options().write(true).open(first).unwrap();
        let age = Duration::from_millis(age_ms.unsigned_abs());
        first.set_modified(SystemTime::now() - age).unwrap();
        let policy = RetentionPolicy { retention_ms: Some(HOUR as u64), ..Default::default() };
        let retained = log.apply_retention(&policy, now, Offset(1));
        assert_eq!((retained.removals.len(), retained.judged.by_file_time), (1, false));
        assert_eq!(retained.judged.old_dates, old_dates, "{timestamp}");
    }
}
