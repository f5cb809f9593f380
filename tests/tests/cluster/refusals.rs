//! What an operator asks for and cannot have, by the commands: each refusal is told in its own words, and the cluster is
//! afterwards what it was before.

use std::fs;
use troupe_tests::{Cluster, troupe};

const TOPIC: &str = "untouched";

async fn run(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = troupe(&cluster.addresses().join(","), arguments).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// All that commands can change, as commands show it.
async fn state(cluster: &Cluster) -> String {
    let mut state = String::new();
    for arguments in [
        &["topic", "list", "--internal"][..],
        &["topic", "describe", TOPIC, "-o", "wide"],
        &["partition", "list"],
        &["node", "list"],
        &["cluster", "config", "list"],
        &["node", "config", "1", "list"],
        &["node", "config", "3", "list"],
        &["reassign", "list"],
    ] {
        let (code, told, why) = run(cluster, arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {why}");
        state += &format!("{arguments:?}\n{told}");
    }
    state
}

/// A3, A10, A15.
#[tokio::test]
async fn what_is_refused_is_told_in_its_own_words_and_changes_nothing() {
    let cluster = Cluster::start(&[]).await;
    let (code, _, why) =
        run(&cluster, &["topic", "create", TOPIC, "--partitions", "2", "--replicas", "3"]).await;
    assert_eq!(code, Some(0), "{why}");
    cluster.healed().await;
    let before = state(&cluster).await;

    let directory = tempfile::tempdir().unwrap();
    let plan = |name: &str, partitions: &str| {
        let path = directory.path().join(name);
        fs::write(&path, format!(r#"{{"version":1,"partitions":[{partitions}]}}"#)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let one = |topic: &str, partition: i32, replicas: &str| {
        format!(r#"{{"topic":"{topic}","partition":{partition},"replicas":[{replicas}]}}"#)
    };
    // The first partition of each is good: a plan is carried out as a whole, or not at all.
    let good = one(TOPIC, 0, "3,2,1");
    let with = |name: &str, bad: String| plan(name, &format!("{good},{bad}"));
    let unknown_broker = with("unknown-broker", one(TOPIC, 1, "1,2,9"));
    let doubled_broker = with("doubled-broker", one(TOPIC, 1, "1,2,2"));
    let unknown_topic = with("unknown-topic", one("nobody", 0, "1,2,3"));
    let unknown_partition = with("unknown-partition", one(TOPIC, 7, "1,2,3"));
    let two_plans = with("two-plans", one(TOPIC, 0, "1,2,3"));
    let nobody = with("no-replicas", one(TOPIC, 1, ""));

    for (arguments, code, told) in [
        (
            &["topic", "alter", TOPIC, "--set", "retention.sm=1d"][..],
            4,
            "did you mean 'retention.ms'",
        ),
        (&["topic", "alter", TOPIC, "--set", "retention.ms=soon"], 4, "retention.ms"),
        (
            &["topic", "alter", TOPIC, "--set", "segment.bytes=64MiB", "--set", "colour=red"],
            4,
            "'colour'",
        ),
        (&["topic", "alter", TOPIC, "--partitions", "2"], 4, "can only grow"),
        (&["cluster", "config", "set", "num.partition=3"], 4, "did you mean 'num.partitions'"),
        (
            &["cluster", "config", "set", "num.partitions=3", "log.cleaner.threads=many"],
            4,
            "log.cleaner.threads",
        ),
        (&["node", "config", "3", "set", "log.cleaner.threads=many"], 4, "log.cleaner.threads"),
        (&["node", "config", "9", "set", "log.cleaner.threads=2"], 3, "broker 9 is not registered"),
        (&["reassign", "execute", &unknown_broker], 4, "broker 9"),
        (&["reassign", "execute", &doubled_broker], 2, "more than once"),
        (&["reassign", "execute", &unknown_topic], 4, "nobody"),
        (&["reassign", "execute", &unknown_partition], 4, "untouched-7"),
        (&["reassign", "execute", &two_plans], 2, "untouched-0 is in it more than once"),
        (&["reassign", "execute", &nobody], 2, "untouched-1"),
        (&["reassign", "plan", "--topics", TOPIC, "--to-nodes", "1,2,9"], 3, "broker 9"),
        (&["reassign", "plan", "--topics", "nobody"], 3, "nobody"),
        (&["node", "retire", "3"], 4, "replication factor"),
        (&["node", "retire", "9"], 3, "broker 9"),
        (&["node", "remove", "3", "--yes"], 4, "broker 3 is alive"),
    ] {
        let (ended, out, why) = run(&cluster, arguments).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {out}{why}");
        assert!(why.contains(told), "{arguments:?}: {why}");
        assert_eq!(out, "", "{arguments:?}");
        assert_eq!(state(&cluster).await, before, "{arguments:?}");
    }
}

/// Of the last node all would be lost: its replicas, and its vote.
#[tokio::test]
async fn the_last_node_and_the_last_voter_stay() {
    let mut cluster = Cluster::of(1, &[]).await;
    cluster.server(1).await.new_topic(1, &[]).await;
    cluster.healed().await;
    let (listed, before, _) = run(&cluster, &["node", "list"]).await;
    assert_eq!(listed, Some(0));
    for (arguments, told) in [
        (&["node", "retire", "1"][..], "node 1 is the last voter"),
        (&["node", "remove", "1", "--yes"], "broker 1 is alive"),
    ] {
        let (ended, out, why) = run(&cluster, arguments).await;
        assert_eq!((ended, out.as_str()), (Some(4), ""), "{arguments:?}: {why}");
        assert!(why.contains(told), "{arguments:?}: {why}");
        assert_eq!(run(&cluster, &["node", "list"]).await.1, before, "{arguments:?}");
    }
    // Who votes stands in the configuration; one that leaves out the only voter is refused at the start.
    assert!(cluster.terminate(1).await.success());
    let settings = cluster.settings(1);
    let voters = settings.iter().position(|one| one.starts_with("controller.quorum.voters="));
    let kept = settings.remove(voters.unwrap());
    settings.push("controller.quorum.voters=2@127.0.0.1:9".to_owned());
    let refused = cluster.start_in_vain(1).await;
    assert!(refused.stderr.contains("does not list"), "{}", refused.stderr);
    let settings = cluster.settings(1);
    settings.pop();
    settings.push(kept);
    cluster.restart(&[1]).await;
    assert_eq!(cluster.healed().await.nodes.len(), 1);
}
