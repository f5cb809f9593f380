//! What was flushed and is missing at the end of a log is told from what a crash tore off before it was promised.

use crate::batches::*;
use crate::damage::{change, rewrite, segments};
use std::fs;
use std::path::{Path, PathBuf};
use troupe_log::disk::{Disk, DiskFile, FileDisk, Loss, MemDisk};
use troupe_log::{Log, LogConfig, LogError, check_batches};
use troupe_proto::ids::Offset;

const FLUSHED_END: &str = "flushed-end";

/// Batches of one record, each flushed, and no checkpoint; where each begins in the segment.
fn flushed(count: u64) -> (MemDisk, Vec<usize>) {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    let mut begins = vec![0];
    for _ in 0..count {
        append(&mut log, 0, 1, 100).unwrap();
        begins.push(log.size_bytes() as usize);
        log.flush().unwrap();
    }
    (disk, begins)
}

/// As the kernel does after a while.
fn write_back(disk: &MemDisk) {
    disk.open(&dir().join(FLUSHED_END)).unwrap().sync().unwrap();
    disk.sync_dir(&dir()).unwrap();
}

#[test]
fn what_was_flushed_and_is_missing_is_damage_wherever_the_end_was_cut() {
    let (disk, begins) = flushed(4);
    write_back(&disk);
    let path = segments(&disk).pop().unwrap();
    for loss in [Loss::Nothing, Loss::Unsynced] {
        for size in 0..*begins.last().unwrap() {
            let disk = disk.crash(loss);
            change(&disk, &path, |content| content.truncate(size));
            let whole = begins.iter().filter(|begin| **begin > 0 && **begin <= size).count();
            let (log, recovery) = open(&disk, LogConfig::default());
            let damage = recovery.damage.unwrap_or_else(|| panic!("{loss:?}, {size} bytes"));
            let below = Offset(whole as u64);
            assert_eq!((damage.complete_below, log.log_end()), (below, below), "{size} bytes");
            drop(log);
            assert!(open(&disk, LogConfig::default()).1.damage.is_some(), "kept in mind");
        }
    }
}

#[test]
fn what_was_never_flushed_may_be_torn_off() {
    let (disk, begins) = flushed(2);
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 2, 100).unwrap();
    append(&mut log, 0, 1, 100).unwrap();
    drop(log);
    write_back(&disk);
    let path = segments(&disk).pop().unwrap();
    let end = disk.size(&path).unwrap() as usize;
    for size in begins[2]..end {
        let disk = disk.snapshot();
        change(&disk, &path, |content| content.truncate(size));
        let (log, recovery) = open(&disk, LogConfig::default());
        assert_eq!(recovery.damage, None, "{size} bytes of {end}");
        assert!(log.log_end() >= Offset(2));
    }
}

/// What looks like a sector that was never written is none where all was flushed.
#[test]
fn a_flipped_bit_among_zeros_is_damage_after_a_power_cut_too() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 1, 100).unwrap();
    append_at(&mut log, 0, &[NOW], &[0; 3000]).unwrap();
    log.flush().unwrap();
    drop(log);
    write_back(&disk);
    let disk = disk.crash(Loss::Unsynced);
    let path = segments(&disk).pop().unwrap();
    change(&disk, &path, |content| {
        let size = content.len();
        content[size - 2900] ^= 4;
    });
    let (log, recovery) = open(&disk, LogConfig::default());
    assert_eq!((recovery.damage.unwrap().complete_below, log.log_end()), (Offset(1), Offset(1)));
}

/// A power cut, and the note is of before the last two flushes.
#[test]
fn what_was_flushed_since_the_note_came_to_the_disk_passes_for_torn_off_only_if_it_looks_so() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    let mut begins = Vec::new();
    for n in 0..5 {
        begins.push(log.size_bytes() as usize);
        // what fills sectors with zeros of its own is the last
        let value = if n == 4 { [0; 3000] } else { [7; 3000] };
        append_at(&mut log, 0, &[NOW], &value).unwrap();
        log.flush().unwrap();
        if n == 2 {
            write_back(&disk);
        }
    }
    let end = log.size_bytes() as usize;
    drop(log);
    let disk = disk.crash(Loss::Unsynced);
    let path = segments(&disk).pop().unwrap();
    let opened = |make: &dyn Fn(&mut Vec<u8>)| {
        let disk = disk.snapshot();
        change(&disk, &path, make);
        let (log, recovery) = open(&disk, LogConfig::default());
        (log.log_end().0, recovery.damage.is_some())
    };
    assert_eq!(opened(&|_| {}), (5, false));
    // the log just ends earlier, within a batch or between two
    for (size, ends) in [(begins[4], 4), (begins[4] + 50, 4), (begins[3], 3), (end - 1, 4)] {
        assert_eq!(opened(&|content| content.truncate(size)), (ends, false), "{size} bytes");
    }
    let sector = begins[3].next_multiple_of(512) + 512;
    // nothing was written to a sector, and no good batch follows; or the batch has zeros of its own
    assert_eq!(opened(&|content| content[sector..].fill(0)), (3, false));
    assert_eq!(opened(&|content| content[end - 2900] ^= 4), (4, false));
    // a good batch follows, or nothing is empty
    assert_eq!(opened(&|content| content[sector..sector + 512].fill(0)), (3, true));
    assert_eq!(
        opened(&|content| {
            content.truncate(begins[4]);
            content[sector] ^= 4;
        }),
        (3, true)
    );
    // below the note nothing passes
    assert_eq!(opened(&|content| content.truncate(begins[2])), (2, true));
}

