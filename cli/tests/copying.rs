//! Offsets of topics, and copies of them.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions only")]

mod support;

use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use support::{Dev, command, kill};

/// All of a topic that a copy keeps, partition by partition, without offsets.
fn content(dev: &Dev, topic: &str) -> Vec<Vec<Value>> {
    let ran = dev.run(&["consume", topic, "-e", "--from-beginning", "-o", "jsonl"]).ok();
    let mut partitions: Vec<Vec<(u64, Value)>> = Vec::new();
    for line in ran.text().lines() {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let object = record.as_object_mut().unwrap();
        let offset = object.remove("offset").unwrap().as_u64().unwrap();
        for ours in ["topic", "leaderEpoch", "highWatermark"] {
            object.remove(ours);
        }
        let partition = object["partition"].as_u64().unwrap() as usize;
        if partitions.len() <= partition {
            partitions.resize(partition + 1, Vec::new());
        }
        partitions[partition].push((offset, record));
    }
    partitions.iter_mut().for_each(|records| records.sort_by_key(|(offset, _)| *offset));
    partitions
        .into_iter()
        .map(|records| records.into_iter().map(|(_, record)| record).collect())
        .collect()
}

/// Keyed records, some of them equal.
fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
    range.flat_map(|number| format!("k{}:v{}\n", number % 97, number / 3).into_bytes()).collect()
}

/// A20.
#[test]
fn offsets_are_shown_as_kafka_shows_them() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders", "-p", "3"]).ok();
    dev.run(&["topic", "create", "empty"]).ok();
    dev.run_with(&["produce", "orders", "-p", "1"], b"1\n2\n3\n").ok();
    let offsets = |arguments: &[&str]| {
        dev.run(&[&["topic", "offsets"][..], arguments].concat()).ok().text().to_owned()
    };
    assert_eq!(offsets(&["orders"]), "orders:0:0\norders:1:3\norders:2:0\n");
    assert_eq!(offsets(&["orders:1", "--at", "-2"]), "orders:1:0\n");
    assert_eq!(
        offsets(&["orders:1-,empty", "--at", "latest"]),
        "empty:0:0\norders:1:3\norders:2:0\n"
    );
    assert_eq!(offsets(&["ord.*:1", "--at", "max-timestamp"]).split(':').next(), Some("orders"));
    assert_eq!(offsets(&["orders", "--at", "@2099-01-01"]), "", "no record is that late");
    assert_eq!(offsets(&["--exclude-internal"]), "empty:0:0\norders:0:0\norders:1:3\norders:2:0\n");
    let json =
        dev.run(&["topic", "offsets", "orders:1", "--at", "@2020-01-01", "-o", "json"]).ok().json();
    assert_eq!(json["offsets"][0]["offset"], 0);
    assert!(json["offsets"][0]["timestamp"].is_i64());
    for (arguments, code) in [
        (&["topic", "offsets", "nope"][..], 3),
        (&["topic", "offsets", "orders:9"], 3),
        (&["topic", "offsets", "o", "--at", "noon"], 2),
    ] {
        assert_eq!(dev.run(arguments).code, code, "{arguments:?}");
    }
    assert_eq!(dev.stop(), 0);
}

/// A partition whose node is gone keeps no other back.
#[test]
fn offsets_of_the_others_are_shown_beside_a_partition_without_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start_nodes(dir.path(), 3);
    dev.run(&["topic", "create", "t", "--replica-assignment", "1,2,3"]).ok();
    for partition in ["0", "1", "2"] {
        dev.run_with(&["produce", "t", "-p", partition], b"x\n").ok();
    }
    dev.tell("kill 3");
    let ran = dev.run(&["topic", "offsets", "t"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.text(), "t:0:1\nt:1:1\n");
    assert!(ran.err.contains("t:2: "), "{}", ran.err);
}

