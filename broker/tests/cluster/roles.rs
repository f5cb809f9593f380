//! K1: nodes that only decide, and nodes that only hold partitions.

use super::*;
use troupe_proto::admin::v1::DrainNodeRequest;

/// Brokers without a controller of their own get the metadata over their sessions.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_controllers_may_be_different_nodes() {
    let roles = [(7, "controller"), (1, "broker"), (2, "broker"), (3, "broker")];
    let mut cluster = Cluster::start_as(&roles).await;
    let creation = CreateTopicRequest { name: "t".into(), ..Default::default() };
    let mut topics = TopicServiceClient::new(cluster.channel(2).await);
    topics.create_topic(creation).await.unwrap();
    let full = |state: &PartitionState| state.in_sync_replicas.len() == 3;
    let leader = cluster.until(1, full).await.leader_id.unwrap();
    assert_eq!(produce_soon(&cluster, leader, b"one").await, 0);

    let other = if leader == 1 { 2 } else { 1 };
    let mut admin = ClusterServiceClient::new(cluster.channel(other).await);
    let drained = admin.drain_node(DrainNodeRequest { node_id: leader }).await.unwrap();
    assert_eq!(drained.into_inner().moved_leader_count, 1);
    let led = |state: &PartitionState| state.leader_id.is_some_and(|now| now != leader);
    let second = cluster.until(other, led).await.leader_id.unwrap();
    assert_eq!(produce_soon(&cluster, second, b"two").await, 1);

    // Started anew, the drained one takes part again, and knows all that happened meanwhile.
    let stopped = cluster.nodes.remove(&leader).unwrap();
    tokio::task::spawn_blocking(|| stopped.kill()).await.unwrap();
    cluster.start_node(leader).await;
    cluster.nodes[&leader].ready().await.unwrap();
    cluster.until(leader, full).await;
}
