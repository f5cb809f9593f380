//! A log with transactions as the first version of them wrote it: `tests/fixtures/transactions-log`. It is put on record by
//! `TROUPE_BLESS`, and never changed.

use crate::batches::*;
use crate::cleaned::headers;
use crate::transactions::*;
use std::path::{Path, PathBuf};
use troupe_log::disk::FileDisk;
use troupe_log::{Aborted, Log, LogConfig, Recovery};
use troupe_proto::ids::{Offset, ProducerId};

fn config() -> LogConfig {
    LogConfig { segment_bytes: 500, ..small() }
}

/// Some committed, some aborted, in several segments; one is open.
fn write(path: &Path) {
    let (mut log, _) = Log::open(FileDisk, path.to_owned(), key(), config(), NOW).unwrap();
    let mut open = Open::new();
    let mut step = |log: &mut Log<FileDisk>, header| {
        if let Some(it) = next(&mut open, &header) {
            log.note_aborted(it).unwrap();
        }
        snapshot_of(&open)
    };
    let mut snapshot = Vec::new();
    let records: [(Option<&str>, Option<&str>); 1] = [(Some("a"), Some("0123456789"))];
    for id in 1..6 {
        let header = data(&mut log, 0, id, &records).unwrap();
        step(&mut log, header);
        let header = data(&mut log, 0, 9, &records).unwrap();
        step(&mut log, header);
        let header = marker(&mut log, 0, id, id % 2 == 0).unwrap();
        snapshot = step(&mut log, header);
    }
    let end = log.log_end();
    log.write_producer_snapshot(end, &snapshot).unwrap();
    log.close_clean(end).unwrap();
}

fn opened(path: &Path) -> (Log<FileDisk>, Recovery) {
    Log::open(FileDisk, path.to_owned(), key(), config(), NOW).unwrap()
}

/// A copy of what is on record.
fn copy(to: &Path) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transactions-log");
    if std::env::var_os("TROUPE_BLESS").is_some() && !fixture.exists() {
        write(&fixture);
    }
    let path = to.join("topic-3");
    std::fs::create_dir(&path).unwrap();
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
    path
}

fn expected() -> Vec<Aborted> {
    [1, 3, 5].into_iter().map(|id| aborted(id, (id - 1) * 3, id * 3 - 1)).collect()
}

#[test]
fn a_log_with_transactions_of_an_earlier_version_opens_and_says_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let path = copy(temp.path());
    let (mut log, recovery) = opened(&path);
    assert!(recovery.clean && recovery.damage.is_none(), "{recovery:?}");
    assert_eq!(all(&log), expected());
    assert!(recovery.snapshot.is_some() && recovery.replay_from == Offset(15));
    let open = restore(&mut log, &recovery).unwrap();
    assert_eq!(open, [(ProducerId(9), Offset(1))].into());
    let markers = headers(&log, Offset(0)).into_iter().filter_map(|header| header.marker());
    let markers: Vec<_> = markers.map(|it| (it.committed, it.coordinator_epoch)).collect();
    let one = |committed| (committed, COORDINATOR);
    assert_eq!(markers, [false, true, false, true, false].map(one));
}

/// What derives from its batches is made again.
#[test]
fn without_its_index_and_its_snapshot_it_says_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let path = copy(temp.path());
    for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|it| it == "snapshot" || it == "txnindex") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let (mut log, recovery) = opened(&path);
    assert_eq!(recovery.replay_from, Offset(0));
    let open = restore(&mut log, &recovery).unwrap();
    assert_eq!((all(&log), open), (expected(), [(ProducerId(9), Offset(1))].into()));
}
