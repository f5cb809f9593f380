//! What a conformance test talks to: any address, or a node in this process that tests share.

use crate::local_node::LocalNode;
use crate::patience::eventually;
use crate::sample::Sample;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::config_service_client::ConfigServiceClient;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{CreateTopicRequest, DeleteTopicRequest, Topic};
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::metadata_service_client::MetadataServiceClient;
use troupe_proto::log::v1::offset_query::At;
use troupe_proto::log::v1::{
    ListOffsetsRequest, OffsetQuery, OffsetResult, PartitionProduce, PartitionProduceResult,
    ProduceRequest, RecordBatch, RecordSet, TopicPartition, record_batch,
};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{Acks, TailRequest};

/// A server and a connection to it.
#[derive(Clone)]
pub struct Server {
    address: String,
    channel: Channel,
    /// Kept alive as long as somebody talks to it.
    _node: Option<Arc<LocalNode>>,
}

/// The node that the tests of this process share, while any of them runs.
fn shared_node() -> Arc<LocalNode> {
    static SHARED: Mutex<Weak<LocalNode>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let node = Arc::new(LocalNode::start(&[]));
        *shared = Arc::downgrade(&node);
        node
    })
}

impl Server {
    /// `TROUPE_TEST_SERVER`, or a node in this process.
    pub async fn get() -> Server {
        match std::env::var("TROUPE_TEST_SERVER") {
            Ok(address) => Server::at(&address).await,
            Err(_) => {
                let node = shared_node();
                let address = node.server();
                Server { _node: Some(node), ..Server::at(&address).await }
            }
        }
    }

    /// Connects to `host:port`; waits for it to listen.
    pub async fn at(address: &str) -> Server {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("host:port");
        let channel =
            eventually(&format!("connect to {address}"), async || endpoint.connect().await.ok())
                .await;
        Server { address: address.to_owned(), channel, _node: None }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn bus(&self) -> EventBusServiceClient<Channel> {
        EventBusServiceClient::new(self.channel())
    }

    pub fn log(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel())
    }

    pub fn metadata(&self) -> MetadataServiceClient<Channel> {
        MetadataServiceClient::new(self.channel())
    }

    pub fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel())
    }

    pub fn configs(&self) -> ConfigServiceClient<Channel> {
        ConfigServiceClient::new(self.channel())
    }

    pub fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel())
    }

    pub fn chaos(&self) -> ChaosServiceClient<Channel> {
        ChaosServiceClient::new(self.channel())
    }

    pub async fn delete_topic(&self, name: &str) {
        let request =
            DeleteTopicRequest { name: name.to_owned(), validate_only: false, internal: false };
        self.topics().delete_topic(request).await.expect("the topic is deleted");
    }

    /// A name that nobody has used, which begins with `what`.
    pub fn new_name(&self, what: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{what}-{}-{count}-{:06x}", std::process::id(), rand::random_range(0..1 << 24))
    }

    /// A topic that nobody has used.
    pub async fn new_topic(&self, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        self.create_topic(&self.new_name("test"), partitions, configs).await
    }

    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Topic {
        let request = CreateTopicRequest {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: configs.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
            ..Default::default()
        };
        let created = self.topics().create_topic(request).await.expect("a new topic is created");
        let topic = created.into_inner().topic.expect("the answer has the topic");
        self.until_led(&topic).await;
        topic
    }

    /// A topic that has been made may have no leaders yet, and a busy machine takes its time: clients that know the
    /// contract try again, and so does this.
    async fn until_led(&self, topic: &Topic) {
        let query = |partition| OffsetQuery {
            isolation_level: Default::default(),
            partition: Some(partition_of(&topic.name, partition)),
            at: Some(At::Latest(true)),
        };
        let queries: Vec<_> = (0..).take(topic.partitions.len()).map(query).collect();
        eventually("every partition has a leader", async || {
            let request = ListOffsetsRequest { queries: queries.clone() };
            let results = self.log().list_offsets(request).await.ok()?.into_inner().results;
            let missing = |result: &OffsetResult| {
                let error = result.error.as_ref();
                error.is_some_and(|error| error.reason() == ErrorCode::LeaderNotAvailable)
            };
            (!results.iter().any(missing)).then_some(())
        })
        .await;
    }

    /// Appends one batch by the full API.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: RecordBatch,
        acks: Acks,
    ) -> PartitionProduceResult {
        self.produce_as(
            PartitionProduce {
                partition: Some(partition_of(topic, partition)),
                leader_epoch: None,
                batch: Some(batch),
            },
            acks,
            0,
        )
        .await
    }

    /// The same with all that a client may say; `timeout_ms` 0 is the default.
    pub async fn produce_as(
        &self,
        one: PartitionProduce,
        acks: Acks,
        timeout_ms: u32,
    ) -> PartitionProduceResult {
        let request = ProduceRequest {
            transactional_id: Default::default(),
            acks: acks.into(),
            timeout_ms,
            partitions: vec![one],
        };
        let answer = self.log().produce(request).await.expect("produce answers per partition");
        let mut results = answer.into_inner().results;
        assert_eq!(results.len(), 1, "one partition, one result");
        results.remove(0)
    }

    /// Everything in a partition, as (offset, record), by the thin API.
    pub async fn read_all(&self, topic: &str, partition: i32) -> Vec<(i64, Sample)> {
        let request = TailRequest {
            topic: topic.to_owned(),
            partition: Some(partition),
            start: Some(start_at_earliest()),
            until_end: true,
            ..Default::default()
        };
        let mut stream = self.bus().tail(request).await.expect("tail").into_inner();
        let mut records = Vec::new();
        while let Some(answer) = stream.message().await.expect("tail goes on to its end") {
            for delivery in answer.deliveries {
                assert_eq!((delivery.topic.as_str(), delivery.partition), (topic, partition));
                let record = delivery.record.expect("a delivery has a record");
                records.push((delivery.offset, Sample::from_record(&record)));
            }
        }
        records
    }
}

/// Whichever topic has the name now.
pub fn partition_of(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_owned(), partition, ..Default::default() }
}

fn start_at_earliest() -> troupe_proto::v1::StartPosition {
    use troupe_proto::v1::start_position::At;
    troupe_proto::v1::StartPosition { at: Some(At::Earliest(true)) }
}

/// A batch as any client would make it from the contract alone: minimal encoding, no checksum.
pub fn batch_of(records: &[Sample]) -> RecordBatch {
    let base = records.first().expect("a batch has records").timestamp_ms;
    let count = u32::try_from(records.len()).expect("a batch is small");
    let set = RecordSet {
        records: (0..).zip(records).map(|(delta, one)| one.to_log_record(base, delta)).collect(),
    };
    RecordBatch {
        last_offset_delta: count - 1,
        base_timestamp: base,
        max_timestamp: records.iter().map(|one| one.timestamp_ms).max().unwrap_or(base),
        record_count: count,
        payload: Some(record_batch::Payload::Records(set)),
        ..Default::default()
    }
}

/// The reason of a call that failed.
pub fn reason_of(status: &Status) -> ErrorCode {
    Error::from(status.clone()).code
}
