//! The Rust client of Troupe. Names, defaults and behaviours are Kafka's where Kafka has them; what each of Kafka's settings
//! is called here, and where a default differs and why, stands in `docs/sdk.md`.
//!
//! | to | take |
//! |---|---|
//! | connect, once in a process | [`Client`], [`ClientConfig`] |
//! | send | [`Producer`], [`ProducerConfig`]; [`TopicProducer`] without owning what is sent; [`TypedProducer`] |
//! | read as a member of a group | [`Consumer`], [`ConsumerConfig`]; [`TypedConsumer`] |
//! | read without a group, all of a topic or a part of it | [`Reader`], [`ReaderConfig`] |
//! | all or nothing, and exactly once | [`Transaction`] |
//! | topics, groups, nodes, settings | [`Admin`] |
//! | keys and values that are no bytes | [`formats`] |
//! | see what passes | [`ProducerInterceptor`], [`ConsumerInterceptor`] |
//! | metrics | [`telemetry`], [`Producer::metrics`], [`Consumer::metrics`] |
//! | know what became of a call | [`ClientError`]: retriable? surely not done? |
//!
//! Durations are [`std::time::Duration`]s, sizes bytes, timestamps milliseconds since 1970. Everything needs a tokio runtime.
//! `client/examples/` has whole programs.
//!
//! # Sending
//!
//! Batched, idempotent and back-pressured: [`Producer::send`] returns when the record is in its batch, and the
//! [`Delivery`] it returns when the record is on all in-sync replicas.
//!
//! ```no_run
//! use troupe_client::{Client, ClientConfig, ClientError, ProducerConfig, ProducerRecord};
//!
//! # async fn example() -> Result<(), ClientError> {
//! let client = Client::connect(ClientConfig::new(["127.0.0.1:7070"])).await?;
//! let producer = client.producer(ProducerConfig::default()).await?;
//! let record = ProducerRecord::new("orders").key("customer 7").value("three chairs");
//! let placed = producer.send(record).await?.await?;
//! println!("partition {} offset {:?}", placed.partition, placed.offset);
//! producer.close(std::time::Duration::from_secs(10)).await
//! # }
//! ```
//!
//! # Reading as a member of a group
//!
//! What is returned by one [`Consumer::poll`] is committed by a later one, unless `enable_auto_commit` is off.
//!
//! ```no_run
//! use std::time::Duration;
//! use troupe_client::{AutoOffsetReset, Client, ClientError, ConsumerConfig};
//!
//! # async fn example(client: Client) -> Result<(), ClientError> {
//! let mut consumer = client.consumer(ConsumerConfig {
//!     auto_offset_reset: AutoOffsetReset::Earliest,
//!     ..ConsumerConfig::new("billing")
//! })?;
//! consumer.subscribe(["orders"])?;
//! loop {
//!     for record in consumer.poll(Duration::from_secs(1)).await? {
//!         println!("{} {}: {:?}", record.partition, record.offset, record.value);
//!     }
//! }
//! # }
//! ```
//!
//! Without a group, and up to what is the end now:
//!
//! ```no_run
//! use futures::StreamExt;
//! use troupe_client::{Client, ClientError, ReaderConfig};
//!
//! # async fn example(client: Client) -> Result<(), ClientError> {
//! let config = ReaderConfig { until_end: true, ..ReaderConfig::default() };
//! let mut records = client.reader("orders", config).await?.records();
//! while let Some(record) = records.next().await {
//!     println!("{:?}", record?.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Types of your own
//!
//! ```no_run
//! use std::time::Duration;
//! use troupe_client::formats::{Json, Text};
//! use troupe_client::{ClientError, Consumer, Producer, TypedProducerRecord};
//!
//! #[derive(Debug, serde::Serialize, serde::Deserialize)]
//! struct Order {
//!     article: String,
//!     pieces: u32,
//! }
//!
//! # async fn example(producer: Producer, consumer: Consumer) -> Result<(), ClientError> {
//! let producer = producer.typed(Text, Json::<Order>::new());
//! let order = Order { article: "chair".to_owned(), pieces: 3 };
//! let record = TypedProducerRecord::new("orders").key("customer 7").value(order);
//! producer.send(record).await?.await?;
//!
//! let mut consumer = consumer.typed(Text, Json::<Order>::new());
//! for record in consumer.poll(Duration::from_secs(1)).await? {
//!     println!("{:?} orders {:?}", record.key, record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Transactions
//!
//! Records to several partitions, and a group's offsets, all or nothing. Consume, transform, produce exactly once is
//! `client/examples/exactly_once.rs`.
//!
//! ```no_run
//! use troupe_client::{Client, ProducerConfig, ProducerRecord, TransactionError};
//!
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let config = ProducerConfig {
//!     transactional_id: Some("billing-1".to_owned()),
//!     ..ProducerConfig::default()
//! };
//! let producer = client.producer(config).await?;
//! let transaction = producer.transaction().await?;
//! drop(transaction.send(ProducerRecord::new("orders").value("three chairs")).await?);
//! drop(transaction.send(ProducerRecord::new("stock").value("minus three")).await?);
//! // Dropped before, it is aborted.
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Administration
//!
//! Requests and answers are the messages of the contract, [`proto`].
//!
//! ```no_run
//! use troupe_client::proto::admin::v1::CreateTopicRequest;
//! use troupe_client::{Client, ClientError};
//!
//! # async fn example(client: Client) -> Result<(), ClientError> {
//! let admin = client.admin();
//! let topic = CreateTopicRequest {
//!     name: "orders".to_owned(),
//!     partitions: Some(3),
//!     ..CreateTopicRequest::default()
//! };
//! admin.create_topic(topic).await?;
//! for topic in admin.list_topics(false).await? {
//!     println!("{}", topic.name);
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod bulk;
mod client;
mod config;
mod connection;
pub mod consumer;
mod error;
mod exclusive;
mod fetcher;
pub mod formats;
mod metadata;
mod offsets;
pub mod producer;
pub mod reader;
pub mod telemetry;
mod topic_partition;
mod transactions;
mod wait;
mod watch;

pub use admin::Admin;
pub use client::Client;
pub use config::ClientConfig;
pub use consumer::{
    Assignor, AutoOffsetReset, Consumer, ConsumerConfig, ConsumerInterceptor, ConsumerMetrics,
    ConsumerRecords, IsolationLevel, LossCause, OffsetAndMetadata, OffsetAndTimestamp,
    PositionLost, Rebalance, RebalanceListener, TypedConsumer, TypedRecord, WakeupHandle,
};
pub use error::{ClientError, ConfigError};
pub use formats::{Deserializer, Serializer};
pub use metadata::{PartitionLeader, TopicMetadata};
pub use offsets::{ListedOffset, OffsetSpec};
pub use producer::{
    Acknowledgement, Acks, Delivery, Partitioner, PartitionerConfig, Producer, ProducerConfig,
    ProducerInterceptor, ProducerMetrics, ProducerRecord, Record, RecordMetadata, TopicProducer,
    TrySendError, TypedProducer, TypedProducerRecord,
};
pub use reader::{ConsumerRecord, FetchedBatch, Partitions, Position, Reader, ReaderConfig, Start};
pub use topic_partition::TopicPartition;
pub use transactions::{Committing, ConsumerGroupMetadata, Transaction, TransactionError};
/// The contract: identifiers, codecs and messages that this crate's own types are made of.
pub use troupe_proto as proto;
pub use wait::{Wait, WaitObserver};
