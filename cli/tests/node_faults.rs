//! Nodes of one process that are ill: by the words of `troupe dev`, and by those of `troupe chaos`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::{Dev, run, run_with};

/// How long a cluster on a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn eventually(what: &str, wanted: impl Fn() -> bool) {
    let started = Instant::now();
    while !wanted() {
        assert!(started.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Through nodes that are not ill: one that is cut off believes what it knew last.
fn leader(dev: &Dev, ill: i64) -> Option<i64> {
    let arguments = ["--server", &beside(dev, ill), "partition", "list", "orders", "-o", "json"];
    let listed = run(&arguments);
    if listed.code != 0 {
        return None;
    }
    listed.json()["partitions"][0]["leaderId"].as_i64()
}

fn beside(dev: &Dev, ill: i64) -> String {
    let others = (1..).zip(dev.server.split(',')).filter(|(node, _)| *node != ill);
    others.map(|(_, server)| server).collect::<Vec<_>>().join(",")
}

fn all_in_sync(dev: &Dev) {
    eventually("every replica is in sync", || {
        let listed = dev.run(&["partition", "list", "-o", "json", "--under-replicated"]);
        listed.code == 0 && listed.json()["partitions"].as_array().unwrap().is_empty()
    });
}

fn faults(dev: &Dev) -> Vec<Value> {
    dev.run(&["chaos", "list", "-o", "json"]).ok().json()["faults"].as_array().unwrap().clone()
}

struct Orders {
    dev: Dev,
    published: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Orders {
    fn start() -> Orders {
        let dir = tempfile::tempdir().unwrap();
        let dev = Dev::start_nodes(dir.path(), 3);
        dev.run(&["topic", "create", "orders", "--config", "retention.ms=-1"]).ok();
        all_in_sync(&dev);
        Orders { dev, published: Vec::new(), _dir: dir }
    }

    fn publish(&mut self, what: &str) {
        self.publish_beside(0, what);
    }

    /// Not by what that node says.
    fn publish_beside(&mut self, ill: i64, what: &str) {
        let arguments = ["--server", &beside(&self.dev, ill), "produce", "orders"];
        run_with(&arguments, format!("{what}\n").as_bytes()).ok();
        self.published.push(what.to_owned());
    }

    fn whole(&self) {
        all_in_sync(&self.dev);
        let read = self.dev.run(&["consume", "orders", "--from-beginning", "--until-end"]).ok();
        let read: Vec<&str> = read.text().lines().collect();
        for published in &self.published {
            assert!(read.contains(&published.as_str()), "{published} is lost: {read:?}");
        }
    }
}

#[test]
fn a_leader_that_is_cut_off_or_stands_still_is_replaced_until_it_is_healed() {
    let mut orders = Orders::start();
    orders.publish("before");
    for fault in ["cut", "pause"] {
        let ill = leader(&orders.dev, 0).unwrap();
        let begun = orders.dev.say(&format!("{fault} {ill} 10m"));
        assert_eq!(begun["fault"], fault, "{begun}");
        assert_eq!(begun["durationMs"], 600_000);
        let another = || leader(&orders.dev, ill).is_some_and(|leads| leads != ill);
        eventually("another leads", another);
        orders.publish_beside(ill, &format!("while {ill} suffers {fault}"));
        let listed = faults(&orders.dev);
        assert!(listed.iter().any(|it| it["faultId"] == begun["faultId"]), "{listed:?}");
        let stopped = orders.dev.say("heal");
        assert!(!stopped["stopped"].as_array().unwrap().is_empty(), "{stopped}");
        orders.whole();
    }
    assert!(faults(&orders.dev).is_empty());
}

#[test]
fn disks_connections_and_clocks_of_one_node_are_ill_alone_and_end_by_themselves() {
    let mut orders = Orders::start();
    orders.publish("before");
    for line in [
        "slow 1 2 30ms 3s",
        "slow-disk 2 30ms 3s",
        "full-disk 3 3s",
        "clock 3 -5s 3s",
        "cut 2 3 --one-way --for 3s",
    ] {
        let begun = orders.dev.say(line);
        assert_eq!(begun["durationMs"], 3_000, "{line}: {begun}");
    }
    let listed = orders.dev.run(&["chaos", "list"]).ok();
    for says in ["slow-disk", "full-disk", "5.0 s slow", "node 3 does not hear node 2"] {
        assert!(listed.text().contains(says), "{says}: {}", listed.text());
    }
    eventually("all are over", || faults(&orders.dev).is_empty());
    orders.publish("after");
    orders.whole();
    assert_eq!(orders.dev.say("faults")["faults"], serde_json::json!([]));
}

#[test]
fn a_node_whose_disk_fails_goes_and_is_well_when_it_is_started_again() {
    let mut orders = Orders::start();
    orders.publish("before");
    let ill = leader(&orders.dev, 0).unwrap();
    orders.dev.say(&format!("fsync-error {ill} 10m"));
    // Something has to be flushed for it to be noticed; whoever leads takes it in the end.
    orders.publish("during");
    let another = || leader(&orders.dev, ill).is_some_and(|leads| leads != ill);
    eventually("another leads", another);
    // It stops by itself; then it can be started.
    let started = Instant::now();
    loop {
        let states: Vec<(i64, String)> = orders.dev.nodes();
        if states.contains(&(ill, "stopped".to_owned())) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{states:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(orders.dev.tell(&format!("start {ill}")), "running");
    orders.publish("after");
    orders.whole();
    assert!(faults(&orders.dev).is_empty(), "it ended with its node");
}
