//! Compaction against a map and an uncompacted copy, through any sequence of calls.

use crate::batches::*;
use crate::cleaned::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use troupe_log::disk::{Disk, FileDisk};
use troupe_log::dump;
use troupe_log::{CleaningRequest, Log, LogConfig, OffsetMap};
use troupe_proto::batch::{Compression, Record};
use troupe_proto::ids::Offset;

#[derive(Clone, Debug)]
enum Call {
    /// Key, value length, timestamp; codec; producer.
    Append(Vec<(Option<u8>, Option<u8>, i64)>, usize, Option<u64>),
    Roll,
    NewEpoch,
    /// Milliseconds that pass; keys that the map takes; how far behind the end a replica is.
    Clean(i64, usize, u64),
    /// Records from the end, but not into what was cleaned.
    Truncate(u64),
    SetLogStart(u64),
    RemoveOldest,
    Release,
    /// Cleanly, killed, killed without the checkpoints.
    Reopen(u8),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let record =
        (prop::option::weighted(0.95, 0u8..9), prop::option::weighted(0.7, 0u8..60), -50i64..50);
    let records = prop::collection::vec(record, 1..5);
    let producer = prop::option::weighted(0.4, 1u64..4);
    let call = prop_oneof![
        12 => (records, 0usize..5, producer).prop_map(|(r, codec, p)| Call::Append(r, codec, p)),
        1 => Just(Call::Roll),
        1 => Just(Call::NewEpoch),
        4 => (0i64..1500, 1usize..40, 0u64..20).prop_map(|(ms, keys, lag)| Call::Clean(ms, keys, lag)),
        1 => (0u64..12).prop_map(Call::Truncate),
        1 => (0u64..5).prop_map(Call::SetLogStart),
        1 => Just(Call::RemoveOldest),
        1 => Just(Call::Release),
        1 => (0u8..3).prop_map(Call::Reopen),
    ];
    prop::collection::vec(call, 1..60)
}

/// What a cleaner might get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    TombstonesGoTooEarly,
    TombstonesGoBeforeOthersHaveThem,
    ProducersAreForgotten,
    HashesAreTooShort,
}

struct Model {
    /// As it was appended, nothing compacted.
    all: Vec<Record>,
    /// What the log holds now.
    left: Vec<Record>,
    /// When each tombstone was first seen by a pass, with all of its batch.
    seen: BTreeMap<Offset, i64>,
    /// Where the batch of each record ends.
    ends: BTreeMap<Offset, Offset>,
    /// Base offsets of each producer's last batches.
    producers: BTreeMap<u64, VecDeque<(Offset, u32)>>,
    now: i64,
    epoch: u32,
    /// Nothing below is cut any more.
    cleaned: Offset,
}

impl Model {
    fn keep(&self) -> BTreeSet<Offset> {
        self.producers.values().flatten().map(|(base, _)| *base).collect()
    }

    fn readable(&self, start: Offset) -> Vec<Record> {
        self.left.iter().filter(|record| record.offset >= start).cloned().collect()
    }

    /// What a pass over `from..end` leaves.
    fn clean(&mut self, from: Offset, end: Offset, request: &CleaningRequest) {
        let mut last = BTreeMap::new();
        for record in self.left.iter().filter(|it| it.offset >= from && it.offset < end) {
            last.insert(record.key.clone(), record.offset);
        }
        let (seen, ends, now) = (&mut self.seen, &self.ends, self.now);
        self.left.retain(|record| {
            if record.offset >= end {
                return true;
            }
            let is_last = last.get(&record.key).is_none_or(|last| record.offset >= *last);
            if record.key.is_none() || !is_last {
                return false;
            }
            let Some(first_seen) = seen.get(&record.offset).copied() else {
                if record.value.is_none() && ends[&record.offset] <= end {
                    seen.insert(record.offset, now);
                }
                return true;
            };
            let over = now >= first_seen + RETENTION_MS as i64;
            record.value.is_some() || !over || record.offset >= request.tombstones_below
        });
    }
}

