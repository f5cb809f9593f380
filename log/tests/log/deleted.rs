//! What was deleted and still lies in a file is nobody's: where it is damaged, nothing is.

use crate::batches::*;
use crate::cleaned::{check, clean, close_segments, put, request, values};
use crate::damage::{change, segments};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use troupe_log::disk::{Disk, Fault, FaultDisk, FileDisk, Loss, MemDisk, Operation};
use troupe_log::{Damage, Log, LogConfig, RetentionPolicy, check_batches};
use troupe_proto::batch::Batches;
use troupe_proto::ids::Offset;

const BATCHES: u64 = 20;

/// Two records a batch.
const END: Offset = Offset(2 * BATCHES);

fn write(disk: &MemDisk) -> Log<MemDisk> {
    let (mut log, _) = open(disk, small());
    for _ in 0..BATCHES {
        append(&mut log, 0, 2, 60).unwrap();
    }
    log.flush().unwrap();
    log.checkpoint(log.log_end()).unwrap();
    log
}

/// A log whose records below `start` are deleted: that is written down, and no file has gone yet.
fn deleted_below(start: Offset) -> MemDisk {
    let disk = memory();
    let mut log = write(&disk);
    let before = disk.snapshot();
    drop(log.set_log_start(start).unwrap());
    let path = dir().join("log-start-checkpoint");
    before.replace(&path, &disk.read(&path).unwrap().unwrap(), true).unwrap();
    before
}

fn base_of(path: &Path) -> Offset {
    Offset(path.file_stem().unwrap().to_str().unwrap().parse().unwrap())
}

/// Where each batch of a segment begins: offset and byte; and the end of both.
fn batches_of(disk: &MemDisk, path: &Path) -> Vec<(Offset, usize)> {
    let content = disk.read(path).unwrap().unwrap();
    let mut found = vec![(base_of(path), 0)];
    for batch in Batches::new(content.into()) {
        let (header, _) = batch.unwrap();
        let position = found.last().unwrap().1 + header.encoded_len();
        found.push((header.end_offset(), position));
    }
    found
}

fn read_all(log: &Log<MemDisk>, from: Offset) {
    let mut next = from;
    while next < log.log_end() {
        let slice = log.read(next, log.log_end(), 300).unwrap();
        check_batches(&slice.bytes, &key(), next).unwrap();
        next = slice.end;
    }
}

/// Neither opening, nor reading, nor a scrub finds anything, and the log can be cut and written to.
fn nothing_is_wrong(disk: &MemDisk, start: Offset, what: &str) {
    for looks_at_all in [false, true] {
        let disk = disk.snapshot();
        if looks_at_all {
            disk.remove(&dir().join("leader-epoch-checkpoint")).unwrap();
        }
        let (mut log, recovery) = open(&disk, small());
        assert_eq!(recovery.damage, None, "{what}");
        assert_eq!((log.log_start(), log.log_end()), (start, END), "{what}");
        for at in 0..END.0 {
            assert_eq!(log.examine(Offset(at)).unwrap(), None, "{what}: {at}");
        }
        let found = log.begin_scrub().run(|_| true).unwrap();
        assert_eq!((found.suspects, found.wrong_indexes), (vec![], vec![]), "{what}");
        for from in start.0..END.0 {
            read_all(&log, Offset(from));
        }
        log.replay(log.replay_from(None), |_| {}).unwrap();
        let hit = log.find_by_timestamp(NOW, END).unwrap().expect("all are later");
        assert_eq!(hit.offset, start, "{what}");
        let (mut cleaned, _) = open(&disk.snapshot(), small());
        assert!(clean(&mut cleaned, request(NOW, END)).is_some(), "{what}");
        read_all(&cleaned, start);
        let lost = {
            let (mut log, _) = open(&disk.snapshot(), small());
            let last = Offset(END.0 - 1);
            log.note_damage(Damage::from(start, "said")).unwrap();
            log.accept_loss(last).unwrap()
        };
        assert_eq!(lost, [], "{what}: what was deleted is no loss");
        for cut in (start.0 + 1..END.0).rev() {
            let end = log.truncate_to(Offset(cut), END).unwrap();
            assert!(end >= start && end.0 <= cut, "{what}: {cut}");
        }
        append(&mut log, 0, 1, 60).unwrap();
        read_all(&log, start);
    }
}

