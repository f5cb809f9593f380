//! Crash after every single I/O of a trace with cleaning in it, lose some of what was not synced, recover, compare.
//! And: every operation fails once.
//!
//! Whatever was lost: the log is what it was before a pass or what it is after, never something between; what was
//! flushed is there, recovering again changes nothing, and it goes on.

use crate::batches::*;
use crate::cleaned::*;
use crate::crash::{Crashes, interrupted};
use std::collections::BTreeSet;
use troupe_log::disk::{Disk, Fault, FaultDisk, Loss, MemDisk, Operation};
use troupe_log::{
    Cleaned, CleaningError, Ending, FullSpeed, Log, LogConfig, LogError, OffsetMap, Recovery,
};
use troupe_proto::batch::{Compression, Record};
use troupe_proto::ids::{LeaderEpoch, Offset};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Key, and whether it gets a value.
    Put(u8, bool),
    Close,
    NewEpoch,
    Checkpoint,
    /// Keys that the map takes.
    Clean(usize),
    /// The same in parts.
    Make(usize),
    Finish,
    End,
    RunRemovals,
    Truncate(u64),
    SetLogStart(u64),
    KillAndOpen,
    CloseAndOpen,
}
use Step::*;

/// What the log may be found to hold.
#[derive(Clone, Debug, Default)]
struct Model {
    /// As it is, and as it is behind the step under way.
    left: Vec<(Record, LeaderEpoch)>,
    next: Option<Vec<(Record, LeaderEpoch)>>,
    /// What a pass has left out whose list may stand: opening the log carries it out.
    gone: BTreeSet<Offset>,
    flushed: Offset,
    end: Offset,
    epoch: u32,
    latest_start: Offset,
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 500, index_interval_bytes: 100, ..LogConfig::default() }
}

fn try_open<D: Disk>(disk: &D) -> Result<(Log<D>, Recovery), LogError> {
    Log::open(disk.clone(), dir(), key(), config(), NOW)
}

fn content<D: Disk>(log: &Log<D>) -> Vec<(Record, LeaderEpoch)> {
    let epoch = |record: &Record| log.epoch_at(record.offset).unwrap();
    records(log, log.log_start()).into_iter().map(|it| (it.clone(), epoch(&it))).collect()
}

/// What a pass makes of it, as a disk without faults shows.
fn cleaned_content(disk: &FaultDisk, keys: usize, flushed: Offset) -> Vec<(Record, LeaderEpoch)> {
    let copy = disk.memory().snapshot();
    let (mut log, _) = try_open(&copy).unwrap();
    let mut map = OffsetMap::new(keys * OffsetMap::ENTRY);
    let _ = clean_with(&mut log, request(NOW, flushed), &mut map);
    content(&log)
}

fn run(disk: &FaultDisk, trace: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok((mut log, _)) = try_open(disk) else { return model };
    let mut removals = Vec::new();
    let mut parts = Parts::default();
    for step in trace {
        let done = match *step {
            CloseAndOpen | KillAndOpen => {
                // a process that is killed drops nothing
                std::mem::forget(std::mem::take(&mut parts));
                let closed = match *step {
                    CloseAndOpen => log.close_clean(model.flushed),
                    _ => Ok(()),
                };
                match closed.and_then(|()| try_open(disk)) {
                    Ok((opened, _)) => {
                        log = opened;
                        Ok(())
                    }
                    Err(error) => {
                        assert!(disk.has_crashed(), "{step:?}: {error}");
                        return model;
                    }
                }
            }
            RunRemovals => removals.drain(..).try_for_each(troupe_log::Removal::run),
            Clean(keys) => {
                let flushed = log.flushed_end();
                model.next = Some(cleaned_content(disk, keys, flushed));
                match clean_once(&mut log, keys) {
                    Ok(more) => {
                        removals.extend(more);
                        Ok(())
                    }
                    Err(CleaningError::Log(error)) => Err(error),
                    Err(error) => panic!("{error}"),
                }
            }
            Make(keys) => {
                let flushed = log.flushed_end();
                let after = cleaned_content(disk, keys, flushed);
                let stays: BTreeSet<_> = after.iter().map(|(record, _)| record.offset).collect();
                let all = model.left.iter().map(|(record, _)| record.offset);
                model.gone = all.filter(|offset| !stays.contains(offset)).collect();
                make(&mut log, keys).map(|made| parts.made = Some(made))
            }
            Finish => parts.finish(&mut log).map(|more| removals.extend(more)),
            End => parts.ending.take().map_or(Ok(()), Ending::run),
            _ => perform(*step, &mut log, &mut model),
        };
        if let Err(error) = done {
            assert!(disk.has_crashed(), "{step:?}: {error}");
            return model;
        }
        model.flushed = log.flushed_end();
        model.end = log.log_end();
        model.latest_start = log.log_start();
        if disk.has_crashed() {
            return model;
        }
        model.left = content(&log);
        if parts.made.is_none() {
            model.gone.clear();
        }
        if let Some(next) = model.next.take() {
            assert_eq!(model.left, next, "{step:?}");
        }
    }
    model
}

