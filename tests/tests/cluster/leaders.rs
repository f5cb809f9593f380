//! Who may be asked for what: leaders and epochs.

use crate::{reason, topic_on};
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, ListOffsetsRequest, OffsetQuery, PartitionProduce, offset_query,
};
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::{Acks, ErrorDetail};
use troupe_tests::{Cluster, Sample, Server, batch_of, eventually_or_why, partition_of};

/// P21: who leads, where, in which epoch.
#[track_caller]
fn assert_hint(detail: &Option<ErrorDetail>, cluster: &Cluster, leader: i32) {
    assert_eq!(reason(detail), NotLeader);
    let detail = detail.as_ref().unwrap();
    assert_eq!(detail.leader_id, Some(leader), "{detail:?}");
    assert_eq!(detail.leader_endpoint, cluster.address(leader), "{detail:?}");
    assert!(detail.leader_epoch.is_some(), "{detail:?}");
    assert!(detail.surely_not_done && detail.retriable && detail.refresh_metadata, "{detail:?}");
}

/// Waits until the node has taken up that it leads.
async fn led(server: &Server, topic: &str) {
    eventually_or_why("the leader leads", async || {
        let result = server.produce(topic, 0, batch_of(&[Sample::of("first", 1)]), Acks::All).await;
        result.error.map_or(Ok(()), |error| Err(format!("{error:?}")))
    })
    .await;
}

/// R1, P21.
#[tokio::test]
async fn only_the_leader_serves_and_the_others_say_who_it_is() {
    const LEADER: i32 = 2;
    let cluster = Cluster::shared().await;
    let topic = cluster.server(1).await.new_name("led");
    topic_on(&cluster, &topic, &[LEADER, 3], &[]).await;
    led(&cluster.server(LEADER).await, &topic).await;
    // One follower, and one node without a replica.
    for node in cluster.ids() {
        let server = cluster.server(node).await;
        let produced = server.produce(&topic, 0, batch_of(&[Sample::of("x", 1)]), Acks::All).await;
        let fetch = FetchRequest {
            positions: vec![FetchPosition {
                partition: Some(partition_of(&topic, 0)),
                ..Default::default()
            }],
            ..Default::default()
        };
        let fetched = server.log().fetch(fetch).await.unwrap().into_inner().partitions.remove(0);
        let query = OffsetQuery {
            isolation_level: Default::default(),
            partition: Some(partition_of(&topic, 0)),
            at: Some(offset_query::At::Earliest(true)),
        };
        let request = ListOffsetsRequest { queries: vec![query] };
        let listed = server.log().list_offsets(request).await.unwrap().into_inner();
        if node == LEADER {
            assert_eq!((produced.error, fetched.error), (None, None));
            assert_eq!(listed.results[0].error, None);
        } else {
            assert_hint(&produced.error, &cluster, LEADER);
            assert_hint(&fetched.error, &cluster, LEADER);
            assert_hint(&listed.results[0].error, &cluster, LEADER);
        }
    }
}

/// R1: a client that knows of a newer leader than the broker itself is told to come again.
#[tokio::test]
async fn an_epoch_that_is_not_known_yet_is_refused() {
    let cluster = Cluster::shared().await;
    let topic = cluster.server(1).await.new_name("epoch");
    topic_on(&cluster, &topic, &[1, 2, 3], &[]).await;
    let server = cluster.server(1).await;
    led(&server, &topic).await;
    let produce = async |leader_epoch| {
        let one = PartitionProduce {
            partition: Some(partition_of(&topic, 0)),
            leader_epoch,
            batch: Some(batch_of(&[Sample::of("x", 1)])),
        };
        server.produce_as(one, Acks::All, 0).await
    };
    assert_eq!(reason(&produce(Some(7)).await.error), UnknownLeaderEpoch);
    assert_eq!(produce(None).await.error, None);
    assert_eq!(produce(Some(0)).await.error, None);
    let fetch = FetchRequest {
        positions: vec![FetchPosition {
            partition: Some(partition_of(&topic, 0)),
            leader_epoch: Some(7),
            ..Default::default()
        }],
        ..Default::default()
    };
    let fetched = server.log().fetch(fetch).await.unwrap().into_inner().partitions.remove(0);
    assert_eq!(reason(&fetched.error), UnknownLeaderEpoch);
}
