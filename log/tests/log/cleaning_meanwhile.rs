//! Passes that are ended, overtaken, or find damage; and cleaned logs that are read, cut, damaged and opened anew.

use crate::batches::*;
use crate::cleaned::*;
use prost::Message;
use std::ops::ControlFlow;
use troupe_log::disk::{Disk, FileDisk, Loss};
use troupe_log::{CleaningError, CleaningPolicy, FullSpeed, Log, LogConfig, OffsetMap, Pace, dump};
use troupe_proto::batch::Compression;
use troupe_proto::ids::Offset;

struct Counting {
    left: u64,
    moved: u64,
}

impl Pace for Counting {
    fn moved(&mut self, bytes: u64) -> ControlFlow<()> {
        self.moved += bytes;
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }
}

#[test]
fn a_pass_that_is_ended_leaves_nothing_behind() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for n in 0..20 {
        put(&mut log, "a", Some(&format!("v{n}")));
    }
    close_segments(&mut log);
    let before = disk.files();
    let mut steps = 0;
    loop {
        let cleaning = log.begin_cleaning(request(NOW, Offset(20))).unwrap().unwrap();
        assert!(log.begin_cleaning(request(NOW, Offset(20))).unwrap().is_none(), "one at a time");
        let bytes = cleaning.bytes();
        let mut pace = Counting { left: steps, moved: 0 };
        match cleaning.run(&mut OffsetMap::new(4096), &mut pace) {
            Err(CleaningError::Aborted) => assert_eq!(disk.files(), before),
            made => {
                let cleaned = made.unwrap();
                assert!(pace.moved > 2 * bytes, "{} of {bytes} bytes", pace.moved);
                drop(cleaned);
                assert_eq!(disk.files(), before, "a result that nobody wants");
                break;
            }
        }
        steps += 1;
    }
    assert!(steps > 30);
}

#[test]
fn a_log_that_was_cut_or_shortened_meanwhile_is_not_touched() {
    type Change = fn(&mut Log<troupe_log::disk::MemDisk>);
    // whether it makes a pass void before that has made something, and afterwards
    let changes: [([bool; 2], Change); 5] = [
        ([true; 2], |log| assert_eq!(log.truncate_to(Offset(3), Offset(0)).unwrap(), Offset(3))),
        ([true; 2], |log| log.truncate_fully_and_start_at(Offset(40)).unwrap()),
        ([false, true], |log| drop(log.remove_oldest().unwrap())),
        ([false, true], |log| drop(log.set_log_start(Offset(15)).unwrap())),
        ([false; 2], |log| {
            put(log, "b", Some("1"));
            log.truncate_to(Offset(20), Offset(20)).unwrap();
            put(log, "c", Some("1"));
            close_segments(log);
        }),
    ];
    for (void, change) in changes {
        for (before_run, is_void) in [true, false].into_iter().zip(void) {
            let disk = memory();
            let (mut log, _) = open(&disk, small());
            for n in 0..20 {
                put(&mut log, "a", Some(&format!("v{n}")));
            }
            close_segments(&mut log);
            let cleaning = log.begin_cleaning(request(NOW, Offset(20))).unwrap().unwrap();
            let mut map = OffsetMap::new(4096);
            if before_run {
                change(&mut log);
            }
            let cleaned = match cleaning.run(&mut map, &mut FullSpeed) {
                Err(error) => {
                    assert!(matches!(error, CleaningError::Overtaken) && is_void && before_run);
                    continue;
                }
                Ok(cleaned) => cleaned,
            };
            if !before_run {
                change(&mut log);
            }
            let expected = records(&log, log.log_start());
            let finished = log.finish_cleaning(cleaned, log.flushed_end(), ALL).unwrap();
            assert_eq!(finished.is_none(), is_void);
            if let Some(finished) = finished {
                finished.ending.run().unwrap();
                assert_eq!(view(&records(&log, log.log_start())), view(&expected));
            } else {
                assert_eq!(records(&log, log.log_start()), expected);
            }
            let left = disk
                .files()
                .into_keys()
                .map(|path| path.to_str().unwrap().to_owned())
                .filter(|path| path.ends_with(".cleaned") || path.ends_with("cleaner-swap"));
            assert_eq!(left.count(), 0);
            check(&log);
        }
    }
}

/// Takes the log's first segment away when so many steps are over.
struct Shortening<'a> {
    left: u64,
    log: &'a mut Log<troupe_log::disk::MemDisk>,
}

impl Pace for Shortening<'_> {
    fn moved(&mut self, _: u64) -> ControlFlow<()> {
        if self.left == 0 {
            self.log.remove_oldest().unwrap().unwrap().run().unwrap();
        }
        self.left = self.left.wrapping_sub(1);
        ControlFlow::Continue(())
    }
}

