//! Compaction, by example.

use crate::batches::*;
use crate::cleaned::*;
use std::collections::BTreeSet;
use troupe_log::disk::{FileDisk, Loss};
use troupe_log::{CleaningPolicy, Log, LogConfig, OffsetMap};
use troupe_proto::batch::Compression;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

#[test]
fn of_each_key_the_last_value_stays_at_its_offset() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for round in 0..10 {
        for key in ["a", "b", "c"] {
            put(&mut log, key, Some(&format!("{key}{round}")));
        }
    }
    close_segments(&mut log);
    put(&mut log, "a", Some("new"));
    let before = log.size_bytes();
    let finished = clean(&mut log, request(NOW, Offset(31))).unwrap();
    assert_eq!(
        values(&log),
        [value(27, "a", "a9"), value(28, "b", "b9"), value(29, "c", "c9"), value(30, "a", "new")]
    );
    let report = finished.report;
    assert_eq!((report.records_kept, report.records_gone, report.end), (3, 27, Offset(30)));
    assert_eq!(report.bytes_before - report.bytes_after, before - log.size_bytes());
    assert!(report.segments_after < report.segments_before);
    check(&log);
    // nothing is left of what was replaced, and the next opening finds the same
    finished.removals.into_iter().for_each(|removal| removal.run().unwrap());
    let odd = [".cleaned", ".deleted", "cleaner-swap", ".tmp"];
    for path in disk.files().into_keys() {
        assert!(!odd.iter().any(|odd| path.to_str().unwrap().ends_with(odd)), "{path:?}");
    }
    let expected = values(&log);
    let killed = disk.crash(Loss::Nothing);
    for disk in [killed, disk.crash(Loss::Unsynced)] {
        let (log, recovery) = open(&disk, small());
        assert_eq!(recovery.damage, None);
        assert_eq!(values(&log)[..3], expected[..3]);
        check(&log);
    }
}

#[test]
fn a_tombstone_stays_for_its_time_and_until_every_replica_has_it() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", None);
    close_segments(&mut log);
    let gone = |log: &Log<_>| values(log).iter().all(|(offset, ..)| *offset != 1);
    let later = NOW + RETENTION_MS as i64;
    // the first pass removes what it deletes, and says how long it stays
    drop(clean(&mut log, request(NOW, Offset(2))).unwrap());
    assert_eq!(values(&log), [(1, "a".to_owned(), None)]);
    assert_eq!(headers(&log, Offset(0))[0].delete_horizon_ms(), Some(later));
    let mut next = |now, tombstones_below| {
        put(&mut log, "x", Some("1"));
        close_segments(&mut log);
        let end = log.log_end();
        drop(
            clean(&mut log, CleaningRequestWith { tombstones_below }.over(request(now, end)))
                .unwrap(),
        );
        check(&log);
        gone(&log)
    };
    assert!(!next(later - 1, Offset(100)), "its time has not come");
    assert!(!next(later, Offset(1)), "a replica may lack it");
    assert!(!next(later, Offset(0)));
    assert!(next(later, Offset(2)));
}

/// Kafka keeps them there until something new has come.
#[test]
fn tombstones_go_in_time_from_a_log_to_which_nothing_comes() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    put(&mut log, "a", Some("1"));
    put(&mut log, "b", Some("1"));
    put(&mut log, "a", None);
    close_segments(&mut log);
    let over = |now, tombstones_below: u64| {
        CleaningRequestWith { tombstones_below: Offset(tombstones_below) }
            .over(request(now, Offset(3)))
    };
    let due = |log: &Log<_>, now, tombstones_below: u64| {
        let policy = CleaningPolicy::default();
        let state = log.cleaning_state(&policy, now, Offset(3)).unwrap();
        state.has_tombstones_due(now, Offset(tombstones_below))
    };
    assert!(!due(&log, NOW, 3), "nothing is clean yet");
    drop(clean(&mut log, request(NOW, Offset(3))).unwrap());
    drop(log);
    let (mut log, _) = open(&disk.crash(Loss::Unsynced), small());
    let later = NOW + RETENTION_MS as i64;
    for (now, tombstones_below) in [(NOW, 3), (later - 1, 3), (later, 2), (later, 0)] {
        assert!(!due(&log, now, tombstones_below));
        assert!(clean(&mut log, over(now, tombstones_below)).is_none());
    }
    assert!(due(&log, later, 3));
    let done = clean(&mut log, over(later, 3)).unwrap();
    assert_eq!((done.report.records_gone, done.report.end), (1, Offset(3)));
    assert_eq!(values(&log), [value(1, "b", "1")]);
    check(&log);
    assert!(!due(&log, later, 3), "there is none any more");
    assert!(clean(&mut log, over(later, 3)).is_none());
}

