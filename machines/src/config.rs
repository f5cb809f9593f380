//! What a topic can be told: one typed struct, and for every key a default, a documentation and a parser.
//!
//! Owns the keys of a topic that mean something now (semantics section 12, "Topic").
//! Promise: a value that is accepted is carried out; what is not available yet is refused, and says so.
//! Values are kept in canonical form (`604800000`, not `7d`), so that two ways of writing are one value.

mod broker_keys;
mod keys;
mod quantity;
mod ratio;
mod suggest;
mod throttled;

pub use broker_keys::{BrokerKeys, Scope};
pub use keys::{ConfigKey, is_list, keys, metadata_version_of};
pub use quantity::{QuantityError, parse_bytes, parse_millis};
pub use ratio::Ratio;
pub use suggest::nearest;
pub use throttled::ThrottledReplicas;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use thiserror::Error;
use troupe_proto::error::{Error as WireError, ErrorCode};

/// What must be true of a record before it counts as committed on a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// It is on disk: fsynced by group commit.
    Commit,
    /// It is in the page cache; the operating system writes it when it likes. Kafka's default.
    Os,
}

/// Whose clock a record's timestamp is (T13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What happens to old records: `delete`, `compact` or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    pub delete: bool,
    pub compact: bool,
}

/// The configuration of one topic, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub cleanup: Cleanup,
    /// How long a tombstone is kept that cleaning has met.
    pub delete_retention_ms: u64,
    pub min_cleanable_dirty_ratio: Ratio,
    pub min_compaction_lag_ms: u64,
    pub max_compaction_lag_ms: u64,
    pub segment_bytes: u64,
    pub segment_ms: u64,
    /// At most so much earlier, each partition for itself.
    pub segment_jitter_ms: u64,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    /// `None`: records are never too old.
    pub retention_ms: Option<u64>,
    /// `None`: a partition is never too large.
    pub retention_bytes: Option<u64>,
    pub file_delete_delay_ms: u64,
    pub max_message_bytes: u64,
    pub min_insync_replicas: u32,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: u64,
    pub timestamp_after_max_ms: u64,
    pub flush_policy: FlushPolicy,
    pub unclean_leader_election: bool,
    /// Replicas to which leaders send no faster than `leader.replication.throttled.rate` of their broker.
    pub leader_throttled_replicas: ThrottledReplicas,
    /// Replicas that follow no faster than `follower.replication.throttled.rate` of their broker.
    pub follower_throttled_replicas: ThrottledReplicas,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig {
            cleanup: Cleanup { delete: true, compact: false },
            delete_retention_ms: 86_400_000,
            min_cleanable_dirty_ratio: Ratio::from_millionths(500_000),
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX as u64,
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: Some(604_800_000),
            retention_bytes: None,
            file_delete_delay_ms: 60_000,
            max_message_bytes: 1_048_588,
            min_insync_replicas: 1,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX as u64,
            timestamp_after_max_ms: i64::MAX as u64,
            flush_policy: FlushPolicy::Commit,
            unclean_leader_election: false,
            leader_throttled_replicas: ThrottledReplicas::None,
            follower_throttled_replicas: ThrottledReplicas::None,
        }
    }
}

/// Why a configuration was refused. Nothing of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("unknown topic configuration '{key}'{}", did_you_mean(.suggestion))]
    Unknown { key: String, suggestion: Option<&'static str> },
    #[error("topic configuration '{key}' is not available: {instead}")]
    NotAvailable { key: String, instead: &'static str },
    #[error("unknown broker configuration '{key}'{}", did_you_mean(.suggestion))]
    UnknownOfBroker { key: String, suggestion: Option<&'static str> },
    #[error(
        "'{key}' cannot be changed while nodes run: set it in the file, the environment or by --set of each node, and \
         start it again"
    )]
    NeedsRestart { key: String },
    #[error(
        "'{key}' is one for all brokers, because the controller goes by it: set it for the cluster"
    )]
    ForTheCluster { key: String },
    #[error(
        "'{key}' is not a list: nothing can be appended to it or subtracted from it, set it instead"
    )]
    NoList { key: String },
    #[error("'{key}' is named more than once: say once what shall become of it")]
    Twice { key: String },
    #[error("'{value}' is no value for '{key}': {reason}")]
    Invalid { key: String, value: String, reason: String },
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