/// A pass between two of its parts.
#[derive(Default)]
struct Parts {
    made: Option<Cleaned<FaultDisk>>,
    ending: Option<Ending<FaultDisk>>,
}

impl Parts {
    fn finish(
        &mut self,
        log: &mut Log<FaultDisk>,
    ) -> Result<Vec<troupe_log::Removal<FaultDisk>>, LogError> {
        let Some(made) = self.made.take() else { return Ok(Vec::new()) };
        let high_watermark = log.flushed_end();
        let Some(finished) = log.finish_cleaning(made, high_watermark, ALL)? else {
            return Ok(Vec::new());
        };
        self.ending = Some(finished.ending);
        Ok(finished.removals)
    }
}

fn make(log: &mut Log<FaultDisk>, keys: usize) -> Result<Cleaned<FaultDisk>, LogError> {
    let flushed = log.flushed_end();
    let cleaning = log.begin_cleaning(request(NOW, flushed))?.expect("there is something to clean");
    let mut map = OffsetMap::new(keys * OffsetMap::ENTRY);
    match cleaning.run(&mut map, &mut FullSpeed) {
        Err(CleaningError::Log(error)) => Err(error),
        made => Ok(made.unwrap()),
    }
}

fn clean_once(
    log: &mut Log<FaultDisk>,
    keys: usize,
) -> Result<Vec<troupe_log::Removal<FaultDisk>>, CleaningError> {
    let flushed = log.flushed_end();
    let Some(cleaning) = log.begin_cleaning(request(NOW, flushed))? else { return Ok(Vec::new()) };
    let mut map = OffsetMap::new(keys * OffsetMap::ENTRY);
    let cleaned = cleaning.run(&mut map, &mut FullSpeed)?;
    let Some(finished) = log.finish_cleaning(cleaned, flushed, ALL)? else { return Ok(Vec::new()) };
    finished.ending.run()?;
    Ok(finished.removals)
}

fn perform(step: Step, log: &mut Log<FaultDisk>, model: &mut Model) -> Result<(), LogError> {
    match step {
        Put(name, has_value) => {
            let name = format!("k{name}");
            let value = format!("value {} of {}", model.left.len(), log.log_end());
            let timestamp = NOW + log.log_end().0 as i64;
            let pairs = [(Some(name.as_str()), has_value.then_some(value.as_str()), timestamp)];
            // what is found of it would be the same
            let record = Record {
                offset: log.log_end(),
                timestamp_ms: timestamp,
                key: Some(name.clone().into()),
                value: pairs[0].1.map(|value| value.to_owned().into()),
                headers: match timestamp % 3 {
                    0 => vec![("h".into(), Some("1".into())), ("h".into(), None)],
                    _ => Vec::new(),
                },
            };
            let mut next = model.left.clone();
            next.push((record, LeaderEpoch(model.epoch)));
            model.next = Some(next);
            put_batch(log, model.epoch, &pairs, Compression::None, None)
        }
        Close => {
            log.roll(NOW)?;
            log.flush().map(drop)
        }
        NewEpoch => {
            model.epoch += 1;
            log.assign_epoch(LeaderEpoch(model.epoch), log.log_end());
            Ok(())
        }
        Checkpoint => log.checkpoint(log.flushed_end()),
        Truncate(back) => {
            let to = Offset(log.log_end().0.saturating_sub(back));
            model.flushed = model.flushed.min(to);
            if let Some(last) = model.left.iter().rfind(|(record, _)| record.offset < to) {
                model.flushed = model.flushed.min(last.0.offset.plus(1));
            }
            let left = model.left.iter().filter(|(record, _)| record.offset < to).cloned();
            model.next = Some(left.collect());
            model.epoch += 1;
            log.truncate_to(to, to).map(drop)
        }
        SetLogStart(further) => {
            let to = log.log_start().plus(further).min(log.log_end());
            model.latest_start = to;
            for removal in log.set_log_start(to)? {
                removal.run()?;
            }
            Ok(())
        }
        Clean(_) | Make(_) | Finish | End | RunRemovals | CloseAndOpen | KillAndOpen => {
            unreachable!("the caller's")
        }
    }
}

