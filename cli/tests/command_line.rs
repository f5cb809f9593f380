//! What the binary promises without a node: help, exit codes, grammars, errors.

mod support;

use std::net::TcpListener;
use support::{run, run_with};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["serve"],
    &["stop"],
    &["config"],
    &["config", "check"],
    &["config", "print"],
    &["config", "schema"],
    &["dev"],
    &["topic"],
    &["topic", "create"],
    &["topic", "list"],
    &["topic", "describe"],
    &["topic", "alter"],
    &["topic", "add-partitions"],
    &["topic", "delete"],
    &["produce"],
    &["consume"],
    &["group"],
    &["group", "list"],
    &["group", "describe"],
    &["group", "members"],
    &["group", "lag"],
    &["group", "reset"],
    &["group", "delete"],
    &["group", "remove-member"],
    &["transaction"],
    &["transaction", "list"],
    &["transaction", "describe"],
    &["transaction", "producers"],
    &["transaction", "hanging"],
    &["transaction", "abort"],
    &["cluster"],
    &["cluster", "info"],
    &["cluster", "health"],
    &["cluster", "config"],
    &["cluster", "rebalance"],
    &["partition"],
    &["partition", "list"],
    &["partition", "elect"],
    &["partition", "recover"],
    &["partition", "move-dir"],
    &["reassign"],
    &["reassign", "plan"],
    &["reassign", "execute"],
    &["reassign", "verify"],
    &["reassign", "cancel"],
    &["reassign", "list"],
    &["node"],
    &["node", "list"],
    &["node", "describe"],
    &["node", "config"],
    &["node", "logdirs"],
    &["node", "add"],
    &["node", "retire"],
    &["node", "drain"],
    &["node", "resume"],
    &["node", "remove"],
    &["log"],
    &["topic", "offsets"],
    &["topic", "copy"],
    &["log", "dump"],
    &["log", "verify"],
    &["log", "scrub"],
    &["actor"],
    &["actor", "tree"],
    &["actor", "kill"],
    &["chaos"],
    &["storage"],
    &["storage", "random-uuid"],
    &["storage", "format"],
    &["bench"],
    &["bench", "produce"],
    &["bench", "consume"],
    &["bench", "e2e"],
    &["bench", "limits"],
    &["bench", "failover"],
    &["bench", "group"],
    &["bench", "replication"],
    &["bench", "transactions"],
    &["completion"],
    &["version"],
];

/// An address where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").to_string()
}

#[test]
fn every_command_explains_itself() {
    for command in COMMANDS {
        let help = run(&[command, &["--help"][..]].concat()).ok();
        assert!(help.text().contains("Usage: troupe"), "{command:?}: {}", help.text());
        // -o and --server work everywhere.
        assert!(help.text().contains("--output <FORMAT>"), "{command:?}");
        assert!(help.text().contains("--server <HOST:PORT>"), "{command:?}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["nonsense"][..],
        &["topic", "create"],
        &["topic", "create", "t", "--config", "no-value"],
        &["topic", "alter", "t"],
        &["topic", "alter", "t", "--partitions", "3", "--set", "retention.ms=1d"],
        &["produce", "t", "--acks", "2"],
        &["produce", "t", "--compression", "rar"],
        &["produce", "t", "-f", "%o"],
        &["produce", "t", "-K", ":", "-k", "x"],
        &["produce", "t", "-H", ": x"],
        &["produce", "t", "--transaction-size", "5"],
        &["produce", "t", "--transaction-timeout", "5s"],
        &["transaction", "describe"],
        &["transaction", "producers", "t"],
        &["transaction", "list", "--state", "open"],
        &["transaction", "abort"],
        &["transaction", "abort", "--hanging", "t:0"],
        &["transaction", "abort", "x", "--hanging", "t:0", "--start-offset", "1"],
        &["consume", "t", "--isolation", "serializable"],
        &["consume", "t", "--offset", "yesterday"],
        &["consume", "t", "--offset", "5", "--from-beginning"],
        &["consume", "t", "--wait"],
        &["consume", "t", "--offset", "5", "--wait", "-e"],
        &["consume", "t", "-f", "%q"],
        &["consume", "t", "-f", "%v", "-o", "json"],
        &["consume", "t", "-f", "%v", "--decode", "offsets"],
        &["consume"],
        &["consume", "--pattern", "x.*"],
        &["consume", "t", "--pattern", "x.*", "-g", "g"],
        &["consume", "t", "--commit", "before"],
        &["consume", "t", "-g", "g", "--offset", "5"],
        &["consume", "t", "-g", "g", "--assignor", "uniform"],
        &["consume", "t", "-g", "g", "-b", "--offset-reset", "latest"],
        &["log", "dump", "x", "--decode", "poems"],
        &["group", "list", "--state", "asleep"],
        &["group", "list", "--interval", "1s"],
        &["group", "describe"],
        &["group", "describe", "g", "--all"],
        &["group", "describe", "g", "--members", "--state"],
        &["group", "reset", "g"],
        &["group", "reset", "g", "--to", "@noon"],
        &["group", "reset", "g", "--to", "latest", "--topics", "orders:x"],
        &["group", "delete"],
        &["group", "remove-member", "g"],
        &["group", "delete", "g", "--offsets"],
        &["group", "delete", "g", "--topic", "t"],
        &["topic", "list", "-o", "yaml"],
        &["serve", "--set", "listner=127.0.0.1:0"],
        &["partition", "list", "--offline", "--under-replicated"],
        &["partition", "list", "--interval", "2s"],
        &["partition", "elect"],
        &["partition", "elect", "--preferred", "--unclean"],
        &["reassign", "plan"],
        &["reassign", "plan", "--topics", "orders", "--all-topics"],
        &["reassign", "plan", "--topics", "orders", "--to-nodes", "one"],
        &["reassign", "execute"],
        &["reassign", "verify"],
        &["reassign", "cancel"],
        &["reassign", "list", "--interval", "2s"],
        &["partition", "elect", "--preferred", "orders:x"],
        &["actor", "kill"],
        &["actor", "kill", "--leader", "orders"],
        &["actor", "kill", "node/1/controller", "--leader", "orders:0"],
        &["actor", "kill", "--leader", "orders:0", "--coordinator", "billing"],
        &["chaos", "kill"],
        &["chaos", "tickle", "*"],
        &["chaos", "drop-replies", "*", "--probability", "2"],
        &["storage", "format"],
        &["storage", "format", "--cluster-id", "two words"],
        &["dev", "--nodes", "0"],
        &["bench", "failover", "--server", "127.0.0.1:1"],
        &["bench", "replication", "--server", "127.0.0.1:1"],
        &["bench", "group", "--nodes", "--server", "127.0.0.1:1"],
        &["bench", "group", "--members", "10", "--partitions", "9"],
        &["log", "dump"],
        &["bench", "produce", "--size", "big"],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("error"), "{arguments:?}: {}", ran.err);
        assert!(ran.out.is_empty(), "{arguments:?}");
    }
}

