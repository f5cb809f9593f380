//! `__consumer_offsets` is cleaned, also on clusters that made it with large segments.

use super::*;
use troupe_client::{Client, ClientConfig, ConsumerConfig, OffsetAndMetadata, TopicPartition};
use troupe_proto::ids::Offset;
use troupe_tests::{LocalNode, eventually_or_why};

const OFFSETS_TOPIC: &str = "__consumer_offsets";
const PARTITIONS: u32 = 100;

/// G27, S20: what a coordinator loads is bounded, whatever `segment.bytes` says.
#[tokio::test]
async fn committed_offsets_survive_cleaning_and_their_log_stays_small() {
    let settings = [OFTEN, "offsets.topic.num.partitions=1", "offsets.topic.segment.bytes=100MiB"];
    let mut node = LocalNode::start(&settings);
    let topic = {
        let server = Server::at(&node.server()).await;
        server.create_topic("read", PARTITIONS as i32, &[]).await.name
    };
    let all: Vec<_> =
        (0..PARTITIONS).map(|number| TopicPartition::new(topic.as_str(), number)).collect();
    let client = Client::connect(ClientConfig::new([node.server()])).await.unwrap();
    let config = ConsumerConfig { enable_auto_commit: false, ..ConsumerConfig::new("readers") };
    let mut consumer = client.consumer(config.clone()).unwrap();
    consumer.assign(all.clone()).unwrap();
    let mut rounds = 0;
    let server = Server::at(&node.server()).await;
    eventually_or_why("the log was cleaned", async || {
        for _ in 0..20 {
            rounds += 1;
            let offset = OffsetAndMetadata {
                // Segments roll when so much has come, however slow a machine is.
                metadata: "m".repeat(1_000),
                ..OffsetAndMetadata::new(Offset(rounds))
            };
            let offsets = all.iter().map(|at| (at.clone(), offset.clone()));
            consumer.commit_sync_offsets(offsets).await.unwrap();
        }
        let cleaning = cleaning(&server, OFFSETS_TOPIC).await;
        if cleaning.pass_count > 1 { Ok(()) } else { Err(format!("{rounds}: {cleaning:?}")) }
    })
    .await;
    let request = ListReplicasRequest { topic: OFFSETS_TOPIC.to_owned(), ..Default::default() };
    eventually_or_why("it is small", async || {
        let listed = server.cluster().list_replicas(request.clone()).await.unwrap().into_inner();
        let size = listed.replicas[0].size_bytes;
        if size < 5 << 20 { Ok(()) } else { Err(format!("{size} bytes")) }
    })
    .await;
    drop((consumer, client, server));
    node.restart();
    let client = Client::connect(ClientConfig::new([node.server()])).await.unwrap();
    let mut consumer = client.consumer(config).unwrap();
    let committed = consumer.committed(&all).await.unwrap();
    assert_eq!(committed.len(), all.len());
    for (at, offset) in committed {
        assert_eq!(offset.offset, Offset(rounds), "{at:?}");
    }
}
