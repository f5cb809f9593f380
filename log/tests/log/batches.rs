//! Batches and logs to test with.

use bytes::Bytes;
use std::path::PathBuf;
use troupe_log::disk::{Disk, MemDisk};
use troupe_log::{Appended, Log, LogConfig, LogError, Recovery};
use troupe_proto::batch::{Attributes, BatchHeader, Batches, Compression, RecordSetBuilder};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::rope::Rope;

pub const NOW: i64 = 1_760_000_000_000;

pub fn key() -> PartitionKey {
    let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
    PartitionKey { topic_id, partition: PartitionId(3) }
}

pub fn dir() -> PathBuf {
    PathBuf::from("/data/topic-3")
}

/// A disk with an empty data directory.
pub fn memory() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir(&PathBuf::from("/data")).unwrap();
    disk.sync_dir(&PathBuf::from("/")).unwrap();
    disk
}

/// Segments of a few small batches, an index entry for every other.
pub fn small() -> LogConfig {
    LogConfig { segment_bytes: 1000, index_interval_bytes: 150, ..LogConfig::default() }
}

pub fn open<D: Disk>(disk: &D, config: LogConfig) -> (Log<D>, Recovery) {
    Log::open(disk.clone(), dir(), key(), config, NOW).unwrap()
}

/// A batch of one record per timestamp, whose values are `value`.
pub fn batch(timestamps: &[i64], value: &[u8]) -> (BatchHeader, Bytes) {
    let mut builder = RecordSetBuilder::new();
    for timestamp in timestamps {
        builder.push(*timestamp, Some(b"k"), Some(value), &[]);
    }
    let built = builder.finish(Compression::None, None).unwrap();
    (built.header, built.payload)
}

/// Appends `count` records of `value_len` bytes as one batch in the log's own order.
pub fn append<D: Disk>(
    log: &mut Log<D>,
    epoch: u32,
    count: usize,
    value_len: usize,
) -> Result<Appended, LogError> {
    let value = vec![log.log_end().0 as u8; value_len];
    append_at(log, epoch, &vec![NOW + log.log_end().0 as i64; count], &value)
}

pub fn append_at<D: Disk>(
    log: &mut Log<D>,
    epoch: u32,
    timestamps: &[i64],
    value: &[u8],
) -> Result<Appended, LogError> {
    let (header, payload) = batch(timestamps, value);
    let header = BatchHeader {
        base_offset: log.log_end(),
        leader_epoch: LeaderEpoch(epoch),
        attributes: Attributes::default(),
        ..header
    };
    log.append(&header, &Rope::from(payload), NOW)
}

/// A batch as a leader sends it; where it ends, and its payload.
pub fn frames_at(
    base: Offset,
    epoch: u32,
    timestamps: &[i64],
    value: &[u8],
) -> (Bytes, Offset, Bytes) {
    let (header, payload) = batch(timestamps, value);
    let header = BatchHeader { base_offset: base, leader_epoch: LeaderEpoch(epoch), ..header };
    let frames = [&header.encode(&key())[..], &payload[..]].concat();
    (frames.into(), header.end_offset(), payload)
}

/// All batches from `from` to the end, each checked against both checksums: (base, end, epoch, payload).
pub fn contents<D: Disk>(log: &Log<D>, from: Offset) -> Vec<(Offset, Offset, LeaderEpoch, Bytes)> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let slice = log.read(next, log.log_end(), 700).unwrap();
        if slice.is_empty() {
            assert_eq!(next, log.log_end());
            return found;
        }
        assert!(slice.first <= next && next < slice.end);
        for batch in Batches::verified(slice.bytes, key()) {
            let (header, payload) = batch.unwrap();
            found.push((header.base_offset, header.end_offset(), header.leader_epoch, payload));
        }
        assert_eq!(found.last().unwrap().1, slice.end);
        next = slice.end;
    }
}
