//! A user's second hour: `troupe dev --nodes 3`, and losing nodes of it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::Dev;

/// How long a cluster on a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is as wanted.
fn eventually(what: &str, wanted: impl Fn() -> bool) {
    let started = Instant::now();
    while !wanted() {
        assert!(started.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn partitions(dev: &Dev, more: &[&str]) -> Vec<Value> {
    let arguments = [&["partition", "list", "-o", "json"][..], more].concat();
    dev.run(&arguments).ok().json()["partitions"].as_array().unwrap().clone()
}

fn all_in_sync(dev: &Dev) {
    eventually("every replica is in sync", || partitions(dev, &["--under-replicated"]).is_empty());
}

fn state(dev: &Dev, node: i64) -> (bool, bool) {
    let list = dev.run(&["node", "list", "-o", "json"]).ok().json();
    let nodes = list["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|found| found["nodeId"] == node).unwrap();
    (found["fenced"].as_bool().unwrap(), found["shuttingDown"].as_bool().unwrap())
}

#[test]
fn three_nodes_keep_what_they_acknowledged_while_each_is_lost_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start_nodes(dir.path(), 3);
    dev.run(&["topic", "create", "orders", "-p", "6"]).ok();
    let lines: String = (0..10_000).map(|number| format!("{number}\n")).collect();
    dev.run_with(&["produce", "orders"], lines.as_bytes()).ok();
    let listed = partitions(&dev, &["orders"]);
    assert_eq!(listed.len(), 6);
    assert!(listed.iter().all(|partition| partition["replicas"].as_array().unwrap().len() == 3));
    assert!(listed.iter().all(|partition| partition["minInSyncReplicas"] == 2));

    // The actor of a leader: another one leads, in a later epoch.
    let killed = dev.run(&["actor", "kill", "--leader", "orders:0", "-o", "json"]).ok().json();
    assert_ne!(killed["after"]["leaderId"], killed["before"]["leaderId"], "{killed}");
    assert!(killed["after"]["leaderEpoch"].as_u64() > killed["before"]["leaderEpoch"].as_u64());
    assert!(killed["leaderMicros"].as_u64().unwrap() > 0);
    all_in_sync(&dev);

    // Each node: gone without a goodbye, and back.
    for node in 1..=3 {
        assert_eq!(dev.tell(&format!("kill {node}")), "stopped");
        eventually("others lead", || {
            let listed = partitions(&dev, &["orders"]);
            listed.iter().all(|found| found["leaderId"].as_i64().is_some_and(|led| led != node))
        });
        dev.run_with(&["produce", "orders"], format!("without {node}\n").as_bytes()).ok();
        assert_eq!(dev.tell(&format!("start {node}")), "running");
        all_in_sync(&dev);
    }
    // Who is told to start before it has stopped does when it has.
    assert_eq!(dev.tell("kill 2\nstart 2"), "stopped");
    assert_eq!(dev.tell(""), "running");
    all_in_sync(&dev);
    // It was back before anybody missed it, and what is listed may still be from before: whoever elects too early is
    // told so, and asks again.
    eventually("the first replicas lead", || {
        let elected = dev.run(&["partition", "elect", "--preferred"]);
        assert!(elected.code == 0 || elected.err.contains("no new leader"), "{elected:?}");
        partitions(&dev, &["--not-preferred"]).is_empty()
    });

    let consumed = dev.run(&["consume", "orders", "--from-beginning", "--until-end"]).ok();
    let mut consumed: Vec<&str> = consumed.text().lines().collect();
    let mut expected: Vec<&str> = lines.lines().collect();
    expected.extend(["without 1", "without 2", "without 3"]);
    consumed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(consumed, expected);
}

#[test]
fn a_drained_node_leads_nothing_until_it_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start_nodes(dir.path(), 3);
    dev.run(&["topic", "create", "orders", "-p", "6"]).ok();
    let leads = |dev: &Dev, node: i64| {
        let listed = partitions(dev, &["orders"]);
        listed.iter().filter(|partition| partition["leaderId"] == node).count()
    };
    eventually("it leads something", || leads(&dev, 2) > 0);
    let drained = dev.run(&["node", "drain", "2", "-o", "json"]).ok().json();
    assert!(drained["movedLeaderCount"].as_i64().unwrap() > 0, "{drained}");
    assert_eq!(leads(&dev, 2), 0);
    eventually("everyone knows that it is drained", || state(&dev, 2) == (false, true));
    let described = dev.run(&["node", "describe", "2", "-o", "json"]).ok().json();
    assert_eq!(described["replicas"].as_array().unwrap().len(), 6, "{described}");

    dev.run(&["node", "resume", "2"]).ok();
    eventually("everyone knows that it is resumed", || state(&dev, 2) == (false, false));
    all_in_sync(&dev);
    dev.run(&["partition", "elect", "--preferred", "orders"]).ok();
    eventually("it leads again", || leads(&dev, 2) > 0);

    // A stop hands over by itself; a node that is gone can be forgotten, one that is there cannot.
    assert_eq!(dev.run(&["node", "remove", "3", "--yes"]).code, 4);
    assert_eq!(dev.run(&["node", "remove", "3"]).code, 2, "nobody is there to confirm it");
    assert_eq!(dev.tell("stop 3"), "stopped");
    eventually("it is fenced", || state(&dev, 3).0);
    assert_eq!(leads(&dev, 3), 0);
    // Nobody would replace the replicas that it holds.
    let held = dev.run(&["node", "remove", "3", "--yes"]);
    assert!(held.code == 4 && held.err.contains("NODE_HOLDS_REPLICAS"), "{held:?}");
    dev.run(&["topic", "delete", "orders", "--yes"]).ok();
    eventually("it holds nothing", || dev.run(&["node", "remove", "3", "--yes"]).code == 0);
    assert_eq!(dev.run(&["node", "describe", "3"]).code, 3);
}

#[test]
fn chaos_reports_what_it_did_and_repeats_it_from_a_seed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_nodes(dir.path(), 3);
    dev.run(&["topic", "create", "orders", "-p", "3"]).ok();
    let chaos = |seed: &str| {
        let arguments = ["chaos", "kill,panic", "*/partition/orders/*", "--seed", seed];
        let more = ["-n", "6", "--every", "50ms", "-o", "json"];
        dev.run(&[&arguments[..], &more].concat()).ok().json()
    };
    let whom = |report: &Value| -> Vec<(Value, Value)> {
        let faults = report["faults"].as_array().unwrap();
        faults.iter().map(|fault| (fault["fault"].clone(), fault["address"].clone())).collect()
    };
    let first = chaos("7");
    assert_eq!(whom(&first).len(), 6);
    let injected = first["kinds"].as_array().unwrap().iter().map(|kind| kind["injected"].as_u64());
    assert_eq!(injected.sum::<Option<u64>>(), Some(6));
    assert_eq!(whom(&first), whom(&chaos("7")));
    assert_ne!(whom(&first), whom(&chaos("8")));
    assert_eq!(dev.run(&["chaos", "kill", "*/partition/nothing/*"]).code, 3);
}