#[test]
fn a_topic_is_copied_with_all_that_its_records_have() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (Dev::start(here.path()), Dev::start(there.path()));
    source.run(&["topic", "create", "t", "-p", "3", "--config", "retention.ms=9999999999"]).ok();
    source.run_with(&["produce", "t", "-K", ":"], &lines(0..500)).ok();
    source
        .run_with(
            &[
                "produce",
                "t",
                "-H",
                "trace: 1",
                "-H",
                "trace: 2",
                "--key",
                "h",
                "--null-marker",
                "NULL",
            ],
            b"x\nNULL\n",
        )
        .ok();
    let copy = |arguments: &[&str]| {
        source.run(
            &[&["topic", "copy", "t", "--to-server", &target.server, "-o", "json"][..], arguments]
                .concat(),
        )
    };
    let first = copy(&[]).ok().json();
    assert_eq!(first["records"], 502);
    assert_eq!(content(&target, "t"), content(&source, "t"));
    let described = target.run(&["topic", "describe", "t", "-o", "json"]).ok().json();
    let configs = described["configs"].as_array().unwrap();
    let kept = configs.iter().find(|config| config["name"] == "retention.ms").unwrap();
    assert_eq!(kept["value"], "9999999999");
    // Again: nothing new. Then what has come since.
    assert_eq!(copy(&[]).ok().json()["records"], 0);
    source.run_with(&["produce", "t", "-K", ":"], &lines(500..600)).ok();
    let third = copy(&["--rate", "100000"]).ok().json();
    assert_eq!(third["records"], 100);
    assert_eq!(content(&target, "t"), content(&source, "t"));
    let ends: u64 =
        third["partitions"].as_array().unwrap().iter().map(|p| p["toEnd"].as_u64().unwrap()).sum();
    assert_eq!(ends, 602);
}

/// Nothing is missing and nothing is there twice, wherever it was when it was killed.
#[test]
fn a_copy_that_is_killed_three_times_ends_with_an_equal_topic() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (Dev::start(here.path()), Dev::start(there.path()));
    source.run(&["topic", "create", "t", "-p", "2"]).ok();
    source.run_with(&["produce", "t", "-K", ":"], &lines(0..20_000)).ok();
    let arguments =
        ["topic", "copy", "t", "copy", "--server", &source.server, "--to-server", &target.server];
    let copied = || -> u64 {
        let ran = target.run(&["topic", "offsets", "copy"]);
        let ends =
            ran.text().lines().filter_map(|line| line.rsplit(':').next()?.parse::<u64>().ok());
        ends.sum()
    };
    for round in 0..3 {
        let before = copied();
        let mut child = command(&[&arguments[..], &["--rate", "4000"]].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while copied() < before + 1_000 {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself in round {round}");
            std::thread::sleep(Duration::from_millis(50));
        }
        kill(child.id(), libc::SIGKILL);
        child.wait().unwrap();
    }
    let between = copied();
    assert!((3_000..20_000).contains(&between), "{between} records were copied before the end");
    support::run(&arguments).ok();
    let (source, target) = (content(&source, "t"), content(&target, "copy"));
    assert_eq!(source.iter().map(Vec::len).sum::<usize>(), 20_000);
    assert!(
        source == target,
        "{:?} and {:?} records",
        source.iter().map(Vec::len),
        target.iter().map(Vec::len)
    );
}

#[test]
fn a_copy_says_what_stands_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    for (topic, partitions) in [("t", "2"), ("one", "1"), ("full", "2")] {
        dev.run(&["topic", "create", topic, "-p", partitions]).ok();
    }
    dev.run_with(&["produce", "t"], b"1\n2\n").ok();
    dev.run_with(&["produce", "full"], b"other\nother\nother\n").ok();
    for (arguments, code, says) in [
        (&["topic", "copy", "t"][..], 2, "the same topic"),
        (&["topic", "copy", "t", "one"], 4, "t has 2 partitions, and one has 1"),
        (&["topic", "copy", "nope", "x"], 3, "nope"),
        (&["topic", "copy", "t", "full"], 4, "--append"),
    ] {
        let ran = dev.run(arguments);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.err.contains(says), "{arguments:?}: {}", ran.err);
    }
    dev.run(&["topic", "copy", "t", "full", "--append"]).ok();
    assert_eq!(content(&dev, "full").iter().map(Vec::len).sum::<usize>(), 5);
    // Somebody else writes behind the copy: that is told when it goes on.
    dev.run_with(&["produce", "full", "-p", "0"], b"other\n").ok();
    let ran = dev.run(&["topic", "copy", "t", "full"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("somebody else writes there"), "{}", ran.err);
}

#[test]
fn a_copy_that_follows_copies_what_comes_and_ends_by_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let child =
        command(&["topic", "copy", "t", "u", "--follow", "-o", "json", "--server", &dev.server])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    dev.run_with(&["produce", "t"], b"1\n2\n3\n").ok();
    while dev.run(&["topic", "offsets", "u"]).text() != "u:0:3\n" {
        std::thread::sleep(Duration::from_millis(50));
    }
    kill(child.id(), libc::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["partitions"][0]["toEnd"], 3);
}
