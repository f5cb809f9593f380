//! Topics that come with their use, and that are forgotten when nobody uses them.

use crate::consumer::{LONG, config, p};
use crate::fake::Cluster;
use crate::producer::record;
use std::time::Duration;
use troupe_client::{Client, ClientConfig, ConsumerConfig, ProducerConfig, TopicPartition};
use troupe_proto::error::ErrorCode;

fn names(cluster: &Cluster) -> Vec<String> {
    let mut names: Vec<_> = cluster.state().topics.keys().cloned().collect();
    names.sort();
    names
}

/// T8: whoever sends to a topic, or subscribes to it by name, has it created where that is allowed.
#[tokio::test]
async fn topics_are_created_by_use_where_the_nodes_allow_it() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let refused = client.topic_or_create("t").await.unwrap_err();
    assert_eq!(refused.reason(), ErrorCode::UnknownTopic, "the nodes do not allow it");
    cluster.state().creates_topics = true;
    assert_eq!(client.topic("t").await.unwrap_err().reason(), ErrorCode::UnknownTopic);
    assert!(names(&cluster).is_empty(), "who only asks creates nothing");
    producer.send(record(0)).await.unwrap().await.unwrap();
    assert_eq!(client.topic_or_create("asked").await.unwrap().partitions.len(), 1);

    let assigned = |name: &str| [TopicPartition::new(name, 0)];
    let careful = ConsumerConfig { allow_auto_create_topics: false, ..config() };
    let mut consumer = client.consumer(careful).unwrap();
    consumer.assign(assigned("never")).unwrap();
    assert!(consumer.poll(LONG).await.is_err(), "there is no such topic");
    let mut consumer = client.consumer(config()).unwrap();
    consumer.assign(assigned("assigned")).unwrap();
    assert!(consumer.poll(Duration::from_millis(500)).await.unwrap().is_empty());
    let mut member = client.consumer(config()).unwrap();
    member.subscribe(["subscribed"]).unwrap();
    let polls = async { while member.poll(LONG).await.is_ok() {} };
    tokio::select! {
        () = polls => panic!("it is a member"),
        () = cluster.until(|state| state.topics.contains_key("subscribed")) => {}
    }
    assert_eq!(names(&cluster), ["asked", "assigned", "subscribed", "t"]);
}

async fn idle_client(cluster: &Cluster) -> Client {
    let metadata_max_idle = Duration::from_millis(40);
    let config = ClientConfig { metadata_max_idle, ..cluster.config_of(&[0]) };
    Client::connect(config).await.unwrap()
}

/// P22.
#[tokio::test]
async fn a_topic_that_nobody_uses_is_asked_for_again_and_one_that_is_read_is_not() {
    let (cluster, _) = Cluster::with_topic(1).await;
    let client = idle_client(&cluster).await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    producer.send(record(0)).await.unwrap().await.unwrap();
    let described = || cluster.state().described;
    let forgotten = async |client: &Client| {
        let before = described();
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.topic("t").await.unwrap();
        described() > before
    };
    assert!(forgotten(&client).await, "nobody has used it for longer");
    // It is there for the next record, whose sequence is the next one.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let placed = producer.send(record(1)).await.unwrap().await.unwrap();
    assert_eq!(placed.offset.unwrap().0, 1);
    let mut consumer = client.consumer(config()).unwrap();
    consumer.assign([p(0)]).unwrap();
    assert_eq!(consumer.poll(LONG).await.unwrap().len(), 2);
    assert!(!forgotten(&client).await, "somebody reads it");
    drop(consumer);
    assert!(forgotten(&client).await);
}
