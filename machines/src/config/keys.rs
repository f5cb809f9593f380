//! The table of a topic's configuration keys.

use super::{
    Cleanup, ConfigError, FlushPolicy, Ratio, ThrottledReplicas, TimestampType, TopicConfig,
    parse_bytes, parse_millis, suggest,
};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// One key: its name, its default in canonical form, what it does.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    pub name: &'static str,
    pub default: &'static str,
    pub documentation: &'static str,
    pub(super) read: fn(&TopicConfig) -> String,
    pub(super) write: fn(&mut TopicConfig, &str) -> Result<(), String>,
}

/// All keys, sorted by name.
pub fn keys() -> &'static [ConfigKey] {
    KEYS
}

const LEVEL: &str =
    "batches are stored as producers compressed them; set the level on the producer";
const FLUSH: &str = "use flush.policy: with commit every record is on the disk before it is acknowledged, with os the \
                     system decides";
const TIERED: &str =
    "there is no tiered storage: retention.ms and retention.bytes say how much is kept";
const VERSIONS: &str = "nodes tell each other what they can take; leave it out";
const DIFFERENCE: &str = "use message.timestamp.before.max.ms and message.timestamp.after.max.ms, one for each direction";

/// Kafka's keys that are none here, each with the reason and what to do instead. In a node's configuration, which may have
/// been written for Kafka, the like of some is taken and told to be without effect; for a topic somebody asks for it.
const NOT_AVAILABLE: &[(&str, &str)] = &[
    ("compression.gzip.level", LEVEL),
    ("compression.lz4.level", LEVEL),
    ("compression.zstd.level", LEVEL),
    ("flush.messages", FLUSH),
    ("flush.ms", FLUSH),
    ("local.retention.bytes", TIERED),
    ("local.retention.ms", TIERED),
    ("message.downconversion.enable", VERSIONS),
    ("message.format.version", VERSIONS),
    ("message.timestamp.difference.max.ms", DIFFERENCE),
    ("preallocate", "segment files grow as they are written; leave it out"),
    ("remote.log.copy.disable", TIERED),
    ("remote.log.delete.on.disable", TIERED),
    ("remote.storage.enable", TIERED),
];

/// Keys whose values are lists, so that something can be appended to them.
const LISTS: &[&str] = &[
    "cleanup.policy",
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
];

/// Keys that versions before the first counted one do not know.
const SINCE_VERSION_1: &[&str] =
    &["follower.replication.throttled.replicas", "leader.replication.throttled.replicas"];

/// Whether something can be appended to the value of a topic's key.
pub fn is_list(key: &str) -> bool {
    LISTS.contains(&key)
}

/// The metadata version in which a topic's key may be set.
pub fn metadata_version_of(key: &str) -> u32 {
    u32::from(SINCE_VERSION_1.contains(&key))
}

pub(super) fn find(name: &str) -> Result<&'static ConfigKey, ConfigError> {
    if let Ok(at) = KEYS.binary_search_by_key(&name, |key| key.name) {
        return Ok(&KEYS[at]);
    }
    if let Some((_, instead)) = NOT_AVAILABLE.iter().find(|(key, _)| *key == name) {
        return Err(ConfigError::NotAvailable { key: name.to_owned(), instead });
    }
    let suggestion = suggest::nearest(name, KEYS.iter().map(|key| key.name));
    Err(ConfigError::Unknown { key: name.to_owned(), suggestion })
}

const I64_MAX: u64 = i64::MAX as u64;
/// Positions in a segment's index are 32 bits wide; Kafka's limit is the same.
const SEGMENT_BYTES: RangeInclusive<u64> = 4096..=i32::MAX as u64;
/// A batch's length is written in four bytes of seven bits.
const MAX_MESSAGE_BYTES: RangeInclusive<u64> = 1..=(1 << 28) - 1;

