//! What `troupe log verify` finds in a partition's directory, and what `--fix` makes of it.

use crate::batches::*;
use std::fs;
use std::path::{Path, PathBuf};
use troupe_log::disk::FileDisk;
use troupe_log::verify::{FileReport, MendError, Remedy, mend, partition};
use troupe_log::{Log, LogConfig};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// The directory of a closed log of three segments and two leader epochs, of thirty records.
fn written(temp: &Path) -> PathBuf {
    let dir = temp.join("topic-3");
    let config = LogConfig { segment_bytes: 2000, index_interval_bytes: 100, ..small() };
    let (mut log, _) = Log::open(FileDisk, dir.clone(), key(), config, NOW).unwrap();
    for i in 0..15 {
        append(&mut log, i / 8, 2, 50).unwrap();
    }
    assert!(log.segment_count() > 1);
    log.write_producer_snapshot(log.log_end(), b"state").unwrap();
    log.close_clean(Offset(30)).unwrap();
    dir
}

fn faults(dir: &Path) -> Vec<(String, String)> {
    let name = |report: &FileReport| {
        report.path.file_name().and_then(|name| name.to_str()).unwrap().to_owned()
    };
    let reports = partition(dir).unwrap();
    let all = reports.iter().flat_map(|report| {
        report.faults.iter().map(move |fault| (name(report), fault.text.clone()))
    });
    all.collect()
}

fn leftovers(dir: &Path) -> usize {
    partition(dir).unwrap().iter().filter(|report| report.is_leftover).count()
}