impl From<ConfigError> for WireError {
    fn from(error: ConfigError) -> Self {
        let wire = WireError::new(ErrorCode::InvalidConfig, error.to_string());
        match error {
            ConfigError::Unknown { key, suggestion: Some(name) }
            | ConfigError::UnknownOfBroker { key, suggestion: Some(name) } => {
                wire.with("key", key).with("suggestion", name)
            }
            ConfigError::Unknown { key, suggestion: None }
            | ConfigError::UnknownOfBroker { key, suggestion: None }
            | ConfigError::NotAvailable { key, .. }
            | ConfigError::NeedsRestart { key }
            | ConfigError::ForTheCluster { key }
            | ConfigError::NoList { key }
            | ConfigError::Twice { key } => wire.with("key", key),
            ConfigError::Invalid { key, value, .. } => wire.with("key", key).with("value", value),
        }
    }
}

impl TopicConfig {
    /// The defaults with these keys set.
    pub fn from_overrides(overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        TopicConfig::default().overridden(overrides)
    }

    /// The same with these keys set.
    pub fn overridden(&self, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut config = self.clone();
        for (key, value) in overrides {
            config.set(key, value)?;
        }
        Ok(config)
    }

    /// Sets one key. On an error nothing is changed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        (keys::find(key)?.write)(self, value.trim()).map_err(|reason| ConfigError::Invalid {
            key: key.to_owned(),
            value: value.to_owned(),
            reason,
        })
    }

    /// Sets one key back to its default.
    pub fn unset(&mut self, key: &str) -> Result<(), ConfigError> {
        self.set(key, keys::find(key)?.default)
    }

    /// Sets one key to what it is there.
    pub fn reset(&mut self, key: &str, defaults: &TopicConfig) -> Result<(), ConfigError> {
        let key = keys::find(key)?;
        self.set(key.name, &(key.read)(defaults))
    }

    /// What no key can tell by itself: values that make no sense together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (min, max) = (self.min_compaction_lag_ms, self.max_compaction_lag_ms);
        if max < min {
            return Err(ConfigError::Invalid {
                key: "max.compaction.lag.ms".to_owned(),
                value: max.to_string(),
                reason: format!(
                    "it is less than min.compaction.lag.ms, which is {min}: records would have to be compacted \
                     before they may be"
                ),
            });
        }
        Ok(())
    }

    /// T14: the timestamps that a leader takes whose clock says `now_ms`, if they are the producer's.
    pub fn timestamps_taken(&self, now_ms: i64) -> RangeInclusive<i64> {
        match self.timestamp_type {
            TimestampType::LogAppendTime => i64::MIN..=i64::MAX,
            TimestampType::CreateTime => {
                let earliest = now_ms.saturating_sub_unsigned(self.timestamp_before_max_ms);
                earliest..=now_ms.saturating_add_unsigned(self.timestamp_after_max_ms)
            }
        }
    }

    /// The value in force, in canonical form; `None` if there is no such key.
    pub fn get(&self, key: &str) -> Option<String> {
        keys::find(key).ok().map(|key| (key.read)(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_what_its_documentation_says() {
        let config = TopicConfig::default();
        for key in keys() {
            assert_eq!(config.get(key.name).as_deref(), Some(key.default), "{}", key.name);
            let mut again = TopicConfig::default();
            again.unset(key.name).unwrap();
            assert_eq!(again, config, "{}", key.name);
            assert!(key.documentation.len() > 20, "{} is not documented", key.name);
        }
    }

    #[test]
    fn values_are_canonical_whichever_way_they_were_written() {
        let mut config = TopicConfig::default();
        for (key, written, canonical) in [
            ("retention.ms", "7d", "604800000"),
            ("retention.ms", "-1", "-1"),
            ("retention.bytes", "10GiB", "10737418240"),
            ("segment.bytes", "64MiB", "67108864"),
            ("flush.policy", "OS", "os"),
            ("cleanup.policy", "delete, compact", "compact,delete"),
            ("message.timestamp.type", "LogAppendTime", "LogAppendTime"),
            ("unclean.leader.election.enable", "TRUE", "true"),
            ("min.cleanable.dirty.ratio", "0.250", "0.25"),
            ("min.cleanable.dirty.ratio", "1", "1"),
            ("delete.retention.ms", "1d", "86400000"),
        ] {
            config.set(key, written).unwrap();
            assert_eq!(config.get(key).as_deref(), Some(canonical), "{key}={written}");
        }
    }

    /// A3: unknown key or bad value is INVALID_CONFIG.
    #[test]
    fn an_unknown_key_is_refused_with_a_suggestion() {
        let error = TopicConfig::default().set("retention.mss", "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown topic configuration 'retention.mss'; did you mean 'retention.ms'?"
        );
        let wire = WireError::from(error);
        assert_eq!(wire.code, ErrorCode::InvalidConfig);
        assert_eq!(wire.facts["suggestion"], "retention.ms");
        assert!(matches!(
            TopicConfig::default().set("colour", "red"),
            Err(ConfigError::Unknown { suggestion: None, .. })
        ));
    }

    #[test]
    fn what_is_not_carried_out_yet_is_refused() {
        let mut config = TopicConfig::default();
        for (key, value) in [("compression.type", "gzip"), ("compression.type", "uncompressed")] {
            let error = config.set(key, value).unwrap_err();
            assert!(error.to_string().contains("producer"), "{error}");
        }
        for (key, instead) in [
            ("preallocate", "leave it out"),
            ("flush.messages", "flush.policy"),
            ("flush.ms", "flush.policy"),
            ("remote.storage.enable", "retention.ms"),
            ("message.timestamp.difference.max.ms", "message.timestamp.before.max.ms"),
        ] {
            let error = config.set(key, "1").unwrap_err();
            assert!(matches!(error, ConfigError::NotAvailable { .. }), "{error}");
            assert!(error.to_string().contains(instead), "{error}");
        }
        assert_eq!(config, TopicConfig::default());
    }

    #[test]
    fn lags_that_no_cleaning_can_keep_are_refused() {
        let mut config = TopicConfig::default();
        config.set("min.compaction.lag.ms", "1h").unwrap();
        config.set("max.compaction.lag.ms", "1h").unwrap();
        assert_eq!(config.check(), Ok(()));
        config.set("max.compaction.lag.ms", "59m").unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("less than min.compaction.lag.ms, which is 3600000"), "{error}");
    }

    #[test]
    fn bad_values_are_refused_and_change_nothing() {
        let mut config = TopicConfig::default();
        for (key, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "1"),
            ("segment.bytes", "8GiB"),
            ("min.insync.replicas", "0"),
            ("cleanup.policy", "shred"),
            ("cleanup.policy", ""),
            ("flush.policy", "never"),
            ("unclean.leader.election.enable", "yes"),
            ("message.timestamp.type", "now"),
            ("max.message.bytes", "1TiB"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "-0.1"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("min.compaction.lag.ms", "-1"),
            ("max.compaction.lag.ms", "0"),
            ("delete.retention.ms", "-1"),
        ] {
            let error = config.set(key, value).unwrap_err();
            assert!(matches!(error, ConfigError::Invalid { .. }), "{key}={value}: {error}");
        }
        assert_eq!(config, TopicConfig::default());
    }
}
