//! Deleting from the front, cutting from the end.

use crate::batches::*;
use troupe_log::disk::{Disk, Loss};
use troupe_log::{Log, LogError, RetentionPolicy};
use troupe_proto::ids::{LeaderEpoch, Offset};

const HOUR: i64 = 3_600_000;

fn retain<D: Disk>(log: &mut Log<D>, policy: RetentionPolicy, now_ms: i64) -> Offset {
    for removal in log.apply_retention(&policy, now_ms, log.log_end()).removals {
        removal.run().unwrap();
    }
    log.log_start()
}

/// S15.
#[test]
fn one_fresh_record_keeps_the_whole_segment() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    let policy = RetentionPolicy { retention_ms: Some(HOUR as u64), ..Default::default() };
    append_at(&mut log, 0, &[NOW], b"old").unwrap();
    append_at(&mut log, 0, &[NOW + HOUR], b"fresh").unwrap();
    append_at(&mut log, 0, &[NOW], b"old").unwrap();
    log.roll(NOW).unwrap();
    append_at(&mut log, 0, &[NOW], b"old").unwrap();
    assert_eq!(retain(&mut log, policy, NOW + 2 * HOUR), Offset(0));
    // S17: then the segment that takes appends goes too
    assert_eq!(retain(&mut log, policy, NOW + 2 * HOUR + 1), Offset(4));
    assert_eq!((log.log_end(), log.segment_count(), log.size_bytes()), (Offset(4), 1, 0));
    append(&mut log, 0, 1, 1).unwrap();
    log.close_clean(Offset(5)).unwrap();
    let (log, recovery) = open(&disk, small());
    assert!(recovery.clean);
    assert_eq!((log.log_start(), log.log_end()), (Offset(4), Offset(5)));
}

/// S16.
#[test]
fn retention_by_size_never_goes_below_its_limit() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..40 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let first = log.segments().unwrap()[0].size;
    for limit in [log.size_bytes() - first + 1, log.size_bytes() - first, 1500, 0] {
        let policy = RetentionPolicy { retention_bytes: Some(limit), ..Default::default() };
        retain(&mut log, policy, NOW);
        let segments = log.segments().unwrap();
        assert!(log.size_bytes() >= limit);
        assert!(log.size_bytes() < limit + segments[0].size.max(1), "{limit}: {segments:?}");
    }
    assert_eq!(log.log_start(), Offset(40));
}

/// S17.
#[test]
fn nothing_at_or_above_the_high_watermark_is_deleted() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..40 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let policy = RetentionPolicy { retention_bytes: Some(0), ..Default::default() };
    drop(log.apply_retention(&policy, NOW, Offset(13)));
    let first = log.segments().unwrap()[0];
    assert!(first.base <= Offset(13) && first.end > Offset(13), "{first:?}");
    // those whose files nobody removed are leftovers
    log.flush().unwrap();
    let start = log.log_start();
    drop(log);
    let (log, _) = open(&disk, small());
    assert_eq!(log.log_start(), start);
    assert!(disk.files().keys().all(|path| !path.to_str().unwrap().ends_with(".deleted")));
}

/// What is empty was not there before, or was emptied: the directory tells.
#[test]
fn a_log_that_was_emptied_still_has_its_directory() {
    let disk = memory();
    let (mut log, recovery) = open(&disk, small());
    assert!(!recovery.had_directory);
    append(&mut log, 0, 1, 100).unwrap();
    log.truncate_fully_and_start_at(Offset(0)).unwrap();
    drop(log);
    let (log, recovery) = open(&disk, small());
    assert!(recovery.had_directory && log.log_end() == Offset(0));
    let name = dir().join("partition.metadata");
    disk.remove(&name).unwrap();
    assert!(!open(&disk, small()).1.had_directory);
}

/// S19.
#[test]
fn a_moved_log_start_survives_a_power_cut() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..20 {
        append(&mut log, 0, 2, 100).unwrap();
    }
    drop(log.set_log_start(Offset(21)).unwrap());
    assert!(log.set_log_start(Offset(3)).unwrap().is_empty(), "it never moves back");
    let error = log.set_log_start(Offset(41)).err().unwrap();
    assert!(matches!(error, LogError::OffsetOutOfRange { .. }));
    let (log, _) = open(&disk.crash(Loss::Unsynced), small());
    assert_eq!((log.log_start(), log.log_end()), (Offset(21), Offset(40)));
    assert!(log.read(Offset(20), Offset(40), 1).is_err());
}