/// A pass may take hours, and retention takes a segment now and then: were it void each time, none would end.
#[test]
fn a_pass_does_without_a_segment_that_retention_takes_unless_it_has_written_some_of_it() {
    let written = || {
        let disk = memory();
        // too large to be merged, so that each segment is one for itself
        let config = LogConfig { segment_bytes: 600, ..small() };
        let (mut log, _) = open(&disk, config);
        for n in 0..24 {
            let (key, value) = (format!("k{}", n % 16), "v".repeat(90 + n));
            put(&mut log, &key, Some(&value));
        }
        close_segments(&mut log);
        (disk, log, config)
    };
    let (mut done, mut void) = (0, 0);
    for steps in 0.. {
        let (disk, mut log, config) = written();
        let cleaning = log.begin_cleaning(request(NOW, Offset(24))).unwrap().unwrap();
        let mut pace = Shortening { left: steps, log: &mut log };
        let made = cleaning.run(&mut OffsetMap::new(4096), &mut pace);
        if pace.left < u64::MAX / 2 {
            // nothing was taken: it was over before
            break;
        }
        let left = records(&log, log.log_start());
        match made {
            Ok(cleaned) => {
                let high_watermark = log.flushed_end();
                let finished = log.finish_cleaning(cleaned, high_watermark, ALL).unwrap().unwrap();
                finished.ending.run().unwrap();
                finished.removals.into_iter().for_each(|removal| removal.run().unwrap());
                assert!(finished.report.records_gone > 0);
                done += 1;
            }
            Err(error) => {
                assert!(matches!(error, CleaningError::Overtaken), "{error}");
                void += 1;
            }
        }
        let now = records(&log, log.log_start());
        assert_eq!(view(&now), view(&left), "after {steps} steps");
        check(&log);
        log.checkpoint(Offset(24)).unwrap();
        let (again, recovery) = open(&disk.crash(Loss::Nothing), config);
        assert_eq!(recovery.damage, None);
        assert_eq!((again.log_start(), records(&again, again.log_start())), (log.log_start(), now));
    }
    assert!(done > 20 && void < done / 2, "{done} done, {void} void");
}

#[test]
fn what_readers_hold_stays_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("topic-3");
    let open = || Log::open(FileDisk, path.clone(), key(), small(), NOW).unwrap();
    let (mut log, _) = open();
    for n in 0..30 {
        put(&mut log, ["a", "b"][n % 2], Some(&format!("v{n}")));
    }
    close_segments(&mut log);
    let slice = log.read(Offset(0), Offset(30), 1 << 20).unwrap();
    let copy = slice.bytes.to_vec();
    let finished = clean(&mut log, request(NOW, Offset(30))).unwrap();
    finished.removals.into_iter().for_each(|removal| removal.run().unwrap());
    assert_eq!(slice.bytes, copy);
    assert_eq!(values(&log), [value(28, "a", "v28"), value(29, "b", "v29")]);
    // any protobuf library reads the file, and it verifies
    let file = path.join("00000000000000000000.log");
    let content = std::fs::read(&file).unwrap();
    let message = troupe_proto::log::v1::RecordBatches::decode(&content[..]).unwrap();
    let first = log.segments().unwrap()[0];
    let within = headers(&log, Offset(0)).iter().filter(|it| it.base_offset < first.end).count();
    assert_eq!(message.batches.len(), within);
    let report = troupe_log::verify::verify_segment(&file).unwrap();
    assert_eq!((report.faults, report.largest_timestamp), (Vec::new(), first.largest_timestamp));
    assert_eq!(
        dump::FileKind::of(&path.join("cleaner-checkpoint")),
        Some(dump::FileKind::Checkpoint)
    );
    log.close_clean(Offset(30)).unwrap();
    let (log, recovery) = open();
    assert!(recovery.clean && recovery.damage.is_none(), "{recovery:?}");
    check(&log);
}

#[test]
fn a_damaged_batch_ends_the_pass_and_is_not_written_anew() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for n in 0..20 {
        put(&mut log, "a", Some(&format!("v{n}")));
    }
    close_segments(&mut log);
    let path = dir().join("00000000000000000000.log");
    let content = disk.read(&path).unwrap().unwrap();
    for at in [3, 60, 90, 200, content.len() - 1] {
        let mut rotten = content.clone();
        rotten[at] ^= 4;
        drop(disk.replace(&path, &rotten, true).unwrap());
        let before = disk.files();
        let cleaning = log.begin_cleaning(request(NOW, Offset(20))).unwrap().unwrap();
        let error = cleaning.run(&mut OffsetMap::new(4096), &mut FullSpeed).err().unwrap();
        match &error {
            CleaningError::Damaged { path: found, position, .. } => {
                assert!(*found == path && *position <= at as u64, "{error}");
            }
            _ => panic!("{error}"),
        }
        assert!(!error.is_temporary());
        assert_eq!(disk.files(), before);
    }
}

