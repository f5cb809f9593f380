//! The index of aborted transactions, by example.

use crate::batches::*;
use crate::transactions::*;
use std::path::Path;
use troupe_log::disk::{Disk, DiskFile, Fault, FaultDisk, Loss, MemDisk, Operation};
use troupe_log::{Log, LogConfig, RetentionPolicy};
use troupe_proto::ids::{Offset, PartitionKey};

/// Segments of two transactions or three.
fn tiny() -> LogConfig {
    LogConfig { segment_bytes: 500, ..small() }
}

/// Each transaction: a batch of each producer, and its marker; all but the first are aborted.
fn abort_some<D: Disk>(log: &mut Log<D>, ids: &[u64]) {
    for id in ids {
        let first = data(log, 0, *id, &[(Some("a"), Some("0123456789"))]).unwrap();
        let last = marker(log, 0, *id, *id == 1).unwrap();
        if *id != 1 {
            log.note_aborted(aborted(*id, first.base_offset.0, last.last_offset().0)).unwrap();
        }
    }
}

fn indexes(disk: &MemDisk) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let names = disk.files().into_keys().map(|path| name(&path));
    names.filter(|name| name.contains(".txnindex")).collect()
}

#[test]
fn of_a_range_it_gives_what_overlaps_with_it_whichever_segment_has_the_marker() {
    let disk = memory();
    let (mut log, _) = open(&disk, tiny());
    let long = data(&mut log, 0, 9, &[(Some("a"), Some("b"))]).unwrap().base_offset;
    abort_some(&mut log, &[1, 2, 3, 4, 5, 6]);
    let end = marker(&mut log, 0, 9, false).unwrap().last_offset();
    log.note_aborted(aborted(9, long.0, end.0)).unwrap();
    assert!(log.segment_count() > 2 && indexes(&disk).len() > 1, "{:?}", indexes(&disk));
    let expected: Vec<_> = (2..7).map(|id| aborted(id, id * 2 - 1, id * 2)).collect();
    let expected = [&expected[..], &[aborted(9, 0, 13)]].concat();
    assert_eq!(all(&log), expected);
    for (from, to) in (0..15).flat_map(|from| (from..15).map(move |to| (from, to))) {
        let (from, to) = (Offset(from), Offset(to));
        let overlaps =
            expected.iter().filter(|it| it.last_offset >= from && it.first_offset < to).copied();
        assert_eq!(log.aborted(from, to).unwrap(), overlaps.collect::<Vec<_>>(), "{from}..{to}");
    }
    // what is known already changes nothing
    let files = disk.files();
    expected.iter().for_each(|it| log.note_aborted(*it).unwrap());
    assert_eq!(disk.files(), files);
    log.close_clean(Offset(14)).unwrap();
    let (mut log, recovery) = open(&disk, tiny());
    assert!(recovery.clean);
    assert_eq!(all(&log), expected);
    log.release_files();
    assert_eq!(all(&log), expected);
}

#[test]
fn a_log_without_aborted_transactions_does_nothing_for_the_sake_of_any() {
    let disk = FaultDisk::new(memory());
    let (mut log, _) = open(&disk, tiny());
    abort_some(&mut log, &[1, 1, 1, 1, 1, 1]);
    // a marker that finds nothing to abort
    marker(&mut log, 0, 5, false).unwrap();
    log.flush().unwrap();
    log.checkpoint(log.log_end()).unwrap();
    assert!(log.segment_count() > 1 && all(&log).is_empty());
    assert_eq!(indexes(disk.memory()), Vec::<String>::new());
    log.close_clean(Offset(13)).unwrap();
    let (log, recovery) = open(disk.memory(), tiny());
    assert!(recovery.clean && all(&log).is_empty());
}

#[test]
fn an_entry_is_on_disk_with_the_flush_that_covers_its_marker() {
    let disk = memory();
    let (mut log, _) = open(&disk, tiny());
    abort_some(&mut log, &[2]);
    log.flush().unwrap();
    abort_some(&mut log, &[3]);
    log.flush().unwrap();
    let cut = disk.crash(Loss::Unsynced);
    let content = cut.read(&dir().join("00000000000000000000.txnindex")).unwrap().unwrap();
    assert_eq!(content.len(), 8 + 2 * 28);
    assert_eq!(all(&open(&cut, tiny()).0), [aborted(2, 0, 1), aborted(3, 2, 3)]);
}

