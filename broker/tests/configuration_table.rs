//! `docs/configuration.md` says what is so: every key, and how each of Kafka's core keys was set.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use troupe_broker::{
    ConfigFile, ConfigSources, Configuration, NodeConfig, Origin, UpdateMode, kafka_keys,
};

/// The key that has what was tried, and its value then. None: there is no effect, and a note says so.
type Effect = Option<(&'static str, &'static str)>;

/// The keys that a course of Kafka names, and what is tried of each.
const CORE: [(&str, &str, Effect); 31] = [
    ("node.id", "7", Some(("node.id", "7"))),
    ("broker.id", "7", Some(("node.id", "7"))),
    (
        "controller.quorum.voters",
        "1@localhost:9093",
        Some(("controller.quorum.voters", "1@localhost:9093")),
    ),
    ("listeners", "PLAINTEXT://:9092", Some(("listeners", "PLAINTEXT://:9092"))),
    (
        "advertised.listeners",
        "PLAINTEXT://node-1:9092",
        Some(("advertised.listeners", "PLAINTEXT://node-1:9092")),
    ),
    ("log.dirs", "/data/1,/data/2", Some(("log.dirs", "/data/1,/data/2"))),
    ("num.network.threads", "6", None),
    ("num.io.threads", "16", None),
    ("num.replica.fetchers", "2", None),
    ("num.partitions", "3", Some(("num.partitions", "3"))),
    ("default.replication.factor", "3", Some(("default.replication.factor", "3"))),
    ("min.insync.replicas", "2", Some(("min.insync.replicas", "2"))),
    ("message.max.bytes", "2097152", Some(("message.max.bytes", "2097152"))),
    ("replica.lag.time.max.ms", "10000", Some(("replica.lag.time.max.ms", "10000"))),
    ("auto.leader.rebalance.enable", "false", Some(("auto.leader.rebalance.enable", "false"))),
    (
        "leader.imbalance.per.broker.percentage",
        "20",
        Some(("leader.imbalance.per.broker.percentage", "20")),
    ),
    (
        "leader.imbalance.check.interval.seconds",
        "60",
        Some(("leader.imbalance.check.interval.seconds", "60")),
    ),
    ("log.segment.bytes", "536870912", Some(("log.segment.bytes", "536870912"))),
    ("log.index.interval.bytes", "8192", Some(("log.index.interval.bytes", "8192"))),
    ("log.roll.hours", "24", Some(("log.roll.ms", "86400000"))),
    ("log.retention.hours", "72", Some(("log.retention.hours", "72"))),
    ("log.retention.minutes", "90", Some(("log.retention.minutes", "90"))),
    ("log.retention.ms", "60000", Some(("log.retention.ms", "60000"))),
    ("log.retention.bytes", "1073741824", Some(("log.retention.bytes", "1073741824"))),
    (
        "log.retention.check.interval.ms",
        "60000",
        Some(("log.retention.check.interval.ms", "60000")),
    ),
    ("log.cleanup.policy", "compact", Some(("log.cleanup.policy", "compact"))),
    ("log.flush.interval.messages", "10000", None),
    ("log.flush.interval.ms", "1000", None),
    ("offsets.topic.num.partitions", "25", Some(("offsets.topic.num.partitions", "25"))),
    ("offsets.topic.replication.factor", "1", Some(("offsets.topic.replication.factor", "1"))),
    ("unclean.leader.election.enable", "true", Some(("unclean.leader.election.enable", "true"))),
];

/// A way to set a key, by its name: what it is then read from, and where it stands.
fn ways(key: &str, value: &str) -> [(&'static str, ConfigSources, Origin); 4] {
    let file = |name: &str, text: String| ConfigSources {
        file: Some(ConfigFile::new(name, text)),
        ..ConfigSources::default()
    };
    let line = |name: &str| Origin::File { name: name.to_owned(), line: 1 };
    let variable = format!("TROUPE__{}", key.to_uppercase().replace('.', "__"));
    let environment = vec![(variable.clone(), value.to_owned())];
    let set = vec![format!("{key}={value}")];
    [
        ("TOML", file("a.toml", format!("{key} = \"{value}\"\n")), line("a.toml")),
        ("properties", file("a.properties", format!("{key}={value}\n")), line("a.properties")),
        (
            "environment",
            ConfigSources { environment, ..ConfigSources::default() },
            Origin::Environment { variable },
        ),
        ("--set", ConfigSources { set, ..ConfigSources::default() }, Origin::Set),
    ]
}

#[test]
fn every_core_key_is_set_in_every_way() {
    let defaults = NodeConfig::default();
    for (key, value, expected) in CORE {
        for (way, sources, origin) in ways(key, value) {
            let loaded: Configuration =
                sources.load().unwrap_or_else(|faults| panic!("{key} by {way}: {faults}"));
            match expected {
                Some((own, then)) => {
                    assert_eq!(loaded.config.get(own).as_deref(), Some(then), "{key} by {way}");
                    assert_ne!(defaults.get(own).as_deref(), Some(then), "{key}: tried nothing");
                    assert_eq!(loaded.origin(own), origin, "{key} by {way}");
                    assert!(loaded.notes.is_empty(), "{key} by {way}: {:?}", loaded.notes);
                }
                None => {
                    let [note] = &loaded.notes[..] else { panic!("{key}: {:?}", loaded.notes) };
                    let found = (note.key.as_str(), note.value.as_str(), &note.origin);
                    assert_eq!(found, (key, value, &origin), "{key} by {way}");
                    assert!(!note.reason.is_empty(), "{key}");
                }
            }
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn table() -> String {
    let tried: BTreeMap<&str, &str> = CORE.iter().map(|(key, value, _)| (*key, *value)).collect();
    let core = |key: &str| match tried.get(key) {
        Some(value) => format!("core, `{value}`"),
        None => String::new(),
    };
    let shown = |text: &str| match text {
        "" => String::new(),
        text => format!("`{text}`"),
    };
    let mut table =
        String::from("| key | default | change | tried | meaning |\n|---|---|---|---|---|\n");
    for key in NodeConfig::keys() {
        let change = match key.update_mode {
            UpdateMode::Restart => "restart",
            UpdateMode::Dynamic => "dynamic",
            UpdateMode::ClusterWide => "dynamic, for the cluster",
        };
        let meaning = key.documentation.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            table,
            "| `{}` | {} | {change} | {} | {} |",
            key.name,
            shown(&key.default),
            core(key.name),
            cell(&meaning)
        );
    }
    table.push_str(
        "\n## Kafka's other keys\n\n| key | tried | what becomes of it |\n|---|---|---|\n",
    );
    for (key, fate) in kafka_keys() {
        let fate = fate.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(table, "| `{key}` | {} | {} |", core(&key), cell(&fate));
    }
    table
}

#[test]
fn the_page_has_every_key_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- keys: ").unwrap();
    let (command, rest) = rest.split_once(" -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of keys -->").unwrap();
    let table = table();
    let expected =
        format!("{before}<!-- keys: {command} -->\n\n{table}\n<!-- end of keys -->{after}");
    if page != expected && std::env::var_os("TROUPE_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    assert_eq!(page, expected, "write it anew: {command}");
}