/// Its time would have begun before a pass has seen it, and it would go with what it deletes: whoever has just read that
/// would never hear of the deletion.
#[test]
fn the_time_of_a_batch_begins_when_a_pass_has_seen_all_of_it() {
    let (mut log, _) = open(&memory(), small());
    put(&mut log, "b", Some("1"));
    close_segments(&mut log);
    drop(clean(&mut log, request(NOW, Offset(1))).unwrap());
    put_batch(
        &mut log,
        0,
        &[(Some("a"), None, NOW), (Some("b"), None, NOW)],
        Compression::None,
        None,
    )
    .unwrap();
    close_segments(&mut log);
    let mut one_key = OffsetMap::new(OffsetMap::ENTRY);
    assert_eq!(one_key.room(), 1);
    let mut next = |now| {
        let finished = clean_with(&mut log, request(now, Offset(3)), &mut one_key).unwrap();
        let left: Vec<_> = values(&log).into_iter().map(|(offset, ..)| offset).collect();
        (finished.report.end, left)
    };
    assert_eq!(next(NOW), (Offset(2), vec![0, 1, 2]), "within the batch");
    let later = NOW + RETENTION_MS as i64;
    assert_eq!(next(later), (Offset(3), vec![1, 2]));
}

struct CleaningRequestWith {
    tombstones_below: Offset,
}

impl CleaningRequestWith {
    fn over(self, request: troupe_log::CleaningRequest) -> troupe_log::CleaningRequest {
        troupe_log::CleaningRequest { tombstones_below: self.tombstones_below, ..request }
    }
}

#[test]
fn records_without_a_key_go() {
    let (mut log, _) = open(&memory(), small());
    let pairs = [(None, Some("1"), NOW), (Some("a"), Some("2"), NOW + 1), (None, None, NOW + 2)];
    put_batch(&mut log, 0, &pairs, Compression::None, None).unwrap();
    close_segments(&mut log);
    drop(clean(&mut log, request(NOW, Offset(3))).unwrap());
    assert_eq!(values(&log), [value(1, "a", "2")]);
    assert_eq!(headers(&log, Offset(0))[0].last_offset_delta, 2);
    check(&log);
}

#[test]
fn a_producers_batches_stay_as_headers_and_so_does_each_segments_last() {
    let (mut log, _) = open(&memory(), small());
    for sequence in 0..20 {
        let pair = [(Some("a"), Some("some value"), NOW + i64::from(sequence))];
        put_batch(&mut log, 0, &pair, Compression::Zstd, Some(producer(9, sequence))).unwrap();
    }
    close_segments(&mut log);
    let keep: BTreeSet<Offset> = (10..15).map(Offset).collect();
    let mut wanted = request(NOW, Offset(20));
    wanted.keep.clone_from(&keep);
    drop(clean(&mut log, wanted).unwrap());
    let found = headers(&log, Offset(0));
    for header in found.iter().filter(|header| keep.contains(&header.base_offset)) {
        assert_eq!((header.record_count, header.payload_len), (0, 0));
        assert_eq!(header.producer, Some(producer(9, header.base_offset.0 as u32)));
        assert_eq!(header.max_timestamp, NOW + header.base_offset.0 as i64);
    }
    assert!(keep.iter().all(|base| found.iter().any(|header| header.base_offset == *base)));
    assert_eq!(found.last().unwrap().end_offset(), Offset(20));
    check(&log);
}

#[test]
fn batches_from_which_nothing_goes_stay_byte_for_byte() {
    for compression in Compression::ALL {
        let disk = memory();
        let (mut log, _) = open(&disk, LogConfig::default());
        for n in 0..20 {
            let keys = [format!("k{n}"), if n % 5 == 0 { "often".into() } else { format!("l{n}") }];
            let pairs = keys.each_ref().map(|key| (Some(key.as_str()), Some("v"), NOW + n));
            put_batch(&mut log, 0, &pairs, compression, None).unwrap();
        }
        close_segments(&mut log);
        let before = contents(&log, Offset(0));
        drop(clean(&mut log, request(NOW, Offset(40))).unwrap());
        let after = contents(&log, Offset(0));
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!((after.len(), changed), (20, 3), "{compression}");
        let expected = headers(&log, Offset(0));
        assert!(expected.iter().all(|it| it.attributes.compression() == compression));
        check(&log);
    }
}

