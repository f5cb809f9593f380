//! Three nodes of one process form a cluster, seen from outside.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

mod any_node;
mod commit_order;
mod commits;
mod faults;
mod groups;
mod links;
mod roles;
mod subscribe;
mod transactions;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tonic::transport::Channel;
use troupe_broker::{Node, NodeConfig};
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{
    CreateTopicRequest, GetClusterRequest, ListPartitionsRequest, PartitionState,
};
use troupe_proto::batch::{Compression, RecordSetBuilder};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, PartitionProduce, ProduceRequest, RecordBatch, TopicPartition,
};

struct Cluster {
    nodes: BTreeMap<i32, Node>,
    configs: BTreeMap<i32, NodeConfig>,
    _directory: tempfile::TempDir,
}

/// Held until all are found, so that none comes twice.
fn free_addresses(count: usize) -> impl Iterator<Item = SocketAddr> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap()).collect();
    addresses.into_iter()
}

impl Cluster {
    async fn start(count: i32) -> Cluster {
        let both: Vec<_> = (1..=count).map(|id| (id, "broker,controller")).collect();
        Self::start_as(&both).await
    }

    /// Nodes with their roles.
    async fn start_as(nodes: &[(i32, &str)]) -> Cluster {
        Self::prepare(nodes, |_, _| {}).begin(nodes).await
    }

