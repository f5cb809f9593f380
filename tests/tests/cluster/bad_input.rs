//! Nodes that do not belong: each has its own clear error, and the cluster does not notice.

use std::fs;
use troupe_tests::{Cluster, Exit};

/// What a node says that does not start.
async fn refusal(cluster: &mut Cluster, node: i32) -> String {
    let Exit { status, stderr } = cluster.start_in_vain(node).await;
    assert!(!status.success());
    assert!(status.code().is_some(), "it was not a crash: {status}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Replaces the value of a setting.
fn set(cluster: &mut Cluster, node: i32, key: &str, value: &str) {
    let settings = cluster.settings(node);
    settings.retain(|setting| !setting.starts_with(&format!("{key}=")));
    settings.push(format!("{key}={value}"));
}

fn value(cluster: &mut Cluster, node: i32, key: &str) -> String {
    let settings = cluster.settings(node);
    let found = settings.iter().find_map(|one| one.strip_prefix(&format!("{key}=")[..]));
    found.unwrap().to_owned()
}

/// K2: another cluster, another list of voters, another node: of a directory that remembers, and of a new one.
#[tokio::test]
async fn a_node_that_does_not_belong_is_told_why() {
    let mut cluster = Cluster::start(&[]).await;
    assert!(cluster.terminate(3).await.success());
    let id = cluster.id().to_owned();
    let voters = value(&mut cluster, 3, "controller.quorum.voters");
    let more = format!("{voters},4@127.0.0.1:9");

    set(&mut cluster, 3, "cluster.id", "another");
    let said = refusal(&mut cluster, 3).await;
    assert!(said.contains("another") && said.contains(&id), "{said}");
    set(&mut cluster, 3, "cluster.id", &id);

    set(&mut cluster, 3, "controller.quorum.voters", &more);
    let said = refusal(&mut cluster, 3).await;
    assert!(said.contains("voters"), "{said}");
    set(&mut cluster, 3, "controller.quorum.voters", &voters);

    // On new directories only the others can tell.
    let data = cluster.data(3).to_owned();
    let kept = data.with_extension("kept");
    fs::rename(&data, &kept).unwrap();
    set(&mut cluster, 3, "cluster.id", "another");
    let said = refusal(&mut cluster, 3).await;
    assert!(said.contains("INCONSISTENT_CLUSTER_ID"), "{said}");
    set(&mut cluster, 3, "cluster.id", &id);
    fs::remove_dir_all(&data).unwrap();

    set(&mut cluster, 3, "controller.quorum.voters", &more);
    let said = refusal(&mut cluster, 3).await;
    assert!(said.contains("INCONSISTENT_VOTER_SET"), "{said}");
    set(&mut cluster, 3, "controller.quorum.voters", &voters);
    fs::remove_dir_all(&data).unwrap();

    // None of it has done any harm.
    fs::rename(&kept, &data).unwrap();
    cluster.restart(&[3]).await;
    cluster.healed().await;
}

/// K1, K12: a second node with an id that lives.
#[tokio::test]
async fn two_nodes_cannot_have_one_id() {
    let mut cluster = Cluster::start(&[]).await;
    let before = cluster.healed().await;
    assert!(cluster.terminate(3).await.success());
    // What was node 3 starts as a second node 2, with a directory that is new.
    let data = cluster.data(3).to_owned();
    fs::rename(&data, data.with_extension("kept")).unwrap();
    set(&mut cluster, 3, "node.id", "2");
    let said = refusal(&mut cluster, 3).await;
    assert!(said.contains("DUPLICATE_BROKER") && said.contains(cluster.address(2)), "{said}");
    set(&mut cluster, 3, "node.id", "3");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(data.with_extension("kept"), &data).unwrap();
    cluster.restart(&[3]).await;
    let after = cluster.healed().await;
    // The one that lived did not have to register again.
    assert_eq!(before.node(2).unwrap().broker_epoch, after.node(2).unwrap().broker_epoch);
}

/// K1.
#[tokio::test]
async fn a_voter_list_without_oneself_is_refused_at_once() {
    let mut cluster = Cluster::prepare(3, &[]);
    let voters = value(&mut cluster, 1, "controller.quorum.voters");
    let others = voters.split_once(',').unwrap().1.to_owned();
    set(&mut cluster, 1, "controller.quorum.voters", &others);
    let said = refusal(&mut cluster, 1).await;
    assert!(said.contains("controller.quorum.voters") && said.contains("does not list"), "{said}");
    set(&mut cluster, 1, "controller.quorum.voters", "1@nowhere");
    let said = refusal(&mut cluster, 1).await;
    assert!(said.contains("1@nowhere"), "{said}");
    set(&mut cluster, 1, "controller.quorum.voters", &voters);
    set(&mut cluster, 1, "cluster.id", "");
    let said = refusal(&mut cluster, 1).await;
    assert!(said.contains("cluster id") || said.contains("cluster.id"), "{said}");
}