static KEYS: &[ConfigKey] = &[
    ConfigKey {
        name: "cleanup.policy",
        default: "delete",
        documentation: "What happens to old records: delete (by age and size), compact (keep at least the \
            last record of each key), or both. With compact a record needs a key to be accepted; records \
            without one that were there before go when the log is cleaned.",
        read: |c| show_cleanup(c.cleanup),
        write: |c, v| put(&mut c.cleanup, cleanup(v)),
    },
    ConfigKey {
        name: "compression.type",
        default: "producer",
        documentation: "How batches are stored: producer keeps the producer's own compression.",
        read: |_| "producer".to_owned(),
        write: |_, v| match v {
            "producer" => Ok(()),
            _ => Err("only 'producer' is available: set compression on the producer".to_owned()),
        },
    },
    ConfigKey {
        name: "delete.retention.ms",
        default: "86400000",
        documentation: "How long a record without value, which deletes its key, is kept after the log was \
            first cleaned with it: in this time whoever reads from the beginning has to reach the end, or may \
            miss the deletion. Only with cleanup.policy compact.",
        read: |c| c.delete_retention_ms.to_string(),
        write: |c, v| put(&mut c.delete_retention_ms, millis(v, 0..=I64_MAX)),
    },
    ConfigKey {
        name: "file.delete.delay.ms",
        default: "60000",
        documentation: "How long the files of deleted segments are kept before they are removed.",
        read: |c| c.file_delete_delay_ms.to_string(),
        write: |c, v| put(&mut c.file_delete_delay_ms, millis(v, 0..=I64_MAX)),
    },
    ConfigKey {
        name: "flush.policy",
        default: "commit",
        documentation: "When a replica counts a record as its own: commit after it is on disk (one fsync \
            for all that came meanwhile), os as soon as the operating system has it.",
        read: |c| match c.flush_policy {
            FlushPolicy::Commit => "commit".to_owned(),
            FlushPolicy::Os => "os".to_owned(),
        },
        write: |c, v| {
            let values = [("commit", FlushPolicy::Commit), ("os", FlushPolicy::Os)];
            put(&mut c.flush_policy, one_of(v, &values))
        },
    },
    ConfigKey {
        name: "follower.replication.throttled.replicas",
        default: "",
        documentation: "Replicas that are filled no faster than the follower.replication.throttled.rate of their \
            broker, as partition:broker with commas between them, or * for all. One that is in sync is never held back. \
            A reassignment with a throttle sets it and takes it away again.",
        read: |c| c.follower_throttled_replicas.to_string(),
        write: |c, v| put(&mut c.follower_throttled_replicas, ThrottledReplicas::parse(v)),
    },
    ConfigKey {
        name: "index.interval.bytes",
        default: "4096",
        documentation: "Bytes of records between two entries of a segment's index.",
        read: |c| c.index_interval_bytes.to_string(),
        write: |c, v| put_u32(&mut c.index_interval_bytes, bytes(v, 0..=i32::MAX as u64)),
    },
    ConfigKey {
        name: "leader.replication.throttled.replicas",
        default: "",
        documentation: "Replicas that, when they lead, send no faster than the leader.replication.throttled.rate of \
            their broker, as partition:broker with commas between them, or * for all. Followers that are in sync are \
            never held back. A reassignment with a throttle sets it and takes it away again.",
        read: |c| c.leader_throttled_replicas.to_string(),
        write: |c, v| put(&mut c.leader_throttled_replicas, ThrottledReplicas::parse(v)),
    },
    ConfigKey {
        name: "max.compaction.lag.ms",
        default: "9223372036854775807",
        documentation: "How long a record may go without being compacted: then its segment is closed, and \
            the log is cleaned whatever min.cleanable.dirty.ratio says. At least min.compaction.lag.ms. Only \
            with cleanup.policy compact.",
        read: |c| c.max_compaction_lag_ms.to_string(),
        write: |c, v| put(&mut c.max_compaction_lag_ms, millis(v, 1..=I64_MAX)),
    },
    ConfigKey {
        name: "max.message.bytes",
        default: "1048588",
        documentation: "The largest batch that is accepted, after compression, with its header.",
        read: |c| c.max_message_bytes.to_string(),
        write: |c, v| put(&mut c.max_message_bytes, bytes(v, MAX_MESSAGE_BYTES)),
    },
    ConfigKey {
        name: "message.timestamp.after.max.ms",
        default: "9223372036854775807",
        documentation: "How far a record's timestamp may lie ahead of the leader's clock; each record of a batch is \
            looked at, and one that is too far ahead has its batch refused. Unlimited: Kafka 4.0 allows an hour, \
            because there a record from the future keeps its segment until then. Here retention does not believe \
            dates of more than an hour ahead (see retention.ms), and who dates records ahead on purpose loses none.",
        read: |c| c.timestamp_after_max_ms.to_string(),
        write: |c, v| put(&mut c.timestamp_after_max_ms, millis(v, 0..=I64_MAX)),
    },
    ConfigKey {
        name: "message.timestamp.before.max.ms",
        default: "9223372036854775807",
        documentation: "How far a record's timestamp may lie behind the leader's clock; each record of a batch is \
            looked at, and one that is too old has its batch refused. Set it to retention.ms or less, and no record \
            is taken that retention would delete at its next look.",
        read: |c| c.timestamp_before_max_ms.to_string(),
        write: |c, v| put(&mut c.timestamp_before_max_ms, millis(v, 0..=I64_MAX)),
    },
    ConfigKey {
        name: "message.timestamp.type",
        default: "CreateTime",
        documentation: "Whose clock a record's timestamp is: CreateTime the producer's, LogAppendTime the \
            leader's.",
        read: |c| match c.timestamp_type {
            TimestampType::CreateTime => "CreateTime".to_owned(),
            TimestampType::LogAppendTime => "LogAppendTime".to_owned(),
        },
        write: |c, v| {
            let values = [
                ("CreateTime", TimestampType::CreateTime),
                ("LogAppendTime", TimestampType::LogAppendTime),
            ];
            put(&mut c.timestamp_type, one_of(v, &values))
        },
    },
    ConfigKey {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        documentation: "How much of a log, in bytes without the segment that takes the appends, has to be \
            new since it was last cleaned for it to be cleaned again: between 0 (as soon as there is anything) \
            and 1. Only with cleanup.policy compact.",
        read: |c| c.min_cleanable_dirty_ratio.to_string(),
        write: |c, v| put(&mut c.min_cleanable_dirty_ratio, Ratio::parse(v)),
    },
    ConfigKey {
        name: "min.compaction.lag.ms",
        default: "0",
        documentation: "How long a record stays as it is before it may be compacted away. Only with \
            cleanup.policy compact.",
        read: |c| c.min_compaction_lag_ms.to_string(),
        write: |c, v| put(&mut c.min_compaction_lag_ms, millis(v, 0..=I64_MAX)),
    },
    ConfigKey {
        name: "min.insync.replicas",
        default: "1",
        documentation: "With acks=all, how many in-sync replicas there must be for an append to be \
            accepted. Never more than the partition has replicas.",
        read: |c| c.min_insync_replicas.to_string(),
        write: |c, v| put_u32(&mut c.min_insync_replicas, count(v, 1..=i32::MAX as u64)),
    },
    ConfigKey {
        name: "retention.bytes",
        default: "-1",
        documentation: "How large a partition may become before its oldest segments are deleted; -1: any \
            size. A topic that does not set it has the log.retention.bytes of each node.",
        read: |c| show_limit(c.retention_bytes),
        write: |c, v| put(&mut c.retention_bytes, limit(v, |v| bytes(v, 0..=I64_MAX))),
    },
    ConfigKey {
        name: "retention.ms",
        default: "604800000",
        documentation: "How old a segment's newest record may become before the segment is deleted; -1: \
            any age. A topic that does not set it has the log.retention.ms, .minutes or .hours of each node. \
            Where records have no timestamp, or one from before 1970 or more than an hour ahead, the time of \
            the segment's file counts instead (in Kafka, one record dated 2099 keeps its segment until then); \
            the node says so in its log, once, and `troupe topic describe` does. Records that come with an old \
            date, such as 1970, are old, and go at the next look, as in Kafka: that too is said.",
        read: |c| show_limit(c.retention_ms),
        write: |c, v| put(&mut c.retention_ms, limit(v, |v| millis(v, 0..=I64_MAX))),
    },
    ConfigKey {
        name: "segment.bytes",
        default: "1073741824",
        documentation: "The largest size of one segment file; retention deletes whole segments.",
        read: |c| c.segment_bytes.to_string(),
        write: |c, v| put(&mut c.segment_bytes, bytes(v, SEGMENT_BYTES)),
    },
    ConfigKey {
        name: "segment.index.bytes",
        default: "10485760",
        documentation: "The largest size of a segment's index; a full one starts a new segment.",
        read: |c| c.segment_index_bytes.to_string(),
        write: |c, v| put_u32(&mut c.segment_index_bytes, bytes(v, 64..=i32::MAX as u64)),
    },
    ConfigKey {
        name: "segment.jitter.ms",
        default: "0",
        documentation: "How much earlier than segment.ms says a segment may be closed: each partition has a share of \
            it of its own, so that not all that began together are closed together.",
        read: |c| c.segment_jitter_ms.to_string(),
        write: |c, v| put(&mut c.segment_jitter_ms, millis(v, 0..=I64_MAX)),
    },
    ConfigKey {
        name: "segment.ms",
        default: "604800000",
        documentation: "A record that is so much younger than the first of its segment begins another, even if that \
            one is not full, so that retention can delete it. Records without timestamps count as old as they are \
            here. An idle partition closes nothing; what is old enough in it is deleted all the same.",
        read: |c| c.segment_ms.to_string(),
        write: |c, v| put(&mut c.segment_ms, millis(v, 1..=I64_MAX)),
    },
    ConfigKey {
        name: "unclean.leader.election.enable",
        default: "false",
        documentation: "Whether a replica that is not in sync may lead when no other can. Loses records.",
        read: |c| c.unclean_leader_election.to_string(),
        write: |c, v| {
            put(&mut c.unclean_leader_election, one_of(v, &[("true", true), ("false", false)]))
        },
    },
];