/// As with getopt: the word after an option is its value.
#[test]
fn a_value_may_begin_with_a_minus_everywhere() {
    let server = nowhere();
    for arguments in [
        &["produce", "t", "--acks", "-1"][..],
        &["produce", "t", "-p", "-1"],
        &["produce", "t", "-k", "-key"],
        &["produce", "t", "-K", "--"],
        &["produce", "t", "-H", "-name: -value"],
        &["produce", "t", "--null-marker", "-"],
        &["produce", "t", "--acks=-1", "-p-1"],
        &["consume", "t", "--offset", "-10"],
        &["consume", "t", "-p", "-1"],
        &["consume", "t", "-n", "-1"],
        &["consume", "t", "--max-messages", "-1"],
        &["consume", "t", "-f", "-%v"],
        &["consume", "t", "--null", "-"],
        &["consume", "t", "-g", "-group"],
        &["topic", "create", "t", "-p", "-1"],
        &["topic", "create", "t", "--partitions", "-1", "--replication-factor", "-1"],
        &["topic", "create", "t", "--config", "-x=-1"],
        &["topic", "create", "--", "-t"],
        &["group", "reset", "g", "--to", "-5", "--yes"],
        &["node", "describe", "-1"],
        &["bench", "produce", "--acks", "-1"],
    ] {
        // It goes as far as asking a node.
        let ran = run_with(&[&["--server", &server][..], arguments].concat(), b"line\n");
        assert_eq!(ran.code, 1, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("cannot connect"), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_value_that_makes_no_sense_is_told_with_its_option() {
    for (arguments, option, reason) in [
        (&["topic", "create", "t", "-p", "-2"][..], "--partitions", "nor -1"),
        (&["topic", "create", "t", "--replicas", "-x"], "--replicas", "nor -1"),
        (&["produce", "t", "--acks", "-2"], "--acks", "one of all (-1), 1 (leader), 0 (none)"),
        (&["produce", "t", "-p", "-2"], "--partition", "nor -1"),
        (&["produce", "t", "--rate", "-1"], "--rate", "negative"),
        (&["produce", "t", "--linger", "-5ms"], "--linger", "negative"),
        (&["produce", "t", "--batch-size", "-1"], "--batch-size", "negative"),
        (&["consume", "t", "-n", "-2"], "--num", "nor -1"),
        (&["consume", "t", "-n", "--until-end"], "--num", "nor -1"),
        (&["consume", "t", "-p", "0,-3"], "--partitions", "nor -1"),
        (&["chaos", "kill", "*", "--count", "-1"], "--count", "negative"),
        (&["chaos", "kill", "*", "--seed", "-1"], "--seed", "whole number"),
        (&["bench", "produce", "--seed", "-1"], "--seed", "whole number"),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(option) && ran.err.contains(reason), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_faulty_format_says_what_would_do() {
    let ran = run(&["consume", "t", "-f", "%q"]);
    assert!(ran.err.contains("`%q` is unknown; use %v %k %t"), "{}", ran.err);
    let ran = run(&["produce", "t", "-f", "%k%v\\n"]);
    assert!(ran.err.contains("put a literal between %k and %v"), "{}", ran.err);
    let ran = run(&["consume", "t", "--offset", "yesterday"]);
    assert!(ran.err.contains("@2026-01-31"), "{}", ran.err);
    let ran = run(&["group", "reset", "g", "--to", "@noon"]);
    assert!(
        ran.err.contains("`@noon` is no place to move to; use earliest, latest, 42"),
        "{}",
        ran.err
    );
}

#[test]
fn without_a_node_every_client_command_says_how_to_get_one() {
    let server = nowhere();
    for arguments in [
        &["topic", "list"][..],
        &["topic", "delete", "t", "--yes"],
        &["produce", "t"],
        &["consume", "t"],
        &["group", "list"],
        &["group", "describe", "g"],
        &["group", "reset", "g", "--to", "latest", "--yes"],
        &["cluster", "info"],
        &["actor", "tree"],
        &["bench", "produce"],
    ] {
        let ran = run_with(&[&["--server", &server][..], arguments].concat(), b"line\n");
        assert_eq!(ran.code, 1, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(&format!("cannot connect to {server}")), "{}", ran.err);
        assert!(ran.err.contains("try: start a node with `troupe dev`"), "{}", ran.err);
        assert!(ran.out.is_empty(), "{arguments:?}");
    }
}

#[test]
fn errors_are_json_where_results_are() {
    let server = nowhere();
    let ran = run(&["topic", "list", "-o", "json", "--server", &server]);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["exitCode"], 1);
    assert!(error["error"]["cause"].as_str().unwrap().contains("cannot connect"), "{error}");
}

#[test]
fn the_server_comes_from_the_environment_too() {
    let server = nowhere();
    let output =
        support::command(&["topic", "list"]).env("TROUPE_SERVER", &server).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(&server));
}

#[test]
fn completion_scripts_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completion", shell]).ok();
        assert!(script.text().contains("troupe"), "{shell}");
        assert!(!script.text().contains("raw-receiver -"), "{shell}");
    }
}

#[test]
fn the_version_is_one_line_or_json() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["version"]).ok().text(), format!("troupe {version}\n"));
    let json = run(&["version", "-o", "jsonl"]).ok();
    assert_eq!(json.text(), format!("{{\"version\":\"{version}\"}}\n"));
    assert_eq!(run(&["--version"]).ok().text(), format!("troupe {version}\n"));
}