/// Opens what a crash left and holds it against the model.
fn compare(disk: &MemDisk, model: &Model, loss: Loss) {
    let (log, recovery) = try_open(disk).unwrap();
    if loss == Loss::Nothing {
        assert_eq!(recovery.damage, None, "a kill is no damage");
    }
    if let Some(damage) = &recovery.damage {
        assert!(damage.complete_below >= model.flushed, "{damage:?}");
    }
    let (found, start, end) = (content(&log), log.log_start(), log.log_end());
    assert!(start <= model.latest_start && end >= model.flushed);
    let fits = |expected: &Vec<(Record, LeaderEpoch)>| {
        [&BTreeSet::new(), &model.gone].into_iter().any(|gone| {
            let stays = |it: &Record| it.offset >= start && !gone.contains(&it.offset);
            let expected: Vec<_> = expected.iter().filter(|(it, _)| stays(it)).collect();
            let flushed = expected.iter().filter(|(it, _)| it.offset < model.flushed).count();
            found.len() >= flushed && found.iter().eq(expected.into_iter().take(found.len()))
        })
    };
    let next = model.next.clone().unwrap_or_default();
    assert!(fits(&model.left) || fits(&next), "{found:?}\nof {:?}\nor {next:?}", model.left);
    check(&log);
    drop(log);

    let files = disk.files();
    let odd = |path: &std::path::PathBuf| {
        let name = path.to_str().unwrap();
        name.ends_with(".cleaned") || name.ends_with("cleaner-swap") || name.ends_with(".replaced")
    };
    assert!(!files.keys().any(odd), "{:?}", files.keys());
    let (again, second) = try_open(disk).unwrap();
    assert!(second.clean, "{second:?} after {recovery:?}");
    assert_eq!((content(&again), again.log_end()), (found.clone(), end));
    assert_eq!(disk.files(), files);
    let (mut after, _) = try_open(&disk.crash(Loss::Unsynced)).unwrap();
    assert_eq!((content(&after), after.log_end()), (found.clone(), end));

    // and it goes on
    put_batch(
        &mut after,
        model.epoch + 1,
        &[(Some("k1"), Some("last"), NOW)],
        Compression::None,
        None,
    )
    .unwrap();
    close_segments(&mut after);
    let all = records(&after, after.log_start());
    let end = after.log_end();
    let _ = clean(&mut after, request(NOW, end));
    assert_eq!(view(&records(&after, after.log_start())), view(&all));
    check(&after);
}

/// A recovery that is itself cut short at any of its changes ends, next time, as if it had not been.
fn check_interrupted(found: &MemDisk, _: &Model, seed: u64) {
    let expect = |disk: &MemDisk| {
        let (log, recovery) = try_open(disk).unwrap();
        (log.log_start(), log.log_end(), content(&log), recovery.damage)
    };
    let expected = expect(&found.snapshot());
    let open = |disk: &FaultDisk| assert_eq!(try_open(disk).is_err(), disk.has_crashed());
    interrupted(found, seed, open, |disk, loss| assert_eq!(expect(disk), expected, "{loss:?}"));
}

/// Crashes at every change that the trace makes.
fn sweep(trace: &[Step], seeds: u64) {
    let torn = &[0, usize::MAX];
    let check = compare;
    Crashes { run, check, check_interrupted, torn, interrupted: 0 }.sweep(trace, seeds);
}

const BUSY: [Step; 25] = [
    Put(1, true),
    Put(2, true),
    Put(1, true),
    Put(2, false),
    Put(3, true),
    NewEpoch,
    Put(1, true),
    Put(4, true),
    Close,
    Checkpoint,
    Clean(100),
    RunRemovals,
    Put(1, true),
    Put(5, true),
    Put(3, true),
    Put(5, true),
    Put(1, false),
    Close,
    KillAndOpen,
    Clean(100),
    Put(6, true),
    Checkpoint,
    RunRemovals,
    CloseAndOpen,
    Put(7, true),
];

#[test]
fn cleaning_survives_a_crash_anywhere() {
    sweep(&BUSY, 6);
}

/// Records of which some go, in closed segments.
const TO_CLEAN: [Step; 9] = [
    Put(1, true),
    Put(2, true),
    Put(1, true),
    Put(3, true),
    Put(2, true),
    Put(1, true),
    Put(4, true),
    Put(2, true),
    Close,
];

#[test]
fn whatever_comes_between_the_parts_of_a_pass_survives_a_crash_anywhere() {
    let between: [&[Step]; 7] = [
        &[Make(100), Put(5, true), Checkpoint, Finish, Put(6, true), Checkpoint, End, RunRemovals],
        &[Make(100), Put(5, true), Close, Finish, Close, Checkpoint, RunRemovals, End, Clean(100)],
        &[Make(100), SetLogStart(4), Finish, End, Clean(100)],
        &[Make(100), Truncate(3), Finish, End, Put(5, true), Close, Clean(100)],
        &[Make(100), Finish, SetLogStart(7), End, RunRemovals, Put(5, true)],
        &[Make(100), Finish, Put(5, true), Truncate(3), End, RunRemovals, Put(6, true)],
        &[Make(100), Put(5, true), KillAndOpen, Put(6, true), Close, Clean(100)],
    ];
    for steps in between {
        let trace: Vec<Step> = TO_CLEAN.into_iter().chain(steps.iter().copied()).collect();
        sweep(&trace, 3);
    }
    let killed = [Make(100), Finish, Put(5, true), KillAndOpen, Put(6, true), CloseAndOpen];
    sweep(&TO_CLEAN.into_iter().chain(killed).collect::<Vec<_>>(), 3);
}

