//! Compaction of transactions, by example.

use crate::batches::*;
use crate::cleaned::*;
use crate::transactions::*;
use troupe_log::disk::{Disk, Loss, MemDisk};
use troupe_log::{CleaningRequest, Log};
use troupe_proto::ids::Offset;

/// A transaction of one batch, and how it ended.
fn transaction(
    log: &mut Log<MemDisk>,
    id: u64,
    records: &[(Option<&str>, Option<&str>)],
    committed: bool,
) {
    let first = data(log, 0, id, records).unwrap();
    let last = marker(log, 0, id, committed).unwrap();
    if !committed {
        log.note_aborted(aborted(id, first.base_offset.0, last.last_offset().0)).unwrap();
    }
}

/// Offset, key and value of what is no marker.
fn data_values(log: &Log<MemDisk>) -> Vec<(u64, String, Option<String>)> {
    let markers: Vec<_> = markers(log);
    values(log).into_iter().filter(|(offset, ..)| !markers.contains(offset)).collect()
}

/// Offsets of the markers that say something.
fn markers(log: &Log<MemDisk>) -> Vec<u64> {
    let all = headers(log, Offset(0)).into_iter();
    let markers = all.filter(|header| header.marker().is_some() && header.record_count > 0);
    markers.map(|header| header.base_offset.0).collect()
}

fn indexes(disk: &MemDisk) -> usize {
    let named = |path: &std::path::Path| path.extension().is_some_and(|it| it == "txnindex");
    disk.files().keys().filter(|path| named(path)).count()
}

/// A pass over all that is closed.
fn pass(log: &mut Log<MemDisk>, now: i64) -> Done<MemDisk> {
    let request = request(now, log.log_end());
    clean(log, request).unwrap()
}

fn pass_below(log: &mut Log<MemDisk>, now: i64, tombstones_below: Offset) -> Done<MemDisk> {
    let request = CleaningRequest { tombstones_below, ..request(now, log.log_end()) };
    clean(log, request).unwrap()
}

fn pass_keeping(log: &mut Log<MemDisk>, now: i64, keep: [u64; 2]) -> Done<MemDisk> {
    let keep = keep.map(Offset).into();
    let request = CleaningRequest { keep, ..request(now, log.log_end()) };
    clean(log, request).unwrap()
}

/// It ends the log's segments, so that nothing of what counts is the last batch of one.
fn end(log: &mut Log<MemDisk>) {
    put(log, "end", Some("0"));
    close_segments(log);
}

#[test]
fn records_of_aborted_transactions_go_and_supersede_nothing() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    put(&mut log, "a", Some("1"));
    transaction(&mut log, 5, &[(Some("b"), Some("1"))], true);
    transaction(&mut log, 5, &[(Some("a"), Some("2")), (Some("b"), None)], false);
    transaction(&mut log, 6, &[(Some("b"), Some("3")), (Some("c"), Some("3"))], true);
    end(&mut log);
    let done = pass(&mut log, NOW);
    let expected =
        [value(0, "a", "1"), value(6, "b", "3"), value(7, "c", "3"), value(9, "end", "0")];
    assert_eq!(data_values(&log), expected);
    // "b" of the first one was superseded, and so nothing is left of it either
    assert_eq!(done.report.records_gone, 3);
    assert_eq!(markers(&log), [2, 5, 8], "each for its time");
    assert_eq!(done.report.tombstones_gone_below, Offset(0));
}

/// The key of a marker is `00 00 00 01`, or `00 00 00 00`.
#[test]
fn the_key_of_a_marker_is_no_key() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    put(&mut log, "\0\0\0\u{1}", Some("1"));
    put(&mut log, "\0\0\0\0", Some("0"));
    transaction(&mut log, 5, &[(Some("a"), Some("1"))], true);
    transaction(&mut log, 5, &[(Some("a"), Some("2"))], false);
    put(&mut log, "\0\0\0\0", Some("2"));
    end(&mut log);
    drop(pass(&mut log, NOW));
    let found: Vec<_> = data_values(&log).into_iter().map(|(offset, ..)| offset).collect();
    assert_eq!(found, [0, 2, 6, 7]);
    assert_eq!(markers(&log), [3, 5]);
}

