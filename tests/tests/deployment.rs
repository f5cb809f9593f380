//! The example files of deploy/ say what is so.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use troupe_broker::NodeConfig;
use troupe_tests::workspace;

const CLUSTER: [&str; 3] = ["deploy/node-1.toml", "deploy/node-2.toml", "deploy/node-3.toml"];

#[test]
fn the_example_configuration_is_every_key_with_its_default() {
    let example = workspace::read("deploy/troupe.toml").unwrap();
    let config = NodeConfig::load(Some(&example), [], &[]).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", NodeConfig::default()));

    let keys = |line: &str| line.split_once(" = ").map(|(key, _)| key.trim_matches('"').to_owned());
    let named: BTreeSet<String> =
        example.lines().filter(|line| !line.starts_with('#')).filter_map(keys).collect();
    let known: BTreeSet<String> =
        NodeConfig::keys().into_iter().map(|key| key.name.to_owned()).collect();
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

/// Whether these can find each other, and keep what they acknowledge when one of them is away.
fn assert_are_a_cluster(configs: &[NodeConfig]) {
    let mut addresses = BTreeSet::new();
    for (config, number) in configs.iter().zip(1..) {
        assert_eq!(config.node_id, number);
        assert!(!config.cluster_id.is_empty());
        assert_eq!(config.cluster_id, configs[0].cluster_id);
        assert_eq!(config.voters().unwrap(), configs[0].voters().unwrap());
        assert_eq!(config.voters().unwrap().len(), configs.len());
        let endpoint = match config.advertised_listener.as_str() {
            "" => config.listener.to_string(),
            advertised => advertised.to_owned(),
        };
        assert!(addresses.insert(endpoint.clone()), "{endpoint} twice");
        assert_eq!(config.default_replication_factor, 3);
        assert_eq!(config.min_insync_replicas, 2);
    }
}

#[test]
fn the_example_nodes_are_a_cluster_on_one_machine() {
    let read = |path| NodeConfig::load(Some(&workspace::read(path).unwrap()), [], &[]).unwrap();
    let configs = CLUSTER.map(read);
    assert_are_a_cluster(&configs);
    let mut listeners = BTreeSet::new();
    let mut directories = BTreeSet::new();
    for config in &configs {
        for address in [config.listener, config.http_listener, config.controller_listener] {
            assert!(address.ip().is_loopback());
            assert!(listeners.insert(address), "{address} twice");
        }
        assert!(directories.insert(config.log_dir.clone()));
        let voters = config.voters().unwrap();
        let own = voters.iter().find(|voter| voter.node_id.0 == config.node_id).unwrap();
        assert_eq!(own.address, config.controller_listener.to_string());
    }
}

/// The variables that a container of the compose file gets: those of all, then its own.
fn environments() -> BTreeMap<String, Vec<(String, String)>> {
    let compose = workspace::read("deploy/compose.yaml").unwrap();
    let image = workspace::read("deploy/Containerfile").unwrap();
    let of_image: Vec<(String, String)> = image
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            line.trim_start_matches("ENV").trim().trim_end_matches(" \\").split_once('=')
        })
        .filter(|(name, _)| name.starts_with("TROUPE"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (shared, services) = compose.split_once("\nservices:\n").unwrap();
    let variable = |line: &str| {
        let (name, value) = line.trim().split_once(": ")?;
        name.starts_with("TROUPE").then(|| (name.to_owned(), value.trim_matches('"').to_owned()))
    };
    let mut of_all = of_image;
    of_all.extend(shared.lines().filter_map(variable));
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut service = None;
    for line in services.split("\nvolumes:\n").next().unwrap().lines() {
        if let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            let name = name.trim_end_matches(':').to_owned();
            found.insert(name.clone(), of_all.clone());
            service = Some(name);
        }
        if let (Some(service), Some(variable)) = (&service, variable(line)) {
            found.get_mut(service).unwrap().push(variable);
        }
    }
    found
}

#[test]
fn the_containers_are_a_cluster_and_find_each_other_by_name() {
    let example = workspace::read("deploy/troupe.toml").unwrap();
    let environments = environments();
    assert_eq!(environments.len(), 3, "{environments:?}");
    let mut configs = Vec::new();
    for (service, environment) in environments {
        let server =
            environment.iter().find(|(name, _)| name == "TROUPE_SERVER").unwrap().1.clone();
        let config = NodeConfig::load(Some(&example), environment, &[]).unwrap();
        // Listeners are open to the other containers; the names are those of the services.
        assert_eq!(config.advertised_listener, format!("{service}:{}", config.listener.port()));
        assert_eq!(server, config.advertised_listener);
        assert!(config.listener.ip().is_unspecified());
        assert!(config.controller_listener.ip().is_unspecified());
        let voters = config.voters().unwrap();
        let own = voters.iter().find(|voter| voter.node_id.0 == config.node_id).unwrap();
        assert_eq!(own.address, format!("{service}:{}", config.controller_listener.port()));
        configs.push(config);
    }
    assert_are_a_cluster(&configs);
}

#[test]
fn files_that_are_named_are_there() {
    let deploy = workspace::files("deploy", "").unwrap();
    assert!(deploy.len() >= 8, "{deploy:?}");
    for path in &deploy {
        let text = workspace::read(path).unwrap();
        for word in text.split(|c: char| c.is_whitespace() || "`\"',;()".contains(c)) {
            let named = word.trim_end_matches(['.', ':']);
            if let Some(file) = named.strip_prefix("deploy/") {
                assert!(deploy.iter().any(|there| there == named), "{path} names {file}");
            }
        }
    }
    let compose = workspace::read("deploy/compose.yaml").unwrap();
    assert!(compose.contains("dockerfile: deploy/Containerfile"));
    assert!(
        workspace::read("deploy/troupe@.service").unwrap().contains("--config /etc/troupe/%i.toml")
    );
}

#[test]
fn whoever_stops_a_node_waits_longer_than_it_takes() {
    // Leaderships first, connections and partitions then: each may take its whole time.
    let defaults = NodeConfig::default();
    let stop =
        defaults.controlled_shutdown_timeout.duration() + defaults.shutdown_timeout.duration() * 2;
    for unit in ["deploy/troupe.service", "deploy/troupe@.service"] {
        let text = workspace::read(unit).unwrap();
        let patience = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
        assert!(Duration::from_secs(patience.parse().unwrap()) > stop, "{unit}");
    }
    let compose = workspace::read("deploy/compose.yaml").unwrap();
    let patience = compose.lines().find_map(|line| line.trim().strip_prefix("stop_grace_period: "));
    let minutes: u64 = patience.unwrap().strip_suffix('m').unwrap().parse().unwrap();
    assert!(Duration::from_secs(60 * minutes) > stop);
}
