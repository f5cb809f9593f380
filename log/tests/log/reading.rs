//! Reading by offset and by timestamp.

use crate::batches::*;
use troupe_log::{LogConfig, LogError};
use troupe_proto::ids::Offset;

/// S28.
#[test]
fn offsets_outside_of_the_log_are_out_of_range_and_those_above_the_high_watermark_empty() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..20 {
        append(&mut log, 0, 2, 100).unwrap();
    }
    drop(log.set_log_start(Offset(15)).unwrap());
    let error = log.read(Offset(14), Offset(40), 1000).unwrap_err();
    let LogError::OffsetOutOfRange { requested, earliest, latest } = error else {
        panic!("{error}")
    };
    assert_eq!((requested, earliest, latest), (Offset(14), Offset(15), Offset(40)));
    assert!(log.read(Offset(41), Offset(41), 1000).is_err());
    for from in 30..=40 {
        let slice = log.read(Offset(from), Offset(30), 1000).unwrap();
        assert!(slice.is_empty());
        assert_eq!((slice.first, slice.end), (Offset(from), Offset(from)));
    }
    assert_eq!(log.read(Offset(15), Offset(30), 1000).unwrap().first, Offset(14));
}

/// S29.
#[test]
fn the_first_batch_is_always_whole_however_small_the_limit() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    for _ in 0..5 {
        append(&mut log, 0, 3, 100).unwrap();
    }
    for max_bytes in [0, 1, 300] {
        let slice = log.read(Offset(4), Offset(15), max_bytes).unwrap();
        assert_eq!((slice.first, slice.end), (Offset(3), Offset(6)));
    }
    let one = log.read(Offset(0), Offset(3), usize::MAX).unwrap().bytes.len();
    assert_eq!(log.read(Offset(0), Offset(15), 3 * one).unwrap().end, Offset(9));
    assert_eq!(log.read(Offset(0), Offset(15), 3 * one - 1).unwrap().end, Offset(6));
    assert_eq!(log.read(Offset(0), Offset(8), usize::MAX).unwrap().end, Offset(6));
}
