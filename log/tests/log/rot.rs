//! A byte that changes on the disk is found by whoever reads, nothing wrong is handed out, and what is beside it stays.

use crate::batches::*;
use crate::cleaned::{clean, close_segments, put_batch, request};
use std::ops::Range;
use std::path::{Path, PathBuf};
use troupe_log::disk::{Disk, Loss, MemDisk};
use troupe_log::{CleaningRequest, Log, LogError, Suspect, check_batches};
use troupe_proto::batch::{BatchHeader, Batches, Compression};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::rope::Rope;

const BATCHES: u64 = 40;

/// One record a batch, segments of some six; every third timestamp is the same as the one before.
fn written() -> (MemDisk, Log<MemDisk>) {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for n in 0..BATCHES {
        let time = NOW + (n - u64::from(n % 3 == 2)) as i64;
        append_at(&mut log, 0, &[time], &[n as u8; 40]).unwrap();
    }
    log.write_producer_snapshot(log.log_end(), b"state").unwrap();
    log.flush().unwrap();
    log.checkpoint(log.log_end()).unwrap();
    log.flush().unwrap();
    (disk, log)
}

fn files(disk: &MemDisk, extension: &str) -> Vec<PathBuf> {
    let files = disk.files().into_keys();
    files.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}

fn flip(disk: &MemDisk, path: &Path, at: usize, bits: u8) {
    let mut content = disk.read(path).unwrap().unwrap();
    content[at] ^= bits;
    disk.replace(path, &content, true).unwrap();
}

/// A log over a copy of the disk with one byte changed, and what that is opened with.
fn opened(disk: &MemDisk) -> Log<MemDisk> {
    let (log, recovery) = open(disk, small());
    assert_eq!(recovery.damage, None, "what was flushed is not looked at");
    log
}

/// What is read from every offset on, all of it checked; or where that ends, and by what.
fn read_all(log: &Log<MemDisk>, from: Offset) -> Result<Vec<Offset>, Offset> {
    let (mut next, mut bases) = (from, Vec::new());
    while next < log.log_end() {
        let Ok(slice) = log.read(next, log.log_end(), 300) else { return Err(next) };
        check_batches(&slice.bytes, &key(), next).map_err(|bad| bad.at)?;
        bases.extend(Batches::new(slice.bytes).map(|batch| batch.unwrap().0.base_offset));
        next = slice.end;
    }
    Ok(bases)
}

fn offsets(range: Range<u64>) -> Vec<Offset> {
    range.map(Offset).collect()
}

#[test]
fn a_changed_byte_anywhere_in_a_segment_is_found_by_reading_and_says_where() {
    let (disk, log) = written();
    let all = read_all(&log, Offset(0)).unwrap();
    assert_eq!(all, offsets(0..BATCHES));
    drop(log);
    for path in [&files(&disk, "log")[2], files(&disk, "log").last().unwrap()] {
        let size = disk.size(path).unwrap() as usize;
        let base = Offset(path.file_stem().unwrap().to_str().unwrap().parse().unwrap());
        for at in 0..size {
            let disk = disk.snapshot();
            flip(&disk, path, at, 1 << (at % 8));
            let mut log = opened(&disk);
            let found = read_all(&log, base).expect_err("it is found");
            let damage = log.examine(found).unwrap().expect("and it is there");
            assert_eq!(damage.complete_below, found, "{at}");
            // whoever begins behind it is not led astray
            for from in found.0 + 1..log.log_end().0 {
                let read = read_all(&log, Offset(from));
                match read {
                    Ok(read) => assert_eq!(read, offsets(from..BATCHES), "{at}: {from}"),
                    // no further than the offset that was asked for
                    Err(at) => assert!(at == found || at == Offset(from), "{at}"),
                }
            }
            assert_eq!(log.examine(Offset(found.0 - 1)).unwrap(), None, "the one before is sound");
            log.note_damage(damage).unwrap();
            log.survey_damage().unwrap();
            assert_eq!(log.damage().unwrap().resumes_at, Some(found.plus(1)), "{at}");
        }
    }
}

