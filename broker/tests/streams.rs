//! Streams beside what happens to their partitions and their node, seen from outside.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use troupe_broker::{Node, NodeConfig};
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{CreatePartitionsRequest, CreateTopicRequest};
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{KillActorRequest, ListActorsRequest};
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, FetchStreamRequest, FetchStreamResponse, TopicPartition,
};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{PublishRequest, PublishStreamRequest, Record};

struct Fixture {
    channel: Channel,
    node: Node,
    directory: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = NodeConfig {
            log_dir: directory.path().join("data"),
            listener: ([127, 0, 0, 1], 0).into(),
            http_listener: ([127, 0, 0, 1], 0).into(),
            chaos_enable: true,
            ..NodeConfig::default()
        };
        // Longer than any test takes.
        config.shutdown_timeout.0 = 3_600_000;
        let node = tokio::task::spawn_blocking(|| Node::start(config)).await.unwrap().unwrap();
        let endpoint = format!("http://{}", node.grpc_addr());
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        Self { channel, node, directory }
    }

    fn bus(&self) -> EventBusServiceClient<Channel> {
        EventBusServiceClient::new(self.channel.clone())
    }

    async fn create(&self, topic: &str) {
        let request = CreateTopicRequest { name: topic.to_owned(), ..Default::default() };
        TopicServiceClient::new(self.channel.clone()).create_topic(request).await.unwrap();
    }

    async fn publish(&self, topic: &str, value: Vec<u8>) {
        let record = Record { value: Some(value.into()), ..Default::default() };
        let request =
            PublishRequest { topic: topic.to_owned(), records: vec![record], ..Default::default() };
        self.bus().publish(request).await.unwrap();
    }

    async fn fetch(
        &self,
        first: FetchStreamRequest,
    ) -> (mpsc::Sender<FetchStreamRequest>, tonic::Streaming<FetchStreamResponse>) {
        let (requests, stream) = mpsc::channel(8);
        requests.send(first).await.unwrap();
        let mut client = LogServiceClient::new(self.channel.clone());
        let answers = client.fetch_stream(ReceiverStream::new(stream)).await.unwrap();
        (requests, answers.into_inner())
    }

    async fn address(&self, topic: &str) -> String {
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        let actors = chaos.list_actors(ListActorsRequest::default()).await.unwrap().into_inner();
        let suffix = format!("partition/{topic}/0");
        actors.actors.into_iter().map(|a| a.address).find(|a| a.ends_with(&suffix)).unwrap()
    }

    fn kill(&self, address: &str) -> tokio::task::JoinHandle<bool> {
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        let request = KillActorRequest { address: address.to_owned(), ..Default::default() };
        tokio::spawn(async move { chaos.kill_actor(request).await.is_ok() })
    }

    /// From now on, whoever recovers the topic's log waits for the other end of this pipe.
    #[cfg(unix)]
    fn hold_up_recovery(&self, topic: &str) -> PathBuf {
        let pipe = self.directory.path().join(format!("data/{topic}-0/partition.metadata"));
        std::fs::remove_file(&pipe).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        pipe
    }
}

/// The end of the pipe whose closing lets recovery go on, as soon as recovery waits.
#[cfg(unix)]
async fn held_up(pipe: PathBuf) -> std::fs::File {
    let open = move || {
        let writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        std::fs::remove_file(pipe).unwrap();
        writer
    };
    tokio::task::spawn_blocking(open).await.unwrap()
}

fn at(topic: &str) -> FetchPosition {
    let partition = TopicPartition { topic: topic.to_owned(), ..Default::default() };
    FetchPosition { partition: Some(partition), ..Default::default() }
}

