//! The Rust client of Troupe.
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
//! Names, defaults and behaviours are Kafka's where Kafka has them.

mod admin;
mod bulk;
mod client;
mod config;
mod connection;
pub mod consumer;
mod error;
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
    Acknowledgement, Acks, Delivery, Partitioner, PartitionerConfig, Producer, ProducerConfig,
    ProducerInterceptor, ProducerMetrics, ProducerRecord, Record, RecordMetadata, TopicProducer,
    TrySendError, TypedProducer, TypedProducerRecord,
};
pub use reader::{ConsumerRecord, FetchedBatch, Partitions, Position, Reader, ReaderConfig, Start};
pub use topic_partition::TopicPartition;
pub use transactions::{ConsumerGroupMetadata, Transaction, TransactionError};
pub use wait::{Wait, WaitObserver};