#[test]
fn the_configuration_explains_itself() {
    let table = run(&["serve", "--help-config"]).ok();
    assert!(table.text().lines().any(|line| line.starts_with("listener\t127.0.0.1:7070\t")));
    let json = run(&["serve", "--help-config", "-o", "json"]).ok().json();
    let keys = json["keys"].as_array().unwrap();
    assert!(keys.iter().all(|key| !key["documentation"].as_str().unwrap().is_empty()));
}

#[test]
fn every_fault_of_a_configuration_is_told_before_anything_starts() {
    let ran = run(&["serve", "--set", "listner=x", "--set", "num.partitions=0"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean `listener`?"), "{}", ran.err);
    assert!(ran.err.contains("num.partitions"), "{}", ran.err);
    let ran = run(&["serve", "--config", "/nowhere/troupe.toml"]);
    assert_eq!(ran.code, 3, "{ran:?}");
}

#[test]
fn files_that_are_no_log_are_told_apart_from_files_that_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "x").unwrap();
    let ran = run(&["log", "dump", path.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = run(&["log", "verify", "/nowhere/x.txt"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    // The name of a segment, and nothing that could be one in it.
    let path = dir.path().join("00000000000000000000.log");
    std::fs::write(&path, [7; 200]).unwrap();
    let ran = run(&["log", "verify", path.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("no batch at byte 0"), "{}", ran.err);
}

#[test]
fn a_data_directory_is_formatted_for_one_node_of_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = format!("log.dir={}", dir.path().display());
    let id = run(&["storage", "random-uuid"]).ok().text().trim().to_owned();
    let format = |id: &str, more: &[&str]| {
        run(&[&["storage", "format", "--cluster-id", id, "--set", &log_dir], more].concat())
    };
    assert!(format(&id, &[]).ok().text().starts_with("formatted "));
    let again = format(&id, &[]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.err.contains("--ignore-formatted"), "{}", again.err);
    format(&id, &["--ignore-formatted"]).ok();
    for foreign in [format("other", &["--ignore-formatted"]), format(&id, &["--set", "node.id=2"])]
    {
        assert_eq!(foreign.code, 4, "{foreign:?}");
        assert!(foreign.err.contains(&format!("node 1 of cluster {id}")), "{}", foreign.err);
    }
    let differs = format(&id, &["--set", "cluster.id=other"]);
    assert!(differs.err.contains("the configuration says cluster.id=other"), "{}", differs.err);
}
