//! Reading by offset and by timestamp.

use crate::batches::*;
use proptest::prelude::*;
use std::path::Path;
use troupe_log::disk::{Disk, FileDisk, Loss};
use troupe_log::{Log, LogConfig, LogError};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset};

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

/// Descriptors of this process on files below `dir`.
fn descriptors(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

#[test]
fn an_idle_log_holds_no_descriptor_and_closed_segments_hold_none_ever() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("topic-3");
    let open = || Log::open(FileDisk, dir.clone(), key(), small(), NOW).unwrap().0;
    let mut log = open();
    assert_eq!(descriptors(temp.path()), 0);
    for _ in 0..40 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    log.flush().unwrap();
    contents(&log, Offset(0));
    log.find_by_timestamp(NOW + 3, Offset(40)).unwrap().unwrap();
    assert_eq!(descriptors(temp.path()), 1, "the segment that takes appends");
    log.release_files();
    assert_eq!(descriptors(temp.path()), 0);
    contents(&log, Offset(0));
    assert_eq!(descriptors(temp.path()), 0, "reading takes mappings");
    append(&mut log, 0, 1, 100).unwrap();
    drop(log);
    let log = open();
    assert_eq!((log.log_end(), descriptors(temp.path())), (Offset(41), 0), "after a recovery too");
}

#[test]
fn slices_stay_as_they_are_whatever_becomes_of_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("topic-3");
    let (mut log, _) = Log::open(FileDisk, dir, key(), small(), NOW).unwrap();
    for _ in 0..40 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let mut held = Vec::new();
    let mut hold = |log: &Log<FileDisk>| {
        let mut from = log.log_start();
        while from < log.log_end() {
            let slice = log.read(from, log.log_end(), 500).unwrap();
            held.push((slice.bytes.clone(), slice.bytes.to_vec()));
            from = slice.end;
        }
    };
    hold(&log);
    log.remove_oldest().unwrap().unwrap().run().unwrap();
    // deeper than the high watermark
    log.truncate_to(Offset(27), Offset(40)).unwrap();
    for _ in 0..20 {
        append(&mut log, 1, 2, 90).unwrap();
    }
    hold(&log);
    // above it
    log.truncate_to(Offset(50), Offset(50)).unwrap();
    append(&mut log, 2, 2, 90).unwrap();
    hold(&log);
    log.truncate_fully_and_start_at(Offset(5)).unwrap();
    append(&mut log, 3, 2, 90).unwrap();
    drop(log);
    drop(temp);
    let (kept, cut): (Vec<_>, Vec<_>) = held.iter().partition(|(slice, copy)| slice == copy);
    assert_eq!(cut.len(), 0, "{} slices are intact", kept.len());
}

#[test]
fn a_large_file_that_nobody_reads_is_given_back_in_pieces_and_one_that_is_read_stays_whole() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("topic-3");
    let config = LogConfig { segment_bytes: 5 << 20, ..small() };
    let (mut log, _) = Log::open(FileDisk, dir.clone(), key(), config, NOW).unwrap();
    while log.segment_count() < 4 {
        append(&mut log, 0, 1, 500_000).unwrap();
    }
    log.flush().unwrap();
    let deleted = || {
        let entries = std::fs::read_dir(&dir).unwrap().map(Result::unwrap);
        let mut deleted =
            entries.filter(|it| it.file_name().to_str().unwrap().ends_with(".log.deleted"));
        deleted.next().unwrap().metadata().unwrap().len()
    };
    let sizes = |removal: troupe_log::Removal<FileDisk>| {
        let mut sizes = vec![deleted()];
        removal.run_with_rests(|| sizes.push(deleted())).unwrap();
        sizes
    };
    let alone = sizes(log.remove_oldest().unwrap().unwrap());
    assert!(alone.len() > 2 && alone.is_sorted_by(|a, b| a > b), "{alone:?}");
    assert_eq!(alone.last(), Some(&0));
    let slice = log.read(log.log_start(), log.log_end(), 500).unwrap().bytes;
    let copy = slice.to_vec();
    let read = sizes(log.remove_oldest().unwrap().unwrap());
    assert!(read.len() > 2 && read.iter().all(|size| *size == read[0]), "{read:?}");
    assert_eq!(slice, copy);
    let open = std::fs::File::open(dir.join(format!("{:020}.log", log.log_start().0))).unwrap();
    let opened = sizes(log.remove_oldest().unwrap().unwrap());
    assert!(opened.iter().all(|size| *size == opened[0]), "{opened:?}");
    drop(open);
}