/// S19, the follower's side: the leader's log starts within a batch.
#[test]
fn an_empty_log_takes_the_batch_that_holds_its_start_and_begins_where_it_did() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    let frames = |base, count| frames_at(Offset(base), 3, &vec![NOW; count], b"v").0;
    log.truncate_fully_and_start_at(Offset(12)).unwrap();
    for (base, count) in [(10, 2), (8, 3), (0, 12)] {
        let error = log.append_frames(frames(base, count), NOW).unwrap_err();
        assert!(matches!(error, LogError::NotNext { .. }), "{base} + {count}: {error}");
    }
    let appended = log.append_frames(frames(9, 5), NOW).unwrap();
    assert_eq!((appended.base, appended.end), (Offset(9), Offset(14)));
    let error = log.append_frames(frames(13, 3), NOW).unwrap_err();
    assert!(matches!(error, LogError::NotNext { .. }), "only the first: {error}");
    log.append_frames(frames(14, 2), NOW).unwrap();
    log.flush().unwrap();
    for log in [log, open(&disk.crash(Loss::Unsynced), small()).0] {
        assert_eq!((log.log_start(), log.log_end()), (Offset(12), Offset(16)));
        let bounds: Vec<_> = contents(&log, Offset(12)).iter().map(|it| (it.0.0, it.1.0)).collect();
        assert_eq!(bounds, [(9, 14), (14, 16)]);
        assert!(log.read(Offset(11), Offset(16), 1).is_err(), "what is deleted is not read");
        assert_eq!(log.end_offset_for_epoch(LeaderEpoch(3)), Some((LeaderEpoch(3), Offset(16))));
    }
}

/// R24, the follower's side: the log of an old leader is cut where its epoch ended for all.
#[test]
fn a_log_is_cut_where_an_epoch_ended_and_takes_the_new_leaders_batches() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..3 {
        append(&mut log, 0, 1, 10).unwrap();
    }
    log.flush().unwrap();
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(3))));
    assert_eq!(log.truncate_to(Offset(2), Offset(2)).unwrap(), Offset(2));
    log.assign_epoch(LeaderEpoch(1), Offset(2));
    append(&mut log, 1, 1, 20).unwrap();
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(2))));
    log.flush().unwrap();
    let (log, _) = open(&disk.crash(Loss::Unsynced), small());
    let epochs: Vec<_> = contents(&log, Offset(0)).iter().map(|batch| batch.2.0).collect();
    assert_eq!(epochs, [0, 0, 1]);
    assert_eq!(log.epoch_at(Offset(2)), Some(LeaderEpoch(1)));
}

#[test]
fn a_batch_is_cut_as_a_whole() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..20 {
        append(&mut log, 0, 3, 100).unwrap();
    }
    assert_eq!(log.truncate_to(Offset(100), Offset(0)).unwrap(), Offset(60));
    assert_eq!(log.truncate_to(Offset(41), Offset(30)).unwrap(), Offset(39));
    assert_eq!(contents(&log, Offset(0)).len(), 13);
    assert_eq!(log.flushed_end(), Offset(39), "a truncation is durable");
}

/// Found by the simulation: a producer that had sent a deleted batch was taken to be where it was before, and
/// refused for ever.
#[test]
fn a_snapshot_from_before_deleted_batches_is_not_used() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    while log.segment_count() < 4 {
        if let Some(rolled) = append(&mut log, 0, 1, 100).unwrap().rolled
            && log.segment_count() == 2
        {
            log.write_producer_snapshot(rolled, b"old").unwrap();
        }
    }
    let snapshot = log.producer_snapshots()[0];
    let removed = log.remove_oldest().unwrap();
    assert_eq!(log.newest_producer_snapshot().unwrap(), Some((snapshot, "old".into())));
    let also = log.remove_oldest().unwrap();
    assert_eq!(log.newest_producer_snapshot().unwrap(), None);
    assert_eq!(log.replay_from(None), log.log_start());
    drop((log, removed, also));
    let (log, recovery) = open(&disk, small());
    assert_eq!((recovery.snapshot, recovery.replay_from), (None, log.log_start()));
}

/// What was deleted within the first segment can still be read back.
#[test]
fn what_stands_below_the_start_of_the_log_is_replayed() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for _ in 0..4 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    drop(log.set_log_start(Offset(2)).unwrap());
    log.close_clean(Offset(4)).unwrap();
    let (log, recovery) = open(&disk, small());
    assert_eq!((log.log_start(), recovery.replay_from), (Offset(2), Offset(0)));
    let mut bases = Vec::new();
    log.replay(recovery.replay_from, |header| bases.push(header.base_offset.0)).unwrap();
    assert_eq!(bases, [0, 1, 2, 3]);
}

/// Found by the simulation: a clean stop and a power cut behind it, and nobody knew the producers any more.
#[test]
fn what_deleted_batches_said_of_producers_survives_a_power_cut() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    while log.segment_count() < 3 {
        append(&mut log, 0, 1, 100).unwrap();
    }
    let end = log.log_end();
    drop(log.set_log_start(end).unwrap());
    log.write_producer_snapshot(end, b"state").unwrap();
    // later ones do not push it out before they are as durable
    for _ in 0..3 {
        append(&mut log, 0, 1, 1).unwrap();
        log.write_producer_snapshot(log.log_end(), b"later").unwrap();
    }
    log.close_clean(end).unwrap();
    let (_, recovery) = open(&disk.crash(Loss::Unsynced), small());
    assert_eq!(recovery.snapshot, Some((end, "state".into())));
}
