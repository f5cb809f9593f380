//! Where replicas go.

use crate::{refused, topic_on};
use std::collections::BTreeMap;
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::Cluster;

/// R28, R31, R32: leaders are spread, and whoever is there is in sync before anything was written.
#[tokio::test]
async fn a_new_topic_is_spread_over_all_nodes_and_in_sync() {
    const PARTITIONS: i32 = 6;
    let cluster = Cluster::shared().await;
    let topic = cluster.server(1).await.new_topic(PARTITIONS, &[]).await;
    assert_eq!(topic.replication_factor, 3, "the cluster's default");
    let mut leaders = BTreeMap::new();
    for partition in &topic.partitions {
        let mut replicas = partition.replicas.clone();
        assert_eq!(partition.leader_id, replicas[0], "the first replica leads");
        *leaders.entry(partition.leader_id).or_insert(0) += 1;
        replicas.sort_unstable();
        assert_eq!(replicas, [1, 2, 3]);
        let mut in_sync = partition.in_sync_replicas.clone();
        in_sync.sort_unstable();
        assert_eq!(in_sync, [1, 2, 3]);
    }
    assert_eq!(leaders.values().copied().collect::<Vec<i32>>(), [2, 2, 2]);
}

#[tokio::test]
async fn replicas_may_be_chosen() {
    let cluster = Cluster::shared().await;
    let name = cluster.server(1).await.new_name("chosen");
    let topic = topic_on(&cluster, &name, &[3, 1], &[("min.insync.replicas", "1")]).await;
    assert_eq!(
        (topic.partitions[0].leader_id, &topic.partitions[0].replicas[..]),
        (3, &[3, 1][..])
    );
}

#[tokio::test]
async fn what_cannot_be_placed_is_refused() {
    let cluster = Cluster::shared().await;
    for node in cluster.ids() {
        let server = cluster.server(node).await;
        let request = CreateTopicRequest {
            name: server.new_name("wide"),
            replication_factor: Some(4),
            ..Default::default()
        };
        let error = refused(server.topics().create_topic(request.clone())).await;
        assert_eq!(error.code, InvalidReplicationFactor, "{error}");
        for replicas in [&[1, 9][..], &[1, 1]] {
            use troupe_proto::admin::v1::ReplicaAssignment;
            let assignments = vec![ReplicaAssignment { replicas: replicas.to_vec() }];
            let request =
                CreateTopicRequest { assignments, replication_factor: None, ..request.clone() };
            let error = refused(server.topics().create_topic(request)).await;
            assert_eq!(error.code, InvalidReplicaAssignment, "{replicas:?}: {error}");
        }
    }
}
