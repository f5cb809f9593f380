//! The log against a vector of batches, on a real disk and in memory, through any sequence of calls.

use crate::batches::*;
use proptest::prelude::*;
use troupe_log::disk::{Disk, FileDisk};
use troupe_log::dump::FileKind;
use troupe_log::{Log, LogConfig, RetentionPolicy};
use troupe_proto::batch::{BatchHeader, Batches};
use troupe_proto::ids::{LeaderEpoch, Offset};

#[derive(Clone, Debug)]
enum Call {
    /// Timestamps relative to [`NOW`], bytes of a value.
    Append(Vec<i64>, usize),
    /// The same as a leader would send it, several batches at once.
    AppendFrames(Vec<(Vec<i64>, usize)>),
    NewEpoch,
    Flush,
    Roll,
    Checkpoint,
    /// Records from the end, and whether the high watermark lies above.
    Truncate(u64, bool),
    SetLogStart(u64),
    Retain(Option<u64>, Option<u64>),
    Release,
    Reopen(bool),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let timestamps = || prop::collection::vec(-50i64..50, 1..4);
    let call = prop_oneof![
        8 => (timestamps(), 0usize..300).prop_map(|(t, len)| Call::Append(t, len)),
        3 => prop::collection::vec((timestamps(), 0usize..200), 1..5).prop_map(Call::AppendFrames),
        1 => Just(Call::NewEpoch),
        1 => Just(Call::Flush),
        1 => Just(Call::Roll),
        1 => Just(Call::Checkpoint),
        1 => (0u64..12, any::<bool>()).prop_map(|(back, above)| Call::Truncate(back, above)),
        1 => (0u64..5).prop_map(Call::SetLogStart),
        1 => (prop::option::of(0u64..100), prop::option::of(0u64..3000))
            .prop_map(|(ms, bytes)| Call::Retain(ms, bytes)),
        1 => Just(Call::Release),
        2 => any::<bool>().prop_map(Call::Reopen),
    ];
    prop::collection::vec(call, 1..40)
}

/// A batch as the model keeps it: offsets, epoch, timestamps.
type Expected = (Offset, Offset, LeaderEpoch, Vec<i64>);

#[derive(Default)]
struct Model {
    batches: Vec<Expected>,
    epoch: u32,
    start: Offset,
    end: Offset,
}

impl Model {
    fn readable(&self) -> impl Iterator<Item = &Expected> {
        self.batches.iter().filter(|batch| batch.1 > self.start)
    }

    /// S7, by looking at every record.
    fn first_at(&self, timestamp: i64, end: Offset) -> Option<(Offset, i64)> {
        let records = self.readable().flat_map(|(base, _, _, timestamps)| {
            timestamps.iter().enumerate().map(|(i, t)| (base.plus(i as u64), *t))
        });
        let mut readable = records.filter(|(offset, _)| *offset >= self.start && *offset < end);
        readable.find(|(_, found)| *found >= timestamp)
    }
}

fn run<D: Disk>(disk: D, dir: std::path::PathBuf, calls: Vec<Call>) {
    let config = LogConfig { segment_bytes: 900, index_interval_bytes: 200, ..small() };
    let open = || Log::open(disk.clone(), dir.clone(), key(), config, NOW).unwrap();
    let (mut log, mut model) = (open().0, Model::default());
    for call in calls {
        match call.clone() {
            Call::Append(timestamps, len) => {
                let timestamps: Vec<i64> = timestamps.iter().map(|t| NOW + t).collect();
                append_at(&mut log, model.epoch, &timestamps, &vec![1; len]).unwrap();
                note(&mut model, timestamps);
            }
            Call::AppendFrames(batches) => {
                let mut frames = Vec::new();
                for (timestamps, len) in batches {
                    let timestamps: Vec<i64> = timestamps.iter().map(|t| NOW + t).collect();
                    let (header, payload) = batch(&timestamps, &vec![2; len]);
                    let (base_offset, leader_epoch) = (model.end, LeaderEpoch(model.epoch));
                    let header = BatchHeader { base_offset, leader_epoch, ..header };
                    frames.extend_from_slice(&header.encode(&key()));
                    frames.extend_from_slice(&payload);
                    note(&mut model, timestamps);
                }
                log.append_frames(frames.into(), NOW).unwrap();
            }
            Call::NewEpoch => model.epoch += 1,
            Call::Flush => assert_eq!(log.flush().unwrap(), model.end),
            Call::Roll => drop(log.roll(NOW).unwrap()),
            Call::Checkpoint => log.checkpoint(model.start).unwrap(),
            Call::Truncate(back, above) => {
                let to = Offset(model.end.0.saturating_sub(back));
                let kept = model.batches.iter().filter(|batch| batch.1 <= to).count();
                let cut = if to >= model.end {
                    model.end
                } else {
                    model.batches.get(kept).map_or(to, |batch| batch.0.min(to))
                };
                let end = log.truncate_to(to, if above { to.plus(1) } else { cut }).unwrap();
                model.batches.truncate(kept);
                if end > model.start {
                    assert_eq!(end, cut, "{call:?}");
                } else {
                    // at or below the start the log restarts empty
                    model.batches.clear();
                    model.start = end;
                }
                model.end = end;
            }
            Call::SetLogStart(further) => {
                let to = model.start.plus(further).min(model.end);
                for removal in log.set_log_start(to).unwrap() {
                    removal.run().unwrap();
                }
                model.start = to;
            }
            Call::Retain(retention_ms, retention_bytes) => {
                let policy = RetentionPolicy { retention_ms, retention_bytes };
                check_retention(&mut log, &policy, &mut model);
            }
            Call::Release => {
                log.flush().unwrap();
                log.release_files();
            }
            Call::Reopen(clean) => {
                if clean {
                    log.close_clean(model.start).unwrap();
                } else {
                    drop(log);
                }
                let (opened, recovery) = open();
                assert!(recovery.truncated_bytes == 0 && (recovery.clean || !clean));
                log = opened;
            }
        }
        assert_eq!((log.log_start(), log.log_end()), (model.start, model.end), "{call:?}");
    }
    compare(&log, &model);
    log.close_clean(model.start).unwrap();
}

