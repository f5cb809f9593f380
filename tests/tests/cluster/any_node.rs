//! Thin calls and administration: whichever node is asked, the answer is the same.

use crate::refused;
use std::collections::BTreeSet;
use troupe_proto::admin::v1::{
    CreatePartitionsRequest, DeleteTopicRequest, GetTopicRequest, UpdateTopicRequest,
};
use troupe_proto::log::v1::{DescribeClusterRequest, InitProducerRequest, WatchMetadataRequest};
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::PublishRequest;
use troupe_tests::{Cluster, Sample, Server, eventually_or_why};

async fn servers(cluster: &Cluster) -> Vec<Server> {
    let mut servers = Vec::new();
    for node in cluster.ids() {
        servers.push(cluster.server(node).await);
    }
    servers
}

/// Waits until every node knows the topic.
async fn known_everywhere(servers: &[Server], topic: &str) {
    eventually_or_why("every node knows the topic", async || {
        for server in servers {
            let request = GetTopicRequest { name: topic.to_owned() };
            let known = server.topics().get_topic(request).await;
            known.map_err(|status| format!("{}: {status}", server.address()))?;
        }
        Ok(())
    })
    .await;
}

/// K1, K11.
#[tokio::test]
async fn every_node_draws_the_same_picture() {
    let cluster = Cluster::shared().await;
    let mut pictures = Vec::new();
    for server in servers(&cluster).await {
        let described =
            server.metadata().describe_cluster(DescribeClusterRequest {}).await.unwrap();
        let described = described.into_inner();
        assert_eq!(described.cluster_id, cluster.id());
        assert_eq!(described.nodes.iter().filter(|node| node.controller).count(), 1);
        let nodes = described.nodes.iter().map(|node| (node.node_id, node.endpoint.clone()));
        let addresses: Vec<_> =
            cluster.ids().map(|id| (id, cluster.address(id).to_owned())).collect();
        assert_eq!(nodes.collect::<Vec<_>>(), addresses);
        pictures.push((described.controller_id, described.nodes));
    }
    assert!(pictures.windows(2).all(|pair| pair[0] == pair[1]), "{pictures:?}");
}

/// Records go to the leaders of all partitions, whichever node takes them, and come back through any.
#[tokio::test]
async fn publish_and_tail_work_through_every_node() {
    const PARTITIONS: i32 = 3;
    let cluster = Cluster::shared().await;
    let servers = servers(&cluster).await;
    let topic = servers[0].new_topic(PARTITIONS, &[]).await.name;
    known_everywhere(&servers, &topic).await;
    for (number, server) in servers.iter().enumerate() {
        let records = (0..PARTITIONS)
            .map(|partition| Sample::of(format!("{number}:{partition}"), 1).to_record(partition));
        let request = PublishRequest {
            topic: topic.clone(),
            records: records.collect(),
            ..Default::default()
        };
        let answer = server.bus().publish(request).await.unwrap().into_inner();
        let offsets: Vec<i64> = answer.results.iter().map(|result| result.offset).collect();
        assert_eq!(offsets, [number as i64; PARTITIONS as usize]);
    }
    for partition in 0..PARTITIONS {
        let expected: Vec<_> = (0..servers.len())
            .map(|n| (n as i64, Sample::of(format!("{n}:{partition}"), 1)))
            .collect();
        for server in &servers {
            assert_eq!(server.read_all(&topic, partition).await, expected, "{}", server.address());
        }
    }
}

/// K7: changes are the active controller's, and every node passes them on.
#[tokio::test]
async fn topics_are_changed_through_every_node() {
    let cluster = Cluster::shared().await;
    let servers = servers(&cluster).await;
    for (number, server) in servers.iter().enumerate() {
        let topic = server.new_topic(1, &[]).await.name;
        // Who was told that it is there can work with it at once.
        let mine = server.topics().get_topic(GetTopicRequest { name: topic.clone() }).await;
        assert_eq!(mine.unwrap().into_inner().topic.unwrap().partitions.len(), 1);
        known_everywhere(&servers, &topic).await;
        let error =
            refused(server.topics().create_topic(troupe_proto::admin::v1::CreateTopicRequest {
                name: topic.clone(),
                ..Default::default()
            }))
            .await;
        assert_eq!(error.code, TopicExists);
        let next = &servers[(number + 1) % servers.len()];
        let update = UpdateTopicRequest {
            name: topic.clone(),
            set_configs: [("retention.ms".to_owned(), "1h".to_owned())].into(),
            ..Default::default()
        };
        next.topics().update_topic(update).await.unwrap();
        let grow = CreatePartitionsRequest { name: topic.clone(), total: 3, ..Default::default() };
        let grown = next.topics().create_partitions(grow).await.unwrap().into_inner();
        assert_eq!(grown.topic.unwrap().partitions.len(), 3);
        let delete =
            DeleteTopicRequest { name: topic.clone(), validate_only: false, internal: false };
        next.topics().delete_topic(delete.clone()).await.unwrap();
        assert_eq!(refused(next.topics().delete_topic(delete)).await.code, UnknownTopic);
    }
}

/// K23, I1.
#[tokio::test]
async fn producer_ids_are_unique_over_all_nodes() {
    let cluster = Cluster::shared().await;
    let mut ids = BTreeSet::new();
    for server in servers(&cluster).await {
        for _ in 0..10 {
            let answer = server.log().init_producer(InitProducerRequest {}).await.unwrap();
            assert!(ids.insert(answer.into_inner().producer_id));
        }
    }
}

#[tokio::test]
async fn every_node_pushes_changes_of_metadata() {
    let cluster = Cluster::shared().await;
    let servers = servers(&cluster).await;
    let topic = servers[0].new_name("pushed");
    let mut streams = Vec::new();
    for server in &servers {
        let request = WatchMetadataRequest { topics: vec![topic.clone()] };
        let mut changes = server.metadata().watch_metadata(request).await.unwrap().into_inner();
        let first = changes.message().await.unwrap().unwrap();
        assert_eq!(first.nodes.len(), 3, "first the whole picture");
        streams.push(changes);
    }
    servers[1].create_topic(&topic, 2, &[]).await;
    for (server, changes) in servers.iter().zip(&mut streams) {
        loop {
            let change = changes.message().await.unwrap().unwrap();
            if let Some(pushed) = change.topics.iter().find(|one| one.name == topic) {
                assert_eq!(pushed.partitions.len(), 2, "{}", server.address());
                break;
            }
        }
    }
}
