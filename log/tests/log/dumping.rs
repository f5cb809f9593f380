//! What the command line shows of files.

use crate::batches::*;
use std::path::{Path, PathBuf};
use troupe_log::disk::FileDisk;
use troupe_log::dump::{self, FileKind, LogFile, Mismatch};
use troupe_log::verify::verify_segment;
use troupe_log::{Log, LogConfig};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// The files of a closed log of two segments.
fn written(dir: &Path) -> Vec<PathBuf> {
    let config = LogConfig { segment_bytes: 2000, index_interval_bytes: 100, ..small() };
    let (mut log, _) = Log::open(FileDisk, dir.to_owned(), key(), config, NOW).unwrap();
    for i in 0..15 {
        append(&mut log, i / 8, 2, 50).unwrap();
    }
    log.write_producer_snapshot(log.log_end(), b"state").unwrap();
    log.close_clean(Offset(30)).unwrap();
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn of_kind(files: &[PathBuf], kind: FileKind) -> Vec<&Path> {
    let mut found: Vec<&Path> =
        files.iter().map(|p| p.as_path()).filter(|p| FileKind::of(p) == Some(kind)).collect();
    found.sort();
    found
}

#[test]
fn every_file_of_a_log_can_be_read_on_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let files = written(&temp.path().join("t-0"));
    assert!(files.iter().all(|path| FileKind::of(path).is_some()), "{files:?}");
    let mut next = Offset(0);
    for path in of_kind(&files, FileKind::Log) {
        assert_eq!(dump::base_offset(path), Some(next));
        for batch in LogFile::open(path).unwrap() {
            let batch = batch.unwrap();
            assert_eq!((batch.header.base_offset, batch.fault), (next, None));
            next = batch.header.end_offset();
        }
        let report = verify_segment(path).unwrap();
        assert_eq!(report.faults, Vec::<String>::new());
        assert!(report.identity_known);
        assert_eq!(report.offsets.unwrap().1, next);
        assert_eq!(report.bytes, std::fs::metadata(path).unwrap().len());
    }
    assert_eq!(next, Offset(30));
    let entries = dump::offset_entries(of_kind(&files, FileKind::OffsetIndex)[0]).unwrap();
    let entries: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
    assert!(entries.len() > 3 && entries.iter().all(|entry| entry.mismatch.is_none()));
    let entries = dump::time_entries(of_kind(&files, FileKind::TimeIndex)[0]).unwrap();
    let entries: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
    assert!(entries.len() > 3 && entries.iter().all(|entry| entry.mismatch.is_none()));
    let snapshot = of_kind(&files, FileKind::Snapshot)[0];
    assert_eq!(dump::producer_snapshot(snapshot).unwrap().0, "state");
    let epochs = dump::leader_epochs(of_kind(&files, FileKind::Epochs)[0]).unwrap();
    assert_eq!(epochs, [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(1), Offset(16))]);
    for path in of_kind(&files, FileKind::Checkpoint) {
        let (lines, fault) = dump::checkpoint_lines(path).unwrap();
        assert!(!lines.is_empty() && fault.is_none());
    }
}

