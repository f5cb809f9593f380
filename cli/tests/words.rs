//! The command line answers as people type: other words for the same, one language of offsets, hints that fit.

mod support;

use std::io::{Read, Write};
use support::{Dev, run};

#[test]
fn help_is_a_command_as_elsewhere() {
    for words in [&["topic", "create"][..], &["group"], &[]] {
        let help = run(&[&["help"], words].concat()).ok();
        let option = run(&[words, &["--help"]].concat()).ok();
        assert_eq!(help.text().lines().next(), option.text().lines().next(), "{words:?}");
        assert!(help.text().contains("Usage: troupe"), "{words:?}");
    }
    assert!(run(&["topic", "help", "create"]).ok().text().contains("Usage: troupe topic create"));
}

#[test]
fn commands_have_the_names_that_people_type() {
    for (typed, meant) in [
        (&["topic", "ls"][..], "topic list"),
        (&["topics", "ls"], "topic list"),
        (&["topic", "rm"], "topic delete"),
        (&["group", "ls"], "group list"),
        (&["consumer-groups", "describe"], "group describe"),
        (&["group", "rm"], "group delete"),
        (&["node", "ls"], "node list"),
        (&["brokers", "list"], "node list"),
        (&["node", "rm"], "node remove"),
        (&["partition", "describe"], "partition list"),
        (&["cluster", "describe"], "cluster info"),
        (&["actor", "ls"], "actor tree"),
        (&["txn", "list"], "transaction list"),
        (&["reassign-partitions", "ls"], "reassign list"),
    ] {
        let help = run(&[typed, &["--help"]].concat()).ok();
        assert!(help.text().contains(&format!("Usage: troupe {meant}")), "{typed:?}");
    }
}

#[test]
fn words_of_kafka_are_answered_with_ours_and_nothing_silly_is_offered() {
    for (typed, answer) in [
        (&["acl", "--list"][..], "not there yet"),
        (&["quota"], "not there yet"),
        (&["top"], "`troupe group lag --watch`"),
        (&["configs"], "`troupe topic alter`"),
        (&["config", "alter"], "`troupe topic alter`"),
        (&["console-producer"], "`troupe produce TOPIC`"),
        (&["kafka-topics.sh", "--list"], "`troupe topic`"),
        (&["kafka-consumer-groups.sh"], "`troupe group`"),
        (&["leader-election"], "`troupe partition elect`"),
        (&["ls"], "`troupe topic list`"),
        (&["drain"], "there is `troupe node drain`"),
        (&["topic", "--list"], "use `troupe topic list`"),
        (&["topic", "add-partitions", "first", "5"], "the new total is --to 5"),
        (&["consume", "t", "--property", "print.key=true"], "an option of its own"),
        (&["group", "reset", "g", "--to-earliest"], "use --to earliest"),
        (&["produce", "t", "--throughput", "5"], "use --rate N"),
        (&["topic", "alter", "t", "--add-config", "a=b"], "use --set KEY=VALUE"),
        (&["topic", "lsit"], "a similar subcommand exists: 'list'"),
        (&["consume", "t", "--from-begining"], "'--from-beginning'"),
    ] {
        let ran = run(typed);
        assert_eq!(ran.code, 2, "{typed:?}: {ran:?}");
        assert!(ran.err.contains(answer), "{typed:?}: {}", ran.err);
        assert_eq!(ran.err.matches("tip:").count(), 1, "one hint, not two: {}", ran.err);
    }
    for typed in [&["juggle"][..], &["topic", "juggle"], &["produce", "t", "--juggle"]] {
        let ran = run(typed);
        assert!(ran.code == 2 && !ran.err.contains("tip:"), "{typed:?}: {}", ran.err);
    }
}

/// What is advised is there.
#[test]
fn every_command_that_an_answer_names_exists() {
    let source = include_str!("../src/foreign_words.rs");
    let answers = source.split("#[cfg(test)]").next().expect("the code comes first");
    for advised in answers.split("`troupe ").skip(1) {
        let advised = advised.split('`').next().expect("it ends");
        let words = advised.split_whitespace();
        let words: Vec<&str> =
            words.take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
        let help = run(&[&words[..], &["--help"]].concat());
        assert_eq!(help.code, 0, "{advised}: {help:?}");
        for option in advised.split_whitespace().filter(|word| word.starts_with("--")) {
            assert!(help.text().contains(option), "{advised}");
        }
    }
}

