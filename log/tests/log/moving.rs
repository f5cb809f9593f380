//! Copies of a log in another directory.

use crate::batches::*;
use std::path::Path;
use troupe_log::disk::{Disk, Loss, MemDisk};
use troupe_log::{Log, Recovery};
use troupe_proto::ids::{LeaderEpoch, Offset};

const THERE: &str = "/there";

fn begin(disk: &MemDisk, log: &Log<MemDisk>, start: Offset) -> Log<MemDisk> {
    Log::begin_copy(disk.clone(), THERE.into(), log.key(), *log.config(), (start, NOW)).unwrap()
}

/// As much as a mover reads.
fn copy_some(log: &Log<MemDisk>, copy: &mut Log<MemDisk>, max_bytes: usize) {
    let piece = log.read_copy(copy.log_end(), log.log_end(), max_bytes).unwrap();
    copy.append_frames(piece.bytes, NOW).unwrap();
}

fn reopen(disk: &MemDisk, log: &Log<MemDisk>) -> (Log<MemDisk>, Recovery) {
    Log::open(disk.clone(), THERE.into(), log.key(), *log.config(), NOW).unwrap()
}

#[test]
fn a_copy_that_was_completed_is_the_log_whatever_happens_then() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for n in 0..30u32 {
        append(&mut log, n / 10, 2, 100).unwrap();
    }
    let mut copy = begin(&disk, &log, log.log_start());
    copy_some(&log, &mut copy, 2_000);
    // Meanwhile the log grows, loses its beginning, and is led in an epoch of which nothing was written yet.
    for _ in 0..5 {
        append(&mut log, 4, 2, 100).unwrap();
    }
    for removal in log.set_log_start(Offset(7)).unwrap() {
        removal.run().unwrap();
    }
    log.assign_epoch(LeaderEpoch(9), log.log_end());
    log.complete_copy(copy, Offset(60), b"producers", NOW).unwrap();
    let disk = disk.crash(Loss::Unsynced);
    let (mut copied, recovery) = reopen(&disk, &log);
    assert_eq!(contents(&copied, Offset(7)), contents(&log, Offset(7)));
    assert_eq!((copied.log_start(), copied.log_end()), (Offset(7), log.log_end()));
    assert_eq!(recovery.high_watermark, Some(Offset(60)));
    assert_eq!(recovery.damage, None);
    copied.take_place_of(&log);
    assert_eq!(copied.latest_epoch(), Some(LeaderEpoch(9)));
    for epoch in 0..10 {
        let ends = |log: &Log<MemDisk>| log.end_offset_for_epoch(LeaderEpoch(epoch));
        assert_eq!(ends(&copied), ends(&log), "epoch {epoch}");
    }
    let (at, producers) = copied.newest_producer_snapshot().unwrap().unwrap();
    assert_eq!((at, &producers[..]), (log.log_end(), &b"producers"[..]));
}

/// What was flushed there was flushed in files that are cut elsewhere.
#[test]
fn a_flush_of_the_original_that_ends_late_proves_nothing_of_the_copy() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..30 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let late = log.begin_flush().unwrap().run().unwrap();
    log.set_log_start(Offset(2)).unwrap();
    let copy = begin(&disk, &log, log.log_start());
    log.complete_copy(copy, Offset(30), b"", NOW).unwrap();
    let (mut copied, _) = reopen(&disk, &log);
    let last = |log: &Log<MemDisk>| log.segments().unwrap().last().unwrap().base;
    assert_ne!(last(&copied), last(&log), "a flush of one says nothing true of the other");
    copied.take_place_of(&log);
    copied.complete_flush(late);
    assert!(copied.begin_flush().is_none(), "all of the copy was durable before");
    append(&mut copied, 0, 1, 100).unwrap();
    copied.flush().unwrap();
    copied.checkpoint(Offset(31)).unwrap();
    drop(copied);
    let (copied, recovery) = reopen(&disk.crash(Loss::Unsynced), &log);
    assert_eq!((recovery.damage, copied.log_end()), (None, Offset(31)));
}

#[test]
fn a_log_of_which_nothing_is_left_or_nothing_was_written_is_copied_too() {
    for (end, start) in [(0, 0), (6, 6)] {
        let disk = memory();
        let (mut log, _) = open(&disk, small());
        for _ in 0..end {
            append(&mut log, 0, 1, 100).unwrap();
        }
        log.set_log_start(Offset(start)).unwrap();
        let copy = begin(&disk, &log, log.log_start());
        log.complete_copy(copy, Offset(end), b"", NOW).unwrap();
        let (copied, recovery) = reopen(&disk, &log);
        assert!(disk.list(Path::new(THERE)).unwrap().is_some(), "there is something to be renamed");
        assert_eq!((copied.log_start(), copied.log_end()), (Offset(start), Offset(end)));
        assert_eq!(recovery.damage, None);
    }
}

/// All that a slow copy has was deleted before it came further.
#[test]
fn a_copy_that_retention_has_overtaken_begins_where_the_log_begins() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..20 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let mut copy = begin(&disk, &log, Offset(0));
    copy_some(&log, &mut copy, 1);
    log.set_log_start(Offset(15)).unwrap();
    log.complete_copy(copy, Offset(20), b"", NOW).unwrap();
    let (copied, _) = reopen(&disk, &log);
    assert_eq!((copied.log_start(), copied.log_end()), (Offset(15), Offset(20)));
}

#[test]
fn whoever_copies_can_tell_that_the_log_was_truncated() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..5 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let before = log.truncations();
    log.truncate_to(Offset(9), Offset(0)).unwrap();
    assert_eq!(log.truncations(), before, "nothing was cut off");
    log.truncate_to(Offset(3), Offset(0)).unwrap();
    let once = log.truncations();
    assert!(once > before);
    log.truncate_fully_and_start_at(Offset(2)).unwrap();
    assert!(log.truncations() > once);
}