#[test]
fn a_changed_byte_in_an_index_changes_no_answer_and_is_mended() {
    let (disk, log) = written();
    let times = |log: &Log<MemDisk>| {
        let find = |time| log.find_by_timestamp(time, log.log_end()).unwrap();
        let found: Vec<_> = (NOW - 1..NOW + 42).map(find).collect();
        (found, log.find_max_timestamp(log.log_end()).unwrap(), log.largest_timestamp().unwrap())
    };
    let expected = times(&log);
    drop(log);
    for extension in ["index", "timeindex"] {
        let path = &files(&disk, extension)[1];
        for at in 0..disk.size(path).unwrap() as usize * 8 {
            let disk = disk.snapshot();
            flip(&disk, path, at / 8, 1 << (at % 8));
            let mut log = opened(&disk);
            for from in 0..BATCHES {
                assert_eq!(read_all(&log, Offset(from)), Ok(offsets(from..BATCHES)), "{at}");
            }
            assert_eq!(times(&log), expected, "{extension}, bit {at}");
            let scrubbed = log.begin_scrub().run(|_| true).unwrap();
            assert_eq!(scrubbed.suspects, []);
            // one that cannot be was made again when it was loaded
            for base in scrubbed.wrong_indexes {
                assert!(log.rebuild_indexes(base).unwrap());
            }
            let again = log.begin_scrub().run(|_| true).unwrap();
            assert_eq!(again.wrong_indexes, [], "{extension}, bit {at}");
            assert_eq!(times(&log), expected);
        }
    }
}

#[test]
fn a_scrub_finds_a_changed_byte_of_every_segment_and_none_where_there_is_none() {
    let (disk, log) = written();
    let scrub = log.begin_scrub();
    let bytes = scrub.bytes();
    let scrubbed = scrub.run(|_| true).unwrap();
    assert_eq!((scrubbed.suspects, scrubbed.wrong_indexes), (vec![], vec![]));
    assert_eq!((scrubbed.batches, scrubbed.bytes), (BATCHES, bytes));
    assert_eq!(bytes, log.size_bytes());
    drop(log);
    for path in files(&disk, "log") {
        let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let size = disk.size(&path).unwrap() as usize;
        for at in (0..size).step_by(5) {
            let disk = disk.snapshot();
            flip(&disk, &path, at, 0x10);
            let log = opened(&disk);
            let found = log.begin_scrub().run(|_| true).unwrap().suspects;
            let [Suspect { at, .. }] = found[..] else { panic!("{found:?}") };
            assert!(at.0 >= base);
            assert_eq!(log.examine(at).unwrap().unwrap().complete_below, at);
        }
    }
}

#[test]
fn a_scrub_finds_a_changed_bit_anywhere_in_an_index() {
    let (disk, log) = written();
    drop(log);
    for extension in ["index", "timeindex"] {
        let path = &files(&disk, extension)[1];
        let base = Offset(path.file_stem().unwrap().to_str().unwrap().parse().unwrap());
        for at in 0..disk.size(path).unwrap() as usize * 8 {
            let disk = disk.snapshot();
            flip(&disk, path, at / 8, 1 << (at % 8));
            let scrubbed = opened(&disk).begin_scrub().run(|_| true).unwrap();
            assert_eq!(scrubbed.wrong_indexes, [base], "{extension}, bit {at}");
        }
    }
}

#[test]
fn a_scrub_that_is_stopped_says_so_and_what_is_removed_meanwhile_is_no_damage() {
    let (disk, log) = written();
    let scrubbed = log.begin_scrub().run(|_| false).unwrap();
    assert!(scrubbed.stopped && scrubbed.segments == 0);
    let scrub = log.begin_scrub();
    disk.remove(&files(&disk, "log")[0]).unwrap();
    let scrubbed = scrub.run(|_| true).unwrap();
    assert!(!scrubbed.stopped && scrubbed.suspects.is_empty());
}

