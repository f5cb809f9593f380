//! What a node does whose metadata was lost while its partitions were not, and one that cannot keep its metadata.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

use futures::{StreamExt, stream};
use troupe_broker::{Node, NodeConfig, StartError};
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{CreateTopicRequest, UpdateTopicRequest};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{PublishRequest, Record};

fn start(log_dir: &std::path::Path) -> Result<Node, StartError> {
    Node::start(NodeConfig {
        log_dir: log_dir.to_owned(),
        cluster_id: "kept".to_owned(),
        listener: ([127, 0, 0, 1], 0).into(),
        http_listener: ([127, 0, 0, 1], 0).into(),
        ..NodeConfig::default()
    })
}

#[test]
fn a_node_without_its_metadata_does_not_take_its_partitions_for_leftovers() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).unwrap();
    let endpoint = format!("http://{}", node.grpc_addr());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let request = CreateTopicRequest { name: "dear".to_owned(), ..Default::default() };
        let mut topics = TopicServiceClient::connect(endpoint.clone()).await.unwrap();
        topics.create_topic(request).await.unwrap();
        let record = Record { value: Some("me".into()), ..Default::default() };
        let request = PublishRequest {
            topic: "dear".to_owned(),
            records: vec![record],
            ..Default::default()
        };
        let mut bus = EventBusServiceClient::connect(endpoint).await.unwrap();
        bus.publish(request).await.unwrap();
    });
    node.stop();
    std::fs::remove_dir_all(directory.path().join("metadata")).unwrap();

    let refused = start(directory.path()).err().unwrap();
    assert!(matches!(refused, StartError::ForeignPartitions { count: 1, .. }), "{refused}");
    assert!(directory.path().join("dear-0").is_dir());
    let again = start(directory.path()).err().unwrap();
    assert!(matches!(again, StartError::ForeignPartitions { count: 1, .. }), "{again}");
}

/// Whoever watches over processes can start it again; one that lives on without its controller is no use.
#[test]
fn a_node_whose_metadata_log_fails_ends_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).unwrap();
    let endpoint = format!("http://{}", node.grpc_addr());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async {
        let topics = TopicServiceClient::connect(endpoint).await.unwrap();
        let request = CreateTopicRequest { name: "busy".to_owned(), ..Default::default() };
        topics.clone().create_topic(request).await.unwrap();
        // Where the next snapshot should go.
        std::fs::remove_dir_all(directory.path().join("metadata")).unwrap();
        let changes = stream::iter(1000..).for_each_concurrent(100, |retention: u32| {
            let config = ("retention.ms".to_owned(), retention.to_string());
            let request = UpdateTopicRequest {
                name: "busy".to_owned(),
                set_configs: [config].into(),
                ..Default::default()
            };
            let mut topics = topics.clone();
            async move { drop(topics.update_topic(request).await) }
        });
        tokio::select! {
            () = changes => unreachable!("there is always another"),
            () = node.failed() => node.ready().await.unwrap_err(),
        }
    });
    assert!(matches!(*error, StartError::MetadataLog), "{error}");
}
