//! Each replica cleans for itself, and all of them hold the same.

use super::*;
use troupe_proto::admin::v1::{Replica, ReplicaRole};
use troupe_tests::{Cluster, eventually};

async fn replica(cluster: &Cluster, id: i32, topic: &str) -> Option<Replica> {
    let request = ListReplicasRequest { topic: topic.to_owned(), ..Default::default() };
    let listed = cluster.server(id).await.cluster().list_replicas(request).await.ok()?;
    listed.into_inner().replicas.pop()
}

/// S20, S22: the one that comes last is filled from a log with gaps, and leads with it.
#[tokio::test]
async fn a_fresh_follower_of_a_cleaned_log_has_what_its_leader_has() {
    let mut cluster = Cluster::start(&[OFTEN]).await;
    let server = cluster.server(1).await;
    let topic = server.create_topic("fresh", 1, &EAGER).await.name;
    let leader = eventually("somebody leads", async || {
        let mut leaders = Vec::new();
        for id in cluster.ids() {
            let found = replica(&cluster, id, &topic).await;
            leaders
                .extend(found.filter(|it| it.role() == ReplicaRole::Leader).map(|it| it.node_id));
        }
        leaders.pop()
    })
    .await;
    let fresh = if leader == 3 { 2 } else { 3 };
    let mut appended = Appended::new();
    let server = cluster.server(leader).await;
    overwrite(&server, &topic, &mut appended, 30, 3).await;
    assert!(cluster.terminate(fresh).await.success());
    for entry in std::fs::read_dir(cluster.data(fresh)).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("fresh-") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    overwrite(&server, &topic, &mut appended, 30, 5).await;
    let deletion = [keyed("key-0", None)];
    append(&server, &topic, &mut appended, &deletion).await;
    eventually("the leader's log is clean", async || {
        let cleaning = replica(&cluster, leader, &topic).await?.cleaning?;
        (cleaning.pass_count > 0 && cleaning.dirty_ratio == 0.0).then_some(())
    })
    .await;
    cluster.restart(&[fresh]).await;
    cluster.healed().await;
    check(&server, &topic, &appended).await;
    cluster.kill(leader);
    let server = cluster.server(fresh).await;
    eventually("another one leads", async || {
        let mut served = false;
        for id in cluster.live() {
            let found = replica(&cluster, id, &topic).await;
            served |= found.is_some_and(|it| it.role() == ReplicaRole::Leader);
        }
        served.then_some(())
    })
    .await;
    let left = check(&server, &topic, &appended).await;
    assert!(left < appended.len());
}