#[test]
fn a_batch_that_unpacks_to_too_much_ends_the_pass() {
    let (mut log, _) = open(&memory(), LogConfig::default());
    let value = "x".repeat(65 << 20);
    let pair = [(Some("a"), Some(value.as_str()), NOW)];
    put_batch(&mut log, 0, &pair, Compression::Zstd, None).unwrap();
    close_segments(&mut log);
    let cleaning = log.begin_cleaning(request(NOW, Offset(1))).unwrap().unwrap();
    let error = cleaning.run(&mut OffsetMap::new(4096), &mut FullSpeed).err().unwrap();
    assert!(error.to_string().contains("unpacks to more than"), "{error}");
}

#[test]
fn damage_of_a_cleaned_log_is_found() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for n in 0..40 {
        put(&mut log, &format!("k{}", n % 20), Some(&format!("v{n}")));
    }
    close_segments(&mut log);
    drop(clean(&mut log, request(NOW, Offset(40))).unwrap());
    let segments = log.segments().unwrap();
    drop(log);
    for segment in segments.iter().filter(|segment| !segment.active) {
        let path = dir().join(format!("{:020}.log", segment.base.0));
        let gone = disk.crash(Loss::Unsynced);
        gone.remove(&path).unwrap();
        assert!(open(&gone, small()).1.damage.is_some(), "{path:?} is gone");
        let short = disk.crash(Loss::Unsynced);
        let content = short.read(&path).unwrap().unwrap();
        drop(short.replace(&path, &content[..content.len() - 1], true).unwrap());
        assert!(open(&short, small()).1.damage.is_some(), "{path:?} is shorter");
    }
}

#[test]
fn a_cleaned_log_without_any_checkpoint_is_the_same() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for n in 0..40 {
        put(&mut log, &format!("k{}", n % 7), Some(&format!("v{n}")));
    }
    close_segments(&mut log);
    drop(clean(&mut log, request(NOW, Offset(40))).unwrap());
    let expected = values(&log);
    for name in ["offset-checkpoint", "leader-epoch-checkpoint", "cleaner-checkpoint"] {
        disk.remove(&dir().join(name)).unwrap();
    }
    for index in ["index", "timeindex"] {
        disk.remove(&dir().join(format!("00000000000000000000.{index}"))).unwrap();
    }
    let (log, recovery) = open(&disk.crash(Loss::Nothing), small());
    assert_eq!((recovery.damage, recovery.truncated_bytes), (None, 0));
    assert_eq!((values(&log), log.log_end()), (expected, Offset(40)));
    check(&log);
    let state = log.cleaning_state(&CleaningPolicy::default(), NOW, Offset(40)).unwrap();
    assert_eq!(state.first_dirty, Offset(0), "nothing is known to be clean");
}

/// Were what comes after a cut believed to be clean, a tombstone in it could go before what it deletes.
#[test]
fn what_is_written_after_a_cut_is_dirty() {
    let disk = memory();
    let (mut log, _) = open(&disk, small());
    for n in 0..40 {
        put(&mut log, &format!("k{n}"), Some("v"));
    }
    close_segments(&mut log);
    drop(clean(&mut log, request(NOW, Offset(40))).unwrap());
    let dirty_from = |log: &Log<_>| {
        log.cleaning_state(&CleaningPolicy::default(), NOW, Offset(40)).unwrap().first_dirty
    };
    assert_eq!(dirty_from(&log), Offset(40));
    log.truncate_to(Offset(10), Offset(10)).unwrap();
    for n in 0..40 {
        put(&mut log, &format!("k{n}"), None);
    }
    assert_eq!(dirty_from(&log), Offset(10));
    drop(log);
    assert_eq!(dirty_from(&open(&disk.crash(Loss::Unsynced), small()).0), Offset(10));
    let (mut log, _) = open(&disk, small());
    log.truncate_fully_and_start_at(Offset(4)).unwrap();
    put(&mut log, "a", None);
    assert_eq!(dirty_from(&log), Offset(4));
    assert_eq!(dirty_from(&open(&disk, small()).0), Offset(4));
}

#[test]
fn a_cut_into_a_gap_ends_with_the_batch_before_it() {
    let disk = memory();
    let (mut log, _) = open(&disk, LogConfig::default());
    for n in 0..40u64 {
        put(&mut log, if (10..30).contains(&n) { "a" } else { "b" }, Some(&format!("v{n}")));
        if n < 10 {
            put_batch(
                &mut log,
                0,
                &[(Some(&format!("k{n}")), Some("v"), NOW)],
                Compression::None,
                None,
            )
            .unwrap();
        }
    }
    close_segments(&mut log);
    drop(clean(&mut log, request(NOW, Offset(50))).unwrap());
    let bases: Vec<_> = headers(&log, Offset(0)).iter().map(|it| it.base_offset.0).collect();
    assert_eq!(bases, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 39, 49]);
    for (to, end) in [(45, 40), (39, 20), (25, 20), (20, 20), (2, 2)] {
        assert_eq!(log.truncate_to(Offset(to), Offset(to)).unwrap(), Offset(end));
        assert_eq!(log.log_end(), Offset(end));
        let (again, recovery) = open(&disk.crash(Loss::Unsynced), LogConfig::default());
        assert_eq!((again.log_end(), recovery.damage), (Offset(end), None));
        check(&log);
    }
}