#[test]
fn a_marker_stays_until_nothing_of_its_transaction_is_left_and_then_for_its_time() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    transaction(&mut log, 5, &[(Some("a"), Some("1"))], true);
    transaction(&mut log, 6, &[(Some("b"), Some("1"))], false);
    end(&mut log);
    drop(pass(&mut log, NOW));
    assert_eq!(markers(&log), [1, 3]);
    let marker_of = |log: &Log<_>, at: u64| headers(log, Offset(at))[0];
    let later = NOW + RETENTION_MS as i64;
    assert_eq!(marker_of(&log, 1).delete_horizon_ms(), None, "its data is there");
    assert_eq!(marker_of(&log, 3).delete_horizon_ms(), Some(later));
    assert_eq!(marker_of(&log, 3).marker().map(|it| it.coordinator_epoch), Some(COORDINATOR));
    assert_eq!(all(&log), [aborted(6, 2, 3)]);
    // not before its time, nor as long as a replica lacks it; the log knows when it is worth while
    let due = |log: &Log<_>, now, below| {
        let policy = request(now, Offset(0)).policy;
        let state = log.cleaning_state(&policy, now, log.log_end()).unwrap();
        state.has_tombstones_due(now, below)
    };
    assert!(!due(&log, later - 1, ALL) && !due(&log, later, Offset(3)) && due(&log, later, ALL));
    put(&mut log, "x", Some("1"));
    close_segments(&mut log);
    drop(pass_below(&mut log, later, Offset(3)));
    assert_eq!((markers(&log), indexes(&disk)), (vec![1, 3], 1));
    let done = pass_below(&mut log, later, Offset(4));
    assert_eq!((markers(&log), all(&log), indexes(&disk)), (vec![1], vec![], 0));
    assert_eq!(done.report.tombstones_gone_below, Offset(4), "who lacks it is told");
    // the data of the first one is superseded
    put(&mut log, "a", Some("2"));
    close_segments(&mut log);
    drop(pass(&mut log, later));
    assert_eq!(markers(&log), [1]);
    put(&mut log, "x", Some("2"));
    close_segments(&mut log);
    drop(pass(&mut log, later + RETENTION_MS as i64));
    assert_eq!(markers(&log), []);
    assert!(headers(&log, Offset(0)).iter().all(|header| header.producer.is_none()));
}

/// S24: by it the producer's next batch is judged; and whoever replays it hears that its transaction is over.
#[test]
fn a_batch_by_which_a_producer_is_judged_keeps_its_header_and_its_marker() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    transaction(&mut log, 5, &[(Some("a"), Some("1"))], false);
    transaction(&mut log, 6, &[(Some("b"), Some("1"))], false);
    end(&mut log);
    let later = NOW + 5 * RETENTION_MS as i64;
    // of the one its data, of the other its marker, as who has a newer epoch by that
    drop(pass_keeping(&mut log, NOW, [0, 3]));
    put(&mut log, "x", Some("1"));
    close_segments(&mut log);
    drop(pass_keeping(&mut log, later, [0, 3]));
    let found: Vec<_> = headers(&log, Offset(0))
        .iter()
        .filter(|header| header.producer.is_some())
        .map(|header| (header.base_offset.0, header.record_count, header.marker().is_some()))
        .collect();
    assert_eq!(found, [(0, 0, false), (1, 1, true), (3, 0, true)]);
    let mut open = Open::new();
    headers(&log, Offset(0)).iter().for_each(|header| {
        assert!(next(&mut open, header).is_none() || header.base_offset == Offset(1))
    });
    assert!(open.is_empty());
}

