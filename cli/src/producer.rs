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
}

impl Settings {
    pub fn config(&self) -> ProducerConfig {
        let mut config = ProducerConfig {
            acks: self.acks,
            compression: self.compression,
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
