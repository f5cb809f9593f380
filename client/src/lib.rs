//! The Rust client of Troupe.
//!
//! - [`Client`]: connections and the metadata of the cluster; [`Admin`]: topics, replicas, actors.
//! - [`producer`]: batching, idempotent, back-pressured.
//! - [`consumer`]: a member of a group, with committed offsets; or on its own.
//! - [`Transaction`]: records to several partitions, and a group's offsets, all or nothing.
//! - [`reader`]: the records of a topic's partitions, pushed as fast as they are taken.
//!
//! Names, defaults and behaviours are Kafka's where Kafka has them.

mod admin;
mod bulk;
mod client;
mod config;
mod connection;
pub mod consumer;
mod error;
mod exclusive;
mod fetcher;
mod metadata;
mod offsets;
pub mod producer;
pub mod reader;
mod topic_partition;
mod transactions;
mod wait;
mod watch;

pub use admin::Admin;
pub use client::Client;
pub use config::ClientConfig;
pub use consumer::{
    Assignor, AutoOffsetReset, Consumer, ConsumerConfig, ConsumerInterceptor, ConsumerMetrics,
    ConsumerRecords, Deserializer, IsolationLevel, LossCause, OffsetAndMetadata,
    OffsetAndTimestamp, PositionLost, Rebalance, RebalanceListener, TypedConsumer, TypedRecord,
    WakeupHandle,
};
pub use error::{ClientError, ConfigError};
pub use metadata::{PartitionLeader, TopicMetadata};
pub use offsets::{ListedOffset, OffsetSpec};
pub use producer::{
    Acks, Delivery, Partitioner, PartitionerConfig, Producer, ProducerConfig, ProducerMetrics,
    ProducerRecord, Record, RecordMetadata, TopicProducer, TrySendError,
};
pub use reader::{ConsumerRecord, FetchedBatch, Partitions, Position, Reader, ReaderConfig, Start};
pub use topic_partition::TopicPartition;
pub use transactions::{ConsumerGroupMetadata, Transaction, TransactionError};
pub use wait::{Wait, WaitObserver};
