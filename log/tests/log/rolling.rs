//! When a new segment is begun.

use crate::batches::*;
use troupe_log::LogConfig;
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
