//! Crash after every single I/O of a trace with transactions in it, lose some of what was not synced, recover, compare.
//!
//! Whatever was lost: of each aborted transaction of which the log has a batch and the marker, the index knows; and of
//! nothing else.

use crate::batches::*;
use crate::cleaned::{ALL, RETENTION_MS, headers, request};
use crate::crash::{Crashes, interrupted};
use crate::transactions::*;
use std::collections::BTreeSet;
use troupe_log::disk::{Disk, FaultDisk, Loss, MemDisk};
use troupe_log::{
    Aborted, CleaningError, FullSpeed, Log, LogConfig, LogError, OffsetMap, Recovery,
};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;

#[derive(Clone, Copy, Debug)]
enum Step {
    Plain,
    Data(u64),
    Commit(u64),
    Abort(u64),
    Flush,
    Roll,
    Snapshot,
    Checkpoint,
    /// So many records from the end.
    Truncate(u64),
    SetLogStart(u64),
    RemoveOldest,
    Restart(u64),
    /// So many times the retention of markers later.
    Clean(i64),
    Release,
    CloseAndOpen,
    KillAndOpen,
}
use Step::*;

/// All that was appended to the log as it is now, deleted ones included.
#[derive(Clone, Debug, Default)]
struct Model {
    batches: Vec<BatchHeader>,
    epoch: u32,
}

impl Model {
    /// What is aborted by what lies below.
    fn aborted(&self, end: Offset) -> Vec<Aborted> {
        let mut open = Open::new();
        let below = self.batches.iter().filter(|header| header.end_offset() <= end);
        below.filter_map(|header| next(&mut open, header)).collect()
    }

    fn open(&self) -> Open {
        let mut open = Open::new();
        for header in &self.batches {
            next(&mut open, header);
        }
        open
    }
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 600, index_interval_bytes: 100, ..LogConfig::default() }
}

fn try_open<D: Disk>(disk: &D) -> Result<(Log<D>, Recovery), LogError> {
    Log::open(disk.clone(), dir(), key(), config(), NOW)
}

fn reopen(disk: &FaultDisk, model: &Model) -> Result<Log<FaultDisk>, LogError> {
    let (mut log, recovery) = try_open(disk)?;
    assert_eq!(restore(&mut log, &recovery)?, model.open());
    Ok(log)
}

fn run(disk: &FaultDisk, trace: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok((mut log, _)) = try_open(disk) else { return model };
    for step in trace {
        let done = match *step {
            CloseAndOpen => {
                let end = log.flushed_end();
                log.close_clean(end).and_then(|()| reopen(disk, &model))
            }
            KillAndOpen => reopen(disk, &model),
            step => perform(step, &mut log, &mut model).map(|()| log),
        };
        log = match done {
            Ok(next) => next,
            Err(error) => {
                assert!(disk.has_crashed(), "{step:?}: {error}");
                return model;
            }
        };
        if disk.has_crashed() {
            return model;
        }
    }
    model
}

fn perform(step: Step, log: &mut Log<FaultDisk>, model: &mut Model) -> Result<(), LogError> {
    let end = log.log_end();
    let (before, epoch) = (log.segment_count(), model.epoch);
    match step {
        Plain => {
            append(log, epoch, 1, 60)?;
        }
        Data(_) | Commit(_) | Abort(_) => {
            let batch = match step {
                Data(id) => {
                    let key = end.to_string();
                    data_batch(end, epoch, id, &[(Some(key.as_str()), Some("0123456789"))])
                }
                Commit(id) => marker_batch(end, epoch, id, true),
                Abort(id) => marker_batch(end, epoch, id, false),
                _ => unreachable!("one of the three"),
            };
            let noted = next(&mut model.open(), &batch.0);
            model.batches.push(batch.0);
            put_built(log, batch)?;
            noted.map_or(Ok(()), |it| log.note_aborted(it))?;
        }
        Flush => drop(log.flush()?),
        Roll => drop(log.roll(NOW)?),
        Snapshot => log.write_producer_snapshot(end, &snapshot_of(&model.open()))?,
        Checkpoint => log.checkpoint(log.flushed_end())?,
        Truncate(back) => {
            let to = Offset(end.0.saturating_sub(back));
            if to <= log.log_start() {
                return perform(Restart(0), log, model);
            }
            log.truncate_to(to, to)?;
            model.batches.retain(|header| header.end_offset() <= to);
            model.epoch += 1;
        }
        SetLogStart(further) => {
            let to = log.log_start().plus(further).min(end);
            log.set_log_start(to)?.into_iter().try_for_each(|removal| removal.run())?;
        }
        RemoveOldest => log.remove_oldest()?.map_or(Ok(()), |removal| removal.run())?,
        Restart(further) => {
            log.truncate_fully_and_start_at(end.plus(further))?;
            *model = Model { batches: Vec::new(), epoch: model.epoch + 1 };
        }
        Clean(times) => clean(log, model, NOW + times * RETENTION_MS as i64)?,
        Release => log.release_files(),
        CloseAndOpen | KillAndOpen => unreachable!("the caller's"),
    }
    if log.segment_count() > before {
        // as an owner does when a segment was begun
        let mut open = Open::new();
        let at = log.segments()?.last().map_or(Offset::ZERO, |segment| segment.base);
        for header in model.batches.iter().filter(|header| header.end_offset() <= at) {
            next(&mut open, header);
        }
        log.write_producer_snapshot(at, &snapshot_of(&open))?;
    }
    Ok(())
}

