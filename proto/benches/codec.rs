//! What the codec costs per record: build, verify, walk, own; with records of 100 bytes and of 1 KiB.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use troupe_proto::batch::{
    BuiltBatch, Compression, Limits, ProducedBatch, RecordSet, RecordSetBuilder,
};
use troupe_proto::rope::Rope;

const RECORDS: u32 = 1000;
const NOW: i64 = 1_760_000_000_000;
const KEY: &[u8] = b"customer-00042";
/// HTTP/2 frames as a server with default settings gets them.
const PIECE: usize = 16 << 10;

fn build(value: &[u8], compression: Compression) -> BuiltBatch {
    let mut builder = RecordSetBuilder::with_capacity(RECORDS as usize * (value.len() + 40));
    for index in 0..RECORDS {
        builder.push(NOW + i64::from(index / 10), Some(KEY), Some(value), &[]);
    }
    builder.finish(compression, None).unwrap()
}

fn in_pieces(wire: &Bytes) -> Rope {
    let mut rope = Rope::new();
    for start in (0..wire.len()).step_by(PIECE) {
        rope.push(wire.slice(start..(start + PIECE).min(wire.len())));
    }
    rope
}

fn codec(criterion: &mut Criterion) {
    for (name, size) in [("100B", 100), ("1KiB", 1024)] {
        let value: Vec<u8> = (0..size - KEY.len()).map(|index| b'a' + (index % 23) as u8).collect();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(u64::from(RECORDS)));

        group.bench_function("build_and_finish", |bencher| {
            bencher.iter(|| build(black_box(&value), Compression::None).into_wire());
        });
        let built = build(&value, Compression::None);
        let (header, payload) = (built.header, built.payload.clone());
        let wire = built.into_wire();
        let whole = ProducedBatch::decode(wire.clone().into()).unwrap();
        group.bench_function("verify", |bencher| {
            bencher.iter(|| black_box(&whole).verify(Limits::default()).unwrap());
        });
        let pieces = ProducedBatch::decode(in_pieces(&wire)).unwrap();
        group.bench_function("verify_in_16KiB_pieces", |bencher| {
            bencher.iter(|| black_box(&pieces).verify(Limits::default()).unwrap());
        });
        let set = RecordSet::decode(&header, payload.clone(), Limits::default()).unwrap();
        group.bench_function("borrowed_walk", |bencher| {
            bencher.iter(|| {
                let bytes = black_box(&set).iter().map(|record| {
                    let record = record.unwrap();
                    record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
                });
                bytes.sum::<usize>()
            });
        });
        group.bench_function("decode_and_owned_records", |bencher| {
            bencher.iter(|| {
                let set = RecordSet::decode(&header, payload.clone(), Limits::default()).unwrap();
                set.records()
                    .map(|record| record.unwrap().value.map_or(0, |value| value.len()))
                    .sum::<usize>()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
