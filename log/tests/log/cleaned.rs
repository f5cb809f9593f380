//! Logs of keys and values to clean, and what is in them.

use crate::batches::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use troupe_log::disk::Disk;
use troupe_log::{
    CleaningPolicy, CleaningReport, CleaningRequest, Finished, FullSpeed, Log, LogError, OffsetMap,
    Removal, TimestampHit,
};
use troupe_proto::batch::{
    BatchHeader, Batches, Compression, Limits, ProducerStamp, Record, RecordSet, RecordSetBuilder,
};
use troupe_proto::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use troupe_proto::rope::Rope;

/// Key, value, timestamp.
pub type Pair<'a> = (Option<&'a str>, Option<&'a str>, i64);

pub const RETENTION_MS: u64 = 1000;
/// Every replica has everything.
pub const ALL: Offset = Offset(u64::MAX >> 1);

pub fn request(now_ms: i64, below: Offset) -> CleaningRequest {
    CleaningRequest {
        policy: CleaningPolicy { delete_retention_ms: RETENTION_MS, ..CleaningPolicy::default() },
        now_ms,
        below,
        tombstones_below: ALL,
        keep: BTreeSet::new(),
        hash_key: [5; 16],
    }
}

pub fn producer(id: u64, sequence: u32) -> ProducerStamp {
    let epoch = ProducerEpoch(0);
    ProducerStamp { id: ProducerId(id), epoch, base_sequence: Sequence(sequence) }
}

/// A batch of these, which may be rolled into the next segment.
pub fn put_batch<D: Disk>(
    log: &mut Log<D>,
    epoch: u32,
    pairs: &[Pair<'_>],
    compression: Compression,
    stamp: Option<ProducerStamp>,
) -> Result<(), LogError> {
    let mut builder = RecordSetBuilder::new();
    for (key, value, timestamp) in pairs {
        let headers: &[(&str, Option<&[u8]>)] = &[("h", Some(b"1")), ("h", None)];
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        builder.push(*timestamp, key, value, if timestamp % 3 == 0 { headers } else { &[] });
    }
    let built = builder.finish(compression, stamp).unwrap();
    let (base_offset, leader_epoch) = (log.log_end(), LeaderEpoch(epoch));
    let header = BatchHeader { base_offset, leader_epoch, ..built.header };
    log.append(&header, &Rope::from(built.payload), NOW).map(drop)
}

pub fn put<D: Disk>(log: &mut Log<D>, key: &str, value: Option<&str>) {
    let timestamp = NOW + log.log_end().0 as i64;
    put_batch(log, 0, &[(Some(key), value, timestamp)], Compression::None, None).unwrap();
}

/// All of it is closed, and flushed.
pub fn close_segments<D: Disk>(log: &mut Log<D>) {
    log.roll(NOW).unwrap();
    log.flush().unwrap();
}

/// What a pass that is over has left and done.
pub struct Done<D: Disk> {
    pub removals: Vec<Removal<D>>,
    pub report: CleaningReport,
}

/// Begins, runs, finishes and ends.
pub fn clean<D: Disk>(log: &mut Log<D>, request: CleaningRequest) -> Option<Done<D>> {
    clean_with(log, request, &mut OffsetMap::new(1 << 16))
}

pub fn clean_with<D: Disk>(
    log: &mut Log<D>,
    request: CleaningRequest,
    map: &mut OffsetMap,
) -> Option<Done<D>> {
    let tombstones_below = request.tombstones_below;
    let cleaning = log.begin_cleaning(request).unwrap()?;
    let cleaned = cleaning.run(map, &mut FullSpeed).unwrap();
    let high_watermark = log.flushed_end();
    let Finished { removals, report, ending } =
        log.finish_cleaning(cleaned, high_watermark, tombstones_below).unwrap()?;
    ending.run().unwrap();
    Some(Done { removals, report })
}

pub fn headers<D: Disk>(log: &Log<D>, from: Offset) -> Vec<BatchHeader> {
    let mut found = Vec::new();
    log.replay(from, |header| found.push(*header)).unwrap();
    found
}

/// Every record from `from` on, and where the batches stand.
pub fn records<D: Disk>(log: &Log<D>, from: Offset) -> Vec<Record> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let slice = log.read(next, log.log_end(), 300).unwrap();
        if slice.is_empty() {
            assert_eq!(next, log.log_end());
            return found;
        }
        assert!(next < slice.end);
        let mut last = None;
        for batch in Batches::verified(slice.bytes, key()) {
            let (header, payload) = batch.unwrap();
            let set = RecordSet::decode(&header, payload, Limits::default()).unwrap();
            let records = set.records().map(Result::unwrap);
            found.extend(records.filter(|record| record.offset >= from));
            last = Some(header.end_offset());
        }
        assert_eq!(last, Some(slice.end), "a slice ends with a batch");
        next = slice.end;
    }
}

/// What a reader of all of it would know of each key.
pub fn view(records: &[Record]) -> BTreeMap<Bytes, Bytes> {
    let mut view = BTreeMap::new();
    for record in records {
        let Some(key) = record.key.clone() else { continue };
        match record.value.clone() {
            Some(value) => drop(view.insert(key, value)),
            None => drop(view.remove(&key)),
        }
    }
    view
}

/// What holds of every log, cleaned or not.
pub fn check<D: Disk>(log: &Log<D>) {
    let segments = log.segments().unwrap();
    let all = records(log, log.log_start());
    for pair in segments.windows(2) {
        assert_eq!(pair[0].end, pair[1].base, "segments are contiguous");
    }
    let batches = headers(log, Offset(0));
    for segment in segments.iter().filter(|segment| segment.size > 0) {
        assert!(batches.iter().any(|batch| batch.end_offset() == segment.end), "{segment:?}");
        let within = all.iter().filter(|it| it.offset >= segment.base && it.offset < segment.end);
        if segment.base >= log.log_start() {
            let largest = within.map(|record| record.timestamp_ms).max();
            assert_eq!(segment.largest_timestamp, largest, "{segment:?}");
        }
    }
    for record in &all {
        assert_eq!(records(log, record.offset).first(), Some(record), "read from any offset");
        assert_eq!(
            log.find_by_timestamp(record.timestamp_ms, log.log_end()).unwrap(),
            first_at(log, &all, record.timestamp_ms)
        );
    }
    let largest = all.iter().map(|record| record.timestamp_ms).max();
    let found = log.find_max_timestamp(log.log_end()).unwrap();
    assert_eq!(found, largest.and_then(|largest| first_at(log, &all, largest)));
}

fn first_at<D: Disk>(log: &Log<D>, all: &[Record], timestamp_ms: i64) -> Option<TimestampHit> {
    let record = all.iter().find(|record| record.timestamp_ms >= timestamp_ms)?;
    let batches = headers(log, record.offset);
    let leader_epoch = batches.first()?.leader_epoch;
    Some(TimestampHit { offset: record.offset, timestamp_ms: record.timestamp_ms, leader_epoch })
}

/// Offset, key and value of each record.
pub fn values<D: Disk>(log: &Log<D>) -> Vec<(u64, String, Option<String>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let found = records(log, log.log_start()).into_iter();
    found
        .map(|it| (it.offset.0, it.key.as_ref().map(text).unwrap(), it.value.as_ref().map(text)))
        .collect()
}

pub fn value(offset: u64, key: &str, value: &str) -> (u64, String, Option<String>) {
    (offset, key.to_owned(), Some(value.to_owned()))
}
