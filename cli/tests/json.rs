//! What each command prints with `-o json`: `docs/json.md` has it, and this test holds it. `TROUPE_BLESS=1` writes the
//! page anew.

mod support;

use serde_json::{Map, Value};
use std::fmt::Write;
use std::path::PathBuf;
use support::{Dev, Ran, run};

/// What stands before the first command.
const INTRODUCTION: &str = "\
# What programs get: `-o json`

With `-o json` a command prints one document, with `-o jsonl` one line for each row of a list. Keys are those of the
API's proto JSON, numbers are numbers, times are RFC 3339 in UTC. Keys are added, and are neither taken away nor given
another meaning; read what you know, and pass over the rest. What is told beside the result goes to standard error.

Below is what each command prints, with the kind of each value in its place: `text`, `number`, `true or false`; `or
null` where there may be none; a list with what stands in it, which may be empty. `orders` and `billing` stand for names
of yours. `cli/tests/json.rs` runs every one of them and compares.

A command that fails prints its error on standard error, and its exit code is in it (`troupe --help` has them).
";

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md")
}

/// The kind of a value, and of all that is in it.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Array(items) => {
            let merged = items.iter().map(shape).reduce(merge);
            Value::Array(merged.into_iter().collect())
        }
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), shape(value))).collect()
        }
    }
}

/// What may be the one or the other.
fn merge(one: Value, other: Value) -> Value {
    match (one, other) {
        (one, other) if one == other => one,
        (Value::Object(mut one), Value::Object(other)) => {
            for (key, value) in other {
                let value = match one.remove(&key) {
                    Some(before) => merge(before, value),
                    None => value,
                };
                one.insert(key, value);
            }
            // In an order that does not depend on which came first.
            let mut fields: Vec<_> = one.into_iter().collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect::<Map<_, _>>())
        }
        (Value::Array(one), Value::Array(other)) => {
            Value::Array(one.into_iter().chain(other).reduce(merge).into_iter().collect())
        }
        (Value::String(one), Value::String(other)) => {
            let mut kinds: Vec<&str> = one.split(" or ").chain(other.split(" or ")).collect();
            kinds.sort_unstable_by_key(|kind| (*kind == "null", *kind));
            kinds.dedup();
            kinds.join(" or ").into()
        }
        // Something, or nothing.
        (Value::String(kind), something) | (something, Value::String(kind)) if kind == "null" => {
            something
        }
        (one, _) => one,
    }
}

struct Page {
    text: String,
}

impl Page {
    fn add(&mut self, command: &str, value: &Value) {
        let shape = serde_json::to_string_pretty(&shape(value)).expect("it is JSON");
        write!(self.text, "\n## `troupe {command}`\n\n```json\n{shape}\n```\n").expect("text");
    }

    /// Of lines: all of them together.
    fn add_lines(&mut self, command: &str, ran: &Ran) {
        let lines =
            ran.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let merged = lines.map(|line| shape(&line)).reduce(merge).expect("some lines");
        let shape = serde_json::to_string_pretty(&merged).expect("it is JSON");
        write!(self.text, "\n## `troupe {command}`\n\nA line each:\n\n```json\n{shape}\n```\n")
            .expect("text");
    }
}

/// Whoever parses what a command prints finds on a page what it will be.
#[test]
fn what_each_command_prints_as_json_stands_in_the_docs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let dev = Dev::start(&data);
    let mut page = Page { text: INTRODUCTION.to_owned() };
    let words = |command: &str| -> Vec<String> { command.split(' ').map(str::to_owned).collect() };
    let json = |command: &str| {
        let words = words(command);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend(["-o", "json"]);
        dev.run(&words)
    };
    page.add("version", &json("version").ok().json());
    page.add("compat list", &json("compat list").ok().json());
    for command in [
        "topic create orders -p 2",
        "topic add-partitions orders --to 3",
        "topic alter orders --set retention.ms=1d",
    ] {
        page.add(command, &json(command).ok().json());
    }
    let produced =
        dev.run_with(&["produce", "orders", "-K", ":", "-H", "a: b", "-o", "json"], b"k:1\nk:2\n");
    page.add("produce orders", &produced.ok().json());
    let member =
        ["consume", "orders", "-g", "billing", "-b", "-e", "--member-name", "one", "-o", "jsonl"];
    page.add_lines("consume orders", &dev.run(&member).ok());
    let sent = ["produce", "orders", "-p", "0", "--transactional-id", "loader"];
    dev.run_with(&sent, b"3\n").ok();
    for command in [
        "topic list",
        "topic describe orders",
        "topic offsets orders",
        "topic purge orders:0 --before start --dry-run",
        "group list",
        "group describe billing",
        "group members billing",
        "group describe billing --state",
        "group lag billing",
        "group remove-member billing one",
        "group reset billing --to earliest --dry-run",
        "group delete billing --yes",
        "transaction list",
        "transaction describe loader",
        "transaction producers orders:0",
        "cluster info",
        "cluster health",
        "cluster config list --all",
        "partition list orders",
        "partition elect --preferred",
        "reassign plan --topics orders --to-nodes 1",
        "reassign list",
        "node list",
        "node describe 1",
        "node logdirs",
        "node config 1 list",
        "log scrub",
        "actor tree --kind partition",
        "actor kill --leader orders:0",
        "chaos kill --leader orders:0",
        "topic copy orders copied",
        "bench produce orders --records 1000",
        "bench consume orders --records 1000",
        "bench e2e --duration 1s --warmup 0s",
        "topic delete orders --yes",
    ] {
        let ran = json(command);
        assert!(ran.code == 0, "{command}: {ran:?}");
        page.add(command, &ran.json());
    }
    let failed = json("topic describe nothing");
    assert_eq!(failed.code, 3, "{failed:?}");
    page.add("topic describe nothing", &serde_json::from_str(&failed.err).expect("JSON"));
    assert_eq!(dev.stop(), 0);
    let copied = data.join("copied-0").display().to_string();
    let data = data.display().to_string();
    let log_dirs = format!("log.dirs={}", dir.path().join("formatted").display());
    let id = "storage format --cluster-id cluster --set node.id=1";
    for (command, more) in [
        ("log verify DIR", &["log", "verify", &data][..]),
        ("log dump DIR --records", &["log", "dump", "--records", &copied]),
        ("config check", &["config", "check"]),
        ("config print --all", &["config", "print", "--all"]),
        ("storage random-uuid", &["storage", "random-uuid"]),
        (
            id,
            &[&words(id).iter().map(String::as_str).collect::<Vec<_>>()[..], &["--set", &log_dirs]]
                .concat(),
        ),
        ("serve --help-config", &["serve", "--help-config"]),
    ] {
        let ran = run(&[more, &["-o", "json"]].concat());
        assert!(ran.code == 0, "{command}: {ran:?}");
        page.add(command, &ran.json());
    }

    let path = self::page();
    if std::env::var_os("TROUPE_BLESS").is_some() {
        std::fs::write(&path, &page.text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs =
        page.text.lines().zip(written.lines()).enumerate().find(|(_, (is, was))| is != was);
    if let Some((line, (is, was))) = differs {
        panic!(
            "docs/json.md:{}: it says {was:?}, and is {is:?}; TROUPE_BLESS=1 writes it anew",
            line + 1
        );
    }
    assert_eq!(page.text.lines().count(), written.lines().count(), "docs/json.md");
}
