//! The producer's settings: Kafka's names and defaults, and the rules about which go together.

use super::interceptor::ProducerInterceptor;
use super::partitioner::PartitionerConfig;
use crate::error::ConfigError;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use troupe_proto::batch::{Compression, LevelOutOfRange, MAX_PAYLOAD, Packing};
use troupe_proto::v1;

/// When a batch counts as delivered (P12 to P14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// On every in-sync replica, and flushed there unless the topic's `flush.policy` is `os`.
    #[default]
    All,
    /// In the leader's page cache.
    Leader,
    /// When it was handed to the connection. No offset, no retry.
    None,
}

impl Acks {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::All => v1::Acks::All.into(),
            Self::Leader => v1::Acks::Leader.into(),
            Self::None => v1::Acks::None.into(),
        }
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Leader => "1",
            Self::None => "0",
        })
    }
}

impl FromStr for Acks {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "all" | "-1" => Ok(Self::All),
            "leader" | "1" => Ok(Self::Leader),
            "none" | "0" => Ok(Self::None),
            _ => Err(ConfigError::Value {
                setting: "acks",
                value: text.to_owned(),
                rule: "one of all (-1), 1 (leader), 0 (none)",
            }),
        }
    }
}

/// How a producer batches, waits, retries. The names are Kafka's.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// What this producer is called in metrics. Default: empty, which becomes `producer-1` and so on, in the order in which
    /// this process makes them.
    pub client_id: String,
    /// Default: all.
    pub acks: Acks,
    /// Order is kept and nothing is doubled under retries (P25). Unset: on, unless another setting that was
    /// changed forbids it; that is logged (P26).
    pub enable_idempotence: Option<bool>,
    /// A batch is closed when the next record would make it larger than this many bytes; a larger record
    /// gets a batch of its own (P4). 0: one record a batch.
    ///
    /// Default: 256 KiB, where Kafka has 16. A batch's buffer grows with what is in it and `linger` bounds
    /// how long it waits, so an idle producer pays nothing for the larger limit; a busy one sends a
    /// sixteenth of the messages, and 256 KiB is still within a core's cache.
    pub batch_size: usize,
    /// How long a record waits for company. Default: 5 ms. 0: sent as soon as the sender is free (P6).
    pub linger: Duration,
    /// Bytes of records that are not answered yet (P3). Default: 32 MiB.
    pub buffer_memory: usize,
    /// How long `send` waits for metadata and buffer space together (P2). Default: 60 s.
    pub max_block: Duration,
    /// The largest record, uncompressed, with its batch's header (P3). Default: 1 MiB.
    pub max_request_size: usize,
    /// Of the whole batch (P9). Default: none.
    pub compression: Compression,
    /// How hard the codec tries, in Kafka's ranges: gzip 1 to 9, lz4 1 to 17, zstd -131072 to 22; the others have none.
    /// Default: gzip 6, zstd 1 where Kafka has 3, for twice the speed and a few per cent of size, and of lz4 the fast
    /// compressor, as Kafka's 9 is.
    pub compression_level: Option<i32>,
    /// Batches of one partition that may be unanswered (P8); 5 is what a leader remembers of an idempotent producer.
    /// Default: 5. With 1, order is kept without idempotence too (P24).
    ///
    /// Kafka counts requests of a connection, each with at most one batch of each partition. For a partition that is the
    /// same number; but there a partition that waits for its followers holds up all others of its leader. Whoever wants
    /// that, to spare the nodes, sets `max_in_flight_per_node` too.
    pub max_in_flight: usize,
    /// Requests that may be unanswered at one node, as Kafka counts them: what is ready for the node at one time, at most a
    /// batch of each partition. Default: none, for the reason above; Kafka's 5.
    pub max_in_flight_per_node: Option<usize>,
    /// Default: 2^31 - 1; `delivery_timeout` is what ends retrying (P18).
    pub retries: u32,
    /// From the first record of a batch to its answer (P18, P19). Default: 120 s.
    pub delivery_timeout: Duration,
    /// How long the leader may wait for acks, and this client for its answer (P16). Default: 30 s.
    pub request_timeout: Duration,
    /// Before the first retry; doubles with each, with 20 % jitter. Default: 100 ms.
    pub retry_backoff: Duration,
    /// Where the doubling ends. Default: 1 s.
    pub retry_backoff_max: Duration,
    pub partitioner: PartitionerConfig,
    /// See every record before it is sent, and its outcome, in this order (P10). Default: none, which costs nothing; with
    /// any, a record that is sent by reference is copied once.
    pub interceptors: Vec<Arc<dyn ProducerInterceptor>>,
    /// A name that only this producer has, and has again when it is started anew: then it sends in transactions, and
    /// nothing outside of them. Implies idempotence. Default: none.
    pub transactional_id: Option<String>,
    /// How long a transaction may last from its first record on, until the cluster aborts it and this producer can only be
    /// closed; at most the nodes' `transaction.max.timeout.ms`. Default: 60 s.
    pub transaction_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            acks: Acks::All,
            enable_idempotence: None,
            batch_size: 256 << 10,
            linger: Duration::from_millis(5),
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
            max_request_size: 1 << 20,
            compression: Compression::None,
            compression_level: None,
            max_in_flight: 5,
            max_in_flight_per_node: None,
            retries: i32::MAX as u32,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            partitioner: PartitionerConfig::default(),
            interceptors: Vec::new(),
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
        }
    }
}

