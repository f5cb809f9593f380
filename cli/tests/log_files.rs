//! The files of a node, looked at and mended while it does not run.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions only")]

mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use support::{Dev, run};

/// A data directory in which a topic `t` of one partition has three records, in two batches.
fn written(dir: &Path) {
    let dev = Dev::start(dir);
    dev.run(&["topic", "create", "t", "--config", "index.interval.bytes=0"]).ok();
    dev.run_with(&["produce", "t", "-K", ":"], b"a:1\nb:2\n").ok();
    dev.run_with(&["produce", "t", "-K", ":", "-H", "trace: x"], b"c:3\n").ok();
    assert_eq!(dev.stop(), 0);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join("t-0").join(name)
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

/// The names of the facts of a line, in order.
fn names(line: &str) -> Vec<&str> {
    line.split(' ').filter_map(|word| word.strip_suffix(':')).collect()
}

/// S31: names and order are those of Kafka 4's tool; what only Troupe has stands behind.
#[test]
fn batches_and_records_are_dumped_in_kafka_s_words() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let log = file(temp.path(), "00000000000000000000.log");
    let ran = run(&["log", "dump", text(&log), "--records"]).ok();
    let lines: Vec<&str> = ran.text().lines().collect();
    assert_eq!(lines[0], format!("Dumping {}", log.display()));
    assert_eq!(lines[1], "Log starting offset: 0");
    let batch = names(lines[2]);
    let kafka = [
        "baseOffset",
        "lastOffset",
        "count",
        "baseSequence",
        "lastSequence",
        "producerId",
        "producerEpoch",
        "partitionLeaderEpoch",
        "isTransactional",
        "isControl",
        "deleteHorizonMs",
        "position",
        "CreateTime",
        "size",
        "magic",
        "compresscodec",
        "crc",
        "isvalid",
    ];
    assert_eq!(batch[..kafka.len()], kafka);
    assert_eq!(batch[kafka.len()..], ["headerCrc", "baseTimestamp"]);
    assert!(
        lines[2].contains("baseOffset: 0 lastOffset: 1 count: 2 baseSequence: 0 lastSequence: 1")
    );
    assert!(
        lines[2].contains(" magic: 2 compresscodec: none crc: ")
            && lines[2].contains(" isvalid: true")
    );
    assert!(lines[3].starts_with("| offset: 0 CreateTime: "), "{}", lines[3]);
    assert!(
        lines[3].ends_with(" keySize: 1 valueSize: 1 sequence: 0 headerKeys: [] key: a payload: 1")
    );
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("| offset: 2 ") && last.ends_with("headerKeys: [trace] key: c payload: 3"),
        "{last}"
    );

    let short = run(&["log", "dump", text(&log), "--records", "--skip-record-metadata"]).ok();
    assert!(short.text().contains("\n| key: a payload: 1\n"), "{}", short.text());
    let first = run(&["log", "dump", text(&log), "--max-bytes", "1"]).ok();
    assert_eq!(first.text().lines().count(), 3, "{}", first.text());
}

/// S32, and every other file of a data directory.
#[test]
fn every_file_of_a_data_directory_is_dumped() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    fs::write(file(temp.path(), "00000000000000000000.index.deleted"), b"").unwrap();
    let whole = run(&["log", "dump", text(temp.path()), "-o", "json"]).ok().json();
    let files: Vec<&str> = whole["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["file"].as_str().unwrap())
        .collect();
    for name in [
        "meta.properties",
        "partition-directories",
        "t-0/00000000000000000000.log",
        "t-0/00000000000000000000.timeindex",
        "t-0/flushed-end",
        "t-0/leader-epoch-checkpoint",
        "t-0/offset-checkpoint",
        "t-0/partition.metadata",
        "t-0/00000000000000000000.index.deleted",
        "metadata",
    ] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name} in {files:?}");
    }
    let entries = |name: &str| {
        let files = whole["files"].as_array().unwrap();
        files.iter().find(|file| file["file"].as_str().unwrap().ends_with(name)).unwrap()["entries"]
            .clone()
    };
    assert_eq!(entries("meta.properties")[1]["node.id"], 1);
    assert_eq!(entries("t-0/leader-epoch-checkpoint")[0]["startOffset"], 0);
    let told: Vec<String> = entries("offset-checkpoint")
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|line| line.as_object().unwrap().keys().cloned())
        .collect();
    assert!(told.iter().any(|name| name == "recoveryPoint"), "{told:?}");

    let times =
        run(&["log", "dump", text(&file(temp.path(), "00000000000000000000.timeindex"))]).ok();
    assert!(times.text().lines().nth(1).is_none_or(|line| names(line) == ["timestamp", "offset"]));
    let snapshots =
        fs::read_dir(temp.path().join("t-0")).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = snapshots
        .filter(|path| path.extension().is_some_and(|end| end == "snapshot"))
        .max()
        .unwrap();
    let ran = run(&["log", "dump", text(&snapshot)]).ok();
    let line = ran.text().lines().nth(1).unwrap();
    let kafka = [
        "producerId",
        "producerEpoch",
        "coordinatorEpoch",
        "currentTxnFirstOffset",
        "lastTimestamp",
        "firstSequence",
        "lastSequence",
        "lastOffset",
        "offsetDelta",
        "timestamp",
    ];
    assert_eq!(names(line)[..kafka.len()], kafka, "{line}");
    assert!(
        line.contains(" coordinatorEpoch: -1 currentTxnFirstOffset: OptionalLong.empty "),
        "{line}"
    );
}