#[test]
fn a_log_in_which_nothing_goes_is_not_written_again() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    for n in 0..20 {
        put(&mut log, &format!("k{n}"), Some("v"));
    }
    close_segments(&mut log);
    let before = disk.files();
    let finished = clean(&mut log, request(NOW, Offset(20))).unwrap();
    assert!(finished.removals.is_empty());
    let name = dir().join("00000000000000000000.log");
    assert_eq!(disk.files()[&name], before[&name]);
    assert!(clean(&mut log, request(NOW, Offset(20))).is_none(), "there is nothing to do");
    assert_eq!(
        log.cleaning_state(&CleaningPolicy::default(), NOW, Offset(20)).unwrap().dirty_bytes,
        0
    );
    let (log, _) = open(&disk.crash(Loss::Unsynced), LogConfig::default());
    let state = log.cleaning_state(&CleaningPolicy::default(), NOW, Offset(20)).unwrap();
    assert_eq!((state.first_dirty, state.dirty_bytes), (Offset(20), 0));
}

#[test]
fn a_full_map_ends_the_pass_and_the_next_one_goes_on_from_there() {
    let (mut log, _) = open(&memory(), small());
    for n in 0..60 {
        put(&mut log, &format!("k{}", n % 30), Some(&format!("v{n}")));
    }
    close_segments(&mut log);
    let mut map = OffsetMap::new(8 * OffsetMap::ENTRY);
    let expected = view(&records(&log, Offset(0)));
    let mut passes = 0;
    while let Some(finished) = clean_with(&mut log, request(NOW, Offset(60)), &mut map) {
        passes += 1;
        assert_eq!(finished.report.map_was_full, finished.report.end < Offset(60));
        assert_eq!(view(&records(&log, Offset(0))), expected);
        check(&log);
    }
    assert!(passes > 60 / map.room(), "{passes}");
    assert_eq!(values(&log).len(), 30);
}

#[test]
fn what_is_young_not_committed_or_active_is_not_cleaned() {
    let (mut log, _) = open(&memory(), small());
    for n in 0..30 {
        put(&mut log, "a", Some(&format!("v{n}")));
    }
    log.flush().unwrap();
    let segments = log.segments().unwrap();
    let policy = CleaningPolicy { min_lag_ms: 10, ..CleaningPolicy::default() };
    let state = |policy: &CleaningPolicy, now, below| {
        log.cleaning_state(policy, now, Offset(below)).unwrap()
    };
    let active = segments.last().unwrap();
    let all = state(&CleaningPolicy::default(), NOW, 30);
    assert_eq!(all.first_uncleanable, active.base);
    assert_eq!((all.clean_bytes, all.dirty_bytes), (0, log.size_bytes() - active.size));
    let committed = state(&CleaningPolicy::default(), NOW, segments[1].end.0 + 1);
    assert_eq!(committed.first_uncleanable, segments[1].end);
    let youngest = segments[1].largest_timestamp.unwrap();
    assert_eq!(state(&policy, youngest + 10, 30).first_uncleanable, segments[1].end);
    assert_eq!(state(&policy, youngest + 9, 30).first_uncleanable, segments[0].end);
    let none = state(&policy, NOW, 30);
    assert_eq!((none.dirty_bytes, none.is_due(&policy)), (0, false));
    assert!(all.is_due(&CleaningPolicy::default()) && all.dirty_ratio() > 0.99);
}

#[test]
fn an_old_dirty_record_makes_a_pass_due_and_a_roll_if_it_is_in_the_active_segment() {
    let (mut log, _) = open(&memory(), small());
    put(&mut log, "a", Some("1"));
    log.flush().unwrap();
    let limit = |max_lag_ms| CleaningPolicy {
        max_lag_ms: Some(max_lag_ms),
        min_dirty_ratio: 1.0,
        ..CleaningPolicy::default()
    };
    let state = |log: &Log<_>, policy| log.cleaning_state(&policy, NOW + 50, Offset(1)).unwrap();
    assert!(!state(&log, limit(50)).roll_due && state(&log, limit(49)).roll_due);
    assert!(!state(&log, limit(49)).is_due(&limit(49)), "there is no closed segment yet");
    close_segments(&mut log);
    let closed = state(&log, limit(49));
    assert!(closed.is_due(&limit(49)) && !closed.roll_due);
    assert!(!state(&log, limit(50)).is_due(&limit(50)));
    drop(clean(&mut log, request(NOW, Offset(1))).unwrap());
    let cleaned = state(&log, limit(0));
    assert_eq!((cleaned.overdue, cleaned.oldest_dirty_ms), (false, None));
}

/// R21: who gets only what is left has to find where an epoch ended, as those do who had all of it.
#[test]
fn the_batch_that_begins_an_epoch_stays_as_a_header() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    for n in 0..15 {
        let pair = (Some("a"), Some("v"), NOW);
        put_batch(&mut log, n / 5, &[pair], Compression::None, None).unwrap();
    }
    close_segments(&mut log);
    drop(clean(&mut log, request(NOW, Offset(15))).unwrap());
    let bases: Vec<_> = headers(&log, Offset(0)).iter().map(|it| it.base_offset.0).collect();
    assert_eq!(bases, [5, 10, 14]);
    let (mut follower, _) = open(&memory(), LogConfig::default());
    let all = log.read(Offset(0), log.log_end(), 1 << 20).unwrap();
    follower.append_frames(all.bytes, NOW).unwrap();
    for epoch in [1, 2, 7].map(LeaderEpoch) {
        assert_eq!(follower.end_offset_for_epoch(epoch), log.end_offset_for_epoch(epoch));
    }
}

