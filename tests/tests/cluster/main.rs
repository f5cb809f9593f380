//! What a cluster of three promises, through its public API, and between its nodes through the internal one.
//! Each test names the behaviours that it holds by their ids.
#![allow(clippy::unwrap_used, reason = "tests")]

mod any_node;
mod atomically;
mod bad_input;
mod balance;
mod configs;
mod cut;
mod damage;
mod directories;
mod distress;
mod drain;
mod failover;
mod faults;
mod followers;
mod internal;
mod leaders;
mod listeners;
mod placement;
mod reads;
mod reassignment;
mod refusals;
mod rot;
mod throttle;

use std::future::Future;
use tonic::{Response, Status};
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::{
    CreateTopicRequest, ElectLeadersRequest, ElectionResult, ElectionType, PartitionState,
    ReplicaAssignment, Topic, TopicPartitions,
};
use troupe_proto::error::Error;
use troupe_proto::v1::{ErrorDetail, ErrorReason};
use troupe_tests::{Cluster, Server, eventually_or_why};

/// Why a call was refused.
async fn refused<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Error {
    match call.await {
        Ok(_) => panic!("the call was not refused"),
        Err(status) => Error::from(status),
    }
}

/// The reason in a result of a batched call.
#[track_caller]
fn reason(detail: &Option<ErrorDetail>) -> ErrorReason {
    let detail = detail.as_ref().expect("this was to be refused");
    assert!(!detail.message.is_empty() && !detail.message.ends_with('.'), "{detail:?}");
    detail.reason()
}

/// A topic of one partition with these replicas, the preferred leader first.
async fn topic_on(
    cluster: &Cluster,
    name: &str,
    replicas: &[i32],
    configs: &[(&str, &str)],
) -> Topic {
    let request = CreateTopicRequest {
        name: name.to_owned(),
        assignments: vec![ReplicaAssignment { replicas: replicas.to_vec() }],
        configs: configs.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
        ..Default::default()
    };
    let controller = cluster.healed().await.controller;
    let created = cluster.server(controller).await.topics().create_topic(request).await.unwrap();
    created.into_inner().topic.unwrap()
}

/// Waits until some live node sees the partition as `wanted`.
async fn partition_where(
    cluster: &Cluster,
    topic: &str,
    wanted: impl Fn(&PartitionState) -> bool,
) -> PartitionState {
    eventually_or_why("the partition comes to be as it should", async || {
        let picture = cluster.describe().await?;
        let found = picture.partition(topic, 0).filter(|one| wanted(one)).cloned();
        found.ok_or_else(|| picture.to_string())
    })
    .await
}

/// The leader of a topic's only partition, and a connection to it.
async fn leader(cluster: &Cluster, topic: &str) -> (i32, Server) {
    let led = partition_where(cluster, topic, |one| one.leader_id.is_some()).await;
    let leader = led.leader_id.unwrap();
    (leader, cluster.server(leader).await)
}

async fn elect_preferred(cluster: &Cluster, through: i32, topic: &str) -> ElectionResult {
    let request = ElectLeadersRequest {
        r#type: ElectionType::Preferred.into(),
        partitions: vec![TopicPartitions { topic: topic.to_owned(), partitions: vec![0] }],
    };
    let mut stub = ClusterServiceClient::new(cluster.channel(through));
    let mut results = stub.elect_leaders(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 1, "one partition, one result");
    results.remove(0)
}