#[test]
fn the_metadata_log_is_dumped_with_its_records() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let dir = temp.path().join("metadata");
    let decoded = run(&["log", "dump", text(&dir), "--decode", "metadata"]).ok();
    let records: Vec<Value> =
        decoded.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let topic = records.iter().find(|record| record["type"] == "TOPIC_RECORD").unwrap();
    assert_eq!((&topic["data"]["name"], &topic["version"]), (&"t".into(), &0.into()));
    assert!(topic["offset"].is_u64(), "{topic}");
    assert!(records.iter().any(|record| record["type"] == "PARTITION_RECORD"));
    assert!(records.iter().any(|record| record["type"] == "REGISTER_BROKER_RECORD"));
    let text_of = run(&["log", "dump", text(&dir), "--records"]).ok();
    assert!(text_of.text().contains(" payload: {\"type\":\"TOPIC_RECORD\""), "{}", text_of.text());
}

/// S32: where an index and its log disagree is told as Kafka's tool tells it, and fails.
#[test]
fn mismatches_of_index_and_log_are_listed_on_standard_error() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let index = file(temp.path(), "00000000000000000000.index");
    // last offset of the second batch, and a position that is none of its
    fs::write(&index, [0, 0, 0, 2, 0, 0, 0, 0]).unwrap();
    let ran = run(&["log", "dump", text(&index)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.text().lines().nth(1), Some("offset: 2 position: 0"));
    assert!(
        ran.err.contains(&format!(
            "Mismatches in :{}\n  Index offset: 2, log offset: 1\n",
            index.display()
        )),
        "{}",
        ran.err
    );
    let times = file(temp.path(), "00000000000000000000.timeindex");
    fs::write(&times, [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1]).unwrap();
    let ran = run(&["log", "dump", text(&times)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains(&format!(
            "Found timestamp mismatch in :{}\n  Index timestamp: 9, log timestamp: ",
            times.display()
        )),
        "{}",
        ran.err
    );
}

#[test]
fn a_damaged_segment_is_dumped_as_far_as_it_can_be_read() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let log = file(temp.path(), "00000000000000000000.log");
    let content = fs::read(&log).unwrap();
    // in the payload of the first batch: the second can still be read
    flip(&log, 90);
    let ran = run(&["log", "dump", text(&log), "--records"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.text().contains(" isvalid: false") && ran.text().contains("payload: 3"),
        "{}",
        ran.text()
    );
    fs::write(&log, &content[..content.len() - 5]).unwrap();
    let ran = run(&["log", "dump", text(&log)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.text().contains(" invalid bytes at the end of 00000000000000000000.log"),
        "{}",
        ran.text()
    );
    assert!(ran.err.contains("no batch at byte"), "{}", ran.err);
}

#[test]
fn a_data_directory_is_verified_and_mended_as_a_whole() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let dir = text(temp.path());
    run(&["log", "verify", dir]).ok();
    flip(&file(temp.path(), "leader-epoch-checkpoint"), 12);
    flip(&file(temp.path(), "offset-checkpoint"), 12);
    fs::write(file(temp.path(), "offset-checkpoint.tmp"), b"half").unwrap();
    let found = run(&["log", "verify", dir, "-o", "json"]);
    assert_eq!(found.code, 1, "{found:?}");
    let files = found.json()["files"].as_array().unwrap().clone();
    let of = |name: &str| {
        files.iter().find(|file| file["file"].as_str().unwrap().ends_with(name)).unwrap().clone()
    };
    assert_eq!(
        (&of("leader-epoch-checkpoint")["ok"], &of("leader-epoch-checkpoint")["mendable"]),
        (&false.into(), &true.into())
    );
    assert_eq!(of("offset-checkpoint.tmp")["leftover"], true);
    let fixed = run(&["log", "verify", dir, "--fix"]).ok();
    assert!(fixed.err.contains("leader-epoch-checkpoint: made again"), "{}", fixed.err);
    run(&["log", "verify", dir]).ok();
    let dev = Dev::start(temp.path());
    assert_eq!(dev.run(&["consume", "t", "-e"]).ok().text(), "1\n2\n3\n");
    assert_eq!(dev.stop(), 0);
}

#[test]
fn damaged_records_are_left_to_the_node_unless_it_is_said_that_they_may_go() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let (dir, log) = (text(temp.path()), file(temp.path(), "00000000000000000000.log"));
    let size = fs::metadata(&log).unwrap().len();
    // in the second batch
    flip(&log, usize::try_from(size).unwrap() - 1);
    let refused = run(&["log", "verify", dir, "--fix"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("not fixed") && refused.err.contains("--drop-damaged"),
        "{}",
        refused.err
    );
    assert_eq!(fs::metadata(&log).unwrap().len(), size);
    let dropped = run(&["log", "verify", dir, "--fix", "--drop-damaged"]);
    assert!(
        dropped.err.contains("lost: ") && dropped.err.contains("offsets 2 to 3, exclusive"),
        "{}",
        dropped.err
    );
    assert!(fs::metadata(&log).unwrap().len() < size);
}

#[test]
fn the_files_of_a_running_node_are_not_mended() {
    let temp = tempfile::tempdir().unwrap();
    let dev = Dev::start(temp.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"1\n").ok();
    let partition = temp.path().join("t-0");
    run(&["log", "verify", text(&partition)]).ok();
    let refused = run(&["log", "verify", text(&partition), "--fix"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("another node is using"), "{}", refused.err);
    assert_eq!(dev.stop(), 0);
}