#[test]
fn damage_of_what_was_deleted_is_none_and_hinders_nothing() {
    let whole = memory();
    drop(write(&whole));
    let all = segments(&whole);
    // at the beginning of a segment, behind its first batch, within a batch, and in the last segment
    let third = batches_of(&whole, &all[2]);
    let last = batches_of(&whole, all.last().unwrap());
    for start in [third[0].0, third[1].0, third[2].0, Offset(third[2].0.0 + 1), last[1].0] {
        let whole = deleted_below(start);
        nothing_is_wrong(&whole, start, "not even damaged");
        for path in all.iter().filter(|path| base_of(path) < start) {
            let batches = batches_of(&whole, path);
            for pair in batches.windows(2).filter(|pair| pair[1].0 <= start) {
                let [(_, from), (_, to)] = pair else { unreachable!() };
                for at in [*from, from + 20, to - 1] {
                    let disk = whole.snapshot();
                    disk.decay(path, at as u64, &[0x10]);
                    nothing_is_wrong(&disk, start, &format!("{start}: {}, {at}", path.display()));
                }
            }
            if batches.last().unwrap().0 <= start {
                let disk = whole.snapshot();
                change(&disk, path, |content| content.truncate(content.len() / 2));
                nothing_is_wrong(&disk, start, &format!("{start}: {} cut", path.display()));
            }
        }
    }
}

/// It is not in the file that takes the segment's place, and what stands behind it is all the same.
#[test]
fn cleaning_passes_over_damage_of_what_was_deleted_and_loses_nothing_behind_it() {
    for damaged in 0..3 {
        let disk = memory();
        let (mut log, _) = open(&disk, LogConfig::default());
        for (key, text) in [("a", 9), ("b", 90), ("c", 30), ("d", 60), ("e", 20), ("f", 40)] {
            put(&mut log, key, Some(&"x".repeat(text)));
        }
        close_segments(&mut log);
        put(&mut log, "e", Some("new"));
        close_segments(&mut log);
        let path = segments(&disk).swap_remove(0);
        let begins = batches_of(&disk, &path);
        drop(log.set_log_start(Offset(3)).unwrap());
        disk.decay(&path, begins[damaged].1 as u64 + 70, &[0x10]);
        let all = log.log_end();
        clean(&mut log, request(NOW, all)).expect("something goes");
        for again in [false, true] {
            let found: Vec<_> = values(&log).into_iter().map(|(at, key, _)| (at, key)).collect();
            let kept = [(3, "d"), (5, "f"), (6, "e")].map(|(at, key)| (at, key.to_owned()));
            assert_eq!(found, kept, "{damaged}, {again}");
            check(&log);
            log = open(&disk, LogConfig::default()).0;
        }
    }
}

/// As whoever took part of a slice that begins there cuts it off again.
#[test]
fn what_was_deleted_stays_deleted_when_the_batch_goes_in_which_a_log_starts() {
    let disk = memory();
    let mut log = write(&disk);
    drop(log.set_log_start(Offset(7)).unwrap());
    for again in [false, true] {
        assert_eq!(log.truncate_to(Offset(7), Offset(7)).unwrap(), Offset(7), "{again}");
        assert_eq!((log.log_start(), log.log_end()), (Offset(7), Offset(7)), "{again}");
        log = open(&disk, small()).0;
    }
}

