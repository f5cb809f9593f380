//! `troupe cluster config`, `troupe node config` and `troupe topic alter`, on a node of one's own.

mod support;

use support::Dev;

#[test]
fn settings_of_the_cluster_and_of_a_node_are_set_shown_and_unset() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let key = "log.retention.ms";
    let set =
        dev.run(&["cluster", "config", "set", "log.retention.ms=7d", "num.partitions=3"]).ok();
    assert!(set.text().contains("log.retention.ms: "), "{set:?}");
    assert!(set.text().contains(" -> 604800000\n") && set.text().contains("num.partitions: "));
    let list = dev.run(&["cluster", "config", "list"]).ok();
    assert!(list.text().contains("log.retention.ms\t604800000\tcluster"), "{list:?}");
    let dry = dev.run(&["node", "config", "1", "set", "log.retention.ms=1d", "--dry-run"]).ok();
    assert!(dry.text().contains("604800000 -> 1d (dry run)"), "{dry:?}");
    let set = dev.run(&["node", "config", "1", "set", "log.retention.ms=1d", "-o", "json"]).ok();
    let change = &set.json()["changes"][0];
    assert_eq!(
        (&change["oldValue"], &change["newValue"]),
        (&"604800000".into(), &"86400000".into())
    );
    let got = dev.run(&["node", "config", "1", "get", key, "-o", "json"]).ok().json();
    let config = &got["configs"][0];
    assert_eq!((&config["value"], &config["source"]), (&"86400000".into(), &"node".into()));
    assert_eq!(config["synonyms"][1]["source"], "cluster");
    let unset = dev.run(&["node", "config", "1", "unset", key]).ok();
    assert_eq!(unset.text(), "log.retention.ms: 86400000 -> 604800000\n");
    dev.run(&["cluster", "config", "unset", key, "num.partitions"]).ok();
    assert_eq!(dev.run(&["cluster", "config", "list"]).ok().text(), "");
    let all = dev.run(&["node", "config", "1", "list", "--all"]).ok();
    assert!(all.text().contains("node.id\t1\tdefault"), "{all:?}");
    assert!(all.text().lines().count() > 60);
}

#[test]
fn what_cannot_be_set_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    for (arguments, code, told) in [
        (&["cluster", "config", "set", "num.partition=3"][..], 4, "did you mean 'num.partitions'?"),
        (&["cluster", "config", "set", "num.partitions=none"], 4, "no value for 'num.partitions'"),
        (&["node", "config", "1", "set", "num.partitions=3"], 4, "set it for the cluster"),
        (&["node", "config", "1", "set", "shards=3"], 4, "start it again"),
        (&["node", "config", "9", "set", "log.cleaner.threads=3"], 3, "broker 9 is not registered"),
        (&["node", "config", "9", "list"], 3, "broker 9 is not registered"),
        (&["cluster", "config", "get", "colour"], 4, "unknown broker configuration 'colour'"),
        (&["cluster", "config", "set"], 2, "KEY=VALUE"),
        (&["cluster", "config", "set", "num.partitions"], 2, "not of the form key=value"),
    ] {
        let refused = dev.run(arguments);
        assert_eq!(refused.code, code, "{arguments:?}: {refused:?}");
        assert!(refused.err.contains(told), "{arguments:?}: {}", refused.err);
    }
    assert_eq!(dev.run(&["cluster", "config", "list"]).ok().text(), "");
}

/// What a topic has of the cluster is told from what it has of its own.
#[test]
fn a_topic_shows_old_and_new_and_who_has_set_it() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run(&["cluster", "config", "set", "log.retention.bytes=1GiB"]).ok();
    let source = |key: &str| {
        let topic = dev.run(&["topic", "describe", "t", "-o", "json"]).ok().json();
        let configs = topic["configs"].as_array().unwrap().clone();
        let config = configs.into_iter().find(|config| config["name"] == key).unwrap();
        (
            config["value"].as_str().unwrap().to_owned(),
            config["source"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(source("retention.bytes"), ("1073741824".to_owned(), "cluster".to_owned()));
    let dry = ["topic", "alter", "t", "--set", "retention.bytes=2GiB", "--dry-run"];
    let dry = dev.run(&dry).ok();
    assert_eq!(dry.text(), "retention.bytes: 1073741824 -> 2147483648 (dry run)\n");
    let set = dev.run(&["topic", "alter", "t", "--set", "retention.bytes=2GiB"]).ok();
    assert_eq!(set.text(), "retention.bytes: 1073741824 -> 2147483648\n");
    assert_eq!(source("retention.bytes"), ("2147483648".to_owned(), "topic".to_owned()));
    let unset = dev.run(&["topic", "alter", "t", "--unset", "retention.bytes"]).ok();
    assert_eq!(unset.text(), "retention.bytes: 2147483648 -> 1073741824\n");
}