#[test]
fn kafka_s_options_are_taken_where_ours_are() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let server = dev.server.as_str();
    let kafka = |arguments: &[&str]| run(&[arguments, &["--bootstrap-server", server]].concat());
    let create = ["--topic", "orders", "--partitions", "2", "--replication-factor", "1"];
    kafka(&[&["topic", "create"], &create[..]].concat()).ok();
    kafka(&["topic", "alter", "--topic", "orders", "--partitions", "3"]).ok();
    let described = kafka(&["topic", "describe", "--topic=orders", "-o", "json"]).ok().json();
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);
    dev.run_with(&["produce", "--topic", "orders", "--acks", "-1"], b"x\n").ok();
    let read = ["--topic", "orders", "--from-beginning", "--max-messages", "1", "--group", "g"];
    assert_eq!(kafka(&[&["consume"], &read[..]].concat()).ok().text(), "x\n");
    let group = kafka(&["consumer-groups", "describe", "--group", "g", "-o", "json"]).ok().json();
    assert_eq!(group["groupId"], "g");
    assert_eq!(kafka(&["topic", "list"]).ok().text(), "orders\t3\t1\n");
}

#[test]
fn names_that_are_nearly_there_are_offered() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders"]).ok();
    dev.run_with(&["produce", "orders"], b"x\n").ok();
    dev.run(&["consume", "orders", "-g", "billing", "-b", "-e"]).ok();
    for (arguments, offered) in [
        (&["topic", "describe", "ordres"][..], "did you mean 'orders'?"),
        (&["topic", "offsets", "ordres"], "did you mean 'orders'?"),
        (&["produce", "ordres"], "did you mean 'orders'?"),
        (&["consume", "Orders"], "did you mean 'orders'?"),
        (&["group", "describe", "biling"], "did you mean 'billing'?"),
        (&["group", "members", "biling"], "did you mean 'billing'?"),
        (&["node", "describe", "11"], "there is no node 11, but 1"),
        (&["topic", "alter", "orders", "--set", "retentoin.ms=1d"], "did you mean 'retention.ms'?"),
    ] {
        let ran = dev.run(arguments);
        assert!(ran.code == 3 || ran.code == 4, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(offered), "{arguments:?}: {}", ran.err);
        assert!(ran.err.matches("troupe topic list").count() <= 1, "{}", ran.err);
    }
    let ran = dev.run(&["topic", "describe", "something-else"]);
    assert!(!ran.err.contains("did you mean"), "{}", ran.err);
    assert_eq!(ran.err.matches("troupe topic list").count(), 1, "one hint, not two: {}", ran.err);
}

/// Else it would be waited for, without a word.
#[test]
fn a_misspelt_topic_is_told_to_a_member_of_a_group_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders"]).ok();
    let ran = dev.run(&["consume", "ordres", "-g", "billing"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("did you mean 'orders'?"), "{}", ran.err);
}

#[test]
fn produce_reads_standard_input_where_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let file = dir.path().join("first");
    std::fs::write(&file, "1\n").unwrap();
    dev.run_with(&["produce", "t", file.to_str().unwrap(), "-"], b"2\n3\n").ok();
    dev.run_with(&["produce", "t", "-"], b"4\n").ok();
    assert_eq!(dev.run(&["consume", "t", "-b", "-e"]).ok().text(), "1\n2\n3\n4\n");
}

#[test]
fn offsets_are_said_the_same_way_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"0\n1\n2\n3\n").ok();
    dev.run(&["consume", "t", "-g", "g", "-b", "-n", "2"]).ok();
    for place in ["2", "=2", "+1", "-1", "@-1h", "-1h", "@2026-01-31", "earliest", "latest"] {
        dev.run(&["consume", "t", "--offset", place, "-e"]).ok();
        dev.run(&["group", "reset", "g", "--to", place, "--dry-run"]).ok();
        dev.run(&["topic", "purge", "t", "--before", place, "--dry-run"]).ok();
    }
}

#[test]
fn what_is_out_of_range_is_told_and_the_nearest_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t", "-p", "2"]).ok();
    dev.run_with(&["produce", "t", "-p", "0"], b"0\n1\n2\n3\n").ok();
    dev.run_with(&["produce", "t", "-p", "1"], b"a\n").ok();
    let ran = dev.run(&["consume", "t", "--offset", "2", "-e"]).ok();
    assert_eq!(ran.text(), "2\n3\n");
    assert!(ran.err.contains("note: t:1 ends before the first offset"), "{}", ran.err);
    let ran = dev.run(&["consume", "t", "--offset", "3:6"]).ok();
    assert_eq!(ran.text(), "3\n");
    assert!(ran.err.contains("note: t:0 ends before the last offset"), "{}", ran.err);
    let ran = dev.run(&["consume", "t", "--offset", "@2100-01-01:latest"]).ok();
    assert!(ran.out.is_empty() && ran.err.contains("there is no record in this range"), "{ran:?}");
    let ran = dev.run(&["consume", "t", "--offset", "-10", "-e"]).ok();
    assert!(ran.err.is_empty(), "the last ten of four are four: {ran:?}");

    dev.run(&["consume", "t", "-g", "g", "-b", "-e"]).ok();
    let ran = dev.run(&["group", "reset", "g", "--topics", "t:0", "--to", "170000", "--yes"]).ok();
    assert_eq!(ran.text(), "t\t0\t4\t4\t0\t0\t-\n");
    let told = "note: t:0 has no offset 170000: 4 is the nearest that there is";
    assert!(ran.err.contains(told), "{}", ran.err);
}

