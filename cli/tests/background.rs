//! A node in the background, stopping it, and looking at configurations, as a course of Kafka does.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use support::{run, serve};

/// Processes that are ended with the test, however it ends.
#[derive(Default)]
struct Nodes(Vec<u64>);

impl Nodes {
    /// Starts a node in the background; what was said of it.
    fn start(&mut self, arguments: &[&str]) -> Value {
        self.start_and_hear(arguments).0
    }

    /// And what is said beside.
    fn start_and_hear(&mut self, arguments: &[&str]) -> (Value, String) {
        let arguments = [&["-o", "json"][..], arguments].concat();
        let ran = run(&arguments).ok();
        let said = ran.json();
        self.0.push(said["pid"].as_u64().unwrap());
        (said, ran.err)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for pid in &self.0 {
            // SAFETY: a system call on two numbers; a process that is gone is no harm.
            unsafe { libc::kill(libc::pid_t::try_from(*pid).unwrap(), libc::SIGKILL) };
        }
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn alone(directory: &Path) -> PathBuf {
    let data = directory.join("data");
    let text = format!(
        "broker.id=4\nlisteners=PLAINTEXT://localhost:0\nlog.dirs={}\nnum.io.threads=8\n",
        data.display()
    );
    write(directory, "server.properties", &text)
}

#[test]
fn a_node_goes_to_the_background_and_is_stopped() {
    let temp = tempfile::tempdir().unwrap();
    let (file, data) = (alone(temp.path()), temp.path().join("data"));
    let file = file.to_str().unwrap();
    let mut nodes = Nodes::default();
    let said = nodes.start(&["serve", "-daemon", file]);
    assert_eq!(said["ready"], true);
    let pid = fs::read_to_string(data.join("troupe.pid")).unwrap();
    assert_eq!(pid.trim(), said["pid"].to_string());
    let server = said["grpc"].as_str().unwrap();
    let listed = run(&["-o", "json", "node", "list", "--server", server]).ok().json();
    assert_eq!(listed["nodes"][0]["nodeId"], 4);
    let log = fs::read_to_string(data.join("troupe.log")).unwrap();
    assert!(log.contains("without effect: num.io.threads=8"), "{log}");

    let second = run(&["serve", "--daemon", "--config", file]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains("another node is using the data directory"), "{second:?}");

    let stopped = run(&["stop", file]).ok();
    assert!(stopped.text().contains("has stopped"), "{stopped:?}");
    assert!(stopped.err.contains("others take over what it leads"), "{stopped:?}");
    assert!(!data.join("troupe.pid").exists());
    let again = run(&["stop", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(again.code, 3, "{again:?}");
    assert!(again.err.contains("no node runs on"), "{again:?}");
}

#[test]
fn a_node_that_was_started_in_a_terminal_is_stopped_too() {
    let temp = tempfile::tempdir().unwrap();
    let node = support::Heard::start(temp.path());
    let pid = node.ready["pid"].to_string();
    run(&["stop", "--data-dir", temp.path().to_str().unwrap()]).ok();
    let gone = run(&["stop", "--pid", &pid]);
    assert_eq!(gone.code, 3, "{gone:?}");
}

#[test]
fn no_process_is_stopped_that_is_no_node() {
    let temp = tempfile::tempdir().unwrap();
    let own = std::process::id().to_string();
    // As a node leaves it that ended without a word, and whose number somebody else has now.
    write(temp.path(), "troupe.pid", &own);
    write(temp.path(), ".lock", "");
    let stale = run(&["stop", "--data-dir", temp.path().to_str().unwrap()]);
    assert_eq!(stale.code, 3, "{stale:?}");
    let other = run(&["stop", "--pid", &own]);
    assert_eq!(other.code, 4, "{other:?}");
    let both = run(&["stop", "--pid", &own, "--data-dir", "."]);
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn nodes_of_a_cluster_are_started_one_after_the_other() {
    let temp = tempfile::tempdir().unwrap();
    let free = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    let held: Vec<TcpListener> = (0..3).map(free).collect();
    let ports: Vec<u16> = held.iter().map(|held| held.local_addr().unwrap().port()).collect();
    let voters: Vec<_> =
        ports.iter().zip(1..).map(|(port, id)| format!("{id}@localhost:{port}")).collect();
    let files: Vec<PathBuf> = (1..=3)
        .map(|id| {
            let text = format!(
                "node.id={id}\ncluster.id=course\ncontroller.quorum.voters={}\n\
                 listeners=PLAINTEXT://localhost:0,CONTROLLER://localhost:{}\nlog.dirs={}\n\
                 default.replication.factor=3\n",
                voters.join(",\\\n  "),
                ports[id - 1],
                temp.path().join(format!("data-{id}")).display(),
            );
            write(temp.path(), &format!("server-{id}.properties"), &text)
        })
        .collect();
    drop(held);
    let mut nodes = Nodes::default();
    let (said, beside): (Vec<Value>, Vec<String>) = files
        .iter()
        .map(|file| nodes.start_and_hear(&["serve", "--daemon", file.to_str().unwrap()]))
        .unzip();
    assert_eq!(said[0]["ready"], false, "alone it is no majority");
    let why = "serves once a majority of its controllers runs: waiting 3 s";
    assert!(beside[0].contains(why), "{beside:?}");
    let servers: Vec<_> = said.iter().map(|said| said["grpc"].as_str().unwrap()).collect();
    let server = servers.join(",");
    while run(&["cluster", "health", "--server", &server]).code != 0 {}
    run(&["topic", "create", "orders", "--server", &server]).ok();
    for file in &files {
        run(&["stop", "--config", file.to_str().unwrap()]).ok();
    }
    assert_eq!(run(&["stop", "--config", files[0].to_str().unwrap()]).code, 3);
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let temp = tempfile::tempdir().unwrap();
    let good = alone(temp.path());
    let good = good.to_str().unwrap();
    let checked = run(&["config", "check", good]).ok();
    assert!(checked.text().contains("properties, as its extension says"), "{checked:?}");
    assert!(checked.text().contains("without effect: num.io.threads=8"), "{checked:?}");
    assert!(!temp.path().join("data").exists());
    let json = run(&["-o", "json", "config", "check", good]).ok().json();
    assert_eq!(json["withoutEffect"][0]["name"], "num.io.threads");

    let bad = write(temp.path(), "bad.toml", "num.partitons = 3\nlog.retention.ms = \"soon\"\n");
    let bad = run(&["config", "check", bad.to_str().unwrap(), "--set", "log.segment.bytes=1"]);
    assert_eq!(bad.code, 2, "{bad:?}");
    for told in
        ["did you mean `num.partitions`? (", "bad.toml:1)", "bad.toml:2)", "log.segment.bytes"]
    {
        assert!(bad.err.contains(told), "{told}: {bad:?}");
    }
    assert_eq!(run(&["config", "check", "/nowhere/server.properties"]).code, 3);
    assert_eq!(run(&["config", "check", good, "--override", "node.id=-1"]).code, 2);
}

#[test]
fn the_values_in_force_are_printed_with_where_they_come_from() {
    let temp = tempfile::tempdir().unwrap();
    let file = alone(temp.path());
    let file = file.to_str().unwrap();
    let mut command = support::command(&["-o", "json", "config", "print", file, "--all"]);
    command.args(["--set", "num.partitions=3"]).env("TROUPE__LOG__ROLL__HOURS", "1");
    let output = command.output().unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = printed["keys"].as_array().unwrap();
    let of = |name: &str| keys.iter().find(|key| key["name"] == name).unwrap();
    for (name, value, origin) in [
        ("node.id", "4", format!("{file}:1")),
        ("num.partitions", "3", "--set".to_owned()),
        ("log.roll.ms", "3600000", "TROUPE__LOG__ROLL__HOURS".to_owned()),
        ("http.listener", "127.0.0.1:0", "follows from listeners".to_owned()),
        ("flush.threads", "4", "default".to_owned()),
        ("num.io.threads", "8", format!("{file}:4")),
    ] {
        assert_eq!((&of(name)["value"], &of(name)["origin"]), (&value.into(), &origin.into()));
    }
    let table = run(&["config", "print", file, "--origin"]).ok();
    assert!(table.text().contains(&format!("node.id\t4\t{file}:1")), "{table:?}");
    assert!(!table.text().contains("flush.policy\t"), "what has its default is not told");
    let schema = run(&["config", "schema"]).ok().json();
    assert!(schema["properties"]["log.dirs"]["description"].is_string());
}

#[test]
fn a_node_tells_what_of_its_configuration_has_no_effect() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = serve(temp.path(), "127.0.0.1:0", "127.0.0.1:0");
    let command = command.args(["--set", "num.network.threads=3", "--set", "log.dir=/dev/null/x"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("without effect: num.network.threads=3"), "{said}");
}