fn put<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

fn put_u32(field: &mut u32, value: Result<u64, String>) -> Result<(), String> {
    *field = u32::try_from(value?).map_err(|_| "too large".to_owned())?;
    Ok(())
}

fn within<E: Display>(value: Result<u64, E>, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let value = value.map_err(|error| error.to_string())?;
    if allowed.contains(&value) {
        Ok(value)
    } else {
        Err(format!("must be between {} and {}", allowed.start(), allowed.end()))
    }
}

fn bytes(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    within(parse_bytes(text), allowed)
}

fn millis(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    within(parse_millis(text), allowed)
}

fn count(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    within(text.parse::<u64>().map_err(|_| "not a number"), allowed)
}

/// -1 is Kafka's way to say "no limit".
fn limit(text: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<Option<u64>, String> {
    if text == "-1" { Ok(None) } else { parse(text).map(Some) }
}

fn show_limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

fn one_of<T: Copy>(text: &str, values: &[(&str, T)]) -> Result<T, String> {
    let found = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        format!("use one of {}", names.join(", "))
    })
}

fn cleanup(text: &str) -> Result<Cleanup, String> {
    let mut cleanup = Cleanup { delete: false, compact: false };
    for policy in text.split(',').map(str::trim) {
        match policy {
            "delete" => cleanup.delete = true,
            "compact" => cleanup.compact = true,
            _ => return Err("use delete, compact or compact,delete".to_owned()),
        }
    }
    Ok(cleanup)
}

fn show_cleanup(cleanup: Cleanup) -> String {
    match (cleanup.compact, cleanup.delete) {
        (true, true) => "compact,delete",
        (true, false) => "compact",
        (false, _) => "delete",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_apart_from_what_is_not_available() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        assert!(KEYS.iter().all(|key| NOT_AVAILABLE.iter().all(|(name, _)| *name != key.name)));
        assert!(LISTS.iter().chain(SINCE_VERSION_1).all(|name| find(name).is_ok()));
    }
}
