//! What becomes of a partition whose actor dies, seen from outside.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

use tonic::transport::Channel;
use troupe_broker::{Node, NodeConfig};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{KillActorRequest, KillMode, ListActorsRequest};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{PublishRequest, Record, StartPosition, TailRequest, start_position};

struct Fixture {
    channel: Channel,
    _node: Node,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            log_dir: directory.path().join("data"),
            listener: ([127, 0, 0, 1], 0).into(),
            http_listener: ([127, 0, 0, 1], 0).into(),
            chaos_enable: true,
            ..NodeConfig::default()
        };
        let node = tokio::task::spawn_blocking(|| Node::start(config)).await.unwrap().unwrap();
        let endpoint = format!("http://{}", node.grpc_addr());
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        Self { channel, _node: node, _directory: directory }
    }

    async fn create(&self, topic: &str) {
        let request = CreateTopicRequest { name: topic.to_owned(), ..Default::default() };
        TopicServiceClient::new(self.channel.clone()).create_topic(request).await.unwrap();
    }

    async fn publish(&self, topic: &str, value: &str) -> Result<i64, Error> {
        let record =
            Record { value: Some(value.to_owned().into_bytes().into()), ..Default::default() };
        let request =
            PublishRequest { topic: topic.to_owned(), records: vec![record], ..Default::default() };
        let answer = EventBusServiceClient::new(self.channel.clone()).publish(request).await?;
        Ok(answer.into_inner().results[0].offset)
    }

    async fn values(&self, topic: &str) -> Vec<String> {
        let request = TailRequest {
            topic: topic.to_owned(),
            start: Some(StartPosition { at: Some(start_position::At::Earliest(true)) }),
            until_end: true,
            ..Default::default()
        };
        let mut client = EventBusServiceClient::new(self.channel.clone());
        let mut answers = client.tail(request).await.unwrap().into_inner();
        let mut values = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            for delivery in answer.deliveries {
                let value = delivery.record.unwrap().value.unwrap();
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
        values
    }

    async fn kill(&self, topic: &str, mode: KillMode) -> Result<i32, Error> {
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        let actors = chaos.list_actors(ListActorsRequest::default()).await?.into_inner().actors;
        let suffix = format!("partition/{topic}/0");
        let address =
            actors.into_iter().map(|actor| actor.address).find(|a| a.ends_with(&suffix)).unwrap();
        let request = KillActorRequest { address, mode: mode.into() };
        Ok(chaos.kill_actor(request).await?.into_inner().restarts)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_actor_forgets_nothing_that_was_acknowledged() {
    let node = Fixture::start().await;
    node.create("kept").await;
    for round in 0..20 {
        let mode = if round % 10 == 0 { KillMode::Panic } else { KillMode::Stop };
        assert_eq!(node.publish("kept", &format!("{round}")).await.unwrap(), round);
        assert_eq!(i64::from(node.kill("kept", mode).await.unwrap()), round + 1);
    }
    let expected: Vec<String> = (0..20).map(|round| round.to_string()).collect();
    assert_eq!(node.values("kept").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_panics_in_a_minute_take_one_replica_offline_until_somebody_looks() {
    let node = Fixture::start().await;
    node.create("sick").await;
    node.create("healthy").await;
    node.publish("sick", "before").await.unwrap();
    for _ in 0..2 {
        node.kill("sick", KillMode::Panic).await.unwrap();
    }
    let offline = node.kill("sick", KillMode::Panic).await.unwrap_err();
    assert_eq!(offline.code, ErrorCode::StorageFailure);

    let refused = node.publish("sick", "refused").await.unwrap_err();
    assert!(refused.message.contains("panicked"), "{refused}");
    node.publish("healthy", "served").await.unwrap();

    node.kill("sick", KillMode::Stop).await.unwrap();
    node.publish("sick", "after").await.unwrap();
    assert_eq!(node.values("sick").await, ["before", "after"]);
}
