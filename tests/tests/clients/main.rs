//! Clients in other languages, against the built binary, from nothing but the contract.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ack_ids;
mod atomically;
mod examples;
mod felt;
mod groups;
mod policies;
mod promtool;
mod sdk_examples;

use std::path::Path;
use std::process::{Command, Output};
use troupe_tests::workspace::root;
use troupe_tests::{Process, Serve, Server, clients_directory, in_ci, skip};

/// Installs what the scripts of a language need. Without it the test is skipped, but never where CI runs.
fn prepared(test: &str, language: &str) -> bool {
    let setup = root().join("tests/clients/setup");
    let output = Command::new(setup).arg(clients_directory()).arg(language).output();
    let why = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => format!("setup failed: {}", said(&output)),
        Err(error) => format!("setup cannot run: {error}"),
    };
    assert!(!in_ci(), "{test}: {why}");
    skip(test, &why);
    false
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn script(name: &str) -> std::path::PathBuf {
    root().join("tests/clients").join(name)
}

fn python(name: &str, arguments: &[&str]) -> Output {
    let clients = clients_directory();
    let output = Command::new(clients.join("venv/bin/python"))
        .arg("-B")
        .arg(script(name))
        .args(arguments)
        .env("PYTHONPATH", clients.join("stubs"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", said(&output));
    output
}

fn node(name: &str, arguments: &[&str]) -> Output {
    let output = Command::new("node")
        .arg(script(name))
        .args(arguments)
        .env("NODE_PATH", clients_directory().join("node/node_modules"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", said(&output));
    output
}

/// What both scripts of ten lines print.
fn assert_ten_lines(output: &Output) {
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect();
    lines.sort_by_key(|line| line.rsplit(' ').next().map(str::to_owned));
    let values: Vec<&str> = lines.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
    assert_eq!(values, ["hello 0", "hello 1", "hello 2"], "{}", said(output));
    // Each partition counts from 0.
    let mut places: Vec<&str> =
        lines.iter().map(|line| line.rsplit_once(" hello").unwrap().0).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 3, "{}", said(output));
}

#[test]
fn the_scripts_have_ten_lines() {
    for name in [
        "ten_lines.py",
        "ten_lines.js",
        "ten_lines_group.py",
        "ten_lines_group.js",
        "ten_lines_atomically.py",
    ] {
        let text = std::fs::read_to_string(script(name)).unwrap();
        assert!(text.lines().count() <= 10, "{name}");
    }
}

#[tokio::test]
async fn ten_lines_of_python_publish_and_tail() {
    if !prepared("ten_lines_of_python_publish_and_tail", "python") {
        return;
    }
    let (_directory, process) = Process::start_new(&Serve::default());
    Server::at(process.server()).await.create_topic("greetings", 3, &[]).await;
    assert_ten_lines(&python("ten_lines.py", &[process.server(), "greetings"]));
}

#[tokio::test]
async fn ten_lines_of_node_publish_and_tail() {
    if !prepared("ten_lines_of_node_publish_and_tail", "node") {
        return;
    }
    let (_directory, process) = Process::start_new(&Serve::default());
    Server::at(process.server()).await.create_topic("greetings", 3, &[]).await;
    let contract = root().join("proto");
    let contract = contract.to_str().unwrap();
    assert_ten_lines(&node("ten_lines.js", &[process.server(), "greetings", contract]));
}

/// The log is the wire format: generated code reads a segment file as it lies on the disk.
#[test]
fn generated_code_reads_the_bytes_of_a_segment_file() {
    if !prepared("generated_code_reads_the_bytes_of_a_segment_file", "python") {
        return;
    }
    let (directory, process) = Process::start_new(&Serve::default());
    let data: &Path = directory.path();
    let output = python("raw_log.py", &[process.server(), data.to_str().unwrap(), "raw"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "600 records equal");
}

/// A thousand calls that are given up cost nothing else on their connection.
#[tokio::test]
async fn python_keeps_its_stream_when_it_gives_up_other_calls() {
    if !prepared("python_keeps_its_stream_when_it_gives_up_other_calls", "python") {
        return;
    }
    let (_directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    for _ in 0..3 {
        let output = python("cancelled_calls.py", &[node.server(), &topic]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "news", "{}", said(&output));
    }
}
