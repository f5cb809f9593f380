//! The Rust client of Troupe.
//!
//! - [`Client`]: connections and the picture of the cluster; [`Admin`]: topics, replicas, actors.
//! - [`producer`]: batching, idempotent, back-pressured.
//! - [`reader`]: the records of a topic's partitions, pushed as fast as they are taken.
//!
//! Names, defaults and behaviours are Kafka's where Kafka has them.

mod admin;
mod bulk;
mod client;
mod config;
mod connection;
mod error;
mod metadata;
mod offsets;
pub mod producer;
pub mod reader;
mod watch;

pub use admin::Admin;
pub use client::Client;
pub use config::ClientConfig;
pub use error::{ClientError, ConfigError};
pub use metadata::{PartitionLeader, TopicMetadata};
pub use offsets::{ListedOffset, OffsetSpec};
pub use producer::{
    Acks, Delivery, Partitioner, PartitionerConfig, Producer, ProducerConfig, ProducerMetrics,
    ProducerRecord, Record, RecordMetadata, TopicProducer, TrySendError,
};
pub use reader::{ConsumerRecord, FetchedBatch, Partitions, Position, Reader, ReaderConfig, Start};
