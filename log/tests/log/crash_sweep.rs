//! Crash after every single I/O of a trace, lose some of what was not synced, recover, compare.
//!
//! Whatever was lost: the log is a prefix of what was appended and contains all that was flushed, the
//! epochs and the producer snapshot agree with it, recovering again changes nothing, and it goes on.

use crate::batches::*;
use crate::crash::{Crashes, interrupted};
use bytes::Bytes;
use troupe_log::disk::{Disk, FaultDisk, Loss, MemDisk};
use troupe_log::{Log, LogConfig, LogError, Recovery};
use troupe_proto::ids::{LeaderEpoch, Offset};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Records of the batch, bytes of a value.
    Append(usize, usize),
    /// The next appends are of a newer leader.
    NewEpoch,
    Flush,
    Roll,
    Snapshot,
    Checkpoint,
    /// So many records from the end; the high watermark lies there, or so many records higher.
    Truncate(u64, u64),
    /// So many records further on.
    SetLogStart(u64),
    RemoveOldest,
    /// So many records behind the end, or before it.
    Restart(i64),
    /// The first batch of a leader whose log starts within it, so many records below this log's start.
    AppendReaching(u64, usize),
    CloseAndOpen,
    KillAndOpen,
}
use Step::*;

type Batch = (Offset, Offset, LeaderEpoch, Bytes);

/// What the log may be found to hold.
#[derive(Clone, Debug, Default)]
struct Model {
    /// All that was appended to the log as it is now, deleted ones included.
    batches: Vec<Batch>,
    /// All below was flushed.
    flushed: Offset,
    /// The log starts somewhere from here…
    start: Offset,
    /// …to here.
    latest_start: Offset,
    epoch: u32,
    /// A restart at this offset may or may not have happened.
    restarting: Option<Offset>,
}

impl Model {
    /// What the owner would have made of the batches below `offset`.
    fn state_at(&self, offset: Offset) -> Vec<u8> {
        let mut crc = 0u32;
        for (base, end, epoch, payload) in self.batches.iter().filter(|batch| batch.1 <= offset) {
            let text = format!("{crc} {base} {end} {epoch} {payload:?}");
            crc = crc_fast::crc32_iscsi(text.as_bytes());
        }
        crc.to_le_bytes().to_vec()
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(self.latest_start, |batch| batch.1)
    }
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 700, index_interval_bytes: 100, ..LogConfig::default() }
}