#[test]
fn an_index_that_is_lost_or_wrong_costs_time_only() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..40 {
        append(&mut log, 0, 2, 60).unwrap();
    }
    let before = contents(&log, Offset(0));
    log.close_clean(Offset(80)).unwrap();
    for damage in 0..3 {
        for path in disk.files().into_keys() {
            match path.extension().and_then(|kind| kind.to_str()) {
                Some("index" | "timeindex") if damage == 0 => disk.remove(&path).unwrap(),
                Some("index" | "timeindex") if damage == 1 => {
                    disk.replace(&path, &[0xee; 24], false).map(drop).unwrap();
                }
                // in order, but leading into the middle of batches
                Some("index") => {
                    let entries = [0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 99];
                    disk.replace(&path, &entries, false).map(drop).unwrap();
                }
                _ => {}
            }
        }
        let (log, recovery) = open(&disk, small());
        assert!(recovery.clean);
        assert_eq!(contents(&log, Offset(0)), before);
        for offset in (0..80).step_by(2) {
            let hit = log.find_by_timestamp(NOW + offset, Offset(80)).unwrap().unwrap();
            assert_eq!(hit.offset, Offset(offset as u64), "damage {damage}");
        }
        log.close_clean(Offset(80)).unwrap();
    }
}

/// What a leader would send: batches of one record from `base` on.
fn frames(base: u64, epoch: u32, count: usize) -> Vec<Vec<u8>> {
    let frame = |i| {
        let (header, payload) = batch(&[NOW], b"value");
        let (base_offset, leader_epoch) = (Offset(base + i), LeaderEpoch(epoch));
        let header = BatchHeader { base_offset, leader_epoch, ..header };
        [&header.encode(&key())[..], &payload].concat()
    };
    (0..count as u64).map(frame).collect()
}

#[test]
fn frames_from_a_leader_are_appended_byte_for_byte_or_not_at_all() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    let sent = frames(0, 0, 20).concat();
    let appended = log.append_frames(sent.clone().into(), NOW).unwrap();
    assert_eq!((appended.base, appended.end), (Offset(0), Offset(20)));
    assert!(log.segment_count() > 1 && appended.rolled.is_some());
    let files = disk.files().into_iter();
    let logs = files.filter(|(path, _)| path.extension().is_some_and(|kind| kind == "log"));
    assert_eq!(logs.map(|(_, content)| content).collect::<Vec<_>>().concat(), sent);

    let good = frames(20, 0, 3);
    for bit in (0..good[0].len() * 8).step_by(7) {
        let mut bad = good.clone();
        bad[2][bit / 8] ^= 1 << (bit % 8);
        let error = log.append_frames(bad.concat().into(), NOW).unwrap_err();
        assert!(
            matches!(error, LogError::BadFrames { position, .. } if position == 2 * good[0].len())
        );
    }
    let whole = good.concat();
    for len in (1..whole.len()).filter(|len| len % good[0].len() != 0) {
        assert!(log.append_frames(whole[..len].to_vec().into(), NOW).is_err());
    }
    let overlap = log.append_frames(frames(19, 0, 1).concat().into(), NOW).unwrap_err();
    assert!(matches!(overlap, LogError::NotNext { .. }));
    assert_eq!(log.log_end(), Offset(20));
    // a gap is what compaction leaves
    log.append_frames(frames(30, 1, 2).concat().into(), NOW).unwrap();
    let older = log.append_frames(frames(32, 0, 1).concat().into(), NOW).unwrap_err();
    assert!(matches!(older, LogError::EpochWentBack { .. }));
    assert_eq!(log.read(Offset(25), Offset(32), 10).unwrap().first, Offset(30));
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(30))));
    log.close_clean(Offset(0)).unwrap();
    assert_eq!(open(&disk, small()).0.log_end(), Offset(32));
}

