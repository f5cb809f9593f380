//! A node, its topics and its subscribers.

use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use troupe_broker::{Node, NodeConfig};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::FetchOffsetsRequest;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::*;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Fixture {
    pub channel: Channel,
    pub node: Node,
    directory: tempfile::TempDir,
    config: NodeConfig,
}

pub fn value_of(delivery: &Delivery) -> String {
    let value = delivery.record.as_ref().unwrap().value.as_ref().unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

pub fn earliest() -> Option<StartPosition> {
    Some(StartPosition { at: Some(start_position::At::Earliest(true)) })
}

/// A group that reads a topic from its beginning.
pub fn options(topic: &str, group: &str) -> SubscriptionOptions {
    SubscriptionOptions {
        topics: vec![topic.to_owned()],
        group: group.to_owned(),
        start_position: earliest(),
        confirm_settlements: true,
        ..Default::default()
    }
}

pub fn window(max_records: i32) -> Option<Window> {
    Some(Window { max_records: Some(max_records), max_bytes: None })
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings.
    pub async fn start_with(change: impl Fn(&mut NodeConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = NodeConfig {
            log_dir: directory.path().join("data"),
            listener: ([127, 0, 0, 1], 0).into(),
            http_listener: ([127, 0, 0, 1], 0).into(),
            ..NodeConfig::default()
        };
        change(&mut config);
        Self::start_in(directory, config).await
    }

    async fn start_in(directory: tempfile::TempDir, config: NodeConfig) -> Self {
        let asked = config.clone();
        let node = tokio::task::spawn_blocking(|| Node::start(asked)).await.unwrap().unwrap();
        let endpoint = format!("http://{}", node.grpc_addr());
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        Self { channel, node, directory, config }
    }

    /// The same data, and nothing of what the node had not written.
    pub async fn kill_and_start(self) -> Self {
        let Self { node, directory, config, .. } = self;
        tokio::task::spawn_blocking(|| node.kill()).await.unwrap();
        Self::start_in(directory, config).await
    }

    pub fn bus(&self) -> EventBusServiceClient<Channel> {
        EventBusServiceClient::new(self.channel.clone())
    }

    pub async fn create(&self, topic: &str, partitions: i32) {
        let request = CreateTopicRequest {
            name: topic.to_owned(),
            partitions: Some(partitions),
            ..Default::default()
        };
        TopicServiceClient::new(self.channel.clone()).create_topic(request).await.unwrap();
    }

    pub async fn publish(&self, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
        let record = |number: usize| Record {
            value: Some(number.to_string().into_bytes().into()),
            partition: Some(partition),
            ..Default::default()
        };
        let records = numbers.map(record).collect();
        let request = PublishRequest { topic: topic.to_owned(), records, ..Default::default() };
        self.bus().publish(request).await.unwrap();
    }

    pub async fn subscribe(&self, options: SubscriptionOptions) -> Subscriber {
        Subscriber::open(self.bus(), options).await
    }

    /// What the subscription is refused with.
    pub async fn refused(&self, options: SubscriptionOptions) -> ErrorCode {
        let mut subscriber = self.subscribe(options).await;
        let refused = timeout(PATIENCE, subscriber.answers.message()).await.unwrap();
        Error::from(refused.unwrap_err()).code
    }

    pub async fn settle(&self, settlements: Vec<Settlement>) -> Vec<SettleOutcome> {
        let request = SettleRequest { ack_ids: Vec::new(), settlements };
        let answer = self.bus().settle(request).await.unwrap().into_inner();
        answer.results.iter().map(SettleResult::outcome).collect()
    }

    /// What the group has committed, by partition.
    pub async fn committed(&self, group: &str) -> Vec<(i32, i64)> {
        let request = FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
        let mut client = GroupServiceClient::new(self.channel.clone());
        let answer = client.fetch_offsets(request).await.unwrap().into_inner();
        let offset = |c: troupe_proto::log::v1::CommittedOffset| {
            (c.partition.unwrap().partition, c.offset.unwrap().offset)
        };
        let mut offsets: Vec<_> = answer.offsets.into_iter().map(offset).collect();
        offsets.sort_unstable();
        offsets
    }

    /// Commits for partition 0, as somebody who is no member.
    pub async fn commit(&self, group: &str, topic: &str, offset: i64, leader_epoch: Option<u32>) {
        use troupe_proto::log::v1::*;
        let partition = TopicPartition { topic: topic.to_owned(), ..Default::default() };
        let offset = OffsetAndMetadata { offset, leader_epoch, metadata: String::new() };
        let commit = PartitionCommit { partition: Some(partition), offset: Some(offset) };
        let request = CommitOffsetsRequest {
            group_id: group.to_owned(),
            commits: vec![commit],
            ..Default::default()
        };
        let mut client = GroupServiceClient::new(self.channel.clone());
        let answer = client.commit_offsets(request).await.unwrap().into_inner();
        assert_eq!(answer.results[0].error, None);
    }

    pub async fn until_committed(&self, group: &str, wanted: &[(i32, i64)]) {
        let reached = async {
            while self.committed(group).await != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            panic!("still {:?}, not {wanted:?}", self.committed(group).await);
        }
    }
}

pub fn ack(delivery: &Delivery) -> Settlement {
    let action = Some(settlement::Action::Ack(Ack {}));
    Settlement { ack_id: delivery.ack_id.clone(), action }
}

pub fn nack(delivery: &Delivery) -> Settlement {
    let action = Some(settlement::Action::Nack(Nack { delay: None }));
    Settlement { ack_id: delivery.ack_id.clone(), action }
}

pub struct Subscriber {
    pub requests: Option<mpsc::Sender<SubscribeRequest>>,
    pub answers: Streaming<SubscribeResponse>,
    /// Deliveries that nobody has asked for yet, and everything else that came.
    waiting: std::collections::VecDeque<Delivery>,
    pub results: Vec<SettleOutcome>,
    pub assignments: Vec<Assignment>,
    pub notices: Vec<NoticeKind>,
    pub lost: Vec<PositionLost>,
    pub largest: usize,
}

impl Subscriber {
    pub async fn open(
        mut bus: EventBusServiceClient<Channel>,
        options: SubscriptionOptions,
    ) -> Self {
        let (requests, stream) = mpsc::channel(1024);
        let start = SubscribeRequest { start: Some(options), ..Default::default() };
        requests.send(start).await.unwrap();
        let answers = bus.subscribe(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Subscriber {
            requests: Some(requests),
            answers,
            waiting: Default::default(),
            results: Vec::new(),
            assignments: Vec::new(),
            notices: Vec::new(),
            lost: Vec::new(),
            largest: 0,
        }
    }

    pub async fn send(&self, request: SubscribeRequest) {
        self.requests.as_ref().unwrap().send(request).await.unwrap();
    }

    pub async fn ack(&self, deliveries: &[Delivery]) {
        let ack_ids = deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect();
        self.send(SubscribeRequest { ack_ids, ..Default::default() }).await;
    }

    pub async fn settle(&self, settlement: Settlement) {
        let settlements = vec![settlement];
        self.send(SubscribeRequest { settlements, ..Default::default() }).await;
    }

    pub async fn resize(&self, max_records: i32) {
        let window = window(max_records);
        self.send(SubscribeRequest { window, ..Default::default() }).await;
    }

    /// Takes one message.
    pub async fn message(&mut self) {
        let answer = timeout(PATIENCE, self.answers.message()).await.expect("nothing came");
        let answer = answer.unwrap().expect("the stream ended");
        self.largest = self.largest.max(answer.deliveries.len());
        self.waiting.extend(answer.deliveries);
        self.results.extend(answer.settle_results.iter().map(SettleResult::outcome));
        self.assignments.extend(answer.assignment);
        self.notices.extend(answer.notice.iter().map(Notice::kind));
        self.lost.extend(answer.notice.and_then(|notice| notice.position_lost));
    }

    pub async fn next(&mut self) -> Delivery {
        while self.waiting.is_empty() {
            self.message().await;
        }
        self.waiting.pop_front().unwrap()
    }

    pub async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// The next `count` results of settlements.
    pub async fn outcomes(&mut self, count: usize) -> Vec<SettleOutcome> {
        while self.results.len() < count {
            self.message().await;
        }
        self.results.drain(..count).collect()
    }

    /// Until it reads so many partitions.
    pub async fn until_assigned(&mut self, count: usize) {
        while self.assignments.last().is_none_or(|told| told.partitions.len() != count) {
            self.message().await;
        }
    }

    pub async fn until_noticed(&mut self, kind: NoticeKind) {
        while !self.notices.contains(&kind) {
            self.message().await;
        }
    }

    /// Deliveries that came with what has been taken.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Closes the client's half.
    pub fn close(&mut self) {
        self.requests = None;
    }
}