#[test]
fn of_a_damaged_log_what_is_below_is_read_and_nothing_from_there_on() {
    let (disk, log) = written();
    drop(log);
    let path = &files(&disk, "log")[2];
    let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    for at in [20, 130] {
        let mut disk = disk.snapshot();
        flip(&disk, path, at, 1);
        let mut log = opened(&disk);
        let found = read_all(&log, Offset(0)).unwrap_err();
        assert!(found.0 == base || found.0 == base + 1);
        log.note_damage(log.examine(found).unwrap().unwrap()).unwrap();
        log.survey_damage().unwrap();
        for reopened in [false, true] {
            if reopened {
                // behind the checkpoint too it stays in the file
                disk = disk.crash(Loss::Nothing);
                log = open(&disk, small()).0;
            }
            assert_eq!(log.log_end(), Offset(BATCHES));
            assert_eq!(read_all(&log, Offset(0)), Err(found));
            for from in found.0..BATCHES {
                let error = log.read(Offset(from), log.log_end(), 300).unwrap_err();
                assert_eq!(error.code(), ErrorCode::CorruptLog);
                let LogError::Damaged { from, to, .. } = error else { panic!("{error}") };
                assert_eq!((from, to), (found, Offset(found.0 + 1)));
            }
            assert!(log.find_by_timestamp(NOW + 39, log.log_end()).unwrap().is_none());
            let mut bases = Vec::new();
            log.replay(Offset(0), |header| bases.push(header.base_offset)).unwrap();
            assert!(bases.len() as u64 >= BATCHES - 1, "all sound headers: {bases:?}");
            append(&mut log, 0, 1, 40).unwrap();
            log.truncate_to(Offset(BATCHES), Offset(0)).unwrap();
        }
        // filled again, as a follower is
        assert_eq!(log.truncate_to(found, log.log_end()).unwrap(), found);
        while log.log_end().0 < BATCHES {
            append(&mut log, 0, 1, 40).unwrap();
        }
        assert_eq!(read_all(&log, Offset(0)), Ok(offsets(0..BATCHES)));
        assert!(log.damage().is_some(), "until that is said");
        log.forget_damage().unwrap();
        assert_eq!(open(&disk, small()).1.damage, None);
    }
}

/// After a kill the batches behind the checkpoint are looked at: those behind a damaged one stay.
#[test]
fn what_stands_behind_a_damaged_batch_is_kept_when_all_is_looked_at() {
    let (disk, log) = written();
    drop(log);
    for path in files(&disk, "log") {
        let disk = disk.snapshot();
        let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        flip(&disk, &path, 150, 1);
        disk.remove(&dir().join("offset-checkpoint")).unwrap();
        let (log, recovery) = open(&disk, small());
        let damage = recovery.damage.unwrap();
        assert!(damage.complete_below.0 == base || damage.complete_below.0 == base + 1);
        assert_eq!(damage.resumes_at, Some(Offset(damage.complete_below.0 + 1)));
        assert_eq!(log.log_end(), Offset(BATCHES));
        assert_eq!(read_all(&log, Offset(0)), Err(damage.complete_below));
    }
}

#[test]
fn a_loss_that_is_accepted_leaves_all_other_batches_as_they_were() {
    let (disk, log) = written();
    let before = contents(&log, Offset(0));
    drop(log);
    let segments = files(&disk, "log");
    let last = segments.len() - 1;
    for damaged in [vec![0], vec![1, 3], vec![last], (0..=last).collect()] {
        let disk = disk.snapshot();
        for n in &damaged {
            let size = disk.size(&segments[*n]).unwrap() as usize;
            flip(&disk, &segments[*n], size - 3, 1);
            flip(&disk, &segments[*n], 20, 1);
        }
        let mut log = opened(&disk);
        let found = read_all(&log, Offset(0)).unwrap_err();
        log.note_damage(log.examine(found).unwrap().unwrap()).unwrap();
        let lost = log.accept_loss(Offset(BATCHES)).unwrap();
        let gone: Vec<u64> =
            lost.into_iter().flat_map(|range| range.start.0..range.end.0).collect();
        assert_eq!(gone.len(), 2 * damaged.len(), "{gone:?}");
        let (mut log, recovery) = open(&disk, small());
        assert_eq!((recovery.damage, log.log_end()), (None, Offset(BATCHES)));
        let (kept, empty): (Vec<_>, Vec<_>) =
            contents(&log, Offset(0)).into_iter().partition(|(base, ..)| !gone.contains(&base.0));
        assert!(empty.iter().all(|(_, _, _, payload)| payload.is_empty()));
        let expected: Vec<_> =
            before.iter().filter(|(base, ..)| !gone.contains(&base.0)).cloned().collect();
        assert_eq!(kept, expected);
        append(&mut log, 0, 1, 40).unwrap();
        assert_eq!(log.begin_scrub().run(|_| true).unwrap().suspects, []);
        let (log, recovery) = open(&disk.crash(Loss::Nothing), small());
        assert_eq!((recovery.damage, log.log_end()), (None, Offset(BATCHES + 1)));
        // and a follower takes them
        let other = memory();
        let (mut follower, _) = open(&other, small());
        let mut next = Offset(0);
        while next < log.log_end() {
            let slice = log.read(next, log.log_end(), 500).unwrap();
            follower.append_frames(slice.bytes, NOW).unwrap();
            next = slice.end;
        }
        assert_eq!(contents(&follower, Offset(0)), contents(&log, Offset(0)));
    }
}