#[test]
fn a_range_that_is_not_there_yet_is_waited_for_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"0\n1\n").ok();
    let waiting = support::command(&["consume", "t", "--offset", "3:5", "--wait", "--server"])
        .arg(&dev.server)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It ends only when they are there, whenever it began.
    dev.run_with(&["produce", "t"], b"2\n3\n4\n5\n").ok();
    let ran: support::Ran = waiting.wait_with_output().unwrap().into();
    assert_eq!(ran.ok().text(), "3\n4\n");
}

#[test]
fn addresses_are_understood_or_explained() {
    for (server, said) in [
        ("127.0.0.1", "cannot connect to 127.0.0.1:7070"),
        ("http://127.0.0.1:1", "cannot connect to 127.0.0.1:1"),
        ("https://127.0.0.1:1", "connections are not encrypted yet"),
        ("127.0.0.1:port", "behind the colon stands no port"),
        ("ftp://x", "`ftp` is no scheme"),
    ] {
        let ran = run(&["topic", "list", "--server", server]);
        // Somebody may have a node at the default's port.
        assert!(ran.code == 0 || ran.err.contains(said), "{server}: {}", ran.err);
    }
    let mut empty = support::command(&["topic", "list", "--server", "127.0.0.1:1"]);
    let ran: support::Ran = empty.env("TROUPE_SERVER", "").output().unwrap().into();
    assert!(ran.err.contains("cannot connect to 127.0.0.1:1"), "{}", ran.err);
    let mut empty = support::command(&["topic", "list"]);
    let ran: support::Ran = empty.env("TROUPE_SERVER", "").output().unwrap().into();
    assert!(ran.code == 0 || ran.err.contains("cannot connect to 127.0.0.1:7070"), "{}", ran.err);
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    run(&["topic", "list", "--server", &format!("http://{}/", dev.server)]).ok();
}

#[test]
fn every_metric_comes_with_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t"], b"x\n").ok();
    let nodes = dev.run(&["node", "list", "-o", "json"]).ok().json();
    let http = nodes["nodes"][0]["httpEndpoint"].as_str().unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect(http).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    let names: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in kinds {
        assert!(names.contains(&name), "{name}");
    }
    assert!(told.contains(&"troupe_topics topics with replicas here"), "{told:?}");
    assert!(names.contains(&"troupe_records_in_total"), "{names:?}");
}

#[test]
fn whoever_leads_or_coordinates_is_killed_by_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders", "-p", "2"]).ok();
    dev.run_with(&["produce", "orders"], b"x\n").ok();
    dev.run(&["consume", "orders", "-g", "billing", "-b", "-e"]).ok();
    let killed = dev.run(&["actor", "kill", "--coordinator", "billing"]).ok();
    assert!(killed.text().contains("group-coordinator/__consumer_offsets/"), "{killed:?}");
    // It was the one: the group is served by the new life.
    dev.run(&["group", "describe", "billing"]).ok();
    let chaos = ["chaos", "kill", "--leader", "orders:1", "--coordinator", "billing", "-n", "3"];
    let chaos = dev.run(&[&chaos[..], &["--every", "100ms", "-o", "json"]].concat()).ok().json();
    let hit = chaos["faults"].as_array().unwrap();
    assert_eq!(hit.len(), 3, "{chaos}");
    for fault in hit {
        let address = fault["address"].as_str().unwrap();
        let is_named =
            address.ends_with("/partition/orders/1") || address.contains("/group-coordinator/");
        assert!(is_named && fault["error"].is_null(), "{fault}");
    }
    let paused = dev.run(&["chaos", "pause", "node/*/controller"]);
    assert_eq!(paused.code, 4, "{paused:?}");
    assert!(paused.err.contains("can only be killed"), "{}", paused.err);
    let nobody = dev.run(&["chaos", "kill", "--leader", "ordres:0"]);
    assert!(nobody.code == 3 && nobody.err.contains("did you mean 'orders'?"), "{nobody:?}");
}
