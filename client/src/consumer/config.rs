//! The consumer's settings: Kafka's names and defaults, and the rules about which go together.

use crate::error::ConfigError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use troupe_proto::v1;

/// Where to begin a partition for which nothing is committed, or whose position is gone (C7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoOffsetReset {
    /// Behind what is there now.
    #[default]
    Latest,
    /// With the first record that is still kept.
    Earliest,
    /// Nowhere: it is an error, for the application to mend with `seek`.
    None,
    /// With the first record that is not older than this.
    ByDuration(Duration),
}

impl FromStr for AutoOffsetReset {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "latest" => Ok(Self::Latest),
            "earliest" => Ok(Self::Earliest),
            "none" => Ok(Self::None),
            _ => Err(ConfigError::Value {
                setting: "auto_offset_reset",
                value: text.to_owned(),
                rule: "one of latest, earliest, none",
            }),
        }
    }
}

/// How a group's partitions are shared among its members. The coordinator does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Contiguous ranges of each topic.
    Range,
    /// In turn, over all topics.
    RoundRobin,
    /// Balanced, and as much as possible stays where it is.
    Sticky,
    /// The same, moved in two steps so that what stays never stops.
    CooperativeSticky,
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        })
    }
}

impl FromStr for Assignor {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "range" => Ok(Self::Range),
            "roundrobin" => Ok(Self::RoundRobin),
            "sticky" => Ok(Self::Sticky),
            "cooperative-sticky" => Ok(Self::CooperativeSticky),
            _ => Err(ConfigError::Value {
                setting: "assignor",
                value: text.to_owned(),
                rule: "one of range, roundrobin, sticky, cooperative-sticky",
            }),
        }
    }
}

/// Which records of transactions a reader is given (X12, X13). Markers are given to nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All, also of transactions that are open, or were aborted.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions, and those of none; up to where the earliest transaction that is open began.
    ReadCommitted,
}

impl IsolationLevel {
    pub(crate) fn is_committed(self) -> bool {
        self == Self::ReadCommitted
    }

    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::ReadUncommitted => v1::IsolationLevel::ReadUncommitted.into(),
            Self::ReadCommitted => v1::IsolationLevel::ReadCommitted.into(),
        }
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadUncommitted => "read_uncommitted",
            Self::ReadCommitted => "read_committed",
        })
    }
}

impl FromStr for IsolationLevel {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "read_uncommitted" => Ok(Self::ReadUncommitted),
            "read_committed" => Ok(Self::ReadCommitted),
            _ => Err(ConfigError::Value {
                setting: "isolation_level",
                value: text.to_owned(),
                rule: "one of read_committed, read_uncommitted",
            }),
        }
    }
}

/// How a consumer reads, commits and shares. The names are Kafka's.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The group. Empty: none; then only `assign` works, and nothing can be committed (C2).
    pub group_id: String,
    /// The beginning of the member's id. Default: `consumer`.
    pub client_id: String,
    /// A name under which this member comes back: within its session time-out it keeps what it had, and
    /// closing does not leave (G13).
    pub group_instance_id: Option<String>,
    /// Unset: the group's, or cooperative-sticky for a new group.
    pub assignor: Option<Assignor>,
    /// Default: latest.
    pub auto_offset_reset: AutoOffsetReset,
    /// Commit what was returned before, at each poll when `auto_commit_interval` is over, before partitions
    /// are given up, and at the end (C14). Default: true, with a group.
    pub enable_auto_commit: bool,
    /// Default: 5 s.
    pub auto_commit_interval: Duration,
    /// The most records that one `poll` returns. Default: 500.
    pub max_poll_records: usize,
    /// Who does not ask for records for so long has left the group; the next call joins again (C6). Also how
    /// long the group waits for this member to give partitions up. Default: 5 min.
    pub max_poll_interval: Duration,
    /// `poll` waits for so many bytes, for up to `fetch_max_wait`. Nodes push what there is: this saves calls,
    /// not traffic. Default: 1.
    pub fetch_min_bytes: usize,
    /// How long `poll` waits for `fetch_min_bytes`, within its own time-out. Default: 500 ms.
    pub fetch_max_wait: Duration,
    /// Bytes that the nodes may push before they are taken, over all partitions: what a slow application costs
    /// in memory. Default: 50 MiB.
    pub fetch_max_bytes: u64,
    /// About how much of a partition comes at a time; a larger batch comes whole. Default: 1 MiB.
    pub max_partition_fetch_bytes: u32,
    /// How long this member may be away before its partitions are given to others. Unset: the coordinator's
    /// default, 5 s, and 45 s for a static member.
    pub session_timeout: Option<Duration>,
    /// With read_committed the end of a partition, for `end_offsets`, `latest` and the lag, is where the earliest open
    /// transaction began; and a partition whose committed offset is about to be changed by one is not begun with until
    /// that is over. Default: read_uncommitted.
    pub isolation_level: IsolationLevel,
    /// Check each batch's header too: that it is whole, and of its partition. The checksum of the payload is
    /// always checked. Default: true.
    pub check_crcs: bool,
    /// The rack that this consumer is in, as `broker.rack` names it: where leaders look at racks
    /// (replica.selector.class), it reads from in-sync followers there, for `metadata_max_age` at a time. Default: empty,
    /// from leaders alone.
    pub client_rack: String,
    /// How long calls without a time-out of their own try. Default: 60 s.
    pub default_api_timeout: Duration,
    /// Patterns never match internal topics; an explicit name always does. The coordinator applies no other
    /// rule, so `false` is refused. Default: true.
    pub exclude_internal_topics: bool,
    /// Topics that are subscribed to or assigned by name and do not exist are created where the nodes'
    /// `auto.create.topics.enable` allows it. Default: true.
    pub allow_auto_create_topics: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            client_id: "consumer".to_owned(),
            group_instance_id: None,
            assignor: None,
            auto_offset_reset: AutoOffsetReset::Latest,
            enable_auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            max_poll_records: 500,
            max_poll_interval: Duration::from_secs(300),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            session_timeout: None,
            isolation_level: IsolationLevel::ReadUncommitted,
            check_crcs: true,
            client_rack: String::new(),
            default_api_timeout: Duration::from_secs(60),
            exclude_internal_topics: true,
            allow_auto_create_topics: true,
        }
    }
}