#[test]
fn a_log_that_was_cut_is_held_to_no_more_than_it_has() {
    for loss in [Loss::Nothing, Loss::Unsynced] {
        let (disk, _) = flushed(4);
        let (mut log, _) = open(&disk, LogConfig::default());
        append(&mut log, 0, 1, 100).unwrap();
        let overtaken = log.begin_flush().unwrap();
        log.truncate_to(Offset(2), Offset(0)).unwrap();
        log.complete_flush(overtaken.run().unwrap());
        let disk = disk.crash(loss);
        write_back(&disk);
        let (mut log, recovery) = open(&disk, LogConfig::default());
        assert_eq!((recovery.damage, log.log_end()), (None, Offset(2)), "{loss:?}");
        log.truncate_fully_and_start_at(Offset(1)).unwrap();
        let (log, recovery) = open(&disk.crash(loss), LogConfig::default());
        assert_eq!((recovery.damage, log.log_end()), (None, Offset(1)), "{loss:?}");
    }
}

/// It cut logs without saying so.
#[test]
fn what_an_earlier_version_has_written_meanwhile_is_not_held_against_it() {
    let (disk, begins) = flushed(4);
    let (mut log, _) = open(&disk, LogConfig::default());
    log.truncate_to(Offset(3), Offset(0)).unwrap();
    append(&mut log, 0, 1, 100).unwrap();
    log.flush().unwrap();
    drop(log);
    rewrite(&disk, "offset-checkpoint", |line| !line.starts_with("keeps_flushed_end"));
    let path = segments(&disk).pop().unwrap();
    change(&disk, &path, |content| content.truncate(begins[3]));
    let (log, recovery) = open(&disk, LogConfig::default());
    assert_eq!((recovery.damage, log.log_end()), (None, Offset(3)));
    assert_eq!(disk.read(&dir().join(FLUSHED_END)).unwrap(), None);
}

/// A power cut leaves a checkpoint that was not synced without its content, and all that was flushed is there.
#[test]
fn what_was_flushed_is_known_beside_a_checkpoint_that_is_lost() {
    let (disk, begins) = flushed(6);
    write_back(&disk);
    let disk = disk.crash(Loss::Unsynced);
    disk.replace(&dir().join("offset-checkpoint"), &[], true).unwrap();
    let path = segments(&disk).pop().unwrap();
    disk.decay(&path, begins[2] as u64 + 20, &[1]);
    for _again in [false, true] {
        let (log, recovery) = open(&disk, LogConfig::default());
        let damage = recovery.damage.unwrap();
        assert_eq!((damage.complete_below, damage.resumes_at), (Offset(2), Some(Offset(3))));
        assert_eq!(log.log_end(), Offset(6), "what stands behind it stays");
    }
}

/// Nothing but segments survives, and what was synced beside them.
#[test]
fn the_end_of_a_closed_segment_that_was_flushed_is_never_taken_for_torn() {
    for reopened in [false, true] {
        let disk = memory();
        let (mut log, _) = open(&disk, small());
        let mut rolled = Vec::new();
        for _ in 0..20 {
            rolled.extend(append(&mut log, 0, 1, 100).unwrap().rolled);
            log.flush().unwrap();
        }
        drop(log);
        if reopened {
            // what said so is gone, as that was written by an earlier version
            disk.remove(&dir().join(FLUSHED_END)).unwrap();
            disk.sync_dir(&dir()).unwrap();
            drop(open(&disk, small()));
        }
        let disk = disk.crash(Loss::Unsynced);
        let closed = segments(&disk).swap_remove(1);
        change(&disk, &closed, |content| {
            let end = content.len();
            content[end - 60..].fill(0);
        });
        let (log, recovery) = open(&disk, small());
        let damage = recovery.damage.unwrap_or_else(|| panic!("{reopened}"));
        assert_eq!(damage.complete_below, Offset(rolled[1].0 - 1), "{reopened}");
        assert!(log.log_end() >= *rolled.last().unwrap(), "what stands behind it stays");
    }
}

