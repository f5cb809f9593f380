//! What the node says of topics that do not say it themselves: Kafka's broker synonyms of topic settings.
//!
//! Never here: settings that the controller writes into a topic when it is created.

use super::NodeConfig;
use super::value::{Setting, Unset};

/// A setting of topics, as a node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSetting {
    /// The node's key.
    pub key: &'static str,
    /// The topic's.
    pub of_topic: &'static str,
    /// As the topic's key has it.
    pub value: String,
}

impl NodeConfig {
    /// What holds for topics that do not say it themselves.
    pub fn topic_settings(&self) -> Vec<TopicSetting> {
        let kept = self.kept_for_ms().map_or_else(|| "-1".to_owned(), |ms| ms.to_string());
        let all = [
            ("log.retention.ms", "retention.ms", kept),
            ("log.retention.bytes", "retention.bytes", self.retention_bytes.show()),
            ("message.max.bytes", "max.message.bytes", self.message_max_bytes.show()),
            ("log.cleanup.policy", "cleanup.policy", self.cleanup_policy.clone()),
            ("compression.type", "compression.type", self.compression_type.clone()),
            ("log.segment.bytes", "segment.bytes", self.segment_bytes.show()),
            ("log.roll.ms", "segment.ms", self.roll.show()),
            ("log.roll.jitter.ms", "segment.jitter.ms", self.roll_jitter.show()),
            ("log.index.interval.bytes", "index.interval.bytes", self.index_interval.show()),
            ("log.index.size.max.bytes", "segment.index.bytes", self.index_size_max.show()),
            (
                "log.segment.delete.delay.ms",
                "file.delete.delay.ms",
                self.segment_delete_delay.show(),
            ),
            ("log.flush.policy", "flush.policy", self.flush_policy.clone()),
            ("log.message.timestamp.type", "message.timestamp.type", self.timestamp_type.clone()),
            (
                "log.message.timestamp.before.max.ms",
                "message.timestamp.before.max.ms",
                self.timestamp_before_max.show(),
            ),
            (
                "log.message.timestamp.after.max.ms",
                "message.timestamp.after.max.ms",
                self.timestamp_after_max.show(),
            ),
            (
                "log.cleaner.min.cleanable.ratio",
                "min.cleanable.dirty.ratio",
                self.cleaner_min_ratio.clone(),
            ),
            (
                "log.cleaner.delete.retention.ms",
                "delete.retention.ms",
                self.cleaner_delete_retention.show(),
            ),
            (
                "log.cleaner.min.compaction.lag.ms",
                "min.compaction.lag.ms",
                self.cleaner_min_lag.show(),
            ),
            (
                "log.cleaner.max.compaction.lag.ms",
                "max.compaction.lag.ms",
                self.cleaner_max_lag.show(),
            ),
        ];
        all.map(|(key, of_topic, value)| TopicSetting { key, of_topic, value }).into()
    }

    /// What holds for topics that do not set retention.ms: the finest unit in which it is said (S15). None: they are
    /// kept for ever.
    fn kept_for_ms(&self) -> Option<u64> {
        match (self.retention_ms, self.retention_minutes) {
            (Unset(Some(millis)), _) => millis.millis(),
            (Unset(None), Unset(Some(minutes))) => minutes.millis(),
            (Unset(None), Unset(None)) => self.retention_hours.millis(),
        }
    }
}
