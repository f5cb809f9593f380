//! Files as Kafka's own and as a course writes them: each key is applied, named as without effect, or refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use troupe_broker::{ConfigFile, ConfigSources, Configuration, NodeConfig, Origin};

fn read(name: &str) -> ConfigFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/properties").join(name);
    ConfigFile::new(name, std::fs::read_to_string(path).unwrap())
}

fn load(name: &str) -> Result<Configuration, Vec<String>> {
    let sources = ConfigSources { file: Some(read(name)), ..ConfigSources::default() };
    sources.load().map_err(|faults| faults.0)
}

/// Every key of the file is one of this node, or is told to have no effect.
fn assert_nothing_is_passed_over(name: &str, loaded: &Configuration) {
    for line in read(name).text.lines() {
        let Some((key, _)) = line.split_once('=') else { continue };
        let key = key.trim();
        let is_noted = loaded.notes.iter().any(|note| note.key == key && !note.reason.is_empty());
        let is_known = NodeConfig::update_mode(key).is_some();
        let is_derived = key == "controller.quorum.bootstrap.servers";
        assert!(is_noted != (is_known || is_derived), "{name}: {key}");
        if is_known {
            assert!(matches!(loaded.origin(key), Origin::File { .. }), "{name}: {key}");
        }
    }
}

#[test]
fn kafkas_own_files_are_taken_as_they_are() {
    for name in [
        "kafka-3.9-server.properties",
        "kafka-3.9-broker.properties",
        "kafka-3.9-controller.properties",
        "kafka-4-server.properties",
        "kafka-4-controller.properties",
    ] {
        let loaded = load(name).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_nothing_is_passed_over(name, &loaded);
        let config = &loaded.config;
        assert_eq!(config.max_request_bytes.0, 104_857_600);
        let voters = config.voters().unwrap();
        assert_eq!(voters.len(), 1, "{name}");
        assert_eq!((voters[0].node_id.0, voters[0].address.as_str()), (1, "localhost:9093"));
        let listeners = config.listeners().unwrap();
        assert_eq!(listeners.grpc.len(), usize::from(config.is_broker()), "{name}");
        assert_eq!(listeners.controller.is_some(), config.is_controller(), "{name}");
        for listener in &listeners.grpc {
            assert_eq!((listener.name.as_str(), listener.port), ("PLAINTEXT", 9092));
            assert_eq!(listener.advertised.as_deref(), Some("localhost:9092"));
        }
        assert_eq!(config.log_directories().len(), 1);
    }
}

/// Kafka 4's broker does not say who its controllers are.
#[test]
fn a_broker_that_does_not_name_its_controllers_is_told_how_to() {
    let faults = load("kafka-4-broker.properties").unwrap_err();
    let told = faults.iter().find(|fault| fault.contains("bootstrap.servers")).unwrap();
    assert!(told.contains("controller.quorum.voters=ID@HOST:PORT"), "{told}");
    assert!(told.contains("kafka-4-broker.properties:4"), "{told}");
}

#[test]
fn the_files_of_a_course_make_a_cluster_on_one_machine() {
    let mut ports = std::collections::BTreeSet::new();
    for number in 1..=3 {
        let name = format!("course-{number}.properties");
        let loaded = load(&name).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_nothing_is_passed_over(&name, &loaded);
        let config = &loaded.config;
        assert_eq!((config.node_id, config.voters().unwrap().len()), (number, 3));
        let directory = |n| PathBuf::from(format!("/tmp/course/server-{number}/data-{n}"));
        assert_eq!(config.log_directories(), [directory(1), directory(2)]);
        assert_eq!((config.num_partitions, config.default_replication_factor), (3, 3));
        let listeners = config.listeners().unwrap();
        assert_eq!(listeners.http.port, 0, "three nodes of a machine share none");
        for listener in listeners.grpc.iter().chain(&listeners.controller) {
            assert!(ports.insert(listener.port), "{}", listener.port);
        }
        let noted: Vec<_> = loaded.notes.iter().map(|note| note.key.as_str()).collect();
        for key in ["num.network.threads", "num.io.threads", "num.replica.fetchers"] {
            assert!(noted.contains(&key), "{key}: {noted:?}");
        }
    }
}

