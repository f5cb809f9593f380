//! What it costs to clean a log, against reading and writing as many bytes. `cargo bench -p troupe-log --bench clean`.
//!
//! One million keys, each written ten times; `CLEAN_KEYS` says how many others.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails may panic")]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use troupe_log::disk::FileDisk;
use troupe_log::{CleaningPolicy, CleaningRequest, FullSpeed, Log, LogConfig, OffsetMap};
use troupe_proto::batch::{BatchHeader, Compression, RecordSetBuilder};
use troupe_proto::ids::{Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::rope::Rope;

const NOW: i64 = 1_760_000_000_000;
const ROUNDS: u64 = 10;
const VALUE: [u8; 100] = [b'v'; 100];
const BATCH_BYTES: usize = 16 << 10;

fn main() {
    let keys = std::env::var("CLEAN_KEYS").ok().and_then(|keys| keys.parse().ok());
    for compression in [Compression::None, Compression::Lz4] {
        measure(keys.unwrap_or(1_000_000), compression);
    }
}

fn measure(keys: u64, compression: Compression) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let key = PartitionKey { topic_id: TopicId::random(), partition: PartitionId(0) };
    let config = LogConfig { segment_bytes: 256 << 20, ..LogConfig::default() };
    let (mut log, _) = Log::open(FileDisk, dir.clone(), key, config, NOW).unwrap();
    fill(&mut log, keys, compression);
    let before = log.size_bytes();
    let raw = read_and_write(&dir, &temp.path().join("copy"));
    let mut map = OffsetMap::new(128 << 20);
    let began = Instant::now();
    let request = CleaningRequest {
        policy: CleaningPolicy::default(),
        now_ms: NOW,
        below: log.flushed_end(),
        tombstones_below: Offset(0),
        keep: BTreeSet::new(),
        hash_key: [7; 16],
    };
    let cleaning = log.begin_cleaning(request).unwrap().unwrap();
    let cleaned = cleaning.run(&mut map, &mut FullSpeed).unwrap();
    let ran = began.elapsed();
    let finished =
        log.finish_cleaning(cleaned, log.flushed_end(), Offset(u64::MAX)).unwrap().unwrap();
    let took = began.elapsed();
    let report = finished.report;
    finished.ending.run().unwrap();
    finished.removals.into_iter().for_each(|removal| removal.run().unwrap());
    let per_second = |time: Duration| before as f64 / 1e6 / time.as_secs_f64();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{compression}: {} MB, {} of {} records stay; read and written {:.0} MB/s, cleaned {:.0} MB/s \
         ({:.2} of it); finishing took {:.1} ms",
        before / 1_000_000,
        report.records_kept,
        report.records_kept + report.records_gone,
        per_second(raw),
        per_second(took),
        raw.as_secs_f64() / took.as_secs_f64(),
        (took - ran).as_secs_f64() * 1e3,
    )
    .unwrap();
}

fn fill(log: &mut Log<FileDisk>, keys: u64, compression: Compression) {
    let mut builder = RecordSetBuilder::new();
    for n in 0..keys * ROUNDS {
        // every round in another order
        let name = format!("key-{:012}", n.wrapping_mul(7_919) % keys);
        builder.push(NOW, Some(name.as_bytes()), Some(&VALUE), &[]);
        if builder.len() >= BATCH_BYTES {
            append(log, std::mem::take(&mut builder), compression);
        }
    }
    append(log, builder, compression);
    log.roll(NOW).unwrap();
    log.flush().unwrap();
}

fn append(log: &mut Log<FileDisk>, builder: RecordSetBuilder, compression: Compression) {
    let Ok(built) = builder.finish(compression, None) else { return };
    let header = BatchHeader { base_offset: log.log_end(), ..built.header };
    log.append(&header, &Rope::from(built.payload), NOW).unwrap();
}

/// All `.log` files, one after the other, into one.
fn read_and_write(dir: &Path, copy: &Path) -> Duration {
    let began = Instant::now();
    let mut out = std::fs::File::create(copy).unwrap();
    let mut buffer = vec![0; 1 << 20];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let mut file = std::fs::File::open(path).unwrap();
            loop {
                match file.read(&mut buffer).unwrap() {
                    0 => break,
                    read => out.write_all(&buffer[..read]).unwrap(),
                }
            }
        }
    }
    out.sync_all().unwrap();
    let took = began.elapsed();
    std::fs::remove_file(copy).unwrap();
    took
}
