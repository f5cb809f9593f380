//! Subscribers of nodes that lead nothing of what they read, and coordinate nothing.

use super::Cluster;
use super::any_node::record;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{
    CommitOffsetsRequest, FetchOffsetsRequest, FindCoordinatorRequest, OffsetAndMetadata,
    PartitionCommit, TopicPartition,
};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{
    Delivery, SettleOutcome, SettleRequest, SettleResult, StartPosition, SubscribeRequest,
    SubscribeResponse, SubscriptionOptions,
};

const PATIENCE: Duration = Duration::from_secs(60);

struct Subscriber {
    requests: mpsc::Sender<SubscribeRequest>,
    answers: Streaming<SubscribeResponse>,
}

impl Subscriber {
    async fn open(cluster: &Cluster, through: i32) -> Subscriber {
        let start = SubscriptionOptions {
            topics: vec!["t".into()],
            group: "g".into(),
            start_position: Some(StartPosition { at: Some(At::Earliest(true)) }),
            confirm_settlements: true,
            ..Default::default()
        };
        let (requests, stream) = mpsc::channel(64);
        let first = SubscribeRequest { start: Some(start), ..Default::default() };
        requests.send(first).await.unwrap();
        let mut bus = EventBusServiceClient::new(cluster.channel(through).await);
        let answers = bus.subscribe(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Subscriber { requests, answers }
    }

    async fn message(&mut self) -> SubscribeResponse {
        timeout(PATIENCE, self.answers.message()).await.unwrap().unwrap().unwrap()
    }

    async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.message().await.deliveries);
        }
        taken
    }

    async fn ack(&self, ack_ids: Vec<String>) {
        self.requests.send(SubscribeRequest { ack_ids, ..Default::default() }).await.unwrap();
    }
}