#[test]
fn a_file_of_zookeepers_days_is_told_what_takes_its_place() {
    let faults = load("zookeeper-era.properties").unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("controller.quorum.voters=ID@HOST:PORT"), "{faults:?}");
    assert!(faults[0].contains("zookeeper-era.properties:10"), "{faults:?}");
    let mut file = read("zookeeper-era.properties");
    file.text.push_str("controller.quorum.voters=0@localhost:9093\ncontroller.listener.names=C\n");
    file.text = file.text.replace("PLAINTEXT://:9092", "PLAINTEXT://:9092,C://:9093");
    let loaded = ConfigSources { file: Some(file), ..ConfigSources::default() }.load().unwrap();
    assert_eq!((loaded.config.node_id, loaded.config.listeners().unwrap().grpc[0].port), (0, 9092));
    assert!(loaded.notes.iter().any(|note| note.key == "zookeeper.connect"));
}

#[test]
fn security_that_is_not_there_is_refused_and_everything_is_told_at_once() {
    let text = "listeners=SASL_SSL://:9092\nauthorizer.class.name=a\nssl.keystore.location=b\n\
                num.partitons=3\nhost.name=c\nlog.segment.bytes=12\nlog.cleanup.policy=burn\n";
    let file = ConfigFile::new("a.properties", text);
    let faults = ConfigSources { file: Some(file), ..Default::default() }.load().unwrap_err().0;
    for told in [
        "SASL_SSL has the protocol SASL_SSL",
        "authorizer.class.name: connections are neither encrypted nor authenticated yet",
        "ssl.keystore.location: connections are neither",
        "num.partitons: unknown key; did you mean `num.partitions`? (a.properties:4)",
        "host.name: use listeners=PLAINTEXT://HOST:PORT (a.properties:5)",
        "log.segment.bytes: `12`: must be between",
        "log.cleanup.policy: `burn`: use delete, compact",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(told)), "{told}: {faults:#?}");
    }
    assert_eq!(faults.len(), 7, "{faults:#?}");
}

#[test]
fn other_names_and_units_of_a_key_are_the_key() {
    let load = |file: &str, set: &[&str]| {
        let set = set.iter().map(|&pair| pair.to_owned()).collect();
        let file = Some(ConfigFile::new("a.properties", file));
        let sources = ConfigSources { file, set, ..ConfigSources::default() };
        sources.load().map_err(|faults| faults.to_string())
    };
    let loaded = load("broker.id=7\nlog.roll.hours=2\n", &[]).unwrap();
    assert_eq!((loaded.config.node_id, loaded.config.roll.0), (7, 7_200_000));
    let origin = Origin::File { name: "a.properties".to_owned(), line: 2 };
    assert_eq!(loaded.origin("log.roll.ms"), origin);
    let interval =
        |set: &[&str]| load("", set).unwrap().config.leader_imbalance_interval.duration();
    assert_eq!(interval(&["leader.imbalance.check.interval.seconds=5"]).as_millis(), 5_000);
    assert_eq!(interval(&["leader.imbalance.check.interval.ms=50"]).as_millis(), 50);
    // The finer unit counts, and a later source.
    let rolls = |file: &str, set: &[&str]| load(file, set).unwrap().config.roll.0;
    assert_eq!(rolls("log.roll.hours=2\nlog.roll.ms=5\n", &[]), 5);
    assert_eq!(rolls("log.roll.ms=5\nlog.roll.hours=2\n", &[]), 5);
    assert_eq!(rolls("log.roll.ms=5\n", &["log.roll.hours=2"]), 7_200_000);
    let refused = load("broker.id=7\nnode.id=8\n", &[]).unwrap_err();
    assert!(refused.contains("it is the same setting as"), "{refused}");
    assert!(load("broker.id=7\nnode.id=7\n", &[]).is_ok());
}

#[test]
fn what_a_topic_does_not_set_its_node_sets() {
    let set = ["log.segment.bytes=1MiB", "log.roll.hours=1", "log.cleanup.policy=compact, delete"];
    let set: Vec<_> = set.iter().map(|&pair| pair.to_owned()).collect();
    let config = NodeConfig::load(None, [], &set).unwrap();
    assert_eq!(config.get("log.segment.bytes").as_deref(), Some("1048576"));
    assert_eq!(config.get("log.roll.ms").as_deref(), Some("3600000"));
}
