//! What is missing or changed is told from a torn end, and is not forgotten.

use crate::batches::*;
use std::path::{Path, PathBuf};
use troupe_log::disk::{Disk, Fault, FaultDisk, FileDisk, Loss, MemDisk, Operation};
use troupe_log::{Log, LogConfig, Recovery};
use troupe_proto::batch::Batches;
use troupe_proto::ids::Offset;

/// Segments of some 500 bytes, all flushed and checkpointed but the last batch.
fn written() -> (MemDisk, Offset) {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..20 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    log.checkpoint(log.log_end()).unwrap();
    append(&mut log, 0, 1, 100).unwrap();
    log.flush().unwrap();
    (disk, log.log_end())
}

pub fn segments(disk: &MemDisk) -> Vec<PathBuf> {
    let files = disk.files().into_keys();
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

fn reopen(disk: &MemDisk) -> (Log<MemDisk>, Recovery) {
    open(disk, small())
}

pub fn change(disk: &MemDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = disk.read(path).unwrap().unwrap();
    change(&mut content);
    disk.replace(path, &content, true).unwrap();
}

#[test]
fn a_kill_is_no_damage() {
    let (disk, end) = written();
    let (log, recovery) = reopen(&disk.crash(Loss::Nothing));
    assert_eq!((log.log_end(), recovery.damage, recovery.notices), (end, None, Vec::new()));
}

#[test]
fn an_end_that_was_cut_short_or_never_written_is_torn_and_no_damage() {
    let (whole, _) = written();
    let (mut log, _) = reopen(&whole);
    append(&mut log, 0, 1, 100).unwrap();
    drop(log);
    let last = segments(&whole).pop().unwrap();
    let size = whole.size(&last).unwrap() as usize;
    for lost in [1, 40, 120] {
        let disk = whole.snapshot();
        change(&disk, &last, |content| content.truncate(size - lost));
        assert_eq!(reopen(&disk).1.damage, None, "{lost} bytes cut short");
        let disk = whole.snapshot();
        change(&disk, &last, |content| content[size - lost.max(40)..].fill(0));
        // a few zeros within a sector are no torn sector
        let torn = reopen(&disk).1.damage;
        assert!(torn.is_some(), "a sector is written as a whole: {torn:?}");
    }
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 0, 1, 100).unwrap();
    log.flush().unwrap();
    append(&mut log, 0, 1, 2000).unwrap();
    log.flush().unwrap();
    drop(log);
    let disk = disk.crash(Loss::Unsynced);
    let path = segments(&disk).pop().unwrap();
    change(&disk, &path, |content| content[1024..1536].fill(0));
    let (log, recovery) = open(&disk, LogConfig::default());
    assert_eq!(
        (log.log_end(), recovery.damage),
        (Offset(1), None),
        "a sector that was not written"
    );
}

/// Wherever it is in the unsealed tail: also in the last batch, behind which nothing stands.
#[test]
fn a_flipped_bit_is_damage_and_no_torn_end() {
    let (whole, end) = written();
    let last = segments(&whole).pop().unwrap();
    let (log, _) = reopen(&whole.snapshot());
    let size = whole.size(&last).unwrap() as usize;
    let batch = size - contents(&log, Offset(end.0 - 1)).pop().unwrap().3.len();
    for at in (batch - 60..size).step_by(7) {
        let disk = whole.snapshot();
        change(&disk, &last, |content| content[at] ^= 4);
        let (log, recovery) = reopen(&disk);
        let damage = recovery.damage.unwrap();
        assert_eq!((damage.complete_below, log.log_end()), (Offset(end.0 - 1), Offset(end.0 - 1)));
        assert!(damage.cause.contains(last.to_str().unwrap()), "{}", damage.cause);
    }
}