/// Of a segment that was closed and takes appends again, nothing of what was cut stays in the index files, even if
/// the process ends before anything else is written.
#[test]
fn indexes_are_cut_with_their_segment() {
    let temp = tempfile::tempdir().unwrap();
    let config = LogConfig { index_interval_bytes: 100, ..small() };
    let (mut log, _) = Log::open(FileDisk, temp.path().join("t-0"), key(), config, NOW).unwrap();
    append(&mut log, 0, 1, 50).unwrap();
    log.roll(NOW).unwrap();
    for _ in 0..5 {
        append(&mut log, 0, 2, 50).unwrap();
    }
    log.roll(NOW).unwrap();
    append(&mut log, 0, 1, 50).unwrap();
    let path = temp.path().join("t-0/00000000000000000001.log");
    for left in [Offset(5), Offset(1)] {
        assert_eq!(log.truncate_to(left, left).unwrap(), left);
        assert_eq!(verify_segment(&path).unwrap().faults, Vec::<String>::new(), "{left}");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let temp = tempfile::tempdir().unwrap();
    let files = written(&temp.path().join("t-0"));
    let path = of_kind(&files, FileKind::Log)[0];
    let content = std::fs::read(path).unwrap();
    for bit in (0..content.len() * 8).step_by(37) {
        let mut damaged = content.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, damaged).unwrap();
        assert!(!verify_segment(path).unwrap().faults.is_empty(), "bit {bit}");
    }
    std::fs::write(path, &content[..content.len() - 1]).unwrap();
    assert!(!verify_segment(path).unwrap().faults.is_empty());
    std::fs::write(path, content).unwrap();

    let index = of_kind(&files, FileKind::OffsetIndex)[0];
    let mut entries = std::fs::read(index).unwrap();
    entries[7] ^= 1;
    std::fs::write(index, entries).unwrap();
    assert_eq!(verify_segment(path).unwrap().faults.len(), 1);
}

/// S12: what a change was about to make or to remove is of the kind that its name was to be, or was.
#[test]
fn leftovers_are_of_the_kind_that_they_were() {
    for (name, kind) in [
        ("00000000000000000007.log.deleted", FileKind::Log),
        ("00000000000000000007.index.cleaned", FileKind::OffsetIndex),
        ("00000000000000000007.timeindex.swap", FileKind::TimeIndex),
        ("00000000000000000007.txnindex.deleted", FileKind::TxnIndex),
        ("00000000000000000007.txnindex.7.cleaned", FileKind::TxnIndex),
        ("00000000000000000007.snapshot.tmp", FileKind::Snapshot),
        ("leader-epoch-checkpoint.tmp", FileKind::Epochs),
        // of the cleaner's seventh pass, and what it has replaced
        ("00000000000000000007.log.7.cleaned", FileKind::Log),
        ("offset-checkpoint.7.cleaned", FileKind::Checkpoint),
        ("00000000000000000007.log.replaced.deleted", FileKind::Log),
        ("cleaner-swap", FileKind::Checkpoint),
        ("partition-directories", FileKind::Inventory),
        ("meta.properties", FileKind::Checkpoint),
    ] {
        let path = Path::new(name);
        assert_eq!(FileKind::of(path), Some(kind), "{name}");
        assert_eq!(
            dump::is_leftover(path),
            !matches!(name, "partition-directories" | "meta.properties")
        );
    }
    let aside = Path::new("00000000000000000007.log.aside-3");
    assert_eq!(FileKind::of(aside), Some(FileKind::Log));
    assert_eq!(dump::base_offset(aside), Some(Offset(7)));
    assert_eq!(FileKind::of(Path::new("notes.txt")), None);
}

/// S32: where index and log disagree is told with what the log says.
#[test]
fn an_index_that_differs_from_its_log_is_told_entry_by_entry() {
    let temp = tempfile::tempdir().unwrap();
    let files = written(&temp.path().join("t-0"));
    let index = of_kind(&files, FileKind::OffsetIndex)[0];
    let mut content = std::fs::read(index).unwrap();
    content[3] ^= 1;
    content.extend_from_slice(&[0; 3]);
    std::fs::write(index, content).unwrap();
    let entries: Vec<_> = dump::offset_entries(index).unwrap().collect();
    let first = entries[0].as_ref().unwrap();
    assert!(
        matches!(first.mismatch, Some(Mismatch::OtherBatch { log: Some(log) }) if log.0 == first.offset.0 ^ 1)
    );
    assert!(entries.last().unwrap().is_err(), "three bytes are no entry");
    let times = of_kind(&files, FileKind::TimeIndex)[0];
    let mut content = std::fs::read(times).unwrap();
    content[7] ^= 1;
    std::fs::write(times, content).unwrap();
    let first = dump::time_entries(times).unwrap().next().unwrap().unwrap();
    assert!(
        matches!(first.mismatch, Some(Mismatch::OtherTimestamp { log }) if log == first.timestamp ^ 1)
    );
}