/// The file's bytes are a promise to whoever reads them with another version.
#[test]
fn the_format_is_what_the_fixture_says() {
    let disk = memory();
    let (mut log, _) = open(&disk, tiny());
    abort_some(&mut log, &[2, 3]);
    let name = "00000000000000000000.txnindex";
    let content = disk.read(&dir().join(name)).unwrap().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/aborted").join(name);
    if std::env::var_os("TROUPE_BLESS").is_some() {
        std::fs::create_dir_all(fixture.parent().unwrap()).unwrap();
        std::fs::write(&fixture, &content).unwrap();
    }
    assert_eq!(content, std::fs::read(fixture).unwrap());
}

#[test]
fn it_goes_with_its_segment_and_with_what_is_cut_off() {
    let disk = memory();
    let (mut log, _) = open(&disk, tiny());
    abort_some(&mut log, &[2, 3, 4, 5, 6, 7, 8]);
    log.flush().unwrap();
    let before = all(&log);
    assert_eq!((before.len(), indexes(&disk).len()), (7, 4));
    // within a segment: what comes there next is another transaction
    log.truncate_to(Offset(11), Offset(11)).unwrap();
    assert_eq!(all(&log), before[..5]);
    data(&mut log, 0, 1, &[(Some("a"), Some("b"))]).unwrap();
    log.flush().unwrap();
    for lost in [Loss::Nothing, Loss::Unsynced] {
        assert_eq!(all(&open(&disk.crash(lost), tiny()).0), before[..5]);
    }
    let policy = RetentionPolicy { retention_ms: Some(0), retention_bytes: Some(0) };
    let retained = log.apply_retention(&policy, NOW + 1000, Offset(12));
    assert!(indexes(&disk).iter().all(|name| name.ends_with(".txnindex.deleted")));
    retained.removals.into_iter().for_each(|removal| removal.run().unwrap());
    assert_eq!((all(&log), indexes(&disk)), (vec![], vec![]));
    abort_some(&mut log, &[2]);
    assert_eq!(all(&log).len(), 1);
    log.truncate_fully_and_start_at(Offset(40)).unwrap();
    assert_eq!((all(&log), indexes(&disk)), (vec![], vec![]));
}

/// Rot in a file that nobody can tell from a sound one by its name.
#[test]
fn a_damaged_or_missing_index_is_made_again_from_the_batches() {
    type Damage = fn(&MemDisk, &Path);
    let whole = |disk: &MemDisk, path: &Path| disk.read(path).unwrap().unwrap();
    let flip: Damage = |disk, path| {
        let mut content = disk.read(path).unwrap().unwrap();
        content[20] ^= 1;
        disk.replace(path, &content, true).unwrap();
    };
    let cut: Damage = |disk, path| {
        let content = disk.read(path).unwrap().unwrap();
        disk.replace(path, &content[..content.len() - 28], true).unwrap();
    };
    let empty: Damage = |disk, path| drop(disk.replace(path, &[], true).unwrap());
    let remove: Damage = |disk, path| disk.remove(path).unwrap();
    for (deleted, snapshots) in [(false, false), (true, false), (false, true), (true, true)] {
        for damage in [flip, cut, empty, remove] {
            let disk = memory();
            let (mut log, _) = open(&disk, tiny());
            abort_some(&mut log, &[2, 3, 4, 5]);
            if snapshots {
                log.write_producer_snapshot(log.log_end(), &snapshot_of(&Open::new())).unwrap();
            }
            data(&mut log, 0, 9, &[(Some("a"), Some("b"))]).unwrap();
            abort_some(&mut log, &[6, 7, 8]);
            let last = marker(&mut log, 0, 9, false).unwrap().base_offset;
            log.note_aborted(aborted(9, 8, last.0)).unwrap();
            if snapshots {
                log.write_producer_snapshot(log.log_end(), &snapshot_of(&Open::new())).unwrap();
            }
            if deleted {
                log.remove_oldest().unwrap().unwrap().run().unwrap();
            }
            let expected = all(&log);
            log.close_clean(last).unwrap();
            let sound: Vec<_> = indexes(&disk);
            assert!(sound.len() > 1);
            for name in &sound {
                let disk = disk.snapshot();
                let path = dir().join(name);
                let before = whole(&disk, &path);
                damage(&disk, &path);
                let (mut log, recovery) = open(&disk, tiny());
                assert!(!recovery.clean && recovery.damage.is_none());
                assert_eq!(recovery.notices.len(), 1, "{:?}", recovery.notices);
                assert_eq!(all(&log), expected, "{name}");
                assert_eq!(whole(&disk, &path), before);
                // noticed once
                drop(log);
                let again = open(&disk.crash(Loss::Nothing), tiny());
                assert!(again.1.clean && again.1.notices.is_empty());
                // and while it is in use
                log = again.0;
                damage(&disk, &path);
                let mut log_in_use = open(&disk, tiny()).0;
                log_in_use.release_files();
                damage(&disk, &path);
                assert_eq!(all(&log_in_use), expected);
                log_in_use.mend_indexes().unwrap();
                assert_eq!(whole(&disk, &path), before);
                drop(log);
            }
        }
    }
}