fn note(model: &mut Model, timestamps: Vec<i64>) {
    let base = model.end;
    model.end = base.plus(timestamps.len() as u64);
    model.batches.push((base, model.end, LeaderEpoch(model.epoch), timestamps));
}

/// S15, S16, S17.
fn check_retention<D: Disk>(log: &mut Log<D>, policy: &RetentionPolicy, model: &mut Model) {
    let before = log.segments().unwrap();
    let mut left: u64 = before.iter().map(|segment| segment.size).sum();
    let mut expected = model.start;
    for segment in &before {
        let old = segment.largest_timestamp.is_some_and(|largest| {
            policy.retention_ms.is_some_and(|limit| NOW + 60 - largest > limit as i64)
        });
        let large = policy.retention_bytes.is_some_and(|limit| left - segment.size >= limit);
        let deleted = segment.end <= expected;
        if segment.size == 0 || !(old || large || deleted) {
            break;
        }
        left -= segment.size;
        expected = expected.max(segment.end);
    }
    for removal in log.apply_retention(policy, NOW + 60, model.end).removals {
        removal.run().unwrap();
    }
    assert_eq!(log.log_start(), expected, "{policy:?} {before:?}");
    model.start = expected;
}

fn compare<D: Disk>(log: &Log<D>, model: &Model) {
    let found: Vec<_> =
        contents(log, log.log_start()).into_iter().map(|b| (b.0, b.1, b.2)).collect();
    let expected: Vec<_> = model.readable().map(|b| (b.0, b.1, b.2)).collect();
    assert_eq!(found, expected);
    for from in model.start.0..model.end.0 {
        for (end, max_bytes) in [(model.end.0, 1), (model.end.0, 400), (from + 1, 4000)] {
            check_slice(log, model, Offset(from), Offset(end), max_bytes);
        }
        let epoch = model.readable().find(|batch| batch.1.0 > from).unwrap().2;
        assert_eq!(log.epoch_at(Offset(from)), Some(epoch));
    }
    for relative in -51..=50 {
        for end in [model.end, Offset(u64::midpoint(model.start.0, model.end.0))] {
            let hit = log.find_by_timestamp(NOW + relative, end).unwrap();
            let hit = hit.map(|hit| (hit.offset, hit.timestamp_ms));
            assert_eq!(hit, model.first_at(NOW + relative, end), "{relative} below {end}");
        }
    }
    let largest = (NOW - 50..=NOW + 50).rev().find_map(|t| model.first_at(t, model.end));
    let hit = log.find_max_timestamp(model.end).unwrap();
    assert_eq!(hit.map(|hit| (hit.offset, hit.timestamp_ms)), largest);
}

/// A slice holds the right batches: as many as fit, one at least, from one segment.
fn check_slice<D: Disk>(log: &Log<D>, model: &Model, from: Offset, end: Offset, max_bytes: usize) {
    let slice = log.read(from, end, max_bytes).unwrap();
    let copy = log.read_copy(from, end, max_bytes).unwrap();
    assert_eq!((&slice.bytes, slice.first, slice.end), (&copy.bytes, copy.first, copy.end));
    let first = model.readable().find(|batch| batch.1 > from).unwrap();
    if first.1 > end {
        assert!(slice.is_empty());
        return;
    }
    assert_eq!(slice.first, first.0);
    assert!(slice.end <= end);
    let headers: Vec<BatchHeader> =
        Batches::verified(slice.bytes.clone(), key()).map(|batch| batch.unwrap().0).collect();
    assert!(slice.bytes.len() <= max_bytes || headers.len() == 1);
    // nothing that would have fitted was left out
    let segment = log.segments().unwrap().into_iter().find(|s| s.end > from).unwrap();
    let next = model.readable().find(|batch| batch.0 == slice.end);
    if let Some(next) = next.filter(|next| next.1 <= end.min(segment.end)) {
        let more = log.read(next.0, next.1, 1).unwrap().bytes.len();
        assert!(slice.bytes.len() + more > max_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_log_in_memory_is_what_was_appended(calls in calls()) {
        run(memory(), dir(), calls);
    }
}

proptest! {
    // each fsync is real
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn a_log_on_disk_is_what_was_appended(calls in calls()) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("topic-3");
        run(FileDisk, dir.clone(), calls);
        let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(()) };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if FileKind::of(&path) == Some(FileKind::Log) {
                let report = troupe_log::verify::verify_segment(&path).unwrap();
                prop_assert_eq!(report.faults, Vec::<String>::new(), "{:?}", path);
            }
        }
    }
}
