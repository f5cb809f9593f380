//! What the node says of topics that do not say it themselves: Kafka's broker synonyms of topic settings.
//!
//! Promises: a topic's own setting counts before it; what the node does not set leaves the topic's default.
//! Never here: settings that the controller writes into a topic when it is created.

use crate::NodeConfig;
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_machines::cluster::Topic;
use troupe_machines::config::TopicConfig;

/// What nodes call settings of topics, by the topics' names for them; of several, what is set under the first counts
/// before the others.
const SYNONYMS: [(&str, &[&str]); 21] = [
    ("cleanup.policy", &["log.cleanup.policy"]),
    ("compression.type", &["compression.type"]),
    ("delete.retention.ms", &["log.cleaner.delete.retention.ms"]),
    ("file.delete.delay.ms", &["log.segment.delete.delay.ms"]),
    ("flush.policy", &["log.flush.policy"]),
    ("index.interval.bytes", &["log.index.interval.bytes"]),
    ("max.compaction.lag.ms", &["log.cleaner.max.compaction.lag.ms"]),
    ("max.message.bytes", &["message.max.bytes"]),
    ("message.timestamp.after.max.ms", &["log.message.timestamp.after.max.ms"]),
    ("message.timestamp.before.max.ms", &["log.message.timestamp.before.max.ms"]),
    ("message.timestamp.type", &["log.message.timestamp.type"]),
    ("min.cleanable.dirty.ratio", &["log.cleaner.min.cleanable.ratio"]),
    ("min.compaction.lag.ms", &["log.cleaner.min.compaction.lag.ms"]),
    ("min.insync.replicas", &["min.insync.replicas"]),
    ("retention.bytes", &["log.retention.bytes"]),
    ("retention.ms", &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]),
    ("segment.bytes", &["log.segment.bytes"]),
    ("segment.index.bytes", &["log.index.size.max.bytes"]),
    ("segment.jitter.ms", &["log.roll.jitter.ms"]),
    ("segment.ms", &["log.roll.ms"]),
    ("unclean.leader.election.enable", &["unclean.leader.election.enable"]),
];

/// What nodes call a setting of topics.
pub fn synonyms(of_topic: &str) -> &'static [&'static str] {
    let found = SYNONYMS.iter().find(|(key, _)| *key == of_topic);
    found.map_or(&[], |(_, synonyms)| synonyms)
}

/// Settings of topics, by key, in which the node differs from their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicDefaults(BTreeMap<&'static str, String>);

impl TopicDefaults {
    pub fn of(config: &NodeConfig) -> Self {
        let default = TopicConfig::default();
        let mut node = TopicConfig::default();
        let differing = config.topic_settings().into_iter().filter_map(|setting| {
            let set = node.set(setting.of_topic, &setting.value);
            set.expect("a value that the node's configuration takes");
            let value = node.get(setting.of_topic)?;
            (default.get(setting.of_topic).as_ref() != Some(&value))
                .then_some((setting.of_topic, value))
        });
        Self(differing.collect())
    }

    /// The topic's settings as they hold on this node.
    pub fn apply(&self, topic: &Topic) -> Arc<TopicConfig> {
        let mut config = Arc::clone(&topic.config);
        for (key, value) in &self.0 {
            if self.is_set(topic, key) {
                let set = Arc::make_mut(&mut config).set(key, value);
                set.expect("a value that the node's configuration takes");
            }
        }
        config
    }

