//! Transactions from the command line, with `troupe dev` on a free port.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use support::{Dev, Ran};
use tokio::runtime::Runtime;
use troupe_client::{Client, ClientConfig, Producer, ProducerConfig, ProducerRecord};

const STATE: &str = "__transaction_state-";

fn lines(dev: &Dev, topic: &str, isolation: &str) -> Vec<String> {
    let ran = dev.run(&["consume", topic, "-b", "-e", "--isolation", isolation]).ok();
    ran.text().lines().map(str::to_owned).collect()
}

fn rows(ran: Ran) -> Vec<Vec<String>> {
    rows_of(ran.ok().text())
}

fn rows_of(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// A transaction that is open, with these records in it.
fn open(runtime: &Runtime, dev: &Dev, id: &str, values: &[&str]) -> Producer {
    runtime.block_on(async {
        let client = Client::connect(ClientConfig::new([&dev.server])).await.unwrap();
        let config =
            ProducerConfig { transactional_id: Some(id.to_owned()), ..ProducerConfig::default() };
        let producer = client.producer(config).await.unwrap();
        producer.init_transactions().await.unwrap();
        producer.begin_transaction().await.unwrap();
        for value in values {
            let record = ProducerRecord::new("t").value((*value).to_owned());
            producer.send(record).await.unwrap().await.unwrap();
        }
        producer
    })
}

/// X12, X13: each as many as it was told, the rest in the last; a partition that ends with a marker is read to its end.
#[test]
fn lines_are_committed_so_many_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let input: String = (0..25).map(|n| format!("{n}\n")).collect();
    let produce = ["produce", "t", "--transactional-id", "loader", "--transaction-size", "10"];
    let produced = dev.run_with(&[&produce[..], &["-o", "json"]].concat(), input.as_bytes()).ok();
    let report = produced.json();
    assert_eq!((&report["committed"], &report["transactions"]), (&25.into(), &3.into()));
    let all: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    assert_eq!(lines(&dev, "t", "read_committed"), all);
    assert_eq!(lines(&dev, "t", "read_uncommitted"), all);
    let member = ["consume", "t", "-g", "g", "-e", "--isolation", "read_committed"];
    let member = [&member[..], &["--offset-reset", "earliest"]].concat();
    assert_eq!(dev.run(&member).ok().text().lines().count(), 25);
    let lag = rows(dev.run(&["group", "lag", "g"]));
    assert_eq!(lag, [["g", "Empty", "0", "1", "0", "-"]], "a position moves over markers");
    let listed = rows(dev.run(&["transaction", "list"]));
    assert_eq!((&*listed[0][0], &*listed[0][4]), ("loader", "CompleteCommit"));
    assert_eq!(dev.stop(), 0);
}

/// X21.
#[test]
fn a_transaction_that_is_open_is_shown_and_can_be_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let runtime = Runtime::new().unwrap();
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"before\n").ok();
    let producer = open(&runtime, &dev, "stuck", &["a", "b"]);
    dev.run_with(&["produce", "t"], b"behind\n").ok();
    assert_eq!(lines(&dev, "t", "read_committed"), ["before"]);
    assert_eq!(lines(&dev, "t", "read_uncommitted"), ["before", "a", "b", "behind"]);

    let listed = rows(dev.run(&["transaction", "list", "--state", "ongoing"]));
    assert_eq!((listed.len(), &*listed[0][0], &*listed[0][4]), (1, "stuck", "Ongoing"));
    let described = dev.run(&["transaction", "describe", "stuck", "-o", "json"]).ok().json();
    assert_eq!(described["partitions"][0]["topic"], "t");
    assert_eq!(described["timeoutMs"], 60_000);
    assert!(described["startTimeMs"].is_i64(), "{described}");
    let text = dev.run(&["transaction", "describe", "stuck"]).ok();
    assert!(text.text().contains("state             Ongoing"), "{text:?}");
    let producers = dev.run(&["transaction", "producers", "t:0", "-o", "json"]).ok().json();
    let starts: Vec<_> = producers["producers"].as_array().unwrap().iter().collect();
    assert!(starts.iter().any(|one| one["transactionStartOffset"] == 1), "{producers}");
    let hanging = dev.run(&["transaction", "hanging", "t", "-o", "json"]).ok().json();
    assert_eq!(hanging["transactions"].as_array().unwrap().len(), 0, "a coordinator knows of it");

    let asks = dev.run(&["transaction", "abort", "stuck"]);
    assert_eq!(asks.code, 2, "nobody is there to say yes: {asks:?}");
    dev.run(&["transaction", "abort", "stuck", "--yes"]).ok();
    let committed = runtime.block_on(producer.commit_transaction());
    assert!(committed.unwrap_err().is_fatal(), "it is fenced");
    // Where the marker is written, a moment after.
    let member = ["consume", "t", "-b", "-n", "2", "--isolation", "read_committed"];
    let seen = dev.run(&member).ok();
    assert_eq!(seen.text(), "before\nbehind\n");
    drop(producer);
    assert_eq!(dev.stop(), 0);
}

