//! Nodes that are taken out of service on purpose.

use crate::{elect_preferred, partition_where, refused, topic_on};
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::{DrainNodeRequest, RemoveNodeRequest, ResumeNodeRequest};
use troupe_proto::log::v1::WatchMetadataRequest;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Cluster, eventually_or_why, troupe};

const TOPIC: &str = "drained";

/// R12, R17: what a drained node led is led by the next, and everybody who watches is told; it comes back when
/// it is resumed, and leads again when it is elected.
#[tokio::test]
async fn a_drained_node_leads_nothing_until_it_is_resumed() {
    let cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    let picture = cluster.healed().await;
    let mut watched = Vec::new();
    for node in cluster.ids() {
        let request = WatchMetadataRequest { topics: vec![TOPIC.to_owned()] };
        let server = cluster.server(node).await;
        let mut changes = server.metadata().watch_metadata(request).await.unwrap().into_inner();
        let first = changes.message().await.unwrap().unwrap();
        assert_eq!(first.topics[0].partitions[0].leader_id, 1);
        watched.push(changes);
    }
    let through = cluster.ids().find(|&id| id != picture.controller && id != 1).unwrap();
    let mut admin = ClusterServiceClient::new(cluster.channel(through));
    let drained = admin.drain_node(DrainNodeRequest { node_id: 1 }).await.unwrap().into_inner();
    assert_eq!((drained.moved_leader_count, drained.left_leader_count), (1, 0));
    let led = partition_where(&cluster, TOPIC, |one| one.in_sync_replicas == [2, 3]).await;
    assert_eq!(led.leader_id, Some(2));
    for changes in &mut watched {
        loop {
            let change = changes.message().await.unwrap().unwrap();
            if change.topics.iter().any(|topic| topic.partitions[0].leader_id == 2) {
                break;
            }
        }
    }
    let elected = elect_preferred(&cluster, through, TOPIC).await;
    assert!(elected.error.is_some(), "a drained node is not elected: {elected:?}");
    admin.resume_node(ResumeNodeRequest { node_id: 1 }).await.unwrap();
    let whole = cluster.healed().await;
    assert_eq!(whole.leader(TOPIC, 0), Some(2), "R13");
    let elected = elect_preferred(&cluster, through, TOPIC).await;
    assert_eq!((elected.error, elected.leader_id), (None, Some(1)), "R17");
}

/// K22: only a node that has stopped can be forgotten.
#[tokio::test]
async fn only_a_node_that_has_stopped_is_removed() {
    let mut cluster = Cluster::start(&[]).await;
    cluster.healed().await;
    let mut admin = ClusterServiceClient::new(cluster.channel(1));
    for (node_id, code) in [(3, InvalidRequest), (9, BrokerNotRegistered)] {
        let error = refused(admin.remove_node(RemoveNodeRequest { node_id })).await;
        assert_eq!(error.code, code, "{error}");
        assert!(!error.message.is_empty());
    }
    assert!(cluster.terminate(3).await.success());
    eventually_or_why("node 3 is forgotten", async || {
        // The controller may have been on the node that stopped.
        let removed = admin.remove_node(RemoveNodeRequest { node_id: 3 }).await;
        removed.map_err(|status| status.to_string())
    })
    .await;
    eventually_or_why("node 3 is in nobody's picture", async || {
        let picture = cluster.describe().await?;
        picture.node(3).map_or(Ok(()), |_| Err(picture.to_string()))
    })
    .await;
    // It may come back, as a new broker.
    cluster.restart(&[3]).await;
    cluster.healed().await;
}

/// K22: what a node held would be missing for ever. It is refused with the list, by the controller, and the command
/// line shows it.
#[tokio::test]
async fn a_node_that_holds_replicas_is_not_removed() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, "held", &[1, 3], &[]).await;
    cluster.healed().await;
    assert!(cluster.terminate(3).await.success());
    let through = cluster.server(1).await;
    let refusal = eventually_or_why("the removal is refused for its replicas", async || {
        let request = RemoveNodeRequest { node_id: 3 };
        let error = refused(through.cluster().remove_node(request)).await;
        // The controller may have been on the node that stopped, or think that it is still alive.
        if error.code == NodeHoldsReplicas { Ok(error) } else { Err(error.to_string()) }
    })
    .await;
    assert_eq!(refusal.facts["replicas"], "1");
    assert_eq!(refusal.facts["partitions"], "held:0");
    assert!(refusal.surely_not_done());
    let command = troupe(cluster.address(1), &["node", "remove", "3", "--yes"]).await;
    let said = String::from_utf8_lossy(&command.stderr);
    assert_eq!(command.status.code(), Some(4), "{said}");
    assert!(said.contains("held:0") && said.contains("NODE_HOLDS_REPLICAS"), "{said}");
    let picture = cluster.describe().await.unwrap();
    assert!(picture.node(3).is_some(), "{picture}");
    // With the topic goes what it held.
    through.delete_topic("held").await;
    through.cluster().remove_node(RemoveNodeRequest { node_id: 3 }).await.unwrap();
}
