//! What a node does whose metadata was lost while its partitions were not.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

use troupe_broker::{Node, NodeConfig, StartError};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
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
