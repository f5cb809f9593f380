//! When a new segment is begun.

use crate::batches::*;
use std::path::Path;
use troupe_log::disk::{FileDisk, Loss, MemDisk};
use troupe_log::{Log, LogConfig, dump};
use troupe_proto::ids::Offset;

#[test]
fn a_segment_does_not_grow_beyond_its_size_but_for_one_large_batch() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for len in [100, 100, 5000, 100, 900, 10] {
        append(&mut log, 0, 1, len).unwrap();
    }
    for segment in log.segments().unwrap() {
        assert!(segment.size <= 1000 || segment.end.0 - segment.base.0 == 1, "{segment:?}");
    }
    assert_eq!(contents(&log, Offset(0)).len(), 6);
}

#[test]
fn a_segment_holds_no_more_record_time_than_configured() {
    let disk = memory();
    let config = LogConfig { segment_ms: 1000, segment_jitter_ms: 100, ..LogConfig::default() };
    let (mut log, _) = open(&disk, config);
    let rolled: Vec<_> = [0, 900, 901, 5, 1801, 1802]
        .map(|age| append_at(&mut log, 0, &[NOW + age], b"v").unwrap().rolled.map(|o| o.0))
        .into();
    assert_eq!(rolled, [None, None, Some(2), None, None, Some(5)]);
}

#[test]
fn a_full_index_ends_a_segment() {
    let disk = memory();
    let config =
        LogConfig { index_interval_bytes: 1, segment_index_bytes: 12 * 5, ..LogConfig::default() };
    let (mut log, _) = open(&disk, config);
    for _ in 0..40 {
        append(&mut log, 0, 1, 10).unwrap();
    }
    assert!(log.segment_count() > 5);
    log.close_clean(Offset(40)).unwrap();
    for (path, content) in disk.files() {
        if path.extension().is_some_and(|kind| kind == "index" || kind == "timeindex") {
            assert!(content.len() <= 12 * 5, "{path:?}: {}", content.len());
        }
    }
}

#[test]
fn what_a_flush_covers_includes_the_indexes_of_closed_segments() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..20 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    let (now, left) = (disk.files(), disk.crash(Loss::Unsynced).files());
    let is_index = |path: &Path| path.extension().is_some_and(|kind| kind != "log");
    assert!(now.keys().filter(|path| is_index(path)).count() >= 4);
    assert_eq!(now, left);
}

/// All of its entries were written by a checkpoint, which nobody synced, and sealing it added none.
#[test]
fn what_a_flush_covers_includes_an_index_that_was_complete_before_its_segment_was_closed() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    while log.segment_count() < 2 {
        append(&mut log, 0, 1, 100).unwrap();
        log.flush().unwrap();
        log.checkpoint(log.log_end()).unwrap();
    }
    let of_the_first = |disk: &MemDisk| {
        let mut files = disk.files();
        files.retain(|path, _| path.to_str().unwrap().contains("00000000000000000000."));
        files
    };
    let (now, left) = (of_the_first(&disk), of_the_first(&disk.crash(Loss::Unsynced)));
    assert_eq!(now.len(), 3);
    assert_eq!(now, left);
}

#[test]
fn an_index_file_ends_with_the_entries_that_a_truncation_left() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("topic-3");
    let config = LogConfig { segment_bytes: 4000, ..small() };
    let (mut log, _) = Log::open(FileDisk, dir.clone(), key(), config, NOW).unwrap();
    for _ in 0..15 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    log.checkpoint(Offset(0)).unwrap();
    log.truncate_to(Offset(3), Offset(0)).unwrap();
    append(&mut log, 1, 1, 3000).unwrap();
    log.roll(NOW).unwrap();
    log.close_clean(Offset(0)).unwrap();
    let path = dir.join("00000000000000000000.log");
    assert_eq!(troupe_log::verify::verify_segment(&path).unwrap().faults, Vec::<String>::new());
    let mut entries = dump::offset_entries(&path.with_extension("index")).unwrap();
    assert!(entries.all(|entry| entry.is_ok_and(|entry| entry.offset <= Offset(3))));
}