/// The first batch that somebody reads.
#[test]
fn damage_of_the_batch_in_which_a_log_starts_is_found() {
    let whole = memory();
    drop(write(&whole));
    let path = &segments(&whole)[2];
    let batches = batches_of(&whole, path);
    for start in [batches[1].0, Offset(batches[1].0.0 + 1)] {
        let whole = deleted_below(start);
        for at in [batches[1].1, batches[1].1 + 20, batches[2].1 - 1] {
            let disk = whole.snapshot();
            disk.decay(path, at as u64, &[0x10]);
            // and one that nobody reads before it
            disk.decay(path, 3, &[0x10]);
            let (mut log, recovery) = open(&disk, small());
            assert_eq!(recovery.damage, None, "it is trusted");
            let suspects = log.begin_scrub().run(|_| true).unwrap().suspects;
            let found = log.examine(suspects[0].at).unwrap().expect("it is there");
            assert_eq!(found.complete_below, start, "{at}");
            assert_eq!(log.examine(start).unwrap(), Some(found.clone()));
            log.note_damage(found).unwrap();
            log.survey_damage().unwrap();
            assert_eq!(log.damage().unwrap().resumes_at, Some(batches[2].0));
            drop(log);
            disk.remove(&dir().join("leader-epoch-checkpoint")).unwrap();
            let (log, recovery) = open(&disk, small());
            let damage = recovery.damage.expect("all is looked at");
            assert_eq!((damage.complete_below, log.log_end()), (start, END));
        }
    }
}

/// All was deleted, and the segment that takes the appends stays.
#[test]
fn a_log_of_which_nothing_is_left_cannot_be_damaged() {
    let whole = deleted_below(END);
    let path = segments(&whole).pop().unwrap();
    for at in (0..whole.size(&path).unwrap()).step_by(9) {
        for looks_at_all in [false, true] {
            let disk = whole.snapshot();
            disk.decay(&path, at, &[0x10]);
            if looks_at_all {
                disk.remove(&dir().join("leader-epoch-checkpoint")).unwrap();
            }
            let (mut log, recovery) = open(&disk, small());
            assert_eq!((recovery.damage, log.log_start(), log.log_end()), (None, END, END), "{at}");
            assert_eq!(log.begin_scrub().run(|_| true).unwrap().suspects, []);
            assert_eq!(log.examine(Offset(0)).unwrap(), None);
            assert_eq!(log.examine(END).unwrap(), None);
            append(&mut log, 0, 1, 60).unwrap();
            read_all(&log, END);
        }
    }
}

#[test]
fn damage_that_was_noted_is_forgotten_by_the_next_opening_once_it_was_deleted() {
    let disk = memory();
    let mut log = write(&disk);
    disk.decay(&segments(&disk)[1], 20, &[0x10]);
    let at = base_of(&segments(&disk)[1]);
    log.note_damage(log.examine(at).unwrap().unwrap()).unwrap();
    log.survey_damage().unwrap();
    let resumes_at = log.damage().unwrap().resumes_at.unwrap();
    let reopened = |start: u64| {
        let disk = disk.snapshot();
        let (mut log, recovery) = open(&disk, small());
        assert!(recovery.damage.is_some());
        drop(log.set_log_start(Offset(start)).unwrap());
        drop(log);
        let damage = open(&disk, small()).1.damage;
        (damage.map(|damage| damage.complete_below), disk.read(&dir().join("damage")).unwrap())
    };
    let (damage, file) = reopened(resumes_at.0 - 1);
    assert_eq!(damage, Some(Offset(resumes_at.0 - 1)), "some of it is left");
    assert!(file.is_some());
    assert_eq!(reopened(resumes_at.0), (None, None));
}