    /// The same, not started yet, and with other settings.
    fn prepare(nodes: &[(i32, &str)], change: impl Fn(i32, &mut NodeConfig)) -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        let mut free = free_addresses(2 * nodes.len());
        let mut next = || free.next().unwrap();
        let controls: BTreeMap<_, _> = nodes.iter().map(|(id, _)| (*id, next())).collect();
        let controllers = nodes.iter().filter(|(_, roles)| roles.contains("controller"));
        let voters: Vec<_> = controllers.map(|(id, _)| format!("{id}@{}", controls[id])).collect();
        let mut configs = BTreeMap::new();
        for (id, roles) in nodes {
            let control = controls[id];
            let set = [
                format!("process.roles={roles}"),
                format!("node.id={id}"),
                "cluster.id=test".to_owned(),
                format!("controller.quorum.voters={}", voters.join(",")),
                format!("controller.listener={control}"),
                format!("listener={}", next()),
                "http.listener=127.0.0.1:0".to_owned(),
                format!("log.dir={}", directory.path().join(id.to_string()).display()),
                "default.replication.factor=3".to_owned(),
                "min.insync.replicas=2".to_owned(),
                "chaos.enable=true".to_owned(),
                "offsets.topic.num.partitions=5".to_owned(),
                "group.max.size=3".to_owned(),
                "transaction.state.log.num.partitions=5".to_owned(),
                "transaction.state.log.replication.factor=3".to_owned(),
                "transaction.state.log.min.isr=2".to_owned(),
                "transaction.state.log.segment.bytes=1MiB".to_owned(),
                "shards=1".to_owned(),
            ];
            let mut config = NodeConfig::load(None, [], &set).unwrap();
            change(*id, &mut config);
            configs.insert(*id, config);
        }
        Cluster { nodes: BTreeMap::new(), configs, _directory: directory }
    }

    async fn begin(mut self, nodes: &[(i32, &str)]) -> Cluster {
        for (id, _) in nodes {
            self.start_node(*id).await;
        }
        let cluster = self;
        for node in cluster.nodes.values() {
            node.ready().await.unwrap();
        }
        let brokers = || nodes.iter().filter(|(_, roles)| roles.contains("broker"));
        for (id, _) in brokers() {
            cluster.until_active(*id, brokers().count()).await;
        }
        cluster
    }

    /// Until this node knows of so many brokers that may lead: only those get leaderships of new topics.
    async fn until_active(&self, through: i32, wanted: usize) {
        let mut client = ClusterServiceClient::new(self.channel(through).await);
        let active = async {
            loop {
                let answer = client.get_cluster(GetClusterRequest {}).await.unwrap();
                let nodes = answer.into_inner().nodes;
                if nodes.iter().filter(|node| !node.fenced).count() == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), active).await.unwrap();
    }

    async fn start_node(&mut self, id: i32) {
        let config = self.configs[&id].clone();
        let node = tokio::task::spawn_blocking(|| Node::start(config)).await.unwrap().unwrap();
        self.nodes.insert(id, node);
    }

    async fn channel(&self, id: i32) -> Channel {
        let endpoint = format!("http://{}", self.configs[&id].listener);
        Channel::from_shared(endpoint).unwrap().connect().await.unwrap()
    }

    async fn partition(&self, through: i32) -> PartitionState {
        let mut client = ClusterServiceClient::new(self.channel(through).await);
        let answer = client.list_partitions(ListPartitionsRequest::default()).await.unwrap();
        answer.into_inner().partitions.into_iter().next().unwrap()
    }

    /// Until the partition is as wanted.
    async fn until(
        &self,
        through: i32,
        wanted: impl Fn(&PartitionState) -> bool,
    ) -> PartitionState {
        let patience = Duration::from_secs(60);
        let begun = std::time::Instant::now();
        loop {
            let state = self.partition(through).await;
            if wanted(&state) {
                return state;
            }
            assert!(begun.elapsed() < patience, "still {state:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn batch(value: &[u8]) -> RecordBatch {
    let mut records = RecordSetBuilder::new();
    records.push(1, None, Some(value), &[]);
    let built = records.finish(Compression::None, None).unwrap();
    prost::Message::decode(built.into_wire()).unwrap()
}

async fn produce(cluster: &Cluster, leader: i32, value: &[u8]) -> Result<i64, Error> {
    produce_to(cluster, leader, "t", value).await
}

async fn produce_to(
    cluster: &Cluster,
    leader: i32,
    topic: &str,
    value: &[u8],
) -> Result<i64, Error> {
    let partition = TopicPartition { topic: topic.to_owned(), ..Default::default() };
    let request = ProduceRequest {
        partitions: vec![PartitionProduce {
            partition: Some(partition),
            batch: Some(batch(value)),
            leader_epoch: None,
        }],
        ..Default::default()
    };
    let mut client = LogServiceClient::new(cluster.channel(leader).await);
    let answer = client.produce(request).await?.into_inner();
    let result = answer.results.into_iter().next().unwrap();
    match result.error {
        Some(error) => Err(error.into()),
        None => Ok(result.base_offset),
    }
}

/// The same, as soon as the node has heard of the topic, and that it leads.
async fn produce_soon(cluster: &Cluster, leader: i32, value: &[u8]) -> i64 {
    const PATIENCE: Duration = Duration::from_secs(60);
    let began = std::time::Instant::now();
    loop {
        match produce(cluster, leader, value).await {
            Ok(offset) => return offset,
            Err(error) => {
                let unheard = error.is_retriable() || error.code == ErrorCode::UnknownTopic;
                let waits = unheard && error.surely_not_done();
                assert!(waits && began.elapsed() < PATIENCE, "{error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn record_count(cluster: &Cluster, leader: i32) -> usize {
    let partition = TopicPartition { topic: "t".into(), ..Default::default() };
    let position = FetchPosition { partition: Some(partition), ..Default::default() };
    let request = FetchRequest { positions: vec![position], ..Default::default() };
    let mut client = LogServiceClient::new(cluster.channel(leader).await);
    let answer = client.fetch(request).await.unwrap().into_inner();
    answer.partitions[0].batches.as_ref().map_or(0, |batches| batches.batches.len())
}

/// R13, P14, K17: what was acknowledged outlives the leader, stopped or killed.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_outlive_their_leaders() {
    let mut cluster = Cluster::start(3).await;
    let creation = CreateTopicRequest { name: "t".into(), ..Default::default() };
    for id in 1..=3 {
        let mut client = TopicServiceClient::new(cluster.channel(id).await);
        if client.create_topic(creation.clone()).await.is_ok() {
            break;
        }
    }
    let full = |state: &PartitionState| state.in_sync_replicas.len() == 3;
    let first = cluster.until(1, full).await;
    let leader = first.leader_id.unwrap();
    assert_eq!(produce_soon(&cluster, leader, b"one").await, 0);

    let stopped = cluster.nodes.remove(&leader).unwrap();
    tokio::task::spawn_blocking(|| stopped.stop()).await.unwrap();
    let other = *cluster.nodes.keys().next().unwrap();
    let led = |state: &PartitionState| state.leader_id.is_some_and(|now| now != leader);
    let second = cluster.until(other, led).await.leader_id.unwrap();
    assert_eq!(produce_soon(&cluster, second, b"two").await, 1);
    cluster.start_node(leader).await;
    cluster.until(other, full).await;

    let killed = cluster.nodes.remove(&second).unwrap();
    tokio::task::spawn_blocking(|| killed.kill()).await.unwrap();
    let led = |state: &PartitionState| state.leader_id.is_some_and(|now| now != second);
    let third = cluster.until(*cluster.nodes.keys().next().unwrap(), led).await.leader_id.unwrap();
    assert_eq!(produce_soon(&cluster, third, b"three").await, 2);
    assert_eq!(record_count(&cluster, third).await, 3);
    cluster.start_node(second).await;
    cluster.until(third, full).await;
}