/// What looks like a sector that was never written is none while the machine has lost nothing.
#[test]
fn a_flipped_bit_among_zeros_is_damage_after_a_kill() {
    for (loss, damaged) in [(Loss::Nothing, true), (Loss::Unsynced, false)] {
        for checkpoint in [false, true] {
            let disk = memory();
            let (mut log, _) = open(&disk, LogConfig::default());
            append(&mut log, 0, 1, 100).unwrap();
            log.flush().unwrap();
            if checkpoint {
                log.checkpoint(Offset(1)).unwrap();
                // nothing but the checkpoint tells in which run of the machine the log was opened
                rewrite(&disk, "partition.metadata", |line| !line.starts_with("boot"));
            }
            append_at(&mut log, 0, &[NOW], &[0; 3000]).unwrap();
            log.flush().unwrap();
            drop(log);
            let disk = disk.crash(loss);
            let path = segments(&disk).pop().unwrap();
            change(&disk, &path, |content| {
                let size = content.len();
                content[size - 2900] ^= 4;
            });
            let (log, recovery) = open(&disk, LogConfig::default());
            assert_eq!(log.log_end(), Offset(1));
            assert_eq!(recovery.damage.is_some(), damaged, "{loss:?}, {checkpoint}");
        }
    }
}

/// Writes a checkpoint anew with some of its lines.
pub fn rewrite(disk: &MemDisk, name: &str, keep: impl Fn(&str) -> bool) {
    change(disk, &dir().join(name), |content| {
        let text = String::from_utf8(std::mem::take(content)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("crc32c") && keep(line));
        let body: String = lines.map(|line| format!("{line}\n")).collect();
        let crc = crc_fast::crc32_iscsi(body.as_bytes());
        *content = format!("{body}crc32c {crc:08x}\n").into_bytes();
    });
}

#[test]
fn a_hole_in_what_was_flushed_is_damage_even_if_it_looks_like_a_torn_end() {
    let (whole, end) = written();
    drop(reopen(&whole));
    // as if the machine had been started anew
    rewrite(&whole, "offset-checkpoint", |line| !line.starts_with("boot"));
    rewrite(&whole, "partition.metadata", |line| !line.starts_with("boot"));
    // all batches are looked at
    whole.remove(&dir().join("leader-epoch-checkpoint")).unwrap();
    assert_eq!(reopen(&whole.snapshot()).1.damage, None);
    let segments = segments(&whole);
    let disk = whole.snapshot();
    change(&disk, &segments[1], |content| content[512..].fill(0));
    let (log, recovery) = reopen(&disk);
    let damage = recovery.damage.unwrap();
    assert!(damage.cause.contains(segments[1].to_str().unwrap()), "{}", damage.cause);
    assert!(damage.complete_below > Offset(0) && log.log_end() == end, "{damage:?}");
    // a segment's content under the name of another
    let disk = whole.snapshot();
    let first = disk.read(&segments[0]).unwrap().unwrap();
    change(&disk, &segments[1], |content| *content = first);
    assert!(reopen(&disk).1.damage.is_some());
}

/// Checkpoints of earlier versions do not name the segments that they vouch for.
#[test]
fn a_segment_that_is_gone_is_missed_even_if_no_checkpoint_names_it() {
    let (whole, end) = written();
    drop(reopen(&whole));
    rewrite(&whole, "offset-checkpoint", |line| !line.starts_with("closed"));
    let (log, recovery) = reopen(&whole.snapshot());
    assert!(recovery.clean && recovery.damage.is_none(), "{recovery:?}");
    drop(log);
    let segments = segments(&whole);
    let middle = &segments[1..segments.len() - 1];
    for (path, cut) in middle.iter().flat_map(|path| [(path, false), (path, true)]) {
        let disk = whole.snapshot();
        if cut {
            change(&disk, path, |content| content.truncate(content.len() / 3));
        } else {
            disk.remove(path).unwrap();
        }
        let (log, recovery) = reopen(&disk);
        let damage = recovery.damage.unwrap_or_else(|| panic!("{}, {cut}", path.display()));
        assert!(damage.complete_below < end && log.log_end() == end, "{damage:?}");
        drop(log);
        let again = reopen(&disk).1.damage;
        assert_eq!(again.unwrap().complete_below, damage.complete_below, "not forgotten");
    }
}