fn clean(log: &mut Log<FaultDisk>, model: &Model, now: i64) -> Result<(), LogError> {
    let open = model.open().into_values().min();
    let below = open.into_iter().chain([log.flushed_end()]).min().unwrap_or_default();
    let Some(cleaning) = log.begin_cleaning(request(now, below))? else { return Ok(()) };
    let cleaned = match cleaning.run(&mut OffsetMap::new(1 << 12), &mut FullSpeed) {
        Err(CleaningError::Log(error)) => return Err(error),
        cleaned => cleaned.unwrap(),
    };
    let Some(finished) = log.finish_cleaning(cleaned, below, ALL)? else { return Ok(()) };
    finished.removals.into_iter().try_for_each(|removal| removal.run())?;
    finished.ending.run()
}

/// The index against all that ever was; what it has to know, it knows. What was not aborted is there.
fn compare(log: &Log<MemDisk>, model: &Model) {
    let oldest = log.segments().unwrap().first().map_or(log.log_start(), |segment| segment.base);
    let (found, mut seen) = (all(log), BTreeSet::new());
    let here = headers(log, oldest);
    let expected = model.aborted(log.log_end());
    for it in &found {
        let known = expected.iter().find(|known| known.last_offset == it.last_offset);
        let known = known.unwrap_or_else(|| panic!("{it:?} is none of {expected:?}"));
        assert!(it.first_offset >= known.first_offset && it.producer_id == known.producer_id);
        assert!(it.last_offset >= oldest, "{it:?} below {oldest}");
        assert!(seen.insert(it.last_offset));
        assert!(here.iter().any(|header| header.last_offset() == it.last_offset), "{it:?}");
    }
    let is_of = |header: &BatchHeader, of: &Aborted| {
        header.producer.is_some_and(|stamp| stamp.id == of.producer_id)
            && (of.first_offset..of.last_offset).contains(&header.base_offset)
    };
    for known in expected.iter().filter(|known| known.last_offset >= oldest) {
        let Some(first) = here.iter().find(|header| is_of(header, known)) else { continue };
        let it = found.iter().find(|it| it.last_offset == known.last_offset);
        let it = it.unwrap_or_else(|| panic!("{known:?} is not among {found:?}"));
        assert!(it.first_offset <= first.base_offset, "{it:?}, and {first:?} belongs to it");
    }
    for data in model.batches.iter().filter(|header| header.marker().is_none()) {
        let is_here = data.base_offset >= oldest && data.end_offset() <= log.log_end();
        if is_here && !expected.iter().any(|known| is_of(data, known)) {
            let found = here.iter().find(|header| header.base_offset == data.base_offset);
            assert_eq!(found.map(|header| header.record_count), Some(1), "{data:?}");
        }
    }
}