#[test]
fn a_segment_that_is_gone_is_given_up_the_same_way() {
    let (disk, log) = written();
    drop(log);
    let gone = files(&disk, "log").swap_remove(2);
    disk.remove(&gone).unwrap();
    let (log, recovery) = open(&disk, small());
    let damage = recovery.damage.unwrap();
    assert_eq!(log.log_end(), Offset(BATCHES));
    assert_eq!(read_all(&log, Offset(0)), Err(damage.complete_below));
    let lost = log.accept_loss(Offset(BATCHES)).unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].start, damage.complete_below);
    let (log, recovery) = open(&disk, small());
    assert_eq!(recovery.damage, None);
    assert_eq!(read_all(&log, Offset(0)).unwrap().len() as u64, {
        BATCHES - (lost[0].end.0 - lost[0].start.0) + 1
    });
}

#[test]
fn a_small_file_that_is_damaged_is_written_anew_while_the_log_lives() {
    let (disk, mut log) = written();
    let removals = log.set_log_start(Offset(3)).unwrap();
    assert!(removals.is_empty());
    log.assign_epoch(LeaderEpoch(1), log.log_end());
    let (header, payload) = batch(&[NOW], b"v");
    let header = BatchHeader { base_offset: log.log_end(), leader_epoch: LeaderEpoch(1), ..header };
    log.append(&header, &Rope::from(payload), NOW).unwrap();
    log.flush().unwrap();
    log.checkpoint(log.log_end()).unwrap();
    assert_eq!(log.check_files(log.log_end()).unwrap(), Default::default(), "nothing is wrong");
    let snapshot = files(&disk, "snapshot").pop().unwrap();
    let names = [
        dir().join("offset-checkpoint"),
        dir().join("leader-epoch-checkpoint"),
        dir().join("log-start-checkpoint"),
        dir().join("partition.metadata"),
        snapshot.clone(),
    ];
    for path in &names {
        flip(&disk, path, 12.min(disk.size(path).unwrap() as usize - 1), 1);
        let check = log.check_files(log.log_end()).unwrap();
        assert_eq!(check.mended, [path.display().to_string()]);
        assert_eq!(check.lacks_snapshot, *path == snapshot);
        assert_eq!(log.check_files(log.log_end()).unwrap(), Default::default());
    }
    let end = log.log_end();
    drop(log);
    let (log, recovery) = open(&disk.crash(Loss::Nothing), small());
    assert_eq!((log.log_end(), log.log_start()), (end, Offset(3)));
    assert!(recovery.clean && recovery.damage.is_none(), "{recovery:?}");
    assert_eq!(log.epoch_at(Offset(end.0 - 1)), Some(LeaderEpoch(1)));
}

/// What it was dated counts no more: no lookup by time may find it.
#[test]
fn a_scrub_finds_nothing_wrong_beside_a_batch_that_cleaning_has_left_without_records() {
    let (mut log, _) = open(&memory(), small());
    for (value, timestamp) in [("old", NOW + 5), ("new", NOW + 5), ("newest", NOW + 1)] {
        let pairs = [(Some("key"), Some(value), timestamp)];
        put_batch(&mut log, 0, &pairs, Compression::None, None).unwrap();
    }
    close_segments(&mut log);
    let keep = [Offset(0)].into();
    let below = log.log_end();
    clean(&mut log, CleaningRequest { keep, ..request(NOW, below) }).unwrap();
    let batches = read_all(&log, Offset(0)).unwrap();
    assert_eq!(batches.first(), Some(&Offset(0)), "it is kept, and empty");
    let scrubbed = log.begin_scrub().run(|_| true).unwrap();
    assert_eq!((scrubbed.suspects, scrubbed.wrong_indexes), (vec![], vec![]));
}
