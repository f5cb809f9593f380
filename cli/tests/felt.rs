//! What a chaos run says of what clients felt, and scenarios from their file to their exit code.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use support::{Dev, command, kill};

fn longest_ms(report: &Value) -> f64 {
    report["felt"]["acknowledgements"]["longest"]["gapMs"].as_f64().unwrap()
}

/// Said of it before: "P50 1.6 ms".
#[test]
fn a_leader_paused_for_4_s_is_reported_as_the_4_s_that_publishers_waited() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_nodes(dir.path(), 3);
    dev.run(&["topic", "create", "orders", "-p", "3"]).ok();
    let pause = ["chaos", "pause", "--leader", "orders:0", "--for", "4s", "--load-topic", "orders"];
    let report = dev.run(&[&pause[..], &["-o", "json"]].concat()).ok().json();
    let longest = longest_ms(&report);
    assert!((3_900.0..8_000.0).contains(&longest), "{report:#}");
    assert_eq!(report["felt"]["acknowledgements"]["longest"]["partition"], 0, "{report:#}");
    let fault = &report["felt"]["faults"][0];
    assert_eq!(fault["role"], "leader", "{report:#}");
    assert!(fault["ackGap"]["gapMs"].as_f64().unwrap() >= 3_900.0, "{report:#}");
    assert!(fault["deliveryGap"]["gapMs"].as_f64().unwrap() >= 3_900.0, "{report:#}");
    assert!(fault["wholeMs"].as_f64().unwrap() >= 3_900.0, "{report:#}");
    let records = &report["felt"]["records"];
    assert!(records["acknowledged"].as_u64().unwrap() > 100, "{report:#}");
    for wrong in ["lost", "duplicated", "outOfOrder", "undelivered"] {
        assert_eq!(records[wrong], 0, "{report:#}");
    }
}

#[test]
fn a_run_that_sends_nothing_itself_reads_along_what_others_publish() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_nodes(dir.path(), 3);
    dev.run(&["topic", "create", "orders", "-p", "1"]).ok();
    let input: String = (0..2_000).map(|n| format!("{n}\n")).collect();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            dev.run_with(&["produce", "orders", "--rate", "200"], input.as_bytes()).ok();
        });
        let pause = ["chaos", "pause", "--leader", "orders:0", "--for", "2s", "-o", "json"];
        let report = dev.run(&pause).ok().json();
        assert!((1_800.0..8_000.0).contains(&longest_ms(&report)), "{report:#}");
        assert!(report["felt"]["records"].is_null(), "it has sent none: {report:#}");
        publisher.join().unwrap();
    });
}

fn scenario(dir: &Path, text: &str) -> PathBuf {
    let file = dir.join("scenario.toml");
    std::fs::write(&file, text).unwrap();
    file
}

const STEPS: &str = r#"
name = "two leaders & a pause"
seed = 7

[load]
partitions = 2
members = 1

[steady-state]
that = ["under_replicated == 0"]

[[step]]
do = "kill '*/partition/{topic}/*' -n 2 --every 100ms"

[[step]]
wait = "200ms"

[expectations]
that = ["lost == 0 and duplicated == 0 and out_of_order == 0", "gap < 20s"]
"#;

#[test]
fn a_scenario_says_by_its_exit_code_whether_its_expectations_held() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_nodes(&dir.path().join("data"), 3);
    let file = scenario(dir.path(), STEPS);
    let (file, junit) = (file.to_str().unwrap(), dir.path().join("junit.xml"));
    let run = ["chaos", "run", file, "--junit", junit.to_str().unwrap(), "-o", "json"];
    let held = dev.run(&run).ok().json();
    assert_eq!((&held["verdict"], &held["seed"]), (&"held".into(), &7.into()), "{held:#}");
    assert_eq!(held["felt"]["faults"].as_array().unwrap().len(), 2, "{held:#}");
    let text = std::fs::read_to_string(&junit).unwrap();
    assert!(
        text.contains("tests=\"3\" failures=\"0\"") && text.contains("leaders &amp; a"),
        "{text}"
    );
    // What it has made for itself is gone.
    let topics = dev.run(&["topic", "list"]).ok();
    assert!(!topics.text().contains("troupe-chaos"), "{topics:?}");

    scenario(dir.path(), &STEPS.replace("gap < 20s", "faults == 0"));
    let broken = dev.run(&run);
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(broken.err.contains("1 of 2 expectations did not hold: faults == 0"), "{broken:?}");
    let text = std::fs::read_to_string(&junit).unwrap();
    assert!(text.contains("failures=\"1\"") && text.contains("it was faults 2"), "{text}");
}

#[test]
fn a_scenario_that_makes_no_sense_is_refused_with_the_line_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("data"));
    let refused = |from: &str, to: &str, line: &str, why: &str| {
        assert!(STEPS.contains(from), "{from}");
        let file = scenario(dir.path(), &STEPS.replace(from, to));
        let ran = dev.run(&["chaos", "run", file.to_str().unwrap()]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(line) && ran.err.contains(why), "{line}: {why}: {}", ran.err);
    };
    refused("members = 1", "member = 1", "line 7", "unknown field `member`");
    refused("\"kill '", "\"tickle '", "line 13", "tickle");
    refused("wait = \"200ms\"", "wait = \"later\"", "line 16", "no duration");
    refused("gap < 20s", "gab < 20s", "line 19", "there are offline, under_replicated");
}

#[test]
fn a_run_is_aborted_when_a_condition_says_so_and_its_faults_are_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_nodes(dir.path(), 3);
    let run = ["chaos", "pause", "3", "--for", "10m", "--load", "--abort-if", "fenced>0"];
    let aborted = dev.run(&[&run[..], &["-o", "json"]].concat());
    assert_eq!(aborted.code, 1, "{aborted:?}");
    assert!(aborted.err.contains("aborted, as fenced>0 (fenced 1)"), "{}", aborted.err);
    let report: Value = serde_json::from_slice(&aborted.out).unwrap();
    assert!(report["felt"]["faults"][0]["wholeMs"].as_f64().is_some(), "{report:#}");
    assert_eq!(
        dev.run(&["chaos", "list", "-o", "json"]).ok().json()["faults"],
        Value::Array(vec![])
    );
    let wrong = dev.run(&["chaos", "kill", "*", "--abort-if", "ofline>0"]);
    assert!(
        wrong.code == 2 && wrong.err.contains("there are offline, under_replicated"),
        "{wrong:?}"
    );
}

#[test]
fn ctrl_c_stops_the_faults_of_a_run_and_its_report_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_nodes(&dir.path().join("data"), 3);
    let file = scenario(dir.path(), "[[step]]\ndo = \"slow-disk 2 10ms --for 10m\"\n");
    let faults = || {
        let listed = dev.run(&["chaos", "list", "-o", "json"]).ok().json();
        listed["faults"].as_array().unwrap().len()
    };
    let server = dev.server.clone();
    let mut command = command(&["chaos", "run", file.to_str().unwrap(), "-o", "json"]);
    command.args(["--server", &server]).stdin(Stdio::null());
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while faults() == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    kill(run.id(), libc::SIGINT);
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["verdict"], "interrupted", "{report:#}");
    assert_eq!(report["felt"]["faults"][0]["fault"], "slow-disk", "{report:#}");
    assert_eq!(faults(), 0);
}
