//! A disk that refuses.

use crate::batches::*;
use troupe_log::disk::{Disk, Fault, FaultDisk, Loss, Operation};
use troupe_log::{LogConfig, LogError};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::Offset;

fn faulty() -> FaultDisk {
    FaultDisk::new(memory())
}

#[test]
fn a_full_disk_refuses_the_batch_and_keeps_the_log() {
    let disk = faulty();
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 1, 100).unwrap();
    let used = disk.memory().used();
    for room in 0..250 {
        disk.set_capacity(Some(used + room));
        match append(&mut log, 0, 1, 300) {
            Err(error) => assert_eq!(error.code(), ErrorCode::DiskFull, "{error}"),
            Ok(_) => panic!("300 bytes do not fit into {room}"),
        }
        assert_eq!((log.log_end(), disk.memory().used()), (Offset(1), used));
    }
    assert!(!log.is_poisoned());
    disk.heal();
    append(&mut log, 0, 1, 300).unwrap();
    log.flush().unwrap();
    drop(log);
    let (log, _) = open(&disk.memory().crash(Loss::Unsynced), LogConfig::default());
    assert_eq!(contents(&log, Offset(0)).len(), 2);
}

#[test]
fn a_disk_that_is_full_when_a_segment_is_to_begin_leaves_the_log_as_it_was() {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    while log.segment_count() < 2 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    while log.size_bytes() < 1900 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let end = log.log_end();
    for (operation, suffix) in [
        (Operation::Create, "index"),
        (Operation::Write, "index"),
        (Operation::Create, ".log"),
        (Operation::Write, ".log"),
    ] {
        disk.fail(operation, suffix, 0, 1, Fault::Full);
        let error = append(&mut log, 0, 1, 500).unwrap_err();
        assert_eq!((error.code(), log.log_end()), (ErrorCode::DiskFull, end), "{operation:?}");
        disk.heal();
    }
    append(&mut log, 0, 1, 500).unwrap();
    assert_eq!(contents(&log, Offset(0)).len() as u64, end.0 + 1);
    log.close_clean(Offset(0)).unwrap();
    assert_eq!(open(&disk, small()).0.log_end(), end.plus(1));
}

#[test]
fn a_write_that_fails_half_way_leaves_a_valid_prefix() {
    for torn in [0, 1, 86, 150] {
        let disk = faulty();
        let (mut log, _) = open(&disk, LogConfig::default());
        append(&mut log, 0, 1, 100).unwrap();
        let size = log.size_bytes();
        disk.fail(Operation::Write, ".log", 0, 1, Fault::TornIo(torn));
        let error = append(&mut log, 0, 1, 100).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageFailure);
        let on_disk = disk.memory().files()[&dir().join("00000000000000000000.log")].len();
        assert_eq!(on_disk as u64, size);
        append(&mut log, 0, 1, 100).unwrap();
        assert_eq!(contents(&log, Offset(0)).len(), 2);
    }
}

#[test]
fn a_write_that_cannot_be_taken_back_poisons_the_log() {
    for operation in [Operation::Truncate, Operation::Sync] {
        let disk = faulty();
        let (mut log, _) = open(&disk, LogConfig::default());
        append(&mut log, 0, 1, 100).unwrap();
        disk.fail(Operation::Write, ".log", 0, 1, Fault::TornIo(20));
        disk.fail(operation, ".log", 0, 1, Fault::Io);
        append(&mut log, 0, 1, 100).unwrap_err();
        assert!(log.is_poisoned());
        let error = append(&mut log, 0, 1, 100).unwrap_err();
        assert!(matches!(error, LogError::Poisoned { .. }), "{error}");
        assert_eq!(contents(&log, Offset(0)).len(), 1, "what was there can still be read");
        drop(log);
        assert_eq!(open(&disk, LogConfig::default()).0.log_end(), Offset(1));
    }
}

#[test]
fn a_failed_fsync_is_never_retried() {
    for operation in [Operation::Sync, Operation::SyncDir] {
        let disk = faulty();
        let (mut log, _) = open(&disk, LogConfig::default());
        append(&mut log, 0, 1, 100).unwrap();
        disk.fail(operation, "", 0, 1, Fault::Io);
        let ticket = log.begin_flush().unwrap();
        let thread = std::thread::spawn(|| ticket.run());
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageFailure);
        let refused = [
            log.flush().err(),
            log.begin_flush().unwrap().run().err(),
            append(&mut log, 0, 1, 100).err(),
            log.roll(NOW).err(),
            log.checkpoint(Offset(0)).err(),
            log.truncate_to(Offset(0), Offset(0)).err(),
            log.write_producer_snapshot(Offset(0), b"").err(),
            log.set_log_start(Offset(1)).err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(LogError::Poisoned { .. })), "{error:?}");
        }
        assert_eq!(log.flushed_end(), Offset(0));
    }
}

#[test]
fn a_ticket_covers_what_was_appended_before_it_and_no_more() {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    for _ in 0..12 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let ticket = log.begin_flush().unwrap();
    assert_eq!(ticket.end(), Offset(12));
    for _ in 0..12 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let done = ticket.run().unwrap();
    assert_eq!(log.complete_flush(done), Offset(12));
    assert_eq!(log.flush().unwrap(), Offset(24));
    assert!(log.begin_flush().is_none());
}