fn run<D: Disk>(disk: &D, dir: &std::path::Path, calls: &[Call], mistake: Mistake) {
    let config = LogConfig { segment_bytes: 900, index_interval_bytes: 200, ..small() };
    let open = || Log::open(disk.clone(), dir.to_owned(), key(), config, NOW).unwrap();
    let (mut log, _) = open();
    let mut model = Model {
        all: Vec::new(),
        left: Vec::new(),
        seen: BTreeMap::new(),
        ends: BTreeMap::new(),
        producers: BTreeMap::new(),
        now: NOW,
        epoch: 0,
        cleaned: Offset(0),
    };
    for call in calls {
        match call {
            Call::Append(records, codec, producer) => {
                append_to(&mut log, &mut model, records, *codec, *producer);
            }
            Call::Roll => close_segments(&mut log),
            Call::NewEpoch => model.epoch += 1,
            Call::Clean(ms, keys, lag) => {
                model.now += ms;
                clean_once(&mut log, &mut model, *keys, *lag, mistake);
            }
            Call::Truncate(back) => truncate(&mut log, &mut model, *back),
            Call::SetLogStart(further) => {
                let to = log.log_start().plus(*further).min(log.log_end());
                let removals = log.set_log_start(to).unwrap();
                removals.into_iter().for_each(|removal| removal.run().unwrap());
            }
            Call::RemoveOldest => {
                if let Some(removal) = log.remove_oldest().unwrap() {
                    removal.run().unwrap();
                }
            }
            Call::Release => {
                log.flush().unwrap();
                log.release_files();
            }
            Call::Reopen(how) => {
                match how {
                    0 => {
                        let start = log.log_start();
                        log.close_clean(start).unwrap();
                    }
                    1 => drop(log),
                    _ => {
                        drop(log);
                        for name in ["offset-checkpoint", "leader-epoch-checkpoint"] {
                            disk.remove(&dir.join(name)).unwrap();
                        }
                    }
                }
                let (opened, recovery) = open();
                assert_eq!((recovery.damage, recovery.truncated_bytes), (None, 0));
                log = opened;
            }
        }
        let oldest = log.segments().unwrap().first().map_or(log.log_start(), |first| first.base);
        model.left.retain(|record| record.offset >= oldest);
        let start = log.log_start();
        assert_eq!(records(&log, start), model.readable(start), "{call:?}");
    }
    compare(&log, &model);
}

fn append_to<D: Disk>(
    log: &mut Log<D>,
    model: &mut Model,
    records: &[(Option<u8>, Option<u8>, i64)],
    codec: usize,
    producer_id: Option<u64>,
) {
    let base = log.log_end();
    let values: Vec<_> = records
        .iter()
        .map(|(key, len, _)| {
            let value = len.map(|len| format!("{base}{}", "v".repeat(usize::from(len))));
            (key.map(|key| format!("k{key}")), value)
        })
        .collect();
    let pairs: Vec<Pair<'_>> = records
        .iter()
        .zip(&values)
        .map(|((.., timestamp), (key, value))| (key.as_deref(), value.as_deref(), NOW + timestamp))
        .collect();
    let stamp = producer_id.map(|id| {
        let known = model.producers.entry(id).or_default();
        let sequence = known.back().map_or(0, |(_, next)| *next);
        if known.len() == 5 {
            known.pop_front();
        }
        known.push_back((base, sequence + records.len() as u32));
        producer(id, sequence)
    });
    put_batch(log, model.epoch, &pairs, Compression::ALL[codec], stamp).unwrap();
    let added = crate::cleaned::records(log, base);
    assert_eq!(added.len(), records.len());
    model.ends.extend(added.iter().map(|record| (record.offset, log.log_end())));
    model.all.extend(added.iter().cloned());
    model.left.extend(added);
}

