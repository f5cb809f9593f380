//! What a log says of the tombstones that are gone from it.

use crate::batches::*;
use crate::cleaned::*;
use troupe_log::disk::{Disk, Loss, MemDisk};
use troupe_log::{Cleaned, FullSpeed, Log, OffsetMap};
use troupe_proto::ids::{LeaderEpoch, Offset};

const LATER: i64 = NOW + RETENTION_MS as i64;

/// Of `b` and `d` a tombstone is the last, at 4 and 6; of `a` it was superseded, at 2.
fn with_tombstones(disk: &MemDisk) -> Log<MemDisk> {
    let (mut log, _) = open(disk, small());
    for (key, value) in [
        ("a", Some("1")),
        ("b", Some("1")),
        ("a", None),
        ("d", Some("1")),
        ("b", None),
        ("a", Some("2")),
        ("d", None),
        ("e", Some("1")),
    ] {
        put(&mut log, key, value);
    }
    close_segments(&mut log);
    let all = request(NOW, log.log_end());
    drop(clean(&mut log, all).unwrap());
    log
}

fn make(log: &mut Log<MemDisk>) -> Cleaned<MemDisk> {
    let cleaning = log.begin_cleaning(request(LATER, log.log_end())).unwrap().unwrap();
    cleaning.run(&mut OffsetMap::new(4096), &mut FullSpeed).unwrap()
}

#[test]
fn a_log_remembers_below_where_the_last_word_on_a_key_was_a_tombstone_that_is_gone() {
    let disk = memory();
    let mut log = with_tombstones(&disk);
    assert_eq!(log.tombstones_gone_below(), Offset(0), "the first was superseded");
    let made = make(&mut log);
    assert_eq!(made.report().tombstones_gone_below, Offset(7));
    assert_eq!(log.tombstones_gone_below(), Offset(0), "it has them yet");
    let finished = log.finish_cleaning(made, Offset(8), Offset(7)).unwrap().unwrap();
    assert_eq!(log.tombstones_gone_below(), Offset(7));
    finished.ending.run().unwrap();
    put(&mut log, "x", Some("1"));
    close_segments(&mut log);
    let all = request(LATER, log.log_end());
    drop(clean(&mut log, all).unwrap());
    assert_eq!(log.tombstones_gone_below(), Offset(7), "no more have gone");
    for loss in [Loss::Nothing, Loss::Unsynced] {
        let (log, _) = open(&disk.crash(loss), small());
        assert_eq!(log.tombstones_gone_below(), Offset(7));
    }
}

/// The list of a pass stands before its owner takes it: whoever opens the log carries it out.
#[test]
fn what_a_pass_removes_that_is_finished_by_the_next_opening_is_remembered_too() {
    let disk = memory();
    let mut log = with_tombstones(&disk);
    std::mem::forget(make(&mut log));
    let (log, _) = open(&disk.crash(Loss::Unsynced), small());
    assert_eq!(values(&log).len(), 2);
    assert_eq!(log.tombstones_gone_below(), Offset(7));
}

/// A replica was added while the pass ran, which has nothing yet.
#[test]
fn a_pass_that_would_remove_what_somebody_lacks_by_now_is_dropped() {
    let disk = memory();
    let mut log = with_tombstones(&disk);
    let (expected, files) = (values(&log), disk.files());
    let made = make(&mut log);
    assert!(log.finish_cleaning(made, Offset(8), Offset(6)).unwrap().is_none());
    assert_eq!((values(&log), log.tombstones_gone_below()), (expected, Offset(0)));
    assert_eq!(disk.files(), files);
    let made = make(&mut log);
    assert!(log.finish_cleaning(made, Offset(8), Offset(7)).unwrap().is_some());
}

#[test]
fn what_is_noted_before_a_log_is_filled_is_there_whatever_happens_then() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    log.note_tombstones_gone(Offset(9)).unwrap();
    put(&mut log, "a", Some("1"));
    log.flush().unwrap();
    let (log, _) = open(&disk.crash(Loss::Unsynced), small());
    assert_eq!((log.tombstones_gone_below(), log.log_end()), (Offset(9), Offset(1)));
    let copy = Log::begin_copy(disk.clone(), "/there".into(), log.key(), small(), (Offset(0), NOW));
    log.complete_copy(copy.unwrap(), Offset(1), b"", NOW).unwrap();
    let (copied, _) = Log::open(disk, "/there".into(), log.key(), small(), NOW).unwrap();
    assert_eq!(copied.tombstones_gone_below(), Offset(9));
}

/// Carried out by the next opening, it would bring back what was said before.
#[test]
fn what_is_noted_while_a_pass_is_under_way_makes_it_void() {
    let disk = memory();
    let mut log = with_tombstones(&disk);
    let made = make(&mut log);
    log.note_tombstones_gone(Offset(20)).unwrap();
    assert!(log.finish_cleaning(made, Offset(8), ALL).unwrap().is_none());
    let made = make(&mut log);
    std::mem::forget(made);
    log.note_tombstones_gone(Offset(30)).unwrap();
    let (log, _) = open(&disk.crash(Loss::Unsynced), small());
    assert_eq!((log.tombstones_gone_below(), values(&log).len()), (Offset(30), 4));
}

/// After an unclean election the log goes on with other records.
#[test]
fn what_is_said_of_records_that_the_log_never_had_ends_with_the_first_that_takes_their_place() {
    type Change = fn(&mut Log<MemDisk>);
    let changes: [(Change, u64); 3] = [
        (|log| log.assign_epoch(LeaderEpoch(1), log.log_end()), 8),
        (|log| assert_eq!(log.truncate_to(Offset(7), Offset(0)).unwrap(), Offset(7)), 7),
        (|log| log.truncate_fully_and_start_at(Offset(3)).unwrap(), 3),
    ];
    for (change, end) in changes {
        let disk = memory();
        let mut log = with_tombstones(&disk);
        log.note_tombstones_gone(Offset(20)).unwrap();
        change(&mut log);
        assert_eq!(log.tombstones_gone_below(), Offset(end));
        let (found, _) = open(&disk.crash(Loss::Unsynced), small());
        assert_eq!(found.tombstones_gone_below(), Offset(20), "nothing has come yet");
        put(&mut log, "a", Some("1"));
        let (found, _) = open(&disk.crash(Loss::Nothing), small());
        assert_eq!(found.tombstones_gone_below(), Offset(end));
    }
}

#[test]
fn a_damaged_file_says_that_all_may_be_gone_that_a_pass_has_seen() {
    let disk = memory();
    let mut log = with_tombstones(&disk);
    log.note_tombstones_gone(Offset(20)).unwrap();
    drop(log);
    let path = dir().join("tombstones-gone");
    drop(disk.replace(&path, b"version 1\n", true).unwrap());
    let (log, _) = open(&disk, small());
    assert_eq!(log.tombstones_gone_below(), Offset(8));
    drop(disk.replace(&path, include_bytes!("../fixtures/tombstones-gone"), true).unwrap());
    let (log, _) = open(&disk, small());
    assert_eq!(log.tombstones_gone_below(), Offset(9), "as this version writes it");
    disk.remove(&path).unwrap();
    let (log, _) = open(&disk, small());
    assert_eq!(log.tombstones_gone_below(), Offset(0), "as of an earlier version");
}