/// The most batches in flight for which a leader can tell a duplicate from a gap (I3).
const MAX_IDEMPOTENT_IN_FLIGHT: usize = 5;

impl ProducerConfig {
    /// Whether the producer is idempotent, once all settings are seen to go together.
    ///
    /// # Errors
    /// The first rule that is broken, naming both settings.
    pub(crate) fn validate(&self) -> Result<bool, ConfigError> {
        self.check_values()?;
        // P19.
        if self.delivery_timeout < self.linger + self.request_timeout {
            return Err(ConfigError::Conflict {
                first: "delivery_timeout",
                first_value: format!("{} ms", self.delivery_timeout.as_millis()),
                second: "linger + request_timeout",
                second_value: format!("{} ms", (self.linger + self.request_timeout).as_millis()),
                rule: "a batch must have the time to wait and to be answered once",
            });
        }
        if let Some(conflict) = self.transactions_conflict() {
            return Err(conflict);
        }
        match (self.idempotence_conflict(), self.enable_idempotence) {
            (_, Some(false)) => Ok(false),
            (None, _) => Ok(true),
            (Some(conflict), Some(true)) => Err(conflict),
            // [4.0] An error even if idempotence was not asked for: order would be lost silently.
            (Some(conflict), None) if self.max_in_flight > MAX_IDEMPOTENT_IN_FLIGHT => {
                Err(conflict)
            }
            (Some(conflict), None) => {
                tracing::info!(%conflict, "idempotence is switched off");
                Ok(false)
            }
        }
    }

    pub(crate) fn packing(&self) -> Result<Packing, LevelOutOfRange> {
        Packing::new(self.compression, self.compression_level)
    }

    fn check_values(&self) -> Result<(), ConfigError> {
        let value = |setting, value: String, rule| Err(ConfigError::Value { setting, value, rule });
        if self.max_in_flight == 0 {
            return value("max_in_flight", "0".to_owned(), "at least 1");
        }
        if self.max_in_flight_per_node == Some(0) {
            return value("max_in_flight_per_node", "0".to_owned(), "at least 1, or unset");
        }
        if self.max_request_size == 0 || self.max_request_size > MAX_PAYLOAD {
            let actual = self.max_request_size.to_string();
            return value("max_request_size", actual, "between 1 and 2^28 - 82 bytes");
        }
        if self.batch_size > MAX_PAYLOAD {
            return value("batch_size", self.batch_size.to_string(), "at most 2^28 - 82 bytes");
        }
        if self.request_timeout.is_zero() || self.request_timeout.as_millis() > u32::MAX.into() {
            let actual = format!("{} ms", self.request_timeout.as_millis());
            return value("request_timeout", actual, "between 1 ms and 2^32 - 1 ms");
        }
        if self.transactional_id.as_deref() == Some("") {
            return value("transactional_id", "\"\"".to_owned(), "a name, or unset");
        }
        let transaction = self.transaction_timeout.as_millis();
        if transaction == 0 || transaction > u32::MAX.into() {
            let actual = format!("{transaction} ms");
            return value("transaction_timeout", actual, "between 1 ms and 2^32 - 1 ms");
        }
        if let (Err(error), Some(level)) = (self.packing(), self.compression_level) {
            return Err(ConfigError::Conflict {
                first: "compression_level",
                first_value: level.to_string(),
                second: "compression",
                second_value: error.compression.to_string(),
                rule: "gzip has 1 to 9, lz4 1 to 17, zstd -131072 to 22, the others have none",
            });
        }
        if self.retry_backoff > self.retry_backoff_max {
            return Err(ConfigError::Conflict {
                first: "retry_backoff",
                first_value: format!("{} ms", self.retry_backoff.as_millis()),
                second: "retry_backoff_max",
                second_value: format!("{} ms", self.retry_backoff_max.as_millis()),
                rule: "back-off grows up to its maximum",
            });
        }
        if self.batch_size > self.max_request_size {
            return Err(ConfigError::Conflict {
                first: "batch_size",
                first_value: self.batch_size.to_string(),
                second: "max_request_size",
                second_value: self.max_request_size.to_string(),
                rule: "a batch travels in one request",
            });
        }
        Ok(())
    }

    /// Transactions need idempotence.
    fn transactions_conflict(&self) -> Option<ConfigError> {
        let id = self.transactional_id.as_ref()?;
        let because = match (self.enable_idempotence, self.idempotence_conflict()) {
            (Some(false), _) => Some(("enable_idempotence", "false".to_owned())),
            (_, Some(ConfigError::Conflict { second, second_value, .. })) => {
                Some((second, second_value))
            }
            _ => None,
        };
        let (second, second_value) = because?;
        Some(ConfigError::Conflict {
            first: "transactional_id",
            first_value: id.clone(),
            second,
            second_value,
            rule: "transactions need idempotence",
        })
    }