/// A leads in epoch 2 and writes nothing; then B leads, with batches of epoch 1 that A never got.
#[test]
fn who_led_without_writing_takes_over_older_epochs_batches() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    log.append_frames(frames(0, 1, 3).concat().into(), NOW).unwrap();
    log.assign_epoch(LeaderEpoch(2), Offset(3));
    log.checkpoint(Offset(0)).unwrap();
    log.append_frames(frames(3, 1, 2).concat().into(), NOW).unwrap();
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(2)), Some((LeaderEpoch(1), Offset(5))));
    assert_eq!(log.epoch_at(Offset(0)), Some(LeaderEpoch(1)));
    log.append_frames(frames(5, 3, 1).concat().into(), NOW).unwrap();
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(2)), Some((LeaderEpoch(1), Offset(5))));
    log.close_clean(Offset(0)).unwrap();
    assert_eq!(open(&disk, small()).0.latest_epoch(), Some(LeaderEpoch(3)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in the files, the answer is a log or an error.
    #[test]
    fn no_bytes_on_disk_make_a_log_panic(
        damages in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4),
            1..6,
        ),
    ) {
        let disk = memory();
        let (mut log, _) = open(&disk, small());
        for i in 0..20 {
            append(&mut log, i / 7, 2, 60).unwrap();
        }
        log.write_producer_snapshot(Offset(40), b"state").unwrap();
        log.close_clean(Offset(40)).unwrap();
        let files: Vec<_> = disk.files().into_iter().collect();
        for (file, at, byte, how) in damages {
            let (path, mut content) = files[file.index(files.len())].clone();
            let at = at.index(content.len() + 1);
            match how {
                0 => content.truncate(at),
                1 => content.insert(at, byte),
                2 => content.extend_from_within(..at),
                _ => content.iter_mut().skip(at).take(1).for_each(|found| *found ^= byte),
            }
            disk.replace(&path, &content, false).map(drop).unwrap();
        }
        let Ok((mut log, recovery)) = Log::open(disk, dir(), key(), small(), NOW) else {
            return Ok(());
        };
        let (start, end) = (log.log_start(), log.log_end());
        prop_assert!(recovery.replay_from <= end && start <= end);
        let _either = log.replay(recovery.replay_from, |_| {});
        for from in start.0..=end.0 {
            let _either = log.read(Offset(from), end, 300);
        }
        for relative in 0..45 {
            let _either = log.find_by_timestamp(NOW + relative, end);
        }
        let _either = (log.find_max_timestamp(end), log.segments(), log.largest_timestamp());
        let _either = append(&mut log, 9, 1, 10);
        let _either = log.truncate_to(Offset(u64::midpoint(start.0, end.0)), start);
        let _either = log.close_clean(end);
    }
}

/// As a leader sends them whose log was cleaned.
#[test]
fn a_gap_between_batches_is_read_over_and_survives_opening() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    append(&mut log, 0, 3, 100).unwrap();
    for (base, count) in [(7, 2), (9, 1), (30, 4)] {
        let frames = frames_at(Offset(base), 1, &vec![NOW; count], &[1; 100]).0;
        log.append_frames(frames, NOW).unwrap();
    }
    log.flush().unwrap();
    for log in [log, open(&disk.crash(Loss::Unsynced), small()).0] {
        let mut bases = Vec::new();
        log.replay(Offset(0), |header| bases.push(header.base_offset.0)).unwrap();
        assert_eq!((bases, log.log_end()), (vec![0, 7, 9, 30], Offset(34)));
        for (from, first) in [(2, 0), (3, 7), (6, 7), (8, 7), (9, 9), (10, 30), (29, 30), (33, 30)]
        {
            let slice = log.read(Offset(from), log.log_end(), 1).unwrap();
            assert_eq!(slice.first, Offset(first), "from {from}");
        }
        assert!(log.read(Offset(12), Offset(20), 1).unwrap().is_empty());
        for (offset, behind) in [(0, 0), (3, 7), (5, 7), (8, 8), (10, 30), (31, 31), (34, 34)] {
            assert_eq!(log.behind_gap(Offset(offset)), Offset(behind), "{offset}");
        }
    }
}