/// The coordinators' logs of a node that has stopped.
fn coordinators(data: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<_> = all.filter(|path| path.to_string_lossy().contains(STATE)).collect();
    assert!(!logs.is_empty(), "in {data:?}");
    logs
}

fn move_all(from: &Path, to: &Path) {
    for path in coordinators(from) {
        std::fs::rename(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// X21: one that hangs would keep readers waiting for ever. Here its coordinator has lost what it knew of it.
#[test]
fn a_transaction_that_no_coordinator_knows_of_is_found_and_ended() {
    let (dir, lost) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let transaction = ["produce", "t", "--transactional-id", "other"];
    dev.run_with(&transaction, b"before\n").ok();
    assert_eq!(dev.stop(), 0);
    let kept = tempfile::tempdir().unwrap();
    for log in coordinators(dir.path()) {
        let to = kept.path().join(log.file_name().unwrap());
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(&log).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let dev = Dev::start(dir.path());
    let runtime = Runtime::new().unwrap();
    let producer = open(&runtime, &dev, "lost", &["a", "b"]);
    dev.run_with(&["produce", "t"], b"behind\n").ok();
    assert_eq!(dev.stop(), 0);
    // Nobody is there to abort it.
    drop((runtime, producer));
    move_all(dir.path(), lost.path());
    move_all(kept.path(), dir.path());

    let dev = Dev::start(dir.path());
    let described = dev.run(&["transaction", "describe", "lost"]);
    assert_eq!(described.code, 3, "{described:?}");
    assert_eq!(lines(&dev, "t", "read_committed"), ["before"]);
    let hanging = |more: &[&str]| dev.run(&[&["transaction", "hanging"], more].concat()).ok();
    let known = |ran: &Ran| rows_of(ran.text());
    assert_eq!(known(&hanging(&["t"])).len(), 0, "it may be about to begin: it is not old enough");
    for at in [&["t"][..], &["t:0"], &[]] {
        let found = known(&hanging(&[at, &["--open-for", "1ms"]].concat()));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&*found[0][0], &*found[0][1], &*found[0][4]), ("t", "0", "2"));
    }
    let end = |start: &str, more: &[&str]| {
        let abort = ["transaction", "abort", "--hanging", "t:0", "--start-offset", start];
        dev.run(&[&abort[..], more].concat())
    };
    assert_eq!(end("2", &[]).code, 2, "nobody is there to say yes");
    let other = end("3", &["--yes"]);
    assert_eq!(other.code, 4, "{other:?}");
    assert!(other.err.contains("INVALID_TRANSACTION_STATE"), "{}", other.err);
    end("2", &["--yes"]).ok();
    assert_eq!(known(&hanging(&["--open-for", "1ms"])).len(), 0);
    assert_eq!(lines(&dev, "t", "read_committed"), ["before", "behind"]);
    assert_eq!(lines(&dev, "t", "read_uncommitted"), ["before", "a", "b", "behind"]);
    assert_eq!(end("2", &["--yes"]).code, 4, "it is over");
    dev.run_with(&transaction, b"after\n").ok();
    assert_eq!(lines(&dev, "t", "read_committed"), ["before", "behind", "after"]);
    assert_eq!(dev.stop(), 0);
}

/// Each its own error, and what to try.
#[test]
fn what_cannot_be_is_refused_with_a_reason_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let long = "x".repeat(256);
    let produce = |id: &str, more: &[&str]| {
        dev.run_with(&[&["produce", "t", "--transactional-id", id][..], more].concat(), b"x\n")
    };
    let cases = [
        (produce(&long, &[]), 4, "INVALID_TRANSACTIONAL_ID", "255"),
        (produce("line\nend", &[]), 4, "INVALID_TRANSACTIONAL_ID", "control"),
        (produce("a", &["--transaction-timeout", "1h"]), 4, "INVALID_TRANSACTION_TIMEOUT", "less"),
        (dev.run(&["transaction", "describe", "nobody"]), 3, "TRANSACTIONAL_ID_NOT_FOUND", "list"),
        (
            dev.run(&["transaction", "abort", "nobody", "--yes"]),
            3,
            "TRANSACTIONAL_ID_NOT_FOUND",
            "list",
        ),
        (dev.run(&["transaction", "producers", "u:0"]), 3, "UNKNOWN_TOPIC", "topic list"),
    ];
    for (ran, code, reason, hint) in cases {
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.err.contains(reason) && ran.err.contains(hint), "{}", ran.err);
    }
    let unsure = produce("a", &["--acks", "1"]);
    assert_eq!(unsure.code, 2, "{unsure:?}");
    assert!(unsure.err.contains("transactions need idempotence"), "{}", unsure.err);
    produce("a", &[]).ok();
    let over = dev.run(&["transaction", "abort", "a", "--yes"]);
    assert_eq!(over.code, 4, "{over:?}");
    assert!(over.err.contains("INVALID_TRANSACTION_STATE"), "{}", over.err);
    assert_eq!(lines(&dev, "t", "read_committed"), ["x"]);
    assert_eq!(dev.stop(), 0);
}