fn check(disk: &MemDisk, model: &Model, _: Loss) {
    let (mut log, recovery) = try_open(disk).unwrap();
    compare(&log, model);
    let found = all(&log);
    restore(&mut log, &recovery).unwrap();
    assert_eq!(all(&log), found, "the owner finds nothing new");
    drop(log);
    let files = disk.files();
    let (again, second) = try_open(disk).unwrap();
    assert!(second.clean && second.notices.is_empty(), "{second:?} after {recovery:?}");
    assert_eq!((all(&again), disk.files()), (found.clone(), files));
    let cut = disk.crash(Loss::Unsynced);
    let (mut after, _) = try_open(&cut).unwrap();
    assert_eq!(all(&after), found);
    let first = data(&mut after, model.epoch + 1, 77, &[(Some("k"), None)]).unwrap().base_offset;
    let last = marker(&mut after, model.epoch + 1, 77, false).unwrap().base_offset;
    let more = aborted(77, first.0, last.0);
    after.note_aborted(more).unwrap();
    after.flush().unwrap();
    let (last, _) = try_open(&cut.crash(Loss::Unsynced)).unwrap();
    assert_eq!(all(&last), [&found[..], &[more]].concat());
}

/// A recovery that is itself cut short at any of its changes ends, next time, as if it had not been.
fn check_interrupted(found: &MemDisk, model: &Model, seed: u64) {
    let open = |disk: &FaultDisk| drop(try_open(disk));
    interrupted(found, seed, open, |disk, _| compare(&try_open(disk).unwrap().0, model));
}

/// Crashes at every change that the trace makes.
fn sweep(trace: &[Step], seeds: u64) {
    let torn = &[0, 20, usize::MAX];
    Crashes { run, check, check_interrupted, torn, interrupted: 20 }.sweep(trace, seeds);
}

#[test]
fn aborted_transactions_survive_a_crash_anywhere() {
    sweep(
        &[
            Data(1),
            Data(2),
            Plain,
            Flush,
            Abort(1),
            Flush,
            Data(1),
            Commit(1),
            Abort(5),
            Data(3),
            Checkpoint,
            Abort(2),
            Data(1),
            Abort(3),
            Checkpoint,
            Flush,
            Checkpoint,
            Abort(1),
            Flush,
            CloseAndOpen,
            Data(4),
            Release,
            Abort(4),
            KillAndOpen,
            Flush,
            Roll,
            Data(6),
            Abort(6),
        ],
        6,
    );
}

#[test]
fn truncations_and_deletions_beside_them_survive_a_crash_anywhere() {
    sweep(
        &[
            Data(1),
            Data(2),
            Abort(1),
            Data(1),
            Abort(1),
            Flush,
            Checkpoint,
            Data(3),
            Abort(2),
            Truncate(1),
            Data(1),
            Flush,
            Abort(3),
            Checkpoint,
            Roll,
            Data(2),
            Abort(2),
            Truncate(2),
            Abort(1),
            Data(2),
            Data(3),
            RemoveOldest,
            Abort(2),
            Flush,
            Checkpoint,
            SetLogStart(3),
            Abort(3),
            Restart(5),
            Data(1),
            Abort(1),
            Flush,
            Data(2),
            Snapshot,
            Abort(2),
            CloseAndOpen,
        ],
        4,
    );
}

#[test]
fn cleaning_of_transactions_survives_a_crash_anywhere() {
    sweep(
        &[
            Data(1),
            Data(2),
            Abort(1),
            Data(3),
            Abort(2),
            Commit(3),
            Data(1),
            Roll,
            Flush,
            Clean(0),
            Abort(1),
            Data(2),
            Abort(2),
            Roll,
            Flush,
            Checkpoint,
            Clean(2),
            Data(4),
            Data(5),
            Abort(5),
            Roll,
            Data(5),
            Abort(5),
            Roll,
            Flush,
            Clean(4),
            KillAndOpen,
            Abort(4),
            Roll,
            Flush,
            Clean(6),
            Clean(9),
            CloseAndOpen,
        ],
        1,
    );
}

#[test]
fn any_trace_of_transactions_survives_a_crash_anywhere() {
    for seed in 0..10u64 {
        let mut state = seed;
        let mut dice = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        let mut trace = vec![Data(1)];
        for _ in 0..18 {
            trace.push(match dice(22) {
                0..5 => Data(1 + dice(3)),
                5..11 => Abort(1 + dice(3)),
                11 => Commit(1 + dice(3)),
                12 => Plain,
                13 => Flush,
                14 => Checkpoint,
                15 => Snapshot,
                16 => Truncate(1 + dice(5)),
                17 => [SetLogStart(dice(4)), RemoveOldest][dice(2) as usize],
                18 | 19 => Clean(dice(4) as i64),
                20 => [Roll, Restart(dice(3)), Release][dice(3) as usize],
                _ => [CloseAndOpen, KillAndOpen][dice(2) as usize],
            });
        }
        sweep(&trace, 2);
    }
}