/// At the end of a batch, where nothing looks torn.
#[test]
fn a_log_that_ends_below_its_start_lacks_what_was_flushed_above() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    for _ in 0..BATCHES {
        append(&mut log, 0, 2, 60).unwrap();
    }
    log.flush().unwrap();
    drop(log.set_log_start(Offset(12)).unwrap());
    drop(log);
    let path = segments(&disk).pop().unwrap();
    let batches = batches_of(&disk, &path);
    for (ends, missing) in [(4, 12..END.0), (6, 12..END.0), (8, 16..END.0)] {
        let disk = disk.crash(Loss::Nothing);
        change(&disk, &path, |content| content.truncate(batches[ends].1));
        let (log, recovery) = open(&disk, LogConfig::default());
        let damage = recovery.damage.expect("it was flushed");
        let missing = Offset(missing.start)..Offset(missing.end);
        assert_eq!(damage.complete_below, missing.start);
        assert_eq!(damage.missing_end, Some(missing.clone()));
        assert_eq!((log.log_start(), log.log_end()), (Offset(12), missing.start));
        drop(log);
        assert_eq!(open(&disk, LogConfig::default()).1.damage, Some(damage), "kept in mind");
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_damage_and_a_file_that_cannot_be_opened_is_none() {
    let memory = memory();
    drop(write(&memory));
    let disk = FaultDisk::new(memory);
    let (log, _) = open(&disk, small());
    let path = segments(disk.memory()).swap_remove(1);
    let (name, at) = (path.file_name().unwrap().to_str().unwrap().to_owned(), base_of(&path));
    assert_eq!(log.examine(at).unwrap(), None);
    disk.fail(Operation::Read, &name, 0, u64::MAX, Fault::Io);
    let found = log.examine(at).unwrap().expect("it is as good as changed");
    assert_eq!(found.complete_below, at);
    disk.heal();
    // how long it is can be told
    disk.fail(Operation::Read, &name, 1, u64::MAX, Fault::Io);
    let suspects = log.begin_scrub().run(|_| true).unwrap().suspects;
    assert_eq!(suspects.len(), 1);
    assert_eq!(suspects[0].at, at);
    disk.heal();
    for fault in [Fault::Io, Fault::Descriptors] {
        let (log, _) = open(&disk, small());
        disk.fail(Operation::Open, &name, 0, u64::MAX, fault);
        let error = log.examine(at).unwrap_err();
        assert_eq!(error.is_temporary(), fault == Fault::Descriptors, "{error}");
        log.begin_scrub().run(|_| true).unwrap_err();
        disk.heal();
        assert_eq!(log.examine(at).unwrap(), None);
    }
}

/// What nobody else has does not keep its segment for ever: its time cannot be told, and its file's counts.
#[test]
fn a_segment_that_is_known_to_be_damaged_ages_by_the_time_of_its_file() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("topic-3");
    let open = || Log::open(FileDisk, path.clone(), key(), LogConfig { ..small() }, now).unwrap().0;
    let mut log = open();
    for _ in 0..20 {
        append_at(&mut log, 0, &[now], &[7; 100]).unwrap();
    }
    log.close_clean(Offset(20)).unwrap();
    let first: PathBuf = path.join("00000000000000000000.log");
    for name in ["index", "timeindex"] {
        std::fs::remove_file(first.with_extension(name)).unwrap();
    }
    let file = std::fs::File::options().write(true).open(&first).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"?", 3).unwrap();
    let mut log = open();
    let policy = RetentionPolicy { retention_ms: Some(3_600_000), ..Default::default() };
    let retained = log.apply_retention(&policy, now, Offset(20));
    assert!(retained.removals.is_empty());
    let damage = log.examine_error(&retained.failure.expect("it is news")).unwrap();
    log.note_damage(damage.unwrap()).unwrap();
    let retained = log.apply_retention(&policy, now, Offset(20));
    assert!(retained.removals.is_empty() && retained.failure.is_none(), "written now");
    file.set_modified(SystemTime::now() - Duration::from_secs(2 * 3600)).unwrap();
    let retained = log.apply_retention(&policy, now, Offset(20));
    assert!(retained.failure.is_none());
    assert_eq!(retained.removals.len(), 1);
}