/// Runs the trace as far as the disk lets it.
fn run(disk: &FaultDisk, trace: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok((mut log, _)) = try_open(disk) else { return model };
    for step in trace {
        let done = match *step {
            CloseAndOpen | KillAndOpen => {
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
            _ => perform(*step, &mut log, &mut model),
        };
        if let Err(error) = done {
            assert!(disk.has_crashed(), "{step:?}: {error}");
            return model;
        }
        model.flushed = log.flushed_end();
        model.latest_start = log.log_start();
        assert_eq!(log.log_end(), model.end(), "{step:?}");
        if disk.has_crashed() {
            // in something that need not succeed: the checkpoint behind a truncation
            return model;
        }
    }
    assert_eq!(comparable(&log), model.batches[first(&model, log.log_start())..]);
    model
}

fn try_open<D: Disk>(disk: &D) -> Result<(Log<D>, Recovery), LogError> {
    Log::open(disk.clone(), dir(), key(), config(), NOW)
}

fn perform(step: Step, log: &mut Log<FaultDisk>, model: &mut Model) -> Result<(), LogError> {
    match step {
        Append(count, len) => {
            let fill = (model.batches.len() as u32 * 16 + model.epoch) as u8;
            let value = vec![fill; len];
            let base = log.log_end();
            let timestamps = vec![NOW + base.0 as i64; count];
            let payload = batch(&timestamps, &value).1;
            let end = base.plus(count as u64);
            model.batches.push((base, end, LeaderEpoch(model.epoch), payload));
            let appended = append_at(log, model.epoch, &timestamps, &value)?;
            if let Some(rolled) = appended.rolled {
                log.write_producer_snapshot(rolled, &model.state_at(rolled))?;
            }
        }
        NewEpoch => {
            model.epoch += 1;
            log.assign_epoch(LeaderEpoch(model.epoch), log.log_end());
        }
        Flush => drop(log.flush()?),
        Roll => drop(log.roll(NOW)?),
        Snapshot => log.write_producer_snapshot(log.log_end(), &model.state_at(log.log_end()))?,
        Checkpoint => log.checkpoint(log.flushed_end())?,
        Truncate(back, mapped) => {
            let to = Offset(log.log_end().0.saturating_sub(back));
            model.flushed = model.flushed.min(cut_at(model, to));
            if cut_at(model, to) <= log.log_start() {
                return perform(Restart(to.0 as i64 - log.log_end().0 as i64), log, model);
            }
            log.truncate_to(to, to.plus(mapped))?;
            model.batches.retain(|batch| batch.1 <= to);
            // a newer leader is why logs are truncated
            model.epoch += 1;
        }
        SetLogStart(further) => {
            let to = log.log_start().plus(further).min(log.log_end());
            model.latest_start = to;
            for removal in log.set_log_start(to)? {
                removal.run()?;
            }
            model.start = to;
        }
        RemoveOldest => {
            if let Some(second) = log.segments()?.get(1) {
                model.latest_start = model.latest_start.max(second.base);
            }
            if let Some(removal) = log.remove_oldest()? {
                removal.run()?;
            }
        }
        Restart(relative) => {
            let at = Offset(log.log_end().0.saturating_add_signed(relative));
            model.flushed = Offset(0);
            model.restarting = Some(at);
            log.truncate_fully_and_start_at(at)?;
            let epoch = model.epoch + 1;
            *model = Model { start: at, latest_start: at, flushed: at, epoch, ..Model::default() };
        }
        AppendReaching(below, len) => {
            let base = Offset(log.log_end().0 - below);
            let timestamps = vec![NOW + base.0 as i64; below as usize + 2];
            let (frames, end, payload) = frames_at(base, model.epoch, &timestamps, &vec![9; len]);
            model.batches.push((base, end, LeaderEpoch(model.epoch), payload));
            log.append_frames(frames, NOW)?;
        }
        CloseAndOpen | KillAndOpen => unreachable!("the caller's"),
    }
    Ok(())
}

/// Where the batch that holds `offset` starts.
fn cut_at(model: &Model, offset: Offset) -> Offset {
    model.batches.iter().find(|batch| batch.1 > offset).map_or(model.end(), |batch| batch.0)
}

/// Index of the first batch that a log starting there shows.
fn first(model: &Model, start: Offset) -> usize {
    model.batches.partition_point(|batch| batch.1 <= start)
}

fn comparable<D: Disk>(log: &Log<D>) -> Vec<Batch> {
    contents(log, log.log_start())
}

/// Opens what a crash left and holds it against the model.
fn check(disk: &MemDisk, model: &Model, loss: Loss) {
    let (log, recovery) = try_open(disk).unwrap();
    // a power cut may be: it takes what was committed before it was flushed, and sectors in any order
    if loss == Loss::Nothing {
        assert_eq!(recovery.damage, None, "a kill is no damage");
    }
    let found = comparable(&log);
    let (start, end) = (log.log_start(), log.log_end());
    if model.restarting != Some(start) || !found.is_empty() {
        let from = first(model, start);
        assert!(found.len() <= model.batches.len() - from, "more than was appended");
        assert_eq!(found, model.batches[from..from + found.len()], "not a prefix");
        assert!(end >= model.flushed, "{end} but {} was flushed", model.flushed);
        let latest = model.restarting.map_or(model.latest_start, |at| at.max(model.latest_start));
        assert!(start >= model.start.min(model.end()) || model.restarting.is_some());
        assert!(start <= latest, "starts at {start}, not in {}..={latest}", model.start);
    }
    check_derived(&log, &recovery, &found, model);
    let high_watermark = recovery.high_watermark.unwrap_or(start);
    assert!(high_watermark >= start && high_watermark <= end);
    drop(log);

    // recovering again finds the same and has nothing to do, even if the power fails right behind
    let files = disk.files();
    let (again, second) = try_open(disk).unwrap();
    assert!(second.clean, "{second:?} after {recovery:?}");
    assert_eq!((comparable(&again), again.log_start()), (found.clone(), start));
    assert_eq!(disk.files(), files);
    let cut = disk.crash(Loss::Unsynced);
    let (mut after, _) = try_open(&cut).unwrap();
    assert_eq!((comparable(&after), after.log_end()), (found.clone(), end));

    // and it goes on
    append(&mut after, model.epoch + 1, 2, 50).unwrap();
    after.flush().unwrap();
    let (last, _) = try_open(&cut.crash(Loss::Unsynced)).unwrap();
    assert_eq!(last.log_end(), end.plus(2));
    assert_eq!(comparable(&last)[..found.len()], found);
}

/// What derives from the batches agrees with them.
fn check_derived(log: &Log<MemDisk>, recovery: &Recovery, found: &[Batch], model: &Model) {
    for (base, end, epoch, _) in found {
        assert_eq!(log.epoch_at(base.to_owned().max(log.log_start())), Some(*epoch));
        assert_eq!(log.read(Offset(end.0 - 1), *end, 0).unwrap().first, *base);
        let timestamp = NOW + base.0 as i64;
        let hit = log.find_by_timestamp(timestamp, log.log_end()).unwrap().unwrap();
        assert_eq!(hit.offset, (*base).max(log.log_start()));
    }
    let latest = found.last().map(|batch| batch.2);
    assert!(latest.is_none() || log.latest_epoch() == latest);
    for segment in log.segments().unwrap() {
        let last = model.batches.iter().find(|batch| batch.1 == segment.end);
        let last = last.filter(|_| segment.size > 0).map(|batch| NOW + batch.0.0 as i64);
        assert_eq!(segment.largest_timestamp, last, "{segment:?}");
    }
    if let Some((offset, state)) = &recovery.snapshot {
        assert!(*offset <= log.log_end(), "a snapshot of what is not there");
        assert_eq!(state[..], model.state_at(*offset), "a snapshot of another history");
    }
    let mut replayed = Vec::new();
    log.replay(recovery.replay_from, |header| replayed.push(header.base_offset)).unwrap();
    let expected: Vec<_> =
        found.iter().filter(|batch| batch.1 > recovery.replay_from).map(|batch| batch.0).collect();
    // what was deleted within the first segment is still there to be learnt from
    let deleted = replayed.len().saturating_sub(expected.len());
    assert_eq!(replayed[deleted..], expected);
    for base in &replayed[..deleted] {
        assert!(*base < log.log_start() && model.batches.iter().any(|batch| batch.0 == *base));
    }
}

/// A recovery that is itself cut short at any of its changes ends, next time, as if it had not been.
fn check_interrupted(found: &MemDisk, _: &Model, seed: u64) {
    let expect = |disk: &MemDisk| {
        let (log, _) = try_open(disk).unwrap();
        (log.log_start(), log.log_end(), comparable(&log))
    };
    let expected = expect(&found.snapshot());
    let open = |disk: &FaultDisk| assert_eq!(try_open(disk).is_err(), disk.has_crashed());
    interrupted(found, seed, open, |disk, loss| assert_eq!(expect(disk), expected, "{loss:?}"));
}

/// Crashes at every change that the trace makes.
fn sweep(trace: &[Step], seeds: u64) {
    let torn = &[0, 100, usize::MAX];
    Crashes { run, check, check_interrupted, torn, interrupted: 100 }.sweep(trace, seeds);
}

#[test]
fn appends_rolls_and_flushes_survive_a_crash_anywhere() {
    sweep(
        &[
            Append(1, 10),
            Append(3, 60),
            Flush,
            Append(2, 100),
            Append(1, 200),
            Append(1, 300),
            Flush,
            NewEpoch,
            Append(2, 150),
            Append(4, 90),
            Append(1, 10),
            Flush,
        ],
        6,
    );
}

#[test]
fn checkpoints_snapshots_and_closing_survive_a_crash_anywhere() {
    sweep(
        &[
            Append(2, 100),
            Append(2, 100),
            Flush,
            Checkpoint,
            Append(1, 100),
            Snapshot,
            Append(1, 200),
            Append(1, 100),
            Checkpoint,
            Flush,
            Checkpoint,
            CloseAndOpen,
            Append(1, 100),
            KillAndOpen,
            NewEpoch,
            Append(2, 250),
            Append(1, 50),
            Snapshot,
            CloseAndOpen,
        ],
        6,
    );
}

#[test]
fn truncations_survive_a_crash_anywhere() {
    sweep(
        &[
            Append(2, 100),
            Append(2, 100),
            Snapshot,
            Append(1, 100),
            Flush,
            Checkpoint,
            Append(1, 200),
            NewEpoch,
            Append(1, 200),
            Snapshot,
            Append(2, 20),
            Truncate(1, 0),
            Append(1, 200),
            Flush,
            Truncate(4, 0),
            Append(2, 100),
            Append(3, 40),
            Checkpoint,
            Flush,
            Checkpoint,
            Truncate(3, 2),
            Append(1, 60),
            Flush,
        ],
        6,
    );
}

#[test]
fn deletions_from_the_front_survive_a_crash_anywhere() {
    sweep(
        &[
            Append(2, 200),
            Append(2, 200),
            Append(2, 200),
            Flush,
            SetLogStart(1),
            Append(2, 200),
            RemoveOldest,
            Checkpoint,
            Roll,
            Append(1, 30),
            SetLogStart(6),
            Flush,
            RemoveOldest,
            RemoveOldest,
            Checkpoint,
        ],
        6,
    );
}

#[test]
fn starting_over_elsewhere_survives_a_crash_anywhere() {
    sweep(
        &[
            Append(2, 200),
            Append(2, 200),
            Flush,
            Checkpoint,
            Restart(10),
            Append(2, 200),
            Flush,
            Append(2, 200),
            Restart(-2),
            Append(1, 100),
            Append(1, 100),
            Snapshot,
            Flush,
            Checkpoint,
            Restart(-100),
            Append(1, 100),
            CloseAndOpen,
        ],
        6,
    );
}

#[test]
fn a_first_batch_that_reaches_below_the_start_survives_a_crash_anywhere() {
    sweep(
        &[
            Append(2, 200),
            Flush,
            Restart(10),
            Checkpoint,
            AppendReaching(3, 200),
            Append(2, 200),
            Flush,
            Append(2, 200),
            Restart(20),
            Flush,
            Checkpoint,
            KillAndOpen,
            AppendReaching(1, 100),
            Flush,
            SetLogStart(1),
            Append(1, 100),
            CloseAndOpen,
        ],
        6,
    );
}

#[test]
fn any_trace_survives_a_crash_anywhere() {
    for seed in 0..24u64 {
        let mut state = seed;
        let mut dice = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        let mut trace = vec![Append(1, 50)];
        for _ in 0..14 {
            trace.push(match dice(16) {
                0..7 => Append(1 + dice(3) as usize, dice(120) as usize),
                7 => NewEpoch,
                8 | 9 => Flush,
                10 => Checkpoint,
                11 => Snapshot,
                12 => Truncate(1 + dice(6), dice(2) * dice(4)),
                13 => [SetLogStart(dice(4)), RemoveOldest][dice(2) as usize],
                14 => [Roll, Restart(dice(6) as i64 - 4)][dice(2) as usize],
                _ => [CloseAndOpen, KillAndOpen][dice(2) as usize],
            });
        }
        sweep(&trace, 3);
    }
}