#[test]
fn what_nobody_waits_for_is_as_durable() {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    for _ in 0..12 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let done = log.begin_flush().unwrap().gently().run().unwrap();
    assert_eq!(log.complete_flush(done), Offset(12));
    append(&mut log, 0, 1, 100).unwrap();
    let done = log.begin_flush().unwrap().gently().run().unwrap();
    assert_eq!(log.complete_flush(done), Offset(13));
    drop(log);
    let (log, _) = open(&disk.memory().crash(Loss::Unsynced), small());
    assert_eq!(contents(&log, Offset(0)).len(), 13);
}

#[test]
fn a_ticket_that_a_truncation_overtook_proves_nothing() {
    let disk = faulty();
    let (mut log, _) = open(&disk, LogConfig::default());
    for _ in 0..4 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let done = log.begin_flush().unwrap().run().unwrap();
    log.truncate_to(Offset(2), Offset(2)).unwrap();
    append(&mut log, 1, 5, 100).unwrap();
    assert_eq!(log.complete_flush(done), Offset(2));
}

#[test]
fn a_ticket_that_a_failed_truncation_overtook_proves_nothing() {
    for to in [0, 3] {
        let disk = faulty();
        let (mut log, _) = open(&disk, LogConfig::default());
        for _ in 0..5 {
            append(&mut log, 0, 1, 100).unwrap();
        }
        let done = log.begin_flush().unwrap().run().unwrap();
        disk.fail(Operation::SyncDir, "", 0, 1, Fault::Io);
        log.truncate_to(Offset(to), Offset(0)).unwrap_err();
        assert_eq!(log.complete_flush(done), Offset(0), "what lies above {to} may be gone");
    }
}

#[test]
fn an_unreadable_disk_is_an_error_and_no_empty_log() {
    let disk = faulty();
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 1, 100).unwrap();
    drop(log);
    for operation in [Operation::Read, Operation::Open] {
        for skip in 0..3 {
            disk.fail(operation, "", skip, 1, Fault::Io);
            let opened = troupe_log::Log::open(disk.clone(), dir(), key(), small(), NOW);
            if let Ok((log, _)) = opened {
                assert_eq!(log.log_end(), Offset(1));
            }
            disk.heal();
        }
    }
    disk.fail(Operation::Read, "topic-3", 0, 1, Fault::Io);
    assert!(troupe_log::Log::open(disk.clone(), dir(), key(), small(), NOW).is_err());
    assert!(disk.list(&dir()).is_ok());
}

/// Found by the simulation: a segment was begun, nothing could be written to it, and a checkpoint said that
/// the log was known to be good up to its beginning. Nobody synced the directory after that.
#[test]
fn no_checkpoint_vouches_for_a_segment_whose_name_is_not_on_disk() {
    let disk = faulty();
    let (mut log, _) = open(&disk, LogConfig::default());
    disk.fail(Operation::Write, ".log", 0, 1, Fault::Full);
    append(&mut log, 0, 1, 100).unwrap_err();
    log.checkpoint(Offset(0)).unwrap();
    drop(log);
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 1, 100).unwrap();
    assert_eq!(log.flush().unwrap(), Offset(1));
    drop(log);
    let (log, _) = open(&disk.memory().crash(Loss::Unsynced), LogConfig::default());
    assert_eq!(log.log_end(), Offset(1));
}

/// Found by the simulation: a follower that flushes slowly deleted segments that it had not flushed.
#[test]
fn what_counts_as_flushed_after_deleting_survives_a_power_cut() {
    let disk = faulty();
    let (mut log, _) = open(&disk, small());
    append(&mut log, 0, 1, 100).unwrap();
    log.flush().unwrap();
    while log.segment_count() < 4 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    while log.segment_count() > 1 {
        // the files are not removed yet, and if they were, that would not be on disk
        let _later = log.remove_oldest().unwrap();
        let (start, flushed_end) = (log.log_start(), log.flushed_end());
        assert!(start <= flushed_end);
        let (found, _) = open(&disk.memory().crash(Loss::Unsynced), small());
        assert!(found.log_end() >= flushed_end, "{} of {flushed_end}", found.log_end());
    }
}

/// Found by the simulation: the file had been cut, but not on disk, and the next open saw nothing to do.
#[test]
fn a_truncation_that_failed_half_way_is_finished_by_the_next_open() {
    for skip in 0..6 {
        let disk = faulty();
        let (mut log, _) = open(&disk, small());
        while log.segment_count() < 3 {
            append(&mut log, 0, 1, 100).unwrap();
        }
        log.flush().unwrap();
        let cut = Offset(log.segments().unwrap()[0].end.0 + 1);
        disk.fail(Operation::Sync, "", skip, 1, Fault::Io);
        if log.truncate_to(cut, Offset(0)).is_ok() {
            assert_eq!(log.log_end(), cut);
        }
        drop(log);
        disk.heal();
        let (log, _) = open(&disk, small());
        let end = log.log_end();
        drop(log);
        let (log, _) = open(&disk.memory().crash(Loss::Unsynced), small());
        assert_eq!(log.log_end(), end, "{skip}");
    }
}
