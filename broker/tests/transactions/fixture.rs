//! One node with chaos, and producers as a client would be them.

use std::time::Duration;
use tonic::transport::Channel;
use troupe_broker::{Node, NodeConfig};
use troupe_proto::admin::v1 as admin;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::transaction_service_client::TransactionServiceClient as AdminClient;
use troupe_proto::chaos::v1alpha1 as chaos;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what is about to be so.
pub const PAUSE: Duration = Duration::from_millis(20);

/// The topic that all transactions here write to.
pub const TOPIC: &str = "written";

/// Returns what comes, or fails the test.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: never came"))
}

/// A producer of a transactional id, in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: u64,
    pub epoch: u32,
}

pub struct Fixture {
    pub channel: Channel,
    pub node: Option<Node>,
    directory: tempfile::TempDir,
}

impl Fixture {
    /// With [`TOPIC`], of three partitions.
    pub async fn start() -> Self {
        let fixture = Self::start_empty().await;
        let request = admin::CreateTopicRequest {
            name: TOPIC.to_owned(),
            partitions: Some(3),
            ..Default::default()
        };
        TopicServiceClient::new(fixture.channel.clone()).create_topic(request).await.unwrap();
        fixture
    }

    pub async fn start_empty() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(directory: tempfile::TempDir) -> Self {
        let more = NodeConfig {
            offsets_topic_partitions: 4,
            transaction_topic_partitions: 4,
            ..NodeConfig::default()
        };
        Self::start_with(directory, more).await
    }

    /// With what else a test wants of it. Its data is in `data` there.
    pub async fn start_with(directory: tempfile::TempDir, more: NodeConfig) -> Self {
        let config = NodeConfig {
            log_dir: directory.path().join("data"),
            listener: ([127, 0, 0, 1], 0).into(),
            http_listener: ([127, 0, 0, 1], 0).into(),
            chaos_enable: true,
            ..more
        };
        let node = tokio::task::spawn_blocking(|| Node::start(config)).await.unwrap().unwrap();
        let endpoint = format!("http://{}", node.grpc_addr());
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        Self { channel, node: Some(node), directory }
    }

    pub async fn restart(self) -> Self {
        Self::start_in(self.stop().await).await
    }

    pub async fn stop(mut self) -> tempfile::TempDir {
        let node = self.node.take().unwrap();
        tokio::task::spawn_blocking(|| node.stop()).await.unwrap();
        self.directory
    }

    pub fn client(&self) -> TransactionServiceClient<Channel> {
        TransactionServiceClient::new(self.channel.clone())
    }

    pub fn operator(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    pub async fn init_with(&self, request: pb::InitProducerIdRequest) -> Result<Producer, Error> {
        let answer = soon("a producer id", self.client().init_producer_id(request)).await?;
        let answer = answer.into_inner();
        Ok(Producer { id: answer.producer_id, epoch: answer.producer_epoch })
    }

    pub async fn init_once(&self, id: &str) -> Result<Producer, Error> {
        let transactional_id = id.to_owned();
        self.init_with(pb::InitProducerIdRequest { transactional_id, ..Default::default() }).await
    }

    /// A new instance, as soon as what the last one left open is settled.
    pub async fn init(&self, id: &str) -> Producer {
        soon("a producer", settled(|| self.init_once(id))).await.unwrap()
    }

    pub async fn add(&self, id: &str, of: Producer, partitions: &[i32]) -> Result<(), Error> {
        let partitions = partitions.iter().map(|partition| topic_partition(*partition));
        let request = pb::AddPartitionsRequest {
            transactional_id: id.to_owned(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            partitions: partitions.collect(),
        };
        Ok(soon("partitions", self.client().add_partitions(request)).await.map(drop)?)
    }

    /// Adds them, as soon as the transaction before is completed.
    pub async fn begin(&self, id: &str, of: Producer, partitions: &[i32]) {
        soon("a transaction", settled(|| self.add(id, of, partitions))).await.unwrap();
    }

    pub async fn add_offsets(&self, id: &str, of: Producer, group: &str) -> Result<(), Error> {
        let request = pb::AddOffsetsRequest {
            transactional_id: id.to_owned(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            group_id: group.to_owned(),
        };
        Ok(soon("a group", self.client().add_offsets(request)).await.map(drop)?)
    }

    pub async fn end(
        &self,
        id: &str,
        of: Producer,
        outcome: pb::TransactionOutcome,
    ) -> Result<Producer, Error> {
        let request = pb::EndTransactionRequest {
            transactional_id: id.to_owned(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            outcome: outcome.into(),
        };
        let answer = soon("an end", self.client().end_transaction(request)).await?.into_inner();
        Ok(Producer { id: answer.producer_id, epoch: answer.producer_epoch })
    }

    pub async fn commit(&self, id: &str, of: Producer) -> Result<Producer, Error> {
        self.end(id, of, pb::TransactionOutcome::Commit).await
    }

    pub async fn abort(&self, id: &str, of: Producer) -> Result<Producer, Error> {
        self.end(id, of, pb::TransactionOutcome::Abort).await
    }

    pub async fn describe(&self, id: &str) -> Result<admin::DescribeTransactionResponse, Error> {
        let request = admin::DescribeTransactionRequest { transactional_id: id.to_owned() };
        let described = soon("a transaction", self.operator().describe_transaction(request)).await;
        Ok(described?.into_inner())
    }

    pub async fn state(&self, id: &str) -> admin::TransactionState {
        self.describe(id).await.unwrap().transaction.unwrap().state()
    }

    pub async fn until_state(&self, id: &str, wanted: admin::TransactionState) {
        let reached = async {
            while self.state(id).await != wanted {
                tokio::time::sleep(PAUSE).await;
            }
        };
        soon(&format!("{wanted:?}"), reached).await;
    }

    /// The actor whose address ends like this.
    pub async fn actor(&self, suffix: &str) -> Option<chaos::Actor> {
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        let listed = chaos.list_actors(chaos::ListActorsRequest::default()).await.unwrap();
        let mut actors = listed.into_inner().actors.into_iter();
        actors.find(|actor| actor.address.ends_with(suffix))
    }

    /// Kills all coordinators of transactions.
    pub async fn kill_coordinators(&self, mode: chaos::KillMode) {
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        for partition in 0..4 {
            let suffix = format!("/transaction-coordinator/__transaction_state/{partition}");
            let address = self.actor(&suffix).await.unwrap().address;
            let request = chaos::KillActorRequest { address, mode: mode.into() };
            soon("a new actor", chaos.kill_actor(request)).await.unwrap();
        }
    }

    /// The partition's actor does nothing for so long.
    pub async fn pause(&self, (topic, partition): (&str, i32), duration_ms: u32) {
        let suffix = format!("/partition/{topic}/{partition}");
        let request = chaos::InjectFaultRequest {
            address: self.actor(&suffix).await.unwrap().address,
            fault: chaos::Fault::Pause.into(),
            duration_ms,
            probability: 1.0,
            ..Default::default()
        };
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        tokio::spawn(async move { chaos.inject_fault(request).await.unwrap() });
        let paused = async {
            while self.actor(&suffix).await.unwrap().state() != chaos::ActorState::Paused {
                tokio::time::sleep(PAUSE).await;
            }
        };
        soon("a pause", paused).await;
    }
}

/// Asks until the transaction before is completed.
pub async fn settled<T>(ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match ask().await {
            Err(error) if error.code == ErrorCode::ConcurrentTransactions => {
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

pub fn topic_partition(partition: i32) -> pb::TopicPartition {
    pb::TopicPartition { topic: TOPIC.to_owned(), partition, ..Default::default() }
}