fn fix(dir: &Path, drop_damaged: bool) -> Result<troupe_log::verify::Mended, MendError> {
    mend(dir, &partition(dir).unwrap(), drop_damaged, NOW)
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

fn records(dir: &Path) -> (Offset, Offset, usize) {
    let (log, _) = Log::open(FileDisk, dir.to_owned(), key(), small(), NOW).unwrap();
    let mut batches = 0;
    log.replay(Offset(0), |_| batches += 1).unwrap();
    (log.log_start(), log.log_end(), batches)
}

const FIRST: &str = "00000000000000000000";

#[test]
fn a_sound_partition_has_no_faults_and_nothing_to_mend() {
    let temp = tempfile::tempdir().unwrap();
    let dir = written(temp.path());
    assert_eq!(faults(&dir), []);
    let before = fs::read_dir(&dir).unwrap().count();
    let mended = fix(&dir, false).unwrap();
    assert!(mended.done.is_empty() && mended.lost.is_empty(), "{mended:?}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), before);
}

type Plant = fn(&Path);

/// Each kind of damage that follows from the batches: found in the file that it is in, and mended without loss.
#[test]
fn what_follows_from_the_batches_is_found_and_mended() {
    let planted: [(&str, &str, Plant); 10] = [
        ("index entry", "00000000000000000000.index", |dir| {
            flip(&dir.join("00000000000000000000.index"), 7)
        }),
        ("index gone", "00000000000000000000.index", |dir| {
            fs::remove_file(dir.join("00000000000000000000.index")).unwrap();
        }),
        ("index torn", "00000000000000000000.index", |dir| {
            let path = dir.join("00000000000000000000.index");
            let content = fs::read(&path).unwrap();
            fs::write(&path, &content[..content.len() - 3]).unwrap();
        }),
        ("time index entry", "00000000000000000000.timeindex", |dir| {
            flip(&dir.join("00000000000000000000.timeindex"), 7);
        }),
        ("time index cut", "00000000000000000000.timeindex", |dir| {
            fs::write(dir.join("00000000000000000000.timeindex"), b"").unwrap();
        }),
        ("epochs torn", "leader-epoch-checkpoint", |dir| {
            flip(&dir.join("leader-epoch-checkpoint"), 12)
        }),
        ("epochs gone", "leader-epoch-checkpoint", |dir| {
            fs::remove_file(dir.join("leader-epoch-checkpoint")).unwrap();
        }),
        ("checkpoint", "offset-checkpoint", |dir| flip(&dir.join("offset-checkpoint"), 12)),
        ("snapshot", "00000000000000000030.snapshot", |dir| {
            flip(&dir.join("00000000000000000030.snapshot"), 5);
        }),
        ("snapshot ahead", "00000000000000000099.snapshot", |dir| {
            let snapshot = dir.join("00000000000000000030.snapshot");
            fs::copy(snapshot, dir.join("00000000000000000099.snapshot")).unwrap();
        }),
    ];
    for (what, file, plant) in planted {
        let temp = tempfile::tempdir().unwrap();
        let dir = written(temp.path());
        plant(&dir);
        let found = faults(&dir);
        assert!(
            !found.is_empty() && found.iter().all(|(name, _)| name == file),
            "{what}: {found:?}"
        );
        let mended = fix(&dir, false).unwrap();
        assert!(mended.done.iter().any(|done| done.contains(file)), "{what}: {mended:?}");
        assert!(mended.lost.is_empty(), "{what}");
        assert_eq!(faults(&dir), [], "{what}");
        assert_eq!(records(&dir), (Offset(0), Offset(30), 15), "{what}");
    }
}

/// Leader epochs that hold together and are not those of the batches.
#[test]
fn leader_epochs_that_differ_from_the_batches_are_found_and_mended() {
    let temp = tempfile::tempdir().unwrap();
    let dir = written(temp.path());
    let other = tempfile::tempdir().unwrap();
    let foreign = other.path().join("topic-3");
    let (mut log, _) = Log::open(FileDisk, foreign.clone(), key(), small(), NOW).unwrap();
    append(&mut log, 5, 40, 10).unwrap();
    log.close_clean(Offset(0)).unwrap();
    let name = "leader-epoch-checkpoint";
    fs::copy(foreign.join(name), dir.join(name)).unwrap();
    let found = faults(&dir);
    assert!(
        found.iter().any(|(file, text)| file == name && text.contains("it says 5")),
        "{found:?}"
    );
    fix(&dir, false).unwrap();
    assert_eq!(faults(&dir), []);
    let (log, _) = Log::open(FileDisk, dir, key(), small(), NOW).unwrap();
    assert_eq!(log.epoch_at(Offset(20)), Some(LeaderEpoch(1)));
}

#[test]
fn what_a_change_has_left_is_told_and_cleared_away() {
    let temp = tempfile::tempdir().unwrap();
    let dir = written(temp.path());
    for name in [
        "00000000000000000000.log.deleted",
        "offset-checkpoint.tmp",
        // of a segment that is gone
        "00000000000000000077.index",
    ] {
        fs::write(dir.join(name), b"12345678").unwrap();
    }
    assert_eq!((leftovers(&dir), faults(&dir)), (3, Vec::new()));
    let mended = fix(&dir, false).unwrap();
    assert_eq!(mended.done.len(), 3, "{mended:?}");
    assert_eq!((leftovers(&dir), faults(&dir)), (0, Vec::new()));
    assert_eq!(records(&dir), (Offset(0), Offset(30), 15));
}

/// Records go only if the caller says so; then the replica remembers that it lacks some.
#[test]
fn damaged_records_are_dropped_only_on_demand_and_named() {
    let temp = tempfile::tempdir().unwrap();
    let dir = written(temp.path());
    let log = dir.join(format!("{FIRST}.log"));
    let content = fs::read(&log).unwrap();
    // in a payload
    flip(&log, content.len() / 3 + 100);
    let found = faults(&dir);
    assert!(found.iter().any(|(_, text)| text.contains("checksum")), "{found:?}");
    let Err(MendError::Loss { losses }) = fix(&dir, false) else { panic!("it is a loss") };
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert!(losses[0].contains(".log from byte"), "{losses:?}");
    assert_eq!(fs::read(&log).unwrap().len(), content.len(), "nothing was changed");

    let mended = fix(&dir, true).unwrap();
    assert_eq!(mended.lost, losses);
    let left = faults(&dir);
    assert!(left.iter().any(|(file, _)| file == "damage"), "{left:?}");
    assert!(left.iter().all(|(_, text)| !text.contains("checksum")), "{left:?}");
    let (_, end, batches) = records(&dir);
    assert_eq!(end, Offset(30), "what is whole behind it stays");
    assert!(batches < 15);
}

/// What was being written when the machine died was never acknowledged.
#[test]
fn a_torn_tail_is_no_damage_and_is_cut_off() {
    let temp = tempfile::tempdir().unwrap();
    let dir = written(temp.path());
    let logs = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let last = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let mut content = fs::read(&last).unwrap();
    let whole = content.len();
    content.extend_from_slice(&content.clone()[..50]);
    fs::write(&last, content).unwrap();
    let reports = partition(&dir).unwrap();
    let fault = reports.iter().flat_map(|report| &report.faults).next().unwrap();
    assert_eq!(fault.remedy, Remedy::CutTail { position: whole as u64 });
    fix(&dir, false).unwrap();
    assert_eq!(fs::metadata(&last).unwrap().len(), whole as u64);
    assert_eq!(faults(&dir), []);
}

#[test]
fn a_segment_that_is_gone_is_a_loss() {
    let temp = tempfile::tempdir().unwrap();
    let dir = written(temp.path());
    fs::remove_file(dir.join(format!("{FIRST}.log"))).unwrap();
    let found = faults(&dir);
    assert!(
        found.iter().any(|(file, text)| file == "offset-checkpoint" && text.contains("is gone")),
        "{found:?}"
    );
    assert!(matches!(fix(&dir, false), Err(MendError::Loss { .. })));
}

#[test]
fn without_its_identity_a_partition_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = written(temp.path());
    flip(&dir.join("partition.metadata"), 20);
    flip(&dir.join(format!("{FIRST}.index")), 7);
    assert!(faults(&dir).iter().any(|(file, _)| file == "partition.metadata"));
    assert!(matches!(fix(&dir, false), Err(MendError::UnknownPartition { .. })));
}
