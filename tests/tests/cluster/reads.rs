//! What is told as of now is of now.

use crate::topic_on;
use std::time::Duration;
use tonic::Request;
use troupe_proto::error::Error;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{
    CommitOffsetsRequest, DescribeGroupRequest, FetchOffsetsRequest, FindCoordinatorRequest,
    ListGroupsRequest, ListOffsetsRequest, OffsetAndMetadata, OffsetQuery, PartitionCommit,
    offset_query::At,
};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Cluster, Sample, batch_of, eventually_or_why, partition_of};

const TOPIC: &str = "reads";

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(4));
    request
}

/// A node that nobody hears any more still takes itself for leader and coordinator. It tells nothing from its past.
#[tokio::test]
async fn a_coordinator_and_a_leader_that_are_cut_off_answer_no_reads() {
    let mut cluster = Cluster::start(&[]).await;
    let channel = cluster.channel(1);
    let mut groups = GroupServiceClient::new(channel);
    let found = eventually_or_why("a coordinator", async || {
        let request = FindCoordinatorRequest { group_id: "g".into() };
        let mut groups = groups.clone();
        groups.find_coordinator(request).await.map_err(|status| status.to_string())
    });
    let alone = found.await.into_inner().node_id;
    topic_on(&cluster, TOPIC, &[alone, alone % 3 + 1, (alone + 1) % 3 + 1], &[]).await;
    let server = cluster.server(alone).await;
    eventually_or_why("the leader takes records", async || {
        let result = server.produce(TOPIC, 0, batch_of(&[Sample::of("x", 1)]), Acks::All).await;
        result.error.map_or(Ok(()), |error| Err(format!("{error:?}")))
    })
    .await;
    groups = GroupServiceClient::new(cluster.channel(alone));
    let commit = PartitionCommit {
        partition: Some(partition_of(TOPIC, 0)),
        offset: Some(OffsetAndMetadata { offset: 1, ..Default::default() }),
    };
    let request =
        CommitOffsetsRequest { group_id: "g".into(), commits: vec![commit], ..Default::default() };
    let answer = groups.commit_offsets(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].error, None);
    let offsets = FetchOffsetsRequest { group_id: "g".into(), ..Default::default() };
    let ends = |at| {
        let query = OffsetQuery {
            isolation_level: Default::default(),
            partition: Some(partition_of(TOPIC, 0)),
            at: Some(at),
        };
        ListOffsetsRequest { queries: vec![query] }
    };
    let fetched = groups.fetch_offsets(timed(offsets.clone())).await.unwrap().into_inner();
    assert_eq!(fetched.offsets.len(), 1);
    let listed = server.log().list_offsets(ends(At::Latest(true))).await.unwrap().into_inner();
    assert_eq!((listed.results[0].offset, listed.results[0].as_of_ms), (1, None));

    let others: Vec<i32> = cluster.ids().filter(|id| *id != alone).collect();
    for other in &others {
        cluster.pause(*other).await;
    }
    let told = groups.fetch_offsets(timed(offsets.clone())).await;
    assert!(told.is_err(), "{told:?}");
    let described =
        groups.describe_group(timed(DescribeGroupRequest { group_id: "g".into() })).await;
    assert!(described.is_err(), "{described:?}");
    let groups_listed = groups.list_groups(timed(ListGroupsRequest::default())).await;
    assert!(groups_listed.is_err(), "{groups_listed:?}");
    let latest = server.log().list_offsets(timed(ends(At::Latest(true)))).await;
    let refused = latest.map(|answer| answer.into_inner().results.remove(0).error);
    match refused {
        Ok(Some(detail)) => {
            assert!(matches!(detail.reason(), LeaderNotAvailable | NotLeader), "{detail:?}");
        }
        Ok(None) => panic!("an end from the past"),
        Err(status) => assert!(Error::from(status).is_retriable()),
    }
    let earliest = server.log().list_offsets(ends(At::Earliest(true))).await.unwrap().into_inner();
    assert!(earliest.results[0].as_of_ms.is_some(), "it says as of when");

    for other in others {
        cluster.resume(other);
    }
    eventually_or_why("the group is served again", async || {
        let told = groups.clone().fetch_offsets(timed(offsets.clone())).await;
        told.map(drop).map_err(|status| status.to_string())
    })
    .await;
}