#[test]
fn where_it_is_damaged_itself_it_is_said_and_made_again() {
    let (disk, _) = flushed(3);
    let path = dir().join(FLUSHED_END);
    let (mut log, _) = open(&disk, LogConfig::default());
    let sound = disk.read(&path).unwrap();
    change(&disk, &path, |content| content[25] ^= 1);
    let found = disk.snapshot();
    let check = log.check_files(Offset(3)).unwrap();
    assert!(check.mended[0].ends_with(FLUSHED_END), "{check:?}");
    assert_eq!(disk.read(&path).unwrap(), sound);
    let (mut log, recovery) = open(&found, LogConfig::default());
    assert!(recovery.damage.is_none() && recovery.notices[0].contains(FLUSHED_END), "{recovery:?}");
    append(&mut log, 0, 1, 100).unwrap();
    log.flush().unwrap();
    assert!(found.read(&path).unwrap().is_some());
}

/// Segments of some six batches, on a real disk.
fn mapped(dir: &Path) -> Log<FileDisk> {
    let opened = Log::open(FileDisk, dir.to_owned(), key(), small(), NOW);
    opened.unwrap().0
}

fn read_all(log: &Log<FileDisk>) -> Result<Offset, Offset> {
    let mut next = log.log_start();
    while next < log.log_end() {
        let Ok(slice) = log.read(next, log.log_end(), 300) else { return Err(next) };
        check_batches(&slice.bytes, &key(), next).map_err(|bad| bad.at)?;
        next = slice.end;
    }
    Ok(next)
}

fn named(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|one| one.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == extension));
    paths.sort();
    paths
}

/// Whoever touches what is gone would be sent a signal that ends the process.
#[test]
fn a_file_that_is_made_shorter_while_it_is_mapped_is_damage_and_nothing_else() {
    for (extension, sealed) in [("log", true), ("log", false), ("index", true), ("timeindex", true)]
    {
        for left in [0, 100] {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("topic-3");
            let mut log = mapped(&dir);
            for _ in 0..40 {
                append(&mut log, 0, 1, 40).unwrap();
            }
            log.flush().unwrap();
            assert_eq!(read_all(&log), Ok(Offset(40)));
            log.find_by_timestamp(NOW, Offset(40)).unwrap();
            let paths = named(&dir, extension);
            let path = if sealed { &paths[1] } else { paths.last().unwrap() };
            let base = Offset(path.file_stem().unwrap().to_str().unwrap().parse().unwrap());
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(left.min(file.metadata().unwrap().len())).unwrap();
            let what = format!("{} with {left} bytes", path.display());
            if extension != "log" {
                assert_eq!(read_all(&log), Ok(Offset(40)), "{what}");
                log.find_by_timestamp(NOW, Offset(40)).unwrap();
                continue;
            }
            let found = read_all(&log).expect_err(&what);
            assert!(found >= base, "{what}");
            let damage = log.examine(found).unwrap().expect(&what);
            assert_eq!(damage.complete_below, found, "{what}");
            log.note_damage(damage).unwrap();
            log.survey_damage().unwrap();
            let error = log.read(found, Offset(40), 300).unwrap_err();
            assert!(matches!(error, LogError::Damaged { .. }), "{what}: {error}");
            drop(log);
            let log = mapped(&dir);
            assert_eq!(log.damage().unwrap().complete_below, found, "{what}");
        }
    }
}

/// Beside what is damaged within the log, too.
#[test]
fn which_offsets_the_end_lacks_is_known_until_the_damage_is_forgotten() {
    for hole in [false, true] {
        let (disk, begins) = flushed(9);
        let path = segments(&disk).pop().unwrap();
        change(&disk, &path, |content| content.truncate(begins[6]));
        if hole {
            disk.decay(&path, begins[2] as u64 + 20, &[1]);
        }
        for again in [false, true] {
            let (log, recovery) = open(&disk, LogConfig::default());
            let damage = recovery.damage.unwrap();
            assert_eq!(damage.missing_end, Some(Offset(6)..Offset(9)), "{again}");
            assert_eq!(damage.complete_below, Offset(if hole { 2 } else { 6 }));
            assert_eq!(log.log_end(), Offset(6));
        }
        let (mut log, _) = open(&disk, LogConfig::default());
        log.forget_damage().unwrap();
        append(&mut log, 0, 1, 100).unwrap();
        log.flush().unwrap();
        drop(log);
        let found = open(&disk, LogConfig::default()).1.damage;
        assert!(found.is_none_or(|damage| hole && damage.missing_end.is_none()));
    }
}