/// Retention judges by records that are there.
#[test]
fn the_largest_timestamp_is_of_what_was_kept() {
    let (mut log, _) = open(&memory(), small());
    let late = NOW + 1_000_000;
    put_batch(
        &mut log,
        0,
        &[(Some("a"), Some("1"), late), (Some("b"), Some("1"), NOW)],
        Compression::Lz4,
        None,
    )
    .unwrap();
    put_batch(&mut log, 0, &[(Some("a"), Some("2"), NOW + 5)], Compression::None, None).unwrap();
    close_segments(&mut log);
    assert_eq!(log.largest_timestamp().unwrap(), Some(late));
    drop(clean(&mut log, request(NOW, Offset(3))).unwrap());
    assert_eq!(log.largest_timestamp().unwrap(), Some(NOW + 5));
    assert_eq!(log.segments().unwrap()[0].largest_timestamp, Some(NOW + 5));
    assert_eq!(headers(&log, Offset(0))[0].max_timestamp, NOW);
    check(&log);
}

#[test]
fn keys_that_share_a_weak_hash_would_be_lost() {
    let lost = |bits: Option<u32>| {
        let (mut log, _) = open(&memory(), small());
        for n in 0..200 {
            put(&mut log, &format!("k{n}"), Some("v"));
        }
        close_segments(&mut log);
        let mut map = OffsetMap::new(1 << 16);
        if let Some(bits) = bits {
            map.weaken(bits);
        }
        drop(clean_with(&mut log, request(NOW, Offset(200)), &mut map).unwrap());
        200 - values(&log).len()
    };
    assert_eq!(lost(None), 0);
    assert!(lost(Some(4)) > 100, "the hook does what it says");
}

/// As this version wrote it; see `tests/fixtures`.
#[test]
fn a_log_that_an_earlier_version_has_cleaned_opens_and_reads_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("topic-3");
    std::fs::create_dir(&path).unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cleaned-log");
    if std::env::var_os("TROUPE_BLESS").is_some() {
        write_fixture(std::path::Path::new(fixture));
    }
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
    let (log, recovery) = Log::open(FileDisk, path, key(), LogConfig::default(), NOW).unwrap();
    assert!(recovery.clean && recovery.damage.is_none(), "{recovery:?}");
    let gone = |offset: u64, key: &str| (offset, key.to_owned(), None);
    let (a, c, later) = (value(8, "a", "v8"), value(10, "c", "v10"), value(12, "a", "v12"));
    assert_eq!(values(&log), [a, gone(9, "b"), c, gone(11, "d"), later]);
    let found = headers(&log, Offset(0));
    let [first, second, ..] = &found[..] else { panic!("{found:?}") };
    assert_eq!((first.base_offset, first.record_count), (Offset(3), 0));
    assert_eq!(first.producer, Some(producer(4, 3)));
    assert_eq!(second.delete_horizon_ms(), Some(NOW + RETENTION_MS as i64));
    let state = log.cleaning_state(&CleaningPolicy::default(), NOW, Offset(13)).unwrap();
    assert_eq!(state.first_dirty, Offset(11));
    check(&log);
}

fn write_fixture(path: &std::path::Path) {
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let identity: PartitionKey = key();
    let (mut log, _) =
        Log::open(FileDisk, path.to_owned(), identity, LogConfig::default(), NOW).unwrap();
    for n in 0..8u32 {
        let pair = [(Some("a"), Some("old"), NOW + i64::from(n))];
        put_batch(&mut log, 0, &pair, Compression::None, Some(producer(4, n))).unwrap();
    }
    let pairs = [
        (Some("a"), Some("v8"), NOW + 8),
        (Some("b"), None, NOW + 9),
        (Some("c"), Some("v10"), NOW + 10),
    ];
    put_batch(&mut log, 1, &pairs, Compression::Zstd, None).unwrap();
    close_segments(&mut log);
    let mut wanted = request(NOW, Offset(11));
    wanted.keep.insert(Offset(3));
    let finished = clean(&mut log, wanted).unwrap();
    finished.removals.into_iter().for_each(|removal| removal.run().unwrap());
    let pairs = [(Some("d"), None, NOW + 11), (Some("a"), Some("v12"), NOW + 12)];
    put_batch(&mut log, 1, &pairs, Compression::None, None).unwrap();
    let end = log.log_end();
    log.close_clean(end).unwrap();
}
