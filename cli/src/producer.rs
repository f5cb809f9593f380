//! The producer of `produce` and of the benchmarks: its settings as flags, and sending a record.

use crate::quantity::{parse_duration, parse_size};
use clap::Args;
use std::time::Duration;
use troupe_client::{
    Acks, ClientError, Delivery, ProducerConfig, Record, TopicProducer, TrySendError,
};
use troupe_proto::batch::Compression;

/// The producer's settings that have flags.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Producer settings")]
pub struct Settings {
    /// When a record counts as written: all, 1 (leader) or 0 (none)
    #[arg(long, default_value = "all")]
    pub acks: Acks,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, default_value = "none")]
    pub compression: Compression,
    /// How hard it tries: gzip 1 to 9, lz4 1 to 17, zstd -131072 to 22 [default: 6, the fast one, 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub compression_level: Option<i32>,
    /// How long a record waits for company
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub linger: Option<Duration>,
    /// Bytes in a batch
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub batch_size: Option<u64>,
    /// Bytes that may wait for answers
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub buffer_memory: Option<u64>,
    /// Largest record
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_request_size: Option<u64>,
    /// How long a record is retried
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub delivery_timeout: Option<Duration>,
    /// How often at most [default: as often as --delivery-timeout allows]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Insist on each record once and in order under retries: an error if another setting forbids it [default: unless one does]
    #[arg(long, overrides_with = "no_idempotence")]
    pub idempotence: bool,
    /// A record that is retried may be there twice, or behind later ones
    #[arg(long, overrides_with = "idempotence")]
    pub no_idempotence: bool,
    /// Batches of a partition that may be unanswered; more than 5 need --no-idempotence [default: 5]
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,
    /// Requests that may be unanswered at a node, as Kafka counts them [default: any number]
    #[arg(long, value_name = "N")]
    pub in_flight_per_node: Option<usize>,
}

impl Settings {
    pub fn config(&self) -> ProducerConfig {
        let mut config = ProducerConfig {
            acks: self.acks,
            compression: self.compression,
            compression_level: self.compression_level,
            enable_idempotence: match (self.idempotence, self.no_idempotence) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            max_in_flight_per_node: self.in_flight_per_node,
            ..ProducerConfig::default()
        };
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if let Some(linger) = self.linger {
            config.linger = linger;
        }
        if let Some(bytes) = self.max_request_size {
            config.max_request_size = size(bytes);
        }
        if let Some(bytes) = self.batch_size {
            config.batch_size = size(bytes);
            config.max_request_size = config.max_request_size.max(config.batch_size);
        }
        if let Some(bytes) = self.buffer_memory {
            config.buffer_memory = size(bytes);
        }
        if let Some(timeout) = self.delivery_timeout {
            config.delivery_timeout = timeout;
            config.request_timeout =
                config.request_timeout.min(timeout.saturating_sub(config.linger));
        }
        if let Some(retries) = self.retries {
            config.retries = retries;
        }
        if let Some(batches) = self.in_flight {
            config.max_in_flight = batches;
        }
        // A full buffer is a reason to wait; how long at most, the deliveries decide.
        config.max_block = config.delivery_timeout.max(config.max_block);
        config
    }
}

/// Takes the fast path while there is room.
pub async fn send(topic: &TopicProducer, record: Record<'_>) -> Result<Delivery, ClientError> {
    match topic.try_send(record) {
        Ok(delivery) => Ok(delivery),
        Err(TrySendError::Full) => topic.send(record).await,
        Err(TrySendError::Failed(error)) => Err(error),
    }
}
