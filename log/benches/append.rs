//! What a log costs: appending, reading slices, opening. `cargo bench -p troupe-log`.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails may panic")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use troupe_log::disk::FileDisk;
use troupe_log::{Log, LogConfig};
use troupe_proto::batch::{BatchHeader, Compression, RecordSetBuilder};
use troupe_proto::ids::{Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::rope::Rope;

const NOW: i64 = 1_760_000_000_000;

fn key() -> PartitionKey {
    PartitionKey { topic_id: TopicId::random(), partition: PartitionId(0) }
}

fn open(dir: &Path, key: PartitionKey) -> Log<FileDisk> {
    let config = LogConfig { segment_bytes: 256 << 20, ..LogConfig::default() };
    Log::open(FileDisk, dir.to_owned(), key, config, NOW).unwrap().0
}

/// A batch of about `len` bytes.
fn batch(len: usize) -> (BatchHeader, Rope) {
    let mut builder = RecordSetBuilder::new();
    while builder.len() < len {
        builder.push(NOW, None, Some(&vec![7; len.min(1000)]), &[]);
    }
    let built = builder.finish(Compression::None, None).unwrap();
    (built.header, Rope::from(built.payload))
}

fn append(log: &mut Log<FileDisk>, header: &BatchHeader, payload: &Rope) {
    let header = BatchHeader { base_offset: log.log_end(), ..*header };
    log.append(&header, payload, NOW).unwrap();
    // a bounded log, so that the benchmark does not fill the disk
    while log.size_bytes() > 1 << 30 {
        log.remove_oldest().unwrap().unwrap().run().unwrap();
    }
}

fn appending(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for (name, len) in [("1 KiB batches", 1 << 10), ("1 MiB batches", 1 << 20)] {
        let temp = tempfile::tempdir().unwrap();
        let mut log = open(&temp.path().join("t-0"), key());
        let (header, payload) = batch(len);
        group.throughput(Throughput::Bytes(header.encoded_len() as u64));
        group.bench_function(name, |b| b.iter(|| append(&mut log, &header, &payload)));
    }
    group.finish();
}

fn reading(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let mut log = open(&temp.path().join("t-0"), key());
    let (header, payload) = batch(16 << 10);
    for _ in 0..16_000 {
        append(&mut log, &header, &payload);
    }
    let mut group = c.benchmark_group("read");
    for (name, max_bytes) in [("64 KiB slices", 64 << 10), ("1 MiB slices", 1 << 20)] {
        let mut from = Offset(0);
        group.throughput(Throughput::Bytes(max_bytes as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let slice = log.read(from, log.log_end(), max_bytes).unwrap();
                from = if slice.end == log.log_end() { Offset(0) } else { slice.end };
                black_box(slice.bytes.len())
            });
        });
    }
    group.finish();
}

fn opening(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let (key, never) = (key(), temp.path().join("t-1"));
    let dir = temp.path().join("t-0");
    let mut log = open(&dir, key);
    let (header, payload) = batch(1 << 10);
    for _ in 0..1000 {
        append(&mut log, &header, &payload);
    }
    log.close_clean(Offset(0)).unwrap();
    let mut group = c.benchmark_group("open");
    group.bench_function("never written", |b| {
        b.iter_batched(|| (), |()| open(&never, key), BatchSize::SmallInput);
    });
    group.bench_function("after a clean close", |b| {
        b.iter_batched(|| (), |()| open(&dir, key), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = appending, reading, opening
}
criterion_main!(benches);