impl Cluster {
    async fn until_group_is_at(&self, through: i32, wanted: &[(i32, i64)]) {
        let request = FetchOffsetsRequest { group_id: "g".into(), ..Default::default() };
        let mut client = GroupServiceClient::new(self.channel(through).await);
        let committed = async {
            loop {
                let Ok(answer) = client.fetch_offsets(request.clone()).await else { continue };
                let offsets = answer.into_inner().offsets.into_iter();
                let offsets: BTreeSet<_> = offsets
                    .map(|one| (one.partition.unwrap().partition, one.offset.unwrap().offset))
                    .collect();
                if offsets.iter().eq(wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, committed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_settled_through_any_node_and_members_outlive_their_coordinator() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(1, "t", 6).await.unwrap();
    let records = (0..6).map(|partition| record("one", partition)).collect();
    cluster.publish(1, "t", records).await.unwrap();
    let find = FindCoordinatorRequest { group_id: "g".into() };
    let mut groups = GroupServiceClient::new(cluster.channel(1).await);
    let coordinator = groups.find_coordinator(find).await.unwrap().into_inner().node_id;
    let [here, there] =
        [1, 2, 3].into_iter().filter(|id| *id != coordinator).collect::<Vec<_>>()[..]
    else {
        panic!("three nodes, of which one coordinates");
    };
    let mut one = Subscriber::open(&cluster, here).await;
    let ids: Vec<_> = one.take(6).await.into_iter().map(|delivery| delivery.ack_id).collect();

    // Half of them by a call to another node, half on a stream there.
    let request = SettleRequest { ack_ids: ids[..3].to_vec(), settlements: Vec::new() };
    let mut bus = EventBusServiceClient::new(cluster.channel(there).await);
    let answer = bus.settle(request).await.unwrap().into_inner();
    let outcomes: Vec<_> = answer.results.iter().map(SettleResult::outcome).collect();
    assert_eq!(outcomes, [SettleOutcome::Accepted; 3]);
    let mut other = Subscriber::open(&cluster, there).await;
    other.ack(ids[3..].to_vec()).await;
    let mut results = Vec::new();
    while results.len() < 3 {
        results.extend(other.message().await.settle_results);
    }
    assert!(results.iter().all(|result| result.outcome() == SettleOutcome::Accepted));
    let all = |offset| (0..6).map(|partition| (partition, offset)).collect::<Vec<_>>();
    cluster.until_group_is_at(there, &all(1)).await;

    // Each has its half when the coordinator's node is killed, and has it still afterwards.
    cluster.kill_node(coordinator).await;
    let records = (0..6).map(|partition| record("two", partition)).collect();
    cluster.publish(here, "t", records).await.unwrap();
    let mut read = BTreeSet::new();
    while read.len() < 6 {
        let (subscriber, message) = tokio::select! {
            message = one.answers.message() => (&one, message),
            message = other.answers.message() => (&other, message),
            () = tokio::time::sleep(PATIENCE) => panic!("only {read:?} came"),
        };
        let deliveries = message.unwrap().unwrap().deliveries;
        read.extend(deliveries.iter().map(|delivery| delivery.partition));
        assert!(deliveries.iter().all(|delivery| delivery.offset == 1), "{deliveries:?}");
        subscriber.ack(deliveries.into_iter().map(|delivery| delivery.ack_id).collect()).await;
    }
    cluster.until_group_is_at(there, &all(2)).await;
}

/// C13: what an unclean election has put in the place of what a group had read is not passed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_a_log_that_was_cut_is_told_and_nothing_is_skipped() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(1, "t", 1).await.unwrap();
    let records = |count| (0..count).map(|_| record("v", 0)).collect::<Vec<_>>();
    cluster.publish(1, "t", records(10)).await.unwrap();
    let state = cluster.until(1, |state| state.in_sync_replicas.len() == 3).await;
    let leader = state.leader_id.unwrap();
    cluster.kill_node(leader).await;
    let through = leader % 3 + 1;
    let led = |state: &troupe_proto::admin::v1::PartitionState| {
        state.leader_id.is_some_and(|now| now != leader)
    };
    cluster.until(through, led).await;
    cluster.publish(through, "t", records(10)).await.unwrap();
    // As if five more had been read of the log as it was in the first leader's epoch.
    let request = CommitOffsetsRequest {
        group_id: "g".into(),
        commits: vec![PartitionCommit {
            partition: Some(TopicPartition { topic: "t".into(), ..Default::default() }),
            offset: Some(OffsetAndMetadata {
                offset: 15,
                leader_epoch: Some(state.leader_epoch),
                metadata: String::new(),
            }),
        }],
        ..Default::default()
    };
    let mut groups = GroupServiceClient::new(cluster.channel(through).await);
    let answer = groups.commit_offsets(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].error, None);
    let mut subscriber = Subscriber::open(&cluster, through).await;
    let (mut lost, mut first) = (None, None);
    while first.is_none() {
        let message = subscriber.message().await;
        lost = message.notice.and_then(|notice| notice.position_lost).or(lost);
        first = message.deliveries.first().map(|delivery| delivery.offset);
    }
    let lost = lost.expect("a notice before the first delivery");
    assert_eq!((lost.position, lost.cut_at, first), (15, Some(10), Some(10)));
}

/// C13, of those who read at that moment: their positions lie behind records that are not there any more.
#[tokio::test(flavor = "multi_thread")]
async fn readers_go_on_where_an_unclean_election_has_cut_the_log_and_are_told() {
    let mut cluster = Cluster::start(3).await;
    let config = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let request = CreateTopicRequest {
        name: "t".into(),
        partitions: Some(1),
        replication_factor: Some(2),
        configs: config
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
        ..Default::default()
    };
    let mut topics = TopicServiceClient::new(cluster.channel(1).await);
    topics.create_topic(request).await.unwrap();
    let records = |count| (0..count).map(|_| record("v", 0)).collect::<Vec<_>>();
    let state = cluster.until(1, |state| state.in_sync_replicas.len() == 2).await;
    let leader = state.leader_id.unwrap();
    let behind = *state.in_sync_replicas.iter().find(|id| **id != leader).unwrap();
    let through = 6 - leader - behind;
    cluster.publish(through, "t", records(50)).await.unwrap();
    cluster.kill_node(behind).await;
    cluster.until(through, |state| state.in_sync_replicas == [leader]).await;
    cluster.publish(through, "t", records(50)).await.unwrap();
    let mut subscriber = Subscriber::open(&cluster, through).await;
    let taken = subscriber.take(100).await;
    let mut tail = cluster.tail(through, "t", false).await;
    let mut tailed = Vec::new();
    while tailed.len() < 100 {
        let answer = timeout(PATIENCE, tail.message()).await.unwrap().unwrap().unwrap();
        tailed.extend(answer.deliveries.iter().map(|delivery| delivery.offset));
    }

    // Who comes back knows half of it, and leads: by the time they read on there is something else at their position.
    cluster.kill_node(leader).await;
    cluster.start_node(behind).await;
    let elected = async {
        while cluster.leader_of(through, "t", 0).await != behind {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, elected).await.unwrap();
    for _ in 0..3 {
        cluster.publish(through, "t", records(50)).await.unwrap();
    }
    let ids = taken.into_iter().map(|delivery| delivery.ack_id).collect();
    subscriber.ack(ids).await;
    let (mut lost, mut offsets) = (None, Vec::new());
    while offsets.len() < 50 {
        let message = subscriber.message().await;
        assert!(offsets.is_empty() || message.notice.is_none(), "it comes before: {message:?}");
        lost = message.notice.and_then(|notice| notice.position_lost).or(lost);
        offsets.extend(message.deliveries.iter().map(|delivery| delivery.offset));
    }
    let lost = lost.expect("a notice before the first delivery");
    assert_eq!((lost.position, lost.cut_at), (100, Some(50)));
    assert_eq!(offsets[..50], (50..100).collect::<Vec<_>>());

    let (mut lost, mut offsets) = (None, Vec::new());
    while offsets.len() < 150 {
        let answer = timeout(PATIENCE, tail.message()).await.unwrap().unwrap().unwrap();
        lost = answer.notice.and_then(|notice| notice.position_lost).or(lost);
        offsets.extend(answer.deliveries.iter().map(|delivery| delivery.offset));
    }
    assert_eq!(lost.map(|lost| (lost.position, lost.cut_at)), Some((100, Some(50))));
    assert_eq!(offsets, (50..200).collect::<Vec<_>>());
}