fn bases(answer: FetchStreamResponse) -> impl Iterator<Item = u64> {
    answer.batches.unwrap_or_default().batches.into_iter().map(|batch| batch.base_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_set_again_while_it_waits_for_credit_is_read_once() {
    let node = Fixture::start().await;
    node.create("moved").await;
    node.publish("moved", vec![0]).await;
    let first = FetchStreamRequest { positions: vec![at("moved")], ..Default::default() };
    let (requests, mut answers) = node.fetch(first.clone()).await;
    requests.send(FetchStreamRequest { credit_bytes: 1 << 30, ..first }).await.unwrap();
    let mut seen = Vec::new();
    for offset in 0..4 {
        while seen.last() != Some(&offset) {
            seen.extend(bases(answers.message().await.unwrap().unwrap()));
        }
        node.publish("moved", vec![0]).await;
    }
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_being_rebuilt_does_not_hold_up_the_others() {
    let node = Fixture::start().await;
    for topic in ["dead", "alive"] {
        node.create(topic).await;
        node.publish(topic, vec![0; 100]).await;
    }
    let pipe = node.hold_up_recovery("dead");
    let killed = node.kill(&node.address("dead").await);
    let writer = held_up(pipe).await;
    let positions = vec![at("dead"), at("alive")];
    let fetch = FetchRequest { positions: positions.clone(), ..Default::default() };
    let mut client = LogServiceClient::new(node.channel.clone());
    // Half of what a request would wait for that partition alone.
    let answer = tokio::time::timeout(Duration::from_secs(5), client.fetch(fetch)).await.unwrap();
    let both = answer.unwrap().into_inner().partitions;
    assert!(both[0].error.is_some() && both[1].batches.is_some(), "{both:?}");
    let first = FetchStreamRequest { positions, credit_bytes: 1_000, ..Default::default() };
    let (_requests, mut answers) = node.fetch(first).await;
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.error.clone(), bases(answer).count()), (None, 1));
    drop(writer);
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.error.clone(), bases(answer).count()), (None, 1));
    assert!(killed.await.unwrap());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_actor_may_be_killed_while_it_is_being_rebuilt() {
    let node = Fixture::start().await;
    node.create("unlucky").await;
    node.publish("unlucky", vec![0]).await;
    let pipe = node.hold_up_recovery("unlucky");
    let address = node.address("unlucky").await;
    let first = node.kill(&address);
    let writer = held_up(pipe).await;
    let second = node.kill(&address);
    // Its request is on the way before this one.
    node.address("unlucky").await;
    drop(writer);
    assert!(first.await.unwrap());
    assert!(second.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_publishes_to_partitions_that_are_new() {
    let node = Fixture::start().await;
    node.create("grown").await;
    let (requests, stream) = mpsc::channel(8);
    let publish = |partition| PublishStreamRequest {
        topic: "grown".to_owned(),
        records: vec![Record { partition: Some(partition), ..Default::default() }],
        ..Default::default()
    };
    requests.send(publish(0)).await.unwrap();
    let answers = node.bus().publish_stream(ReceiverStream::new(stream)).await.unwrap();
    let mut answers = answers.into_inner();
    answers.message().await.unwrap().unwrap();
    let more = CreatePartitionsRequest { name: "grown".to_owned(), total: 2, ..Default::default() };
    TopicServiceClient::new(node.channel.clone()).create_partitions(more).await.unwrap();
    requests.send(publish(1)).await.unwrap();
    let results = answers.message().await.unwrap().unwrap().results;
    assert_eq!((results[0].partition, results[0].offset), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_no_stop() {
    let node = Fixture::start().await;
    node.create("stalled").await;
    for _ in 0..16 {
        node.publish("stalled", vec![7; 1_000_000]).await;
    }
    let credit_bytes = 1 << 30;
    let first = FetchStreamRequest { positions: vec![at("stalled")], credit_bytes, drop: vec![] };
    let (_requests, mut answers) = node.fetch(first).await;
    answers.message().await.unwrap().unwrap();
    let Fixture { node, channel, directory } = node;
    let stopped = tokio::task::spawn_blocking(|| node.stop());
    tokio::time::timeout(Duration::from_secs(60), stopped).await.unwrap().unwrap();
    drop((answers, channel, directory));
}