impl ConsumerConfig {
    /// The defaults, in this group.
    pub fn new(group_id: impl Into<String>) -> Self {
        Self { group_id: group_id.into(), ..Self::default() }
    }

    /// # Errors
    /// The first rule that is broken, naming its settings.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let value = |setting, value: String, rule| Err(ConfigError::Value { setting, value, rule });
        if self.max_poll_records == 0 {
            return value("max_poll_records", "0".to_owned(), "at least 1");
        }
        if self.fetch_max_bytes == 0 {
            return value("fetch_max_bytes", "0".to_owned(), "at least 1");
        }
        if self.max_partition_fetch_bytes == 0 {
            return value("max_partition_fetch_bytes", "0".to_owned(), "at least 1");
        }
        if self.group_instance_id.as_deref() == Some("") {
            return value("group_instance_id", "\"\"".to_owned(), "a name, or unset");
        }
        if !self.exclude_internal_topics {
            let rule = "patterns never match internal topics; subscribe to them by name";
            return value("exclude_internal_topics", "false".to_owned(), rule);
        }
        for (setting, duration) in [
            ("auto_commit_interval", Some(self.auto_commit_interval)),
            ("max_poll_interval", Some(self.max_poll_interval)),
            ("default_api_timeout", Some(self.default_api_timeout)),
            ("session_timeout", self.session_timeout),
        ] {
            let Some(duration) = duration else { continue };
            if duration.as_millis() == 0 || duration.as_millis() > u128::from(u32::MAX) {
                let actual = format!("{} ms", duration.as_millis());
                return value(setting, actual, "between 1 ms and 2^32 - 1 ms");
            }
        }
        if self.group_id.is_empty() && self.group_instance_id.is_some() {
            return Err(ConfigError::Conflict {
                first: "group_instance_id",
                first_value: self.group_instance_id.clone().unwrap_or_default(),
                second: "group_id",
                second_value: "\"\"".to_owned(),
                rule: "a static member needs a group",
            });
        }
        Ok(())
    }

    /// Whether anything is committed without being asked for.
    pub(crate) fn auto_commits(&self) -> bool {
        self.enable_auto_commit && !self.group_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut ConsumerConfig)) -> &'static str {
        let mut config = ConsumerConfig::new("g");
        change(&mut config);
        match config.validate().unwrap_err() {
            ConfigError::Value { setting, .. } => setting,
            ConfigError::Conflict { first, .. } => first,
        }
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        assert_eq!(ConsumerConfig::default().validate(), Ok(()));
        assert_eq!(broken(|c| c.max_poll_records = 0), "max_poll_records");
        assert_eq!(broken(|c| c.fetch_max_bytes = 0), "fetch_max_bytes");
        assert_eq!(broken(|c| c.max_partition_fetch_bytes = 0), "max_partition_fetch_bytes");
        assert_eq!(broken(|c| c.session_timeout = Some(Duration::ZERO)), "session_timeout");
        assert_eq!(broken(|c| c.max_poll_interval = Duration::MAX), "max_poll_interval");
        assert_eq!(broken(|c| c.group_instance_id = Some(String::new())), "group_instance_id");
        assert_eq!(broken(|c| c.exclude_internal_topics = false), "exclude_internal_topics");
        let nameless = |c: &mut ConsumerConfig| {
            c.group_id.clear();
            c.group_instance_id = Some("i".to_owned());
        };
        assert_eq!(broken(nameless), "group_instance_id");
    }

    /// C2: without a group there is nothing to commit to.
    #[test]
    fn nothing_is_committed_without_a_group() {
        assert!(ConsumerConfig::new("g").auto_commits());
        assert!(!ConsumerConfig::default().auto_commits());
    }

    #[test]
    fn names_are_kafka_s() {
        use Assignor::{CooperativeSticky, Range, RoundRobin, Sticky};
        for assignor in [Range, RoundRobin, Sticky, CooperativeSticky] {
            assert_eq!(assignor.to_string().parse(), Ok(assignor));
        }
        assert!("uniform".parse::<Assignor>().is_err());
        for level in [IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert!("serializable".parse::<IsolationLevel>().is_err());
        assert_eq!("earliest".parse(), Ok(AutoOffsetReset::Earliest));
        assert!("smallest".parse::<AutoOffsetReset>().is_err());
    }
}