#[test]
fn damage_is_not_forgotten_for_want_of_room_to_describe_it() {
    for (fault, opens) in [(Fault::Full, true), (Fault::Descriptors, false)] {
        let (disk, end) = written();
        let last = segments(&disk).pop().unwrap();
        change(&disk, &last, |content| *content.last_mut().unwrap() ^= 1);
        let disk = FaultDisk::new(disk);
        match fault {
            Fault::Full => disk.fail(Operation::Write, "damage.tmp", 0, 9, fault),
            _ => disk.fail(Operation::Create, "damage.tmp", 0, 9, fault),
        }
        let opened = Log::open(disk.clone(), dir(), key(), small(), NOW);
        assert_eq!(opened.is_ok(), opens, "{fault:?}");
        match opened {
            Ok((log, recovery)) => {
                let damage = recovery.damage.unwrap();
                assert_eq!((damage.complete_below, log.log_end()), (log.log_end(), log.log_end()));
            }
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
        // what was not kept in mind is still there to be found
        let found = disk.memory().crash(Loss::Nothing);
        let (log, recovery) = reopen(&found);
        let below = if opens { Offset(0) } else { Offset(end.0 - 1) };
        assert_eq!((recovery.damage.unwrap().complete_below, log.log_end().0), (below, end.0 - 1));
    }
}

#[test]
fn what_is_set_aside_again_takes_another_name() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("topic-3");
    for number in 0..3 {
        let (mut log, _) = Log::open(FileDisk, dir.clone(), key(), small(), NOW).unwrap();
        append(&mut log, 0, 1, 100).unwrap();
        log.close_clean(Offset(0)).unwrap();
        let path = dir.join("offset-checkpoint");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("inside")).unwrap();
        let opened = Log::open(FileDisk, dir.clone(), key(), small(), NOW);
        assert_eq!(opened.unwrap().0.log_end(), Offset(number + 1));
        assert!(dir.join(format!("offset-checkpoint.aside-{number}/inside")).exists());
    }
}

#[test]
fn a_segment_that_is_gone_or_shorter_than_it_was_flushed_is_damage() {
    let (whole, end) = written();
    // writes a checkpoint that vouches for all of it
    drop(reopen(&whole));
    let segments = segments(&whole);
    assert!(segments.len() > 3);
    for path in &segments {
        let disk = whole.snapshot();
        disk.remove(path).unwrap();
        let (log, recovery) = reopen(&disk);
        let damage = recovery.damage.unwrap_or_else(|| panic!("{} is gone", path.display()));
        assert!(damage.complete_below < end, "{damage:?}");
        assert!(damage.cause.contains("is gone"), "{}", damage.cause);
        // what is left can be read once somebody has said so
        assert_eq!(log.log_end() == end, path != segments.last().unwrap());
        let mut log = log;
        let within = log.log_start()..log.log_end();
        if within.contains(&damage.complete_below) {
            log.read(damage.complete_below.max(log.log_start()), end, 700).unwrap_err();
        }
        let kept = disk.snapshot();
        log.forget_damage().unwrap();
        let mut next = log.log_start();
        while next < log.log_end() {
            let slice = log.read(next, log.log_end(), 700).unwrap();
            assert!(Batches::verified(slice.bytes, key()).all(|batch| batch.is_ok()));
            assert!(slice.end > next, "reading stops at {next}");
            next = slice.end;
        }
        // and what lies behind the gap can be cut off, to be filled again
        assert_eq!(reopen(&kept).1.damage.as_ref(), Some(&damage), "it was kept in mind");
        if damage.complete_below > log.log_start() {
            log.truncate_to(damage.complete_below, log.log_end()).unwrap();
            assert_eq!(log.log_end(), damage.complete_below);
            append(&mut log, 1, 1, 100).unwrap();
            assert_eq!(contents(&log, log.log_start()).len() as u64, log.log_end().0);
        }
        let disk = whole.snapshot();
        change(&disk, path, |content| content.truncate(content.len() / 3));
        let (log, recovery) = reopen(&disk);
        let damage = recovery.damage.unwrap();
        assert!(damage.cause.contains("were flushed"), "{}", damage.cause);
        assert_eq!(log.log_end() == end, path != segments.last().unwrap());
    }
}

#[test]
fn what_retention_removed_is_not_missed() {
    let (disk, end) = written();
    let (mut log, _) = reopen(&disk);
    let policy = troupe_log::RetentionPolicy { retention_bytes: Some(900), ..Default::default() };
    let retained = log.apply_retention(&policy, NOW, end);
    assert!(retained.failure.is_none() && retained.removals.len() > 1);
    assert_eq!(reopen(&disk.snapshot()).1.damage, None, "before their files are removed");
    log.checkpoint(end).unwrap();
    retained.removals.into_iter().for_each(|removal| removal.run().unwrap());
    assert_eq!(reopen(&disk.snapshot()).1.damage, None, "and after that");
}