    /// Whether this setting of the topic is the node's.
    pub fn is_set(&self, topic: &Topic, key: &str) -> bool {
        self.0.contains_key(key) && !topic.overrides.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::TopicId;

    fn node(settings: &[&str]) -> TopicDefaults {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        TopicDefaults::of(&NodeConfig::load(None, [], &settings).unwrap())
    }

    fn topic(overrides: &[(&str, &str)]) -> Topic {
        let overrides: BTreeMap<String, String> =
            overrides.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config = Arc::new(TopicConfig::from_overrides(&overrides).unwrap());
        let id = TopicId::from_wire(&[7; 16]).unwrap();
        Topic { id, name: "t".into(), partitions: Vec::new(), overrides, config }
    }

    /// S15.
    #[test]
    fn milliseconds_count_before_minutes_and_these_before_hours() {
        let hours = "log.retention.hours=2";
        let minutes = "log.retention.minutes=3";
        for (settings, kept) in [
            (&[hours][..], Some(7_200_000)),
            (&[hours, minutes], Some(180_000)),
            (&[hours, minutes, "log.retention.ms=4"], Some(4)),
            (&[hours, minutes, "log.retention.ms=-1"], None),
            (&["log.retention.minutes=-1"], None),
            (&[], Some(604_800_000)),
        ] {
            let config = node(settings).apply(&topic(&[]));
            assert_eq!(config.retention_ms, kept, "{settings:?}");
        }
    }

    #[test]
    fn a_topics_own_setting_counts_before_the_nodes() {
        let node = node(&["log.retention.ms=1000", "log.retention.bytes=5MiB"]);
        let topic = topic(&[("retention.ms", "604800000")]);
        let config = node.apply(&topic);
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, Some(5 << 20));
        assert!(!node.is_set(&topic, "retention.ms") && node.is_set(&topic, "retention.bytes"));
    }

    #[test]
    fn every_synonym_of_a_topics_setting_is_the_topics_that_does_not_set_it() {
        for (setting, key, value) in [
            ("message.max.bytes=2MiB", "max.message.bytes", "2097152"),
            ("log.cleanup.policy=delete,compact", "cleanup.policy", "compact,delete"),
            ("log.segment.bytes=1MiB", "segment.bytes", "1048576"),
            ("log.roll.ms=1h", "segment.ms", "3600000"),
            ("log.roll.jitter.ms=1m", "segment.jitter.ms", "60000"),
            ("log.index.interval.bytes=1KiB", "index.interval.bytes", "1024"),
            ("log.index.size.max.bytes=1MiB", "segment.index.bytes", "1048576"),
            ("log.segment.delete.delay.ms=1s", "file.delete.delay.ms", "1000"),
            ("log.flush.policy=os", "flush.policy", "os"),
            ("log.message.timestamp.type=LogAppendTime", "message.timestamp.type", "LogAppendTime"),
            (
                "log.message.timestamp.before.max.ms=1d",
                "message.timestamp.before.max.ms",
                "86400000",
            ),
            ("log.message.timestamp.after.max.ms=1h", "message.timestamp.after.max.ms", "3600000"),
            ("log.cleaner.min.cleanable.ratio=0.25", "min.cleanable.dirty.ratio", "0.25"),
            ("log.cleaner.delete.retention.ms=1h", "delete.retention.ms", "3600000"),
            ("log.cleaner.min.compaction.lag.ms=1m", "min.compaction.lag.ms", "60000"),
            ("log.cleaner.max.compaction.lag.ms=1d", "max.compaction.lag.ms", "86400000"),
        ] {
            let node = node(&[setting]);
            let unset = topic(&[]);
            assert_eq!(node.apply(&unset).get(key).as_deref(), Some(value), "{setting}");
            assert!(node.is_set(&unset, key), "{setting}");
            let default = TopicConfig::default().get(key).unwrap();
            let set = topic(&[(key, &default)]);
            assert_eq!(node.apply(&set).get(key), Some(default), "{setting}");
        }
        let refused = NodeConfig::load(None, [], &["compression.type=gzip".to_owned()]);
        assert!(refused.unwrap_err().to_string().contains("producer"));
    }

    #[test]
    fn a_node_that_sets_nothing_leaves_the_topics_settings_as_they_are() {
        let topic = topic(&[]);
        assert!(Arc::ptr_eq(&node(&[]).apply(&topic), &topic.config));
        assert!(!node(&["log.retention.hours=168"]).is_set(&topic, "retention.ms"));
    }

    #[test]
    fn a_retention_of_no_time_is_refused_and_every_fault_is_told() {
        let settings = ["log.retention.ms=0", "log.retention.hours=90m", "log.retention.bytes=-2"];
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let faults = NodeConfig::load(None, [], &settings).unwrap_err();
        assert_eq!(faults.0.len(), 3, "{faults}");
    }
}
