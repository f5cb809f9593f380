//! Transactions of a cluster: through any node, and whatever node coordinates them.

use super::Cluster;
use std::time::Duration;
use troupe_proto::admin::v1 as admin;
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::transaction_service_client::TransactionServiceClient as AdminClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "written";

type Producer = (u64, u32);

impl Cluster {
    async fn init(&self, through: i32, id: &str) -> Result<Producer, Error> {
        let mut client = TransactionServiceClient::new(self.channel(through).await);
        let request =
            pb::InitProducerIdRequest { transactional_id: id.to_owned(), ..Default::default() };
        let answer = client.init_producer_id(request).await?.into_inner();
        Ok((answer.producer_id, answer.producer_epoch))
    }

    async fn add(&self, through: i32, id: &str, of: Producer) -> Result<(), Error> {
        let mut client = TransactionServiceClient::new(self.channel(through).await);
        let partitions = (0..3).map(|partition| pb::TopicPartition {
            topic: TOPIC.to_owned(),
            partition,
            ..Default::default()
        });
        let request = pb::AddPartitionsRequest {
            transactional_id: id.to_owned(),
            producer_id: of.0,
            producer_epoch: of.1,
            partitions: partitions.collect(),
        };
        Ok(client.add_partitions(request).await.map(drop)?)
    }

    async fn commit_txn(&self, through: i32, id: &str, of: Producer) -> Result<Producer, Error> {
        let mut client = TransactionServiceClient::new(self.channel(through).await);
        let request = pb::EndTransactionRequest {
            transactional_id: id.to_owned(),
            producer_id: of.0,
            producer_epoch: of.1,
            outcome: pb::TransactionOutcome::Commit.into(),
        };
        let answer = client.end_transaction(request).await?.into_inner();
        Ok((answer.producer_id, answer.producer_epoch))
    }

    async fn listing(&self, through: i32, id: &str) -> admin::TransactionListing {
        let mut client = AdminClient::new(self.channel(through).await);
        let request = admin::DescribeTransactionRequest { transactional_id: id.to_owned() };
        let described = client.describe_transaction(request).await.unwrap().into_inner();
        described.transaction.unwrap()
    }

    async fn until_committed(&self, through: i32, id: &str) {
        let committed = async {
            while self.listing(through, id).await.state() != TransactionState::CompleteCommit {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, committed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_answers_for_every_transactional_id() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 3).await.unwrap();
    let ids: Vec<_> = (0..6).map(|number| format!("id-{number}")).collect();
    for (node, id) in (0..).map(|number| 1 + number % 3).zip(&ids) {
        let next = 1 + node % 3;
        let first = cluster.init(node, id).await.unwrap();
        cluster.add(next, id, first).await.unwrap();
        let second = cluster.commit_txn(1 + next % 3, id, first).await.unwrap();
        assert_eq!(second, (first.0, first.1 + 1));
        let stranger = (first.0 + 1_000_000, 0);
        let refused = cluster.add(next, id, stranger).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidProducerIdMapping);
    }
    for id in &ids {
        cluster.until_committed(1, id).await;
    }
    let request = admin::GetTopicRequest { name: "__transaction_state".to_owned() };
    let mut topics = TopicServiceClient::new(cluster.channel(1).await);
    let topic = topics.get_topic(request).await.unwrap().into_inner().topic.unwrap();
    let config = |name: &str| {
        let entry = topic.configs.iter().find(|entry| entry.name == name);
        entry.unwrap().value.clone()
    };
    assert_eq!((topic.partitions.len(), topic.replication_factor), (5, 3));
    assert_eq!(config("min.insync.replicas"), "2");
    assert_eq!(config("segment.bytes"), (1 << 20).to_string());
    let mut lists = Vec::new();
    for node in 1..=3 {
        let mut client = AdminClient::new(cluster.channel(node).await);
        let request = admin::ListTransactionsRequest::default();
        lists.push(client.list_transactions(request).await.unwrap().into_inner().transactions);
    }
    let listed: Vec<_> = lists[0].iter().map(|it| it.transactional_id.clone()).collect();
    assert_eq!(listed, ids);
    assert!(lists.iter().all(|list| *list == lists[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_coordinates_on_when_one_stops() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 3).await.unwrap();
    let open = cluster.init(1, "open").await.unwrap();
    cluster.add(1, "open", open).await.unwrap();
    let coordinator = cluster.listing(1, "open").await.coordinator;
    let node = cluster.nodes.remove(&coordinator).unwrap();
    tokio::task::spawn_blocking(|| node.stop()).await.unwrap();
    let through = 1 + coordinator % 3;
    let next = cluster.commit_txn(through, "open", open).await.unwrap();
    assert_eq!(next, (open.0, open.1 + 1));
    cluster.until_committed(through, "open").await;
    assert_ne!(cluster.listing(through, "open").await.coordinator, coordinator);
    cluster.add(through, "open", next).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_in_a_transaction_through_any_node() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 3).await.unwrap();
    for (node, group) in [(1, "a"), (2, "b"), (3, "c"), (1, "d"), (2, "e"), (3, "f")] {
        let of = cluster.init(node, group).await.unwrap();
        let next = 1 + node % 3;
        let partition =
            pb::TopicPartition { topic: TOPIC.to_owned(), partition: 1, ..Default::default() };
        let request = pb::CommitTransactionOffsetsRequest {
            transactional_id: group.to_owned(),
            producer_id: of.0,
            producer_epoch: of.1,
            group_id: group.to_owned(),
            commits: vec![pb::PartitionCommit {
                partition: Some(partition),
                offset: Some(pb::OffsetAndMetadata { offset: 7, ..Default::default() }),
            }],
            ..Default::default()
        };
        let mut client = TransactionServiceClient::new(cluster.channel(node).await);
        let answer = client.commit_transaction_offsets(request).await.unwrap().into_inner();
        assert_eq!(answer.results[0].error, None);
        let fetch = |require_stable| pb::FetchOffsetsRequest {
            group_id: group.to_owned(),
            require_stable,
            ..Default::default()
        };
        let mut groups = GroupServiceClient::new(cluster.channel(next).await);
        let unstable = groups.fetch_offsets(fetch(true)).await.unwrap_err();
        assert_eq!(Error::from(unstable).code, ErrorCode::UnstableOffsetCommit);
        cluster.commit_txn(next, group, of).await.unwrap();
        cluster.until_committed(node, group).await;
        let stable = groups.fetch_offsets(fetch(true)).await.unwrap().into_inner();
        assert_eq!(stable.offsets[0].offset.as_ref().unwrap().offset, 7);
    }
}
