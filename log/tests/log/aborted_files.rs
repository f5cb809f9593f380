//! The index of aborted transactions as those see it who look at files: scrub, dump, verify and mend.

use crate::batches::*;
use crate::transactions::*;
use std::fs;
use std::path::{Path, PathBuf};
use troupe_log::disk::{Disk, FileDisk};
use troupe_log::dump::{self, FileKind, Mismatch, TxnEntry};
use troupe_log::verify::{file, mend, partition};
use troupe_log::{Aborted, Log, LogConfig};
use troupe_proto::ids::Offset;

const FIRST: &str = "00000000000000000000.txnindex";

fn tiny() -> LogConfig {
    LogConfig { segment_bytes: 500, ..small() }
}

fn write<D: Disk>(log: &mut Log<D>) -> Vec<Aborted> {
    let mut expected = Vec::new();
    for id in 1..8 {
        let first = data(log, 0, id, &[(Some("a"), Some("0123456789"))]).unwrap().base_offset;
        let last = marker(log, 0, id, id % 3 == 0).unwrap().base_offset;
        if id % 3 > 0 {
            expected.push(aborted(id, first.0, last.0));
            log.note_aborted(expected[expected.len() - 1]).unwrap();
        }
    }
    log.flush().unwrap();
    expected
}

fn written(temp: &Path) -> (PathBuf, Vec<Aborted>) {
    let dir = temp.join("topic-3");
    let (mut log, _) = Log::open(FileDisk, dir.clone(), key(), tiny(), NOW).unwrap();
    let expected = write(&mut log);
    let end = log.log_end();
    log.close_clean(end).unwrap();
    (dir, expected)
}

fn entries(path: &Path) -> Vec<TxnEntry> {
    dump::txn_entries(path).unwrap().map(Result::unwrap).collect()
}

fn faults(dir: &Path) -> Vec<String> {
    let reports = partition(dir).unwrap();
    let told = reports.iter().flat_map(|report| {
        let name = report.path.file_name().unwrap().to_str().unwrap();
        report.faults.iter().map(move |fault| format!("{name}: {}", fault.text))
    });
    told.collect()
}

#[test]
fn a_scrub_finds_a_changed_bit_anywhere_in_it_and_has_it_made_again() {
    let disk = memory();
    let (mut log, _) = open(&disk, tiny());
    let expected = write(&mut log);
    let sound = log.begin_scrub().run(|_| true).unwrap();
    assert_eq!((sound.wrong_indexes, sound.suspects), (vec![], vec![]));
    let path = dir().join(FIRST);
    let content = disk.read(&path).unwrap().unwrap();
    for bit in 0..content.len() * 8 {
        let mut changed = content.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        disk.replace(&path, &changed, true).unwrap();
        log.release_files();
        let found = log.begin_scrub().run(|_| true).unwrap();
        assert_eq!(found.wrong_indexes, [Offset(0)], "bit {bit}");
        assert!(log.rebuild_indexes(Offset(0)).unwrap());
        assert_eq!(disk.read(&path).unwrap().unwrap(), content, "bit {bit}");
        assert_eq!(all(&log), expected);
    }
}

#[test]
fn its_entries_are_shown_each_with_what_the_log_says_otherwise() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, expected) = written(temp.path());
    let path = dir.join(FIRST);
    assert_eq!(FileKind::of(&path), Some(FileKind::TxnIndex));
    let shown = entries(&path);
    assert!(shown.len() > 1 && shown.iter().all(|entry| entry.mismatch.is_none()));
    assert!(shown.iter().map(|entry| entry.aborted).eq(expected.iter().copied().take(shown.len())));
    assert_eq!(file(&path, FileKind::TxnIndex).unwrap().entries, shown.len() as u64);
    assert_eq!(faults(&dir), Vec::<String>::new());
    // beside a log of which nothing was aborted
    let other = tempfile::tempdir().unwrap();
    let foreign = other.path().join("topic-3");
    let (mut log, _) = Log::open(FileDisk, foreign.clone(), key(), tiny(), NOW).unwrap();
    for _ in 0..8 {
        append(&mut log, 0, 2, 20).unwrap();
    }
    log.close_clean(Offset(0)).unwrap();
    fs::copy(&path, foreign.join(FIRST)).unwrap();
    let shown = entries(&foreign.join(FIRST));
    assert!(shown.iter().all(|entry| entry.mismatch == Some(Mismatch::NoMarker)));
    assert!(faults(&foreign).iter().all(|fault| fault.starts_with(FIRST)));
    // under another name it belongs to nobody
    let misplaced = dir.join("00000000000000000003.txnindex");
    fs::copy(&path, &misplaced).unwrap();
    assert!(dump::txn_entries(&misplaced).unwrap().next().unwrap().is_err());
}

#[test]
fn what_is_wrong_with_it_is_found_and_mended() {
    type Plant = fn(&Path);
    let planted: [(&str, Plant); 5] = [
        ("header", |path| {
            let mut content = fs::read(path).unwrap();
            content[7] = 2;
            fs::write(path, content).unwrap();
        }),
        ("entry", |path| {
            let mut content = fs::read(path).unwrap();
            content[40] ^= 1;
            fs::write(path, content).unwrap();
        }),
        ("torn", |path| {
            let content = fs::read(path).unwrap();
            fs::write(path, &content[..content.len() - 3]).unwrap();
        }),
        ("an entry less", |path| {
            let content = fs::read(path).unwrap();
            fs::write(path, &content[..content.len() - 28]).unwrap();
        }),
        ("gone", |path| fs::remove_file(path).unwrap()),
    ];
    for (what, plant) in planted {
        let temp = tempfile::tempdir().unwrap();
        let (dir, expected) = written(temp.path());
        let path = dir.join(FIRST);
        let sound = fs::read(&path).unwrap();
        plant(&path);
        let found = faults(&dir);
        assert!(found.len() == 1 && found[0].starts_with(FIRST), "{what}: {found:?}");
        let mended = mend(&dir, &partition(&dir).unwrap(), false, NOW).unwrap();
        assert!(mended.done.iter().any(|done| done.contains(FIRST)), "{what}: {mended:?}");
        assert!(mended.lost.is_empty());
        assert_eq!(faults(&dir), Vec::<String>::new(), "{what}");
        assert_eq!(fs::read(&path).unwrap(), sound, "{what}");
        let (log, recovery) = Log::open(FileDisk, dir, key(), tiny(), NOW).unwrap();
        assert!(recovery.clean && recovery.notices.is_empty());
        assert_eq!(all(&log), expected, "{what}");
    }
}

#[test]
fn one_without_its_segment_is_cleared_away() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, _) = written(temp.path());
    let orphan = dir.join("00000000000000000077.txnindex");
    fs::copy(dir.join(FIRST), &orphan).unwrap();
    let reports = partition(&dir).unwrap();
    assert_eq!(reports.iter().filter(|report| report.is_leftover).count(), 1);
    drop(Log::open(FileDisk, dir, key(), tiny(), NOW).unwrap());
    assert!(!orphan.exists());
}