#[test]
fn cuts_and_moved_starts_of_a_cleaned_log_survive_a_crash_anywhere() {
    sweep(
        &[
            Put(1, true),
            Put(2, true),
            Put(3, true),
            Put(1, true),
            Put(2, true),
            Put(1, true),
            Put(4, true),
            Put(1, true),
            Close,
            Clean(100),
            Checkpoint,
            Put(2, true),
            Truncate(4),
            Put(5, true),
            Put(5, true),
            Put(2, true),
            Close,
            SetLogStart(3),
            Clean(3),
            Clean(100),
            CloseAndOpen,
        ],
        4,
    );
}

#[test]
fn any_trace_with_cleaning_survives_a_crash_anywhere() {
    for seed in 0..6u64 {
        let mut state = seed;
        let mut dice = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        let mut trace = vec![Put(0, true)];
        for _ in 0..24 {
            trace.push(match dice(18) {
                0..9 => Put(dice(4) as u8, dice(4) > 0),
                9 | 10 => Close,
                11 => NewEpoch,
                12 => Checkpoint,
                13 | 14 => Clean([3, 100][dice(2) as usize]),
                15 => RunRemovals,
                16 => SetLogStart(dice(3)),
                _ => [CloseAndOpen, KillAndOpen][dice(2) as usize],
            });
        }
        sweep(&trace, 2);
    }
}

/// EIO, no space, no descriptors: nothing has changed, or opening the log anew finishes what was begun.
#[test]
fn every_operation_of_a_pass_may_fail_once() {
    use Operation::{Create, Open, Read, Remove, Rename, Sync, SyncDir, Write};
    let faults = [Fault::Io, Fault::Full, Fault::Descriptors, Fault::TornIo(40)];
    let mut failed = 0;
    for operation in [Create, Open, Read, Remove, Rename, Sync, SyncDir, Write] {
        for fault in faults {
            for skip in 0.. {
                let disk = FaultDisk::new(memory());
                run(&disk, &BUSY[..10]);
                let (mut log, _) = try_open(&disk).unwrap();
                let (before, flushed) = (content(&log), log.flushed_end());
                let after = cleaned_content(&disk, 100, flushed);
                disk.fail(operation, "", skip, 1, fault);
                let result = clean_once(&mut log, 100);
                disk.heal();
                let Err(error) = result else {
                    assert_eq!(content(&log), after);
                    break;
                };
                failed += 1;
                if log.is_poisoned() {
                    drop(log);
                    let (opened, recovery) = try_open(&disk).unwrap();
                    assert_eq!(recovery.damage, None);
                    log = opened;
                    let found = content(&log);
                    assert!(found == before || found == after, "{operation:?} {skip}: {error}");
                } else {
                    assert_eq!(content(&log), before, "{operation:?} {skip}: {error}");
                }
                clean_once(&mut log, 100).unwrap();
                assert_eq!(content(&log), after, "{operation:?} {skip} {fault:?}");
                drop(log);
                let (log, recovery) = try_open(&disk.memory().crash(Loss::Unsynced)).unwrap();
                assert_eq!((content(&log), recovery.damage), (after, None));
            }
        }
    }
    assert!(failed > 60, "{failed}");
}

#[test]
fn on_a_full_disk_nothing_changes_and_nothing_is_left_behind() {
    let disk = FaultDisk::new(memory());
    run(&disk, &BUSY[..10]);
    let (mut log, _) = try_open(&disk).unwrap();
    let before = content(&log);
    // what derives from the segments may be written again
    let kept = || {
        let is_kept = |path: &std::path::PathBuf| {
            let name = path.to_str().unwrap();
            [".log", ".cleaned", ".tmp", "-swap"].iter().any(|suffix| name.ends_with(suffix))
        };
        let files = disk.memory().files().into_iter();
        files.filter(|(path, _)| is_kept(path)).collect::<Vec<_>>()
    };
    for room in (0..3000).step_by(50) {
        let files = kept();
        disk.set_capacity(Some(disk.memory().used() + room));
        match clean_once(&mut log, 100) {
            Err(error) => {
                assert!(error.is_temporary() && !log.is_poisoned(), "{error}");
                assert_eq!(kept(), files, "with room for {room} bytes");
                assert_eq!(content(&log), before);
            }
            Ok(_) => {
                assert!(room > 300);
                return;
            }
        }
    }
    panic!("there was room enough");
}