    /// P26.
    fn idempotence_conflict(&self) -> Option<ConfigError> {
        let conflict = |second, second_value: String, rule| {
            let first_value = match self.enable_idempotence {
                Some(value) => value.to_string(),
                None => "true (default)".to_owned(),
            };
            Some(ConfigError::Conflict {
                first: "enable_idempotence",
                first_value,
                second,
                second_value,
                rule,
            })
        };
        if self.acks != Acks::All {
            conflict("acks", self.acks.to_string(), "it needs acks = all")
        } else if self.retries == 0 {
            conflict("retries", "0".to_owned(), "it needs retries")
        } else if self.max_in_flight > MAX_IDEMPOTENT_IN_FLIGHT {
            conflict(
                "max_in_flight",
                self.max_in_flight.to_string(),
                "a leader remembers 5 batches",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut ProducerConfig)) -> Result<bool, ConfigError> {
        let mut config = ProducerConfig::default();
        change(&mut config);
        config.validate()
    }

    fn names(error: ConfigError) -> (&'static str, &'static str) {
        match error {
            ConfigError::Conflict { first, second, .. } => (first, second),
            ConfigError::Value { setting, .. } => (setting, ""),
        }
    }

    /// I12.
    #[test]
    fn idempotence_is_on_by_default() {
        assert_eq!(config(|_| ()), Ok(true));
    }

    /// P26.
    #[test]
    fn a_conflicting_value_switches_idempotence_off_unless_it_was_asked_for() {
        assert_eq!(config(|c| c.acks = Acks::Leader), Ok(false));
        assert_eq!(config(|c| c.retries = 0), Ok(false));
        for (change, setting) in [
            (Box::new(|c: &mut ProducerConfig| c.acks = Acks::None) as Box<dyn Fn(&mut _)>, "acks"),
            (Box::new(|c: &mut ProducerConfig| c.retries = 0), "retries"),
            (Box::new(|c: &mut ProducerConfig| c.max_in_flight = 6), "max_in_flight"),
        ] {
            let error = config(|c| {
                c.enable_idempotence = Some(true);
                change(c);
            });
            assert_eq!(names(error.unwrap_err()), ("enable_idempotence", setting));
        }
    }

    /// P25, P26: [4.0].
    #[test]
    fn more_than_five_in_flight_need_idempotence_switched_off() {
        assert!(config(|c| c.max_in_flight = 6).is_err());
        let off = config(|c| {
            c.max_in_flight = 6;
            c.enable_idempotence = Some(false);
        });
        assert_eq!(off, Ok(false));
    }

    #[test]
    fn transactions_need_idempotence() {
        let named = |c: &mut ProducerConfig| c.transactional_id = Some("billing".to_owned());
        assert_eq!(config(named), Ok(true));
        type Change = fn(&mut ProducerConfig);
        let changes: [(Change, &str); 4] = [
            (|c| c.enable_idempotence = Some(false), "enable_idempotence"),
            (|c| c.acks = Acks::Leader, "acks"),
            (|c| c.retries = 0, "retries"),
            (|c| c.max_in_flight = 6, "max_in_flight"),
        ];
        for (change, setting) in changes {
            let error = config(|c| {
                named(c);
                change(c);
            });
            assert_eq!(names(error.unwrap_err()), ("transactional_id", setting));
        }
        let nameless = config(|c| c.transactional_id = Some(String::new()));
        assert_eq!(names(nameless.unwrap_err()).0, "transactional_id");
        let endless = config(|c| c.transaction_timeout = Duration::MAX);
        assert_eq!(names(endless.unwrap_err()).0, "transaction_timeout");
    }

    /// P9.
    #[test]
    fn levels_are_those_of_the_codec() {
        let at = |compression, level| {
            config(|c| (c.compression, c.compression_level) = (compression, Some(level)))
        };
        assert_eq!(at(Compression::Gzip, 9), Ok(true));
        assert_eq!(at(Compression::Lz4, 17), Ok(true));
        assert_eq!(at(Compression::Zstd, -131_072), Ok(true));
        for (compression, level) in
            [(Compression::Gzip, 10), (Compression::Zstd, 23), (Compression::None, 1)]
        {
            let error = at(compression, level).unwrap_err();
            assert_eq!(names(error), ("compression_level", "compression"));
        }
    }

    /// P19.
    #[test]
    fn delivery_takes_at_least_linger_and_one_request() {
        let error = config(|c| c.delivery_timeout = Duration::from_secs(30)).unwrap_err();
        assert_eq!(names(error), ("delivery_timeout", "linger + request_timeout"));
    }

    #[test]
    fn acks_have_kafka_s_numbers_and_names() {
        for (text, acks) in
            [("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)]
        {
            assert_eq!(text.parse(), Ok(acks));
        }
        assert!("2".parse::<Acks>().is_err());
    }
}
