//! The example files of deploy/ say what is so.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use troupe_broker::NodeConfig;
use troupe_tests::workspace;

#[test]
fn the_example_configuration_is_every_key_with_its_default() {
    let example = workspace::read("deploy/troupe.toml").unwrap();
    let config = NodeConfig::load(Some(&example), [], &[]).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", NodeConfig::default()));

    let keys = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
    let named: BTreeSet<String> =
        example.lines().filter(|line| !line.starts_with('#')).filter_map(keys).collect();
    let known: BTreeSet<String> =
        NodeConfig::keys().into_iter().map(|(key, ..)| key.to_owned()).collect();
    assert_eq!(named, known);
}

#[test]
fn every_key_of_the_example_is_explained() {
    let example = workspace::read("deploy/troupe.toml").unwrap();
    let lines: Vec<&str> = example.lines().collect();
    for (line, next) in lines.iter().zip(&lines[1..]) {
        let is_key = !next.starts_with('#') && next.contains(" = ");
        assert!(!is_key || line.starts_with("# "), "no comment above `{next}`");
    }
}

#[test]
fn the_unit_waits_longer_for_a_stop_than_the_node_takes() {
    let unit = workspace::read("deploy/troupe.service").unwrap();
    let patience = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    // Connections first, partitions then: each may take the whole time.
    let stop = NodeConfig::default().shutdown_timeout.duration() * 2;
    assert!(patience.parse::<u64>().unwrap() > stop.as_secs());
}