/// S24: in each pass anew, whether the header is made or found.
#[test]
fn a_marker_has_no_time_while_a_header_of_its_transaction_is_left() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    transaction(&mut log, 5, &[(Some("a"), Some("1"))], false);
    end(&mut log);
    for n in 0..4 {
        drop(pass_keeping(&mut log, NOW + n * 2 * RETENTION_MS as i64, [0, 0]));
        let marker = headers(&log, Offset(1))[0];
        assert_eq!((marker.base_offset, marker.record_count), (Offset(1), 1), "pass {n}");
        assert_eq!(marker.delete_horizon_ms(), None, "pass {n}");
        put(&mut log, "x", Some("1"));
        close_segments(&mut log);
    }
}

#[test]
fn what_is_left_of_one_transaction_keeps_no_marker_of_the_next() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    transaction(&mut log, 5, &[(Some("a"), Some("1"))], true);
    transaction(&mut log, 5, &[(Some("b"), Some("1"))], false);
    end(&mut log);
    drop(pass(&mut log, NOW));
    let horizon = |at: u64| headers(&log, Offset(at))[0].delete_horizon_ms();
    assert_eq!((horizon(1), horizon(3)), (None, Some(NOW + RETENTION_MS as i64)));
}

#[test]
fn nothing_is_cleaned_from_where_a_transaction_is_open() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..12 {
        put(&mut log, "a", Some("0123456789"));
    }
    let stable = log.log_end();
    data(&mut log, 0, 5, &[(Some("a"), Some("0123456789"))]).unwrap();
    for _ in 0..12 {
        put(&mut log, "a", Some("0123456789"));
    }
    close_segments(&mut log);
    let before = headers(&log, stable);
    let done = clean(&mut log, request(NOW, stable)).unwrap();
    assert!(done.report.end <= stable && done.report.records_gone > 0);
    assert_eq!(headers(&log, stable), before);
}

#[test]
fn segments_that_become_one_have_one_index() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    let long = data(&mut log, 0, 9, &[(Some("long"), Some("1"))]).unwrap().base_offset.0;
    for id in 10..22 {
        transaction(&mut log, id, &[(Some("a"), Some("0123456789"))], false);
    }
    marker(&mut log, 0, 9, false).unwrap();
    log.note_aborted(aborted(9, long, 25)).unwrap();
    end(&mut log);
    let before = all(&log);
    assert!(log.segment_count() > 3 && indexes(&disk) > 2 && before.len() == 13);
    drop(pass(&mut log, NOW));
    assert_eq!(all(&log), before);
    assert_eq!(data_values(&log), [value(26, "end", "0")]);
    let count = indexes(&disk);
    let segments = log.segments().unwrap();
    for segment in &segments {
        let has = before.iter().any(|it| (segment.base..segment.end).contains(&it.last_offset));
        let path = dir().join(format!("{:020}.txnindex", segment.base.0));
        assert_eq!(disk.read(&path).unwrap().is_some(), has, "{segment:?}");
    }
    for loss in [Loss::Nothing, Loss::Unsynced] {
        let (log, recovery) = open(&disk.crash(loss), small());
        assert_eq!((all(&log), recovery.notices), (before.clone(), vec![]));
    }
    // one that is missing is missed
    log.close_clean(Offset(27)).unwrap();
    let first = before.iter().find(|it| it.last_offset >= segments[0].base).unwrap();
    let of = segments.iter().rev().find(|it| it.base <= first.last_offset).unwrap();
    disk.remove(&dir().join(format!("{:020}.txnindex", of.base.0))).unwrap();
    let (log, recovery) = open(&disk, small());
    assert_eq!(
        (recovery.notices.len(), indexes(&disk)),
        (1, count - 1),
        "nothing is left of it but markers"
    );
    assert!(all(&log).len() < before.len());
}