#[test]
fn damage_is_kept_in_mind_until_the_replica_was_filled_again() {
    let (disk, end) = written();
    let last = segments(&disk).pop().unwrap();
    change(&disk, &last, |content| *content.last_mut().unwrap() ^= 1);
    let (log, recovery) = reopen(&disk);
    let damage = recovery.damage.unwrap();
    assert_eq!(log.damage(), Some(&damage));
    drop(log);
    let disk = disk.crash(Loss::Unsynced);
    let (mut log, recovery) = reopen(&disk);
    assert_eq!(recovery.damage, Some(damage));
    append(&mut log, 0, 1, 100).unwrap();
    assert_eq!(log.log_end(), end);
    log.forget_damage().unwrap();
    log.close_clean(end).unwrap();
    assert_eq!(reopen(&disk.crash(Loss::Unsynced)).1.damage, None);
}

/// Each of a partition's files in turn is a directory, or empty.
#[test]
fn no_file_that_stands_in_the_way_keeps_a_log_from_opening() {
    let whole = || {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("topic-3");
        let (mut log, _) = Log::open(FileDisk, dir.clone(), key(), small(), NOW).unwrap();
        for _ in 0..20 {
            append(&mut log, 0, 1, 100).unwrap();
        }
        log.write_producer_snapshot(log.log_end(), b"state").unwrap();
        log.set_log_start(Offset(2))
            .unwrap()
            .into_iter()
            .for_each(|removal| removal.run().unwrap());
        log.close_clean(Offset(20)).unwrap();
        (temp, dir)
    };
    let names = |dir: &Path| FileDisk.list(dir).unwrap().unwrap();
    let (_temp, dir) = whole();
    for name in names(&dir) {
        for empty in [false, true] {
            let (_temp, dir) = whole();
            let path = dir.join(&name);
            std::fs::remove_file(&path).unwrap();
            if empty {
                std::fs::write(&path, "").unwrap();
            } else {
                std::fs::create_dir_all(path.join("inside")).unwrap();
            }
            let opened = Log::open(FileDisk, dir.clone(), key(), small(), NOW);
            let (mut log, recovery) = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(recovery.damage.is_some(), name.ends_with(".log"), "{name}: {recovery:?}");
            append(&mut log, 0, 1, 100).unwrap_or_else(|error| panic!("{name}: {error}"));
            // what is damaged is read when somebody has said so
            log.forget_damage().unwrap();
            log.read(log.log_start(), log.log_end(), 10_000).unwrap();
            log.find_by_timestamp(NOW + 9, log.log_end()).unwrap();
            log.close_clean(Offset(20)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let opened = Log::open(FileDisk, dir.clone(), key(), small(), NOW);
            let (log, _) = opened.unwrap_or_else(|error| panic!("{name} again: {error}"));
            assert!(log.log_end() > Offset(0));
        }
    }
}

/// One segment, and an entry of the index for each batch.
fn indexed() -> LogConfig {
    LogConfig { index_interval_bytes: 1, ..LogConfig::default() }
}

/// A log of one segment: six batches that a checkpoint vouches for and one behind it. The header of the second is damaged,
/// and the indexes are gone, which would have to be made again from it.
fn damaged_below_its_checkpoint(behind: u32) -> MemDisk {
    let disk = memory();
    let (mut log, _) = open(&disk, indexed());
    for _ in 0..6 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    log.checkpoint(Offset(5)).unwrap();
    for _ in 0..behind {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    drop(log);
    let path = segments(&disk).pop().unwrap();
    let content = disk.read(&path).unwrap().unwrap();
    let (first, _) = Batches::new(content.into()).next().unwrap().unwrap();
    disk.decay(&path, first.encoded_len() as u64 + 3, &[0x10]);
    for extension in ["index", "timeindex"] {
        disk.remove(&path.with_extension(extension)).unwrap();
    }
    disk
}

#[test]
fn a_log_opens_though_what_a_checkpoint_vouches_for_is_damaged_and_its_indexes_are_gone() {
    let (log, recovery) = open(&damaged_below_its_checkpoint(1), indexed());
    let damage = recovery.damage.expect("it was looked at");
    assert_eq!((damage.complete_below, damage.resumes_at), (Offset(1), Some(Offset(2))));
    assert_eq!(log.log_end(), Offset(7), "what is sound behind it stays");
}

#[test]
fn a_checkpoint_vouches_for_nothing_of_which_the_indexes_cannot_be_made_again() {
    let disk = damaged_below_its_checkpoint(0);
    let (mut log, recovery) = open(&disk, indexed());
    assert_eq!(recovery.damage, None, "it is trusted");
    log.checkpoint(Offset(6)).unwrap();
    drop(log);
    let (log, recovery) = open(&disk, indexed());
    assert_eq!(recovery.damage.map(|damage| damage.complete_below), Some(Offset(1)));
    assert_eq!(log.log_end(), Offset(6));
}

/// Of two that stand behind each other the second was found first, and the index leads over both.
#[test]
fn a_damage_of_which_nobody_knows_how_far_it_goes_is_not_overlooked_by_the_next_opening() {
    for unknown_end in [false, true] {
        let disk = memory();
        let (mut log, _) = open(&disk, indexed());
        for _ in 0..9 {
            append(&mut log, 0, 1, 100).unwrap();
        }
        log.flush().unwrap();
        let path = segments(&disk).pop().unwrap();
        let content = disk.read(&path).unwrap().unwrap();
        let len = content.len() as u64 / 9;
        // the payload of the fourth, the header of the fifth
        disk.decay(&path, 4 * len - 1, &[1]);
        disk.decay(&path, 4 * len + 3, &[0x10]);
        let damage = log.examine(Offset(3)).unwrap().expect("it is there");
        assert_eq!(damage.complete_below, Offset(3));
        log.note_damage(damage).unwrap();
        if !unknown_end {
            log.survey_damage().unwrap();
            assert_eq!(log.damage().unwrap().resumes_at, Some(Offset(5)));
        }
        drop(log);
        let (log, recovery) = open(&disk, LogConfig::default());
        assert_eq!(recovery.damage.map(|damage| damage.complete_below), Some(Offset(3)));
        assert_eq!(log.damaged_from(), Some(Offset(3)), "nothing from there on is handed out");
    }
}

/// What was given up in one piece was several batches elsewhere.
#[test]
fn a_follower_that_ends_within_what_was_given_up_is_told_to_part_before_it() {
    let (disk, end) = written();
    let path = segments(&disk).remove(1);
    let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let size = disk.size(&path).unwrap() as usize;
    disk.decay(&path, 0, &vec![0xff; size]);
    let (mut log, _) = reopen(&disk);
    if log.damage().is_none() {
        let damage = log.examine(Offset(base)).unwrap().expect("all of it");
        log.note_damage(damage).unwrap();
    }
    let lost = log.accept_loss(end).unwrap();
    assert_eq!(lost.len(), 1);
    let (from, to) = (lost[0].start, lost[0].end);
    assert!(to.0 - from.0 >= 2, "{lost:?}");
    let (log, _) = reopen(&disk);
    let epoch = log.latest_epoch().unwrap();
    let parts_at = |at: u64| log.end_offset_for_follower(epoch, Offset(at)).unwrap().1;
    assert_eq!(parts_at(from.0 + 1), from);
    for whole in [from.0 - 1, from.0, to.0, end.0] {
        assert_eq!(parts_at(whole), end, "{whole} is the end of a batch, or of the log");
    }
}

/// It stands in a file of which the rest is still in use.
#[test]
fn what_is_damaged_among_what_was_deleted_does_not_hinder_dropping_the_rest() {
    let disk = memory();
    let (mut log, _) = open(&disk, indexed());
    for _ in 0..6 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    drop(log.set_log_start(Offset(4)).unwrap());
    let path = segments(&disk).pop().unwrap();
    let content = disk.read(&path).unwrap().unwrap();
    let (first, _) = Batches::new(content.into()).next().unwrap().unwrap();
    disk.decay(&path, first.encoded_len() as u64 + 3, &[0x10]);
    assert_eq!(log.truncate_to(Offset(4), Offset(6)).unwrap(), Offset(4));
    assert_eq!((log.log_start(), log.log_end()), (Offset(4), Offset(4)));
    append(&mut log, 0, 1, 100).unwrap();
    assert_eq!(log.log_end(), Offset(5));
}