#[test]
fn a_copy_has_what_the_log_has() {
    let disk = memory();
    disk.create_dir(Path::new("/other")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let (mut log, _) = open(&disk, tiny());
    abort_some(&mut log, &[2, 3, 4, 5, 6, 7]);
    log.remove_oldest().unwrap().unwrap().run().unwrap();
    log.flush().unwrap();
    let to = Path::new("/other/topic-3").to_owned();
    let key: PartitionKey = key();
    let begin = (log.log_start(), NOW);
    let copy = Log::begin_copy(disk.clone(), to.clone(), key, tiny(), begin).unwrap();
    log.complete_copy(copy, log.log_end(), &snapshot_of(&Open::new()), NOW).unwrap();
    let cut = disk.crash(Loss::Unsynced);
    let (copy, recovery) = Log::open(cut, to, key, tiny(), NOW).unwrap();
    assert!(recovery.clean);
    assert_eq!(all(&copy), all(&log));
    assert!(!all(&log).is_empty());
}

/// Whatever cannot be written is known, and found again.
#[test]
fn what_could_not_be_written_is_known_all_the_same() {
    for nth in 0..3 {
        let disk = FaultDisk::new(memory());
        let (mut log, _) = open(&disk, tiny());
        abort_some(&mut log, &[2]);
        data(&mut log, 0, 3, &[(Some("a"), Some("b"))]).unwrap();
        marker(&mut log, 0, 3, false).unwrap();
        if nth > 0 {
            log.flush().unwrap();
        }
        let suffix = if nth > 0 { ".txnindex.tmp" } else { ".txnindex" };
        disk.fail(Operation::Write, suffix, 0, 1, Fault::Full);
        assert!(log.note_aborted(aborted(3, 2, 3)).is_err());
        let expected = [aborted(2, 0, 1), aborted(3, 2, 3)];
        assert_eq!(all(&log), expected);
        if nth == 2 {
            log.note_aborted(aborted(3, 2, 3)).unwrap();
            log.close_clean(Offset(4)).unwrap();
        } else {
            log.flush().unwrap();
            log.checkpoint(Offset(4)).unwrap();
        }
        for loss in [Loss::Nothing, Loss::Unsynced] {
            assert_eq!(all(&open(&disk.memory().crash(loss), tiny()).0), expected);
        }
    }
}

#[test]
fn a_file_that_is_open_is_written_to_in_one_go() {
    let disk = FaultDisk::new(memory());
    let (mut log, _) = open(&disk, tiny());
    abort_some(&mut log, &[2]);
    let before = disk.changes();
    abort_some(&mut log, &[3]);
    assert_eq!(disk.changes() - before, 3, "two batches and an entry");
    let file = disk.open(&dir().join("00000000000000000000.txnindex")).unwrap();
    assert_eq!(file.size().unwrap(), 8 + 2 * 28);
}

/// What a reader pays in a segment with a hundred thousand of them, and one that begins where the first one does.
#[test]
#[ignore = "measures: cargo test --release -p troupe-log --test log a_hundred_thousand -- --ignored --nocapture"]
fn a_search_among_a_hundred_thousand_entries_is_measured() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    data(&mut log, 0, 9, &[(Some("a"), None)]).unwrap();
    for _ in 0..100_000 {
        abort_some(&mut log, &[2]);
    }
    let last = marker(&mut log, 0, 9, false).unwrap().base_offset;
    log.note_aborted(aborted(9, 0, last.0)).unwrap();
    let time = |what: &str, log: &Log<_>, from: u64, to: u64| {
        let begun = std::time::Instant::now();
        let found = log.aborted(Offset(from), Offset(to)).unwrap().len();
        println!("{what}: {found} of 100001 in {:?}", begun.elapsed());
    };
    time("at the start", &log, 0, 100);
    time("in the middle", &log, 100_000, 100_100);
    time("at the end", &log, last.0 - 100, last.0);
    log.flush().unwrap();
    log.release_files();
    time("read from the file", &log, 100_000, 100_100);
    log.close_clean(last).unwrap();
    let begun = std::time::Instant::now();
    let (log, recovery) = open(&disk, LogConfig::default());
    println!("opened, clean: {}, in {:?}", recovery.clean, begun.elapsed());
    time("opened anew", &log, 100_000, 100_100);
}
