//! Any node answers: thin calls and admin calls through nodes that can only pass them on.

use super::Cluster;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{
    ClusterNode, CreateTopicRequest, DeleteTopicRequest, DrainNodeRequest, ElectLeadersRequest,
    GetClusterRequest, GetTopicRequest, ListPartitionsRequest, ListReplicasRequest, ReplicaRole,
    ResumeNodeRequest, UpdateTopicRequest,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, FetchStreamRequest, InitProducerRequest, TopicPartition,
};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{
    PublishRequest, PublishStreamRequest, PublishStreamResponse, Record, RecordResult,
    StartPosition, TailRequest, TailResponse,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn record(value: &str, partition: i32) -> Record {
    let value = Some(value.to_owned().into());
    Record { value, partition: Some(partition), ..Default::default() }
}

impl Cluster {
    pub(super) async fn create(
        &self,
        through: i32,
        topic: &str,
        partitions: i32,
    ) -> Result<(), Error> {
        let request = CreateTopicRequest {
            name: topic.to_owned(),
            partitions: Some(partitions),
            ..Default::default()
        };
        let mut client = TopicServiceClient::new(self.channel(through).await);
        Ok(client.create_topic(request).await.map(drop)?)
    }

    pub(super) async fn publish(
        &self,
        through: i32,
        topic: &str,
        records: Vec<Record>,
    ) -> Result<Vec<RecordResult>, Error> {
        let request = PublishRequest { topic: topic.to_owned(), records, ..Default::default() };
        let mut client = EventBusServiceClient::new(self.channel(through).await);
        Ok(client.publish(request).await?.into_inner().results)
    }

    pub(super) async fn tail(
        &self,
        through: i32,
        topic: &str,
        until_end: bool,
    ) -> Streaming<TailResponse> {
        let request = TailRequest {
            topic: topic.to_owned(),
            start: Some(StartPosition { at: Some(At::Earliest(true)) }),
            until_end,
            ..Default::default()
        };
        let mut client = EventBusServiceClient::new(self.channel(through).await);
        client.tail(request).await.unwrap().into_inner()
    }

    /// Waits until the node has its replica of the topic's partitions.
    pub(super) async fn holds(&self, node: i32, topic: &str) {
        let mut client = ClusterServiceClient::new(self.channel(node).await);
        let request = ListReplicasRequest { topic: topic.to_owned(), ..Default::default() };
        let held = async {
            while client.list_replicas(request.clone()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, held).await.unwrap();
    }

    pub(super) async fn leader_of(&self, through: i32, topic: &str, partition: i32) -> i32 {
        let mut client = ClusterServiceClient::new(self.channel(through).await);
        let request = ListPartitionsRequest { topic: topic.to_owned(), ..Default::default() };
        loop {
            let answer = client.list_partitions(request.clone()).await.unwrap().into_inner();
            let found = answer.partitions.iter().find(|state| state.partition == partition);
            if let Some(leader) = found.and_then(|state| state.leader_id) {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn stop_node(&mut self, id: i32) {
        let node = self.nodes.remove(&id).unwrap();
        tokio::task::spawn_blocking(|| node.stop()).await.unwrap();
    }

    pub(super) async fn kill_node(&mut self, id: i32) {
        let node = self.nodes.remove(&id).unwrap();
        tokio::task::spawn_blocking(|| node.kill()).await.unwrap();
    }

    async fn member(&self, through: i32, id: i32) -> ClusterNode {
        let mut client = ClusterServiceClient::new(self.channel(through).await);
        let answer = client.get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
        answer.nodes.into_iter().find(|node| node.node_id == id).unwrap()
    }
}

/// The values of `count` records by partition, in the order in which they came.
async fn take(tail: &mut Streaming<TailResponse>, count: usize) -> BTreeMap<i32, Vec<String>> {
    let (mut taken, mut values): (usize, BTreeMap<i32, Vec<String>>) = (0, BTreeMap::new());
    while taken < count {
        let answer = timeout(PATIENCE, tail.message()).await.unwrap().unwrap().unwrap();
        for delivery in answer.deliveries {
            let value = delivery.record.unwrap().value.unwrap();
            let of_partition = values.entry(delivery.partition).or_default();
            of_partition.push(String::from_utf8(value.to_vec()).unwrap());
            taken += 1;
        }
    }
    values
}

/// All records of the topic, by partition.
async fn all(cluster: &Cluster, through: i32, topic: &str) -> BTreeMap<i32, Vec<String>> {
    let mut tail = cluster.tail(through, topic, true).await;
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    while let Some(answer) = timeout(PATIENCE, tail.message()).await.unwrap().unwrap() {
        for delivery in answer.deliveries {
            let value = delivery.record.unwrap().value.unwrap();
            let of_partition = values.entry(delivery.partition).or_default();
            of_partition.push(String::from_utf8(value.to_vec()).unwrap());
        }
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_created_through_any_node_can_be_used_through_it_at_once() {
    let cluster = Cluster::start(3).await;
    for through in 1..=3 {
        let topic = format!("made-by-{through}");
        cluster.create(through, &topic, 3).await.unwrap();
        let records: Vec<Record> =
            (0..30).map(|number| record(&number.to_string(), number % 3)).collect();
        let results = cluster.publish(through, &topic, records).await.unwrap();
        let offsets: Vec<(i32, i64)> =
            results.iter().map(|result| (result.partition, result.offset)).collect();
        let expected: Vec<(i32, i64)> =
            (0..30).map(|number| (number % 3, i64::from(number / 3))).collect();
        assert_eq!(offsets, expected);
        for reader in 1..=3 {
            cluster.publish(reader, &topic, vec![]).await.unwrap_or_default();
            let read = all(&cluster, reader, &topic).await;
            let wanted = |partition: i32| -> Vec<String> {
                (0..10).map(|number| (3 * number + partition).to_string()).collect()
            };
            assert_eq!(read, (0..3).map(|partition| (partition, wanted(partition))).collect());
        }
        let taken = cluster.create(through % 3 + 1, &topic, 1).await.unwrap_err();
        assert_eq!(taken.code, ErrorCode::TopicExists);
    }
    let mut ids = Vec::new();
    for through in 1..=3 {
        let mut client = LogServiceClient::new(cluster.channel(through).await);
        ids.push(
            client.init_producer(InitProducerRequest {}).await.unwrap().into_inner().producer_id,
        );
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_calls_reach_the_controller_through_any_node() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, "t", 6).await.unwrap();
    for through in 1..=3 {
        let mut topics = TopicServiceClient::new(cluster.channel(through).await);
        let retention = (100_000 + through).to_string();
        let set_configs = [("retention.ms".to_owned(), retention.clone())].into();
        let request = UpdateTopicRequest { name: "t".into(), set_configs, ..Default::default() };
        topics.update_topic(request).await.unwrap();
        let request = GetTopicRequest { name: "t".into() };
        let topic = topics.get_topic(request).await.unwrap().into_inner().topic.unwrap();
        let config = topic.configs.iter().find(|config| config.name == "retention.ms").unwrap();
        assert_eq!(config.value, retention);

        let drained = through % 3 + 1;
        let mut admin = ClusterServiceClient::new(cluster.channel(through).await);
        let before = cluster.member(through, drained).await;
        assert_eq!((before.leader_count, before.replica_count), (2, 6));
        let request = DrainNodeRequest { node_id: drained };
        let answer = admin.drain_node(request).await.unwrap().into_inner();
        assert_eq!((answer.moved_leader_count, answer.left_leader_count), (2, 0));
        let during = cluster.member(through, drained).await;
        assert!(during.shutting_down && during.leader_count == 0 && during.in_sync_count == 0);

        let request = ResumeNodeRequest { node_id: drained };
        admin.resume_node(request).await.unwrap();
        let in_sync = async {
            while cluster.member(through, drained).await.in_sync_count < 6 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, in_sync).await.unwrap();
        let answer = admin.elect_leaders(ElectLeadersRequest::default()).await.unwrap();
        let results = answer.into_inner().results;
        assert_eq!(results.len(), 2);
        assert!(results.iter().all(|result| result.leader_id == Some(drained)), "{results:?}");
        assert_eq!(cluster.member(through, drained).await.leader_count, 2);

        let request = ListReplicasRequest::default();
        let replicas = admin.list_replicas(request).await.unwrap().into_inner().replicas;
        assert!(replicas.iter().all(|replica| replica.node_id == through));
        let leads = |role| replicas.iter().filter(|replica| replica.role() == role).count();
        assert_eq!((leads(ReplicaRole::Leader), leads(ReplicaRole::Follower)), (2, 4));
    }
    let request = DrainNodeRequest { node_id: 9 };
    let mut admin = ClusterServiceClient::new(cluster.channel(2).await);
    let refused: Error = admin.drain_node(request).await.unwrap_err().into();
    assert_eq!(refused.code, ErrorCode::BrokerNotRegistered);
    let request = DeleteTopicRequest { name: "t".into(), ..Default::default() };
    let mut topics = TopicServiceClient::new(cluster.channel(3).await);
    topics.delete_topic(request).await.unwrap();
    let gone: Error =
        topics.get_topic(GetTopicRequest { name: "t".into() }).await.unwrap_err().into();
    assert_eq!(gone.code, ErrorCode::UnknownTopic);
}

/// A stream that publishes one record after the other, and its answers.
struct Publishing {
    requests: mpsc::Sender<PublishStreamRequest>,
    answers: Streaming<PublishStreamResponse>,
    sent: usize,
}

impl Publishing {
    async fn on(channel: Channel, topic: &str) -> Self {
        let (requests, stream) = mpsc::channel(1024);
        let first = PublishStreamRequest { topic: topic.to_owned(), ..Default::default() };
        requests.send(first).await.unwrap();
        let mut client = EventBusServiceClient::new(channel);
        let answers = client.publish_stream(ReceiverStream::new(stream)).await.unwrap();
        let mut answers = answers.into_inner();
        answers.message().await.unwrap().unwrap();
        Self { requests, answers, sent: 0 }
    }

    async fn send(&mut self, count: usize) {
        for _ in 0..count {
            let records = vec![record(&self.sent.to_string(), 0)];
            let request = PublishStreamRequest { records, ..Default::default() };
            // Why the stream has ended, if it has, the answers say.
            let _ = self.requests.send(request).await;
            self.sent += 1;
        }
    }

    /// Takes so many answers, or the error before.
    async fn take(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            let answer = timeout(PATIENCE, self.answers.message()).await.unwrap()?;
            assert_eq!(answer.unwrap().results.len(), 1);
        }
        Ok(())
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Leaders stop and die under a stream of records: what was acknowledged is there, in order and once, and nobody
/// is told anything but that an answer got lost.
#[tokio::test(flavor = "multi_thread")]
async fn thin_clients_of_another_node_survive_their_leaders() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(1, "t", 1).await.unwrap();
    let preferred = cluster.leader_of(1, "t", 0).await;
    let through = preferred % 3 + 1;
    let mut tail = cluster.tail(through, "t", false).await;
    let (stop, stopped) = watch::channel(false);
    let channel = cluster.channel(through).await;
    let writer = tokio::spawn(write_until(channel, stopped));
    for dies in [false, true, false, true] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if dies {
            cluster.kill_node(preferred).await;
        } else {
            cluster.stop_node(preferred).await;
        }
        let led = |leader: Option<i32>| leader.is_some_and(|leader| leader != preferred);
        cluster.until(through, |state| led(state.leader_id)).await;
        cluster.start_node(preferred).await;
        cluster.until(through, |state| state.in_sync_replicas.len() == 3).await;
        let mut admin = ClusterServiceClient::new(cluster.channel(through).await);
        admin.elect_leaders(ElectLeadersRequest::default()).await.unwrap();
        cluster.until(through, |state| state.leader_id == Some(preferred)).await;
    }
    stop.send_replace(true);
    let (sent, acknowledged) = timeout(PATIENCE, writer).await.unwrap().unwrap();
    let read: Vec<usize> =
        all(&cluster, through, "t").await[&0].iter().map(|value| value.parse().unwrap()).collect();
    assert!(read.is_sorted_by(|one, next| one < next), "out of order, or twice: {read:?}");
    assert!(read.iter().all(|value| *value < sent));
    let missing: Vec<_> =
        acknowledged.iter().filter(|value| read.binary_search(value).is_err()).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    let tailed = take(&mut tail, read.len()).await;
    assert_eq!(tailed[&0], read.iter().map(usize::to_string).collect::<Vec<_>>());
}

/// Publishes number after number; how many were sent, and which were acknowledged.
async fn write_until(channel: Channel, mut stopped: watch::Receiver<bool>) -> (usize, Vec<usize>) {
    let mut acknowledged = Vec::new();
    let mut publishing = Publishing::on(channel.clone(), "t").await;
    while !*stopped.borrow_and_update() {
        let first = publishing.sent;
        publishing.send(20).await;
        for number in first..publishing.sent {
            match publishing.take(1).await {
                Ok(()) => acknowledged.push(number),
                Err(error) => {
                    let lost = matches!(
                        error.code,
                        ErrorCode::OutcomeUnknown
                            // Two are gone for a moment: one was stopped, and one was slow.
                            | ErrorCode::NotEnoughReplicas
                            | ErrorCode::NotEnoughReplicasAfterAppend
                    );
                    assert!(lost, "{error}");
                    let sent = publishing.sent;
                    publishing = Publishing { sent, ..Publishing::on(channel.clone(), "t").await };
                    break;
                }
            }
        }
    }
    (publishing.sent, acknowledged)
}

/// If nothing is under way, a leader that goes is no more than a delay, however it goes.
#[tokio::test(flavor = "multi_thread")]
async fn thin_clients_of_another_node_wait_for_the_next_leader() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(1, "t", 1).await.unwrap();
    let first = cluster.leader_of(1, "t", 0).await;
    let through = first % 3 + 1;
    let mut publishing = Publishing::on(cluster.channel(through).await, "t").await;
    let mut tail = cluster.tail(through, "t", false).await;
    let caught_up = tail.message().await.unwrap().unwrap();
    assert!(caught_up.caught_up && caught_up.deliveries.is_empty());
    publishing.send(100).await;
    publishing.take(100).await.unwrap();
    cluster.kill_node(first).await;
    publishing.send(100).await;
    publishing.take(100).await.unwrap();
    let after = cluster.publish(through, "t", vec![record("200", 0)]).await.unwrap();
    assert_eq!(after[0].offset, 200);
    assert_eq!(take(&mut tail, 201).await, BTreeMap::from([(0, numbers(201))]));
}

/// P21: whoever is asked and does not lead says who does; nobody forwards what an SDK sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_lead_says_who_does() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, "t", 1).await.unwrap();
    let leader = cluster.leader_of(1, "t", 0).await;
    let other = leader % 3 + 1;
    cluster.holds(leader, "t").await;
    cluster.holds(other, "t").await;
    let refused = super::produce(&cluster, other, b"x").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotLeader);
    let hint = refused.leader.unwrap();
    assert_eq!(hint.node_id, leader);
    assert_eq!(hint.endpoint, cluster.configs[&leader].listener.to_string());
    let epoch = hint.leader_epoch.unwrap();

    let fetch = async |node: i32, leader_epoch: Option<u32>| {
        let partition = TopicPartition { topic: "t".into(), ..Default::default() };
        let position =
            FetchPosition { partition: Some(partition), leader_epoch, ..Default::default() };
        let request = FetchRequest { positions: vec![position], ..Default::default() };
        let mut client = LogServiceClient::new(cluster.channel(node).await);
        let answer = client.fetch(request).await.unwrap().into_inner();
        answer.partitions.into_iter().next().unwrap().error.map(Error::from)
    };
    assert_eq!(fetch(leader, Some(epoch)).await, None);
    let refused = fetch(other, None).await.unwrap();
    assert_eq!((refused.code, refused.leader.unwrap().node_id), (ErrorCode::NotLeader, leader));
    let refused = fetch(leader, Some(epoch + 1)).await.unwrap();
    assert_eq!(refused.code, ErrorCode::UnknownLeaderEpoch);
}

/// A reader that has read everything hears of another leader without a new record.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_reader_is_told_that_the_leader_moved() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, "t", 1).await.unwrap();
    let leader = cluster.until(1, |state| state.in_sync_replicas.len() == 3).await;
    let leader = leader.leader_id.unwrap();
    let partition = TopicPartition { topic: "t".into(), ..Default::default() };
    let position = FetchPosition { partition: Some(partition), ..Default::default() };
    let first = FetchStreamRequest {
        positions: vec![position],
        credit_bytes: 1 << 20,
        ..Default::default()
    };
    cluster.holds(leader, "t").await;
    let requests = futures::stream::iter([first]).chain(futures::stream::pending());
    let mut client = LogServiceClient::new(cluster.channel(leader).await);
    let mut answers = client.fetch_stream(requests).await.unwrap().into_inner();
    let caught_up = answers.message().await.unwrap().unwrap();
    assert_eq!((caught_up.high_watermark, caught_up.error), (0, None));

    let mut admin = ClusterServiceClient::new(cluster.channel(1).await);
    admin.drain_node(DrainNodeRequest { node_id: leader }).await.unwrap();
    let moved = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
    let error: Error = moved.error.unwrap().into();
    assert_eq!(error.code, ErrorCode::NotLeader);
    assert_ne!(error.leader.unwrap().node_id, leader);
}

/// Whoever decides next is waited for, and nothing is decided twice.
#[tokio::test(flavor = "multi_thread")]
async fn admin_calls_outlive_their_controllers() {
    let mut cluster = Cluster::start(3).await;
    for dies in [false, true] {
        let mut admin = ClusterServiceClient::new(cluster.channel(1).await);
        let mut client = TopicServiceClient::new(cluster.channel(1).await);
        let active = loop {
            let answer = admin.get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
            if answer.controller_id > 0 {
                break answer.controller_id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let through = active % 3 + 1;
        if dies {
            cluster.kill_node(active).await;
        } else {
            cluster.stop_node(active).await;
        }
        let topic = format!("dies-{dies}");
        timeout(PATIENCE, cluster.create(through, &topic, 2)).await.unwrap().unwrap();
        let request = GetTopicRequest { name: topic };
        let mut asked = TopicServiceClient::new(cluster.channel(through).await);
        asked.get_topic(request.clone()).await.unwrap();
        cluster.start_node(active).await;
        let back = async {
            while client.get_topic(request.clone()).await.is_err() {
                client = TopicServiceClient::new(cluster.channel(1).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, back).await.unwrap();
    }
}