fn clean_once<D: Disk>(
    log: &mut Log<D>,
    model: &mut Model,
    keys: usize,
    lag: u64,
    mistake: Mistake,
) {
    log.flush().unwrap();
    let end = log.log_end();
    let truth = CleaningRequest {
        keep: model.keep(),
        tombstones_below: Offset(end.0.saturating_sub(lag)),
        ..request(model.now, end)
    };
    let mut asked = truth.clone();
    let mut map = OffsetMap::new(keys * OffsetMap::ENTRY * 2);
    match mistake {
        Mistake::None => {}
        Mistake::TombstonesGoTooEarly => asked.policy.delete_retention_ms = RETENTION_MS / 2,
        Mistake::TombstonesGoBeforeOthersHaveThem => asked.tombstones_below = end,
        Mistake::ProducersAreForgotten => asked.keep.clear(),
        Mistake::HashesAreTooShort => map.weaken(3),
    }
    let state = log.cleaning_state(&asked.policy, asked.now_ms, asked.below).unwrap();
    let in_time = state.has_tombstones_due(asked.now_ms, asked.tombstones_below);
    let Some(finished) = clean_with(log, asked, &mut map) else { return };
    let report = finished.report;
    assert!(report.end > report.first_dirty || in_time, "a pass gets on");
    assert!(report.bytes_after <= report.bytes_before + 2000 && report.end <= end);
    assert_eq!(log.cleaning_state(&truth.policy, model.now, end).unwrap().first_dirty, report.end);
    finished.removals.into_iter().for_each(|removal| removal.run().unwrap());
    model.clean(report.first_dirty, report.end, &truth);
    model.cleaned = report.end;
    let batches: BTreeSet<_> = headers(log, Offset(0)).iter().map(|it| it.base_offset).collect();
    let oldest = log.segments().unwrap().first().map_or(end, |first| first.base);
    let missed = truth.keep.iter().find(|base| **base >= oldest && !batches.contains(base));
    assert_eq!(missed, None, "what producers are judged by stays");
    check(log);
}

fn truncate<D: Disk>(log: &mut Log<D>, model: &mut Model, back: u64) {
    // what is cut goes batch by batch: also one of which a pass has seen the beginning, stays
    let seen = model.ends.range(..model.cleaned).next_back().map(|(_, end)| *end);
    let kept = seen.unwrap_or_default().max(model.cleaned).max(log.log_start());
    let to = Offset(log.log_end().0.saturating_sub(back)).max(kept);
    let end = log.log_end();
    let cut = log.truncate_to(to, to).unwrap();
    assert!(cut <= to.max(log.log_start()) && (to < end || cut == end));
    model.all.retain(|record| record.offset < cut);
    model.left.retain(|record| record.offset < cut);
    model.ends.retain(|offset, _| *offset < cut);
    model.cleaned = model.cleaned.min(cut);
    for known in model.producers.values_mut() {
        known.retain(|(base, _)| *base < cut);
    }
    model.epoch += 1;
}

/// S20: a reader of what is left knows of each key what a reader of all would, and sees it in the same order.
fn compare<D: Disk>(log: &Log<D>, model: &Model) {
    check(log);
    let start = log.log_start();
    let found = records(log, start);
    let all: Vec<_> = model.all.iter().filter(|it| it.offset >= start).cloned().collect();
    assert_eq!(view(&found), view(&all));
    let mut rest = all.iter();
    assert!(found.iter().all(|record| rest.any(|other| other == record)), "in order, as they were");
}

fn check_files(dir: &std::path::Path) {
    use prost::Message;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if dump::FileKind::of(&path) == Some(dump::FileKind::Log) {
            let report = troupe_log::verify::verify_segment(&path).unwrap();
            assert_eq!(report.faults, Vec::<String>::new(), "{path:?}");
            let content = std::fs::read(&path).unwrap();
            let message = troupe_proto::log::v1::RecordBatches::decode(&content[..]).unwrap();
            assert_eq!(message.batches.len() as u64, report.batches);
        }
    }
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn a_cleaned_log_in_memory_says_of_each_key_what_the_whole_log_would() {
    let mut runner = TestRunner::new(config(200));
    let result = runner.run(&calls(), |calls| {
        run(&memory(), &dir(), &calls, Mistake::None);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_cleaned_log_on_disk_says_of_each_key_what_the_whole_log_would() {
    let mut runner = TestRunner::new(config(25));
    let result = runner.run(&calls(), |calls| {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("topic-3");
        run(&FileDisk, &path, &calls, Mistake::None);
        if path.exists() {
            check_files(&path);
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn mistakes_of_a_cleaner_are_found() {
    for mistake in [
        Mistake::TombstonesGoTooEarly,
        Mistake::TombstonesGoBeforeOthersHaveThem,
        Mistake::ProducersAreForgotten,
        Mistake::HashesAreTooShort,
    ] {
        // Some take hundreds of histories; the first that shows it is the last.
        let mut runner = TestRunner::new(Config { max_shrink_iters: 0, ..config(3_000) });
        let result = runner.run(&calls(), |calls| {
            run(&memory(), &dir(), &calls, mistake);
            Ok(())
        });
        assert!(result.is_err(), "{mistake:?} goes unnoticed");
    }
}
