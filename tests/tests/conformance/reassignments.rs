//! R34: what a single node says of reassignments; what they do shows in a cluster.

use crate::{reason, refused};
use troupe_proto::admin::v1::reassignment_service_client::ReassignmentServiceClient;
use troupe_proto::admin::v1::{
    AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest, ReassignPartition,
    ReassignmentResult, TopicPartitions,
};
use troupe_proto::error::ErrorCode;
use troupe_tests::Server;

fn one(topic: &str, partition: i32, replicas: &[i32]) -> ReassignPartition {
    ReassignPartition {
        topic: topic.to_owned(),
        partition,
        replicas: replicas.to_vec(),
        cancel: false,
    }
}

fn cancelled(topic: &str, partition: i32) -> ReassignPartition {
    ReassignPartition { cancel: true, ..one(topic, partition, &[]) }
}

async fn alter(
    server: &Server,
    partitions: Vec<ReassignPartition>,
    validate_only: bool,
) -> Vec<ReassignmentResult> {
    let request =
        AlterPartitionReassignmentsRequest { partitions, validate_only, ..Default::default() };
    let mut stub = ReassignmentServiceClient::new(server.channel());
    stub.alter_partition_reassignments(request).await.unwrap().into_inner().results
}

#[tokio::test]
async fn each_partition_of_a_reassignment_is_refused_for_itself_with_its_reason() {
    let server = Server::get().await;
    let topic = server.new_topic(5, &[]).await;
    let here = topic.partitions[0].leader_id;
    let name = topic.name.as_str();
    let asked = vec![
        one(name, 0, &[here]),
        one(name, 1, &[here, 9_999]),
        one(name, 2, &[here, here]),
        one(name, 3, &[]),
        one(name, 17, &[here]),
        cancelled(name, 4),
        one("no-such-topic", 0, &[here]),
    ];
    for validate_only in [true, false] {
        let results = alter(&server, asked.clone(), validate_only).await;
        let codes: Vec<_> = results
            .iter()
            .map(|result| result.error.as_ref().map(|_| reason(&result.error)))
            .collect();
        assert_eq!(
            codes,
            [
                None,
                Some(ErrorCode::InvalidReplicaAssignment),
                Some(ErrorCode::InvalidReplicaAssignment),
                Some(ErrorCode::InvalidReplicaAssignment),
                Some(ErrorCode::UnknownPartition),
                Some(ErrorCode::NoReassignmentInProgress),
                Some(ErrorCode::UnknownTopic),
            ]
        );
        let after = results[0].after.as_ref().unwrap();
        assert_eq!(after.replicas, [here]);
        assert!(after.adding_replicas.is_empty() && after.removing_replicas.is_empty());
    }
    let mut stub = ReassignmentServiceClient::new(server.channel());
    let both = AlterPartitionReassignmentsRequest {
        partitions: vec![ReassignPartition { cancel: true, ..one(name, 0, &[here]) }],
        ..Default::default()
    };
    let error = refused(stub.alter_partition_reassignments(both)).await;
    assert_eq!(error.code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn nothing_is_listed_where_nothing_is_under_way() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let mut stub = ReassignmentServiceClient::new(server.channel());
    let named = |topic: &str| ListPartitionReassignmentsRequest {
        partitions: vec![TopicPartitions { topic: topic.to_owned(), partitions: vec![] }],
        ..Default::default()
    };
    let listed = stub.list_partition_reassignments(named(&topic)).await.unwrap().into_inner();
    assert_eq!((listed.reassignments.len(), listed.next_page_token.as_str()), (0, ""));
    assert!(listed.as_of.is_some());
    let error = refused(stub.list_partition_reassignments(named("no-such-topic"))).await;
    assert_eq!(error.code, ErrorCode::UnknownTopic);
}
