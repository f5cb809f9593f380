//! What makes no sense in a configuration.
//!
//! Promise: all of it is told at once.
//! Never here: where a value comes from.

use super::NodeConfig;
use super::listeners;
use super::topic_settings::TopicSetting;
use std::ops::RangeInclusive;
use troupe_log::check_apart;
use troupe_machines::config::{ConfigError, TopicConfig};
use troupe_proto::batch::Limits;

/// Of one thread of the cleaner: Kafka's bounds.
const MIN_DEDUPE_BUFFER: u64 = 1 << 20;
const MAX_DEDUPE_BUFFER: u64 = (1 << 31) - 1;
/// The active controller is heard every 100 ms, and some of that may be late.
const ELECTION_TIMEOUTS: RangeInclusive<u64> = 300..=60_000;
const MIN_CLEANER_RATE: u64 = 64 << 10;

impl NodeConfig {
    /// What no key can tell by itself, and values that no key may have.
    pub(super) fn check(&self, faults: &mut Vec<String>) {
        if self.node_id < 0 {
            faults.push(format!("node.id: {} is negative", self.node_id));
        }
        self.check_cluster(faults);
        listeners::check(self, faults);
        self.check_groups(faults);
        self.check_unpacking(faults);
        self.check_cleaner(faults);
        self.check_directories(faults);
        self.check_topic_settings(faults);
        for (key, value) in [
            ("num.partitions", self.num_partitions as usize),
            ("default.replication.factor", self.default_replication_factor as usize),
            ("min.insync.replicas", self.min_insync_replicas as usize),
            ("flush.threads", self.flush_threads),
            ("max.partitions.per.request", self.max_partitions_per_request as usize),
            ("max.partitions.per.node", self.max_partitions_per_node as usize),
            ("max.partitions.per.cluster", self.max_partitions_per_cluster as usize),
            ("offsets.topic.num.partitions", self.offsets_topic_partitions as usize),
            ("offsets.topic.replication.factor", self.offsets_topic_replication_factor as usize),
            ("group.max.size", self.group_max_size as usize),
            ("transaction.state.log.num.partitions", self.transaction_topic_partitions as usize),
            (
                "transaction.state.log.replication.factor",
                self.transaction_topic_replication_factor as usize,
            ),
            ("transaction.state.log.min.isr", self.transaction_topic_min_insync_replicas as usize),
            ("transaction.max.timeout.ms", self.transaction_max_timeout.0 as usize),
            ("transactional.id.expiration.ms", self.transactional_id_expiration.0 as usize),
            ("batch.unpacked.max.bytes", self.max_unpacked_batch.0 as usize),
            ("max.connections.per.node", self.max_connections as usize),
            ("max.connections.per.ip", self.max_connections_per_ip as usize),
            ("socket.connection.setup.timeout.ms", self.connection_setup_timeout.0 as usize),
            ("connections.max.idle.ms", self.connections_max_idle.0 as usize),
            ("log.cleaner.threads", self.cleaner_threads),
            ("log.cleaner.backoff.ms", self.cleaner_backoff.0 as usize),
            ("stream.max.stall.ms", self.stream_max_stall.0 as usize),
            ("producer.id.expiration.ms", self.producer_id_expiration.0 as usize),
        ] {
            if value == 0 {
                faults.push(format!("{key}: 0 is too small, at least 1 is needed"));
            }
        }
    }

    /// They are checked as a topic's own are.
    fn check_topic_settings(&self, faults: &mut Vec<String>) {
        let mut topic = TopicConfig::default();
        for TopicSetting { key, of_topic, value } in self.topic_settings() {
            match topic.set(of_topic, &value) {
                Ok(()) => {}
                Err(ConfigError::Invalid { reason, .. }) => {
                    faults.push(format!("{key}: `{value}`: {reason}"));
                }
                Err(error) => faults.push(format!("{key}: {error}")),
            }
        }
        if let Err(error) = topic.check() {
            faults.push(format!("log.cleaner.max.compaction.lag.ms: {error}"));
        }
    }

    fn check_directories(&self, faults: &mut Vec<String>) {
        let paths = self.log_directories();
        if paths.iter().any(|path| path.as_os_str().is_empty()) {
            faults.push(format!("log.dirs: `{}` has an empty path between commas", self.log_dirs));
        } else if let Err(error) = check_apart(&paths) {
            faults.push(error.to_string());
        }
        if self.alter_log_dirs_rate.0 == 0 {
            faults.push(
                "replica.alter.log.dirs.io.max.bytes.per.second: 0 is too small, nothing would ever move"
                    .to_owned(),
            );
        }
    }

    /// What is taken from producers has to be given to consumers.
    fn check_unpacking(&self, faults: &mut Vec<String>) {
        let (asked, most) = (self.max_unpacked_batch.0, Limits::default().max_bytes as u64);
        if asked > most {
            faults.push(format!(
                "batch.unpacked.max.bytes: {asked} is more than {most}, and no node unpacks more for a consumer"
            ));
        }
    }

    /// Less, and a log is hardly ever done; a single file is written in larger pieces.
    fn check_cleaner(&self, faults: &mut Vec<String>) {
        let each = self.cleaner_dedupe_buffer.0 / (self.cleaner_threads.max(1) as u64);
        if each < MIN_DEDUPE_BUFFER {
            faults.push(format!(
                "log.cleaner.dedupe.buffer.size: {each} for each of log.cleaner.threads, at least \
                 {MIN_DEDUPE_BUFFER} are needed"
            ));
        }
        if each > MAX_DEDUPE_BUFFER {
            faults.push(format!(
                "log.cleaner.dedupe.buffer.size: {each} for each of log.cleaner.threads, which use at most \
                 {MAX_DEDUPE_BUFFER}"
            ));
        }
        let rate = self.cleaner_io_bytes.0;
        if rate < MIN_CLEANER_RATE {
            faults.push(format!(
                "log.cleaner.io.max.bytes.per.second: {rate} is too small, at least {MIN_CLEANER_RATE} are needed"
            ));
        }
    }

    fn check_groups(&self, faults: &mut Vec<String>) {
        let (min, max) = (self.group_min_session_timeout.0, self.group_max_session_timeout.0);
        if min > max {
            faults.push(format!(
                "group.min.session.timeout.ms: {min} is more than group.max.session.timeout.ms of {max}"
            ));
        }
        if max > u32::MAX.into() {
            faults.push(format!("group.max.session.timeout.ms: {max} is more than {}", u32::MAX));
        }
        let longest = self.transaction_max_timeout.0;
        if longest > u32::MAX.into() {
            faults.push(format!("transaction.max.timeout.ms: {longest} is more than {}", u32::MAX));
        }
    }

    fn check_cluster(&self, faults: &mut Vec<String>) {
        let known = |role: &str| matches!(role, "broker" | "controller");
        if !self.process_roles.split(',').map(str::trim).all(known) {
            faults.push(format!(
                "process.roles: `{}` is neither `broker`, `controller` nor `broker,controller`",
                self.process_roles
            ));
        }
        let voters = match self.voters() {
            Ok(voters) => voters,
            Err(error) => return faults.push(format!("controller.quorum.voters: {error}")),
        };
        let listed = voters.iter().any(|voter| voter.node_id.0 == self.node_id);
        if voters.is_empty() && !(self.is_broker() && self.is_controller()) {
            faults.push(format!(
                "process.roles: `{}` alone is no cluster; controller.quorum.voters has to name the controllers",
                self.process_roles
            ));
        } else if !voters.is_empty() && listed != self.is_controller() {
            faults.push(format!(
                "controller.quorum.voters: `{}` {} node {}, whose process.roles are `{}`",
                self.controller_voters,
                if listed { "lists" } else { "does not list" },
                self.node_id,
                self.process_roles,
            ));
        }
        let election = self.quorum_election_timeout.0;
        if !ELECTION_TIMEOUTS.contains(&election) {
            let (least, most) = (ELECTION_TIMEOUTS.start(), ELECTION_TIMEOUTS.end());
            faults.push(format!(
                "controller.quorum.election.timeout.ms: {election} is not between {least} and {most}"
            ));
        }
        if self.heartbeat_interval.0 == 0 || self.session_timeout.0 < 2 * self.heartbeat_interval.0
        {
            faults.push(format!(
                "broker.session.timeout.ms: {} is less than two heartbeats of {} ms",
                self.session_timeout.0, self.heartbeat_interval.0
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_quorum_whose_leader_could_not_be_heard_in_time_is_refused() {
        let set = |value: &str| {
            let setting = format!("controller.quorum.election.timeout.ms={value}");
            NodeConfig::load(None, [], &[setting]).map_err(|faults| faults.to_string())
        };
        assert!(set("1s").is_ok());
        for wrong in ["100", "1d"] {
            let refused = set(wrong).unwrap_err();
            assert!(refused.contains("is not between 300 and 60000"), "{refused}");
        }
    }

    #[test]
    fn a_cleaner_that_cannot_work_is_refused() {
        let settings = |set: &[&str]| {
            let set: Vec<_> = set.iter().map(|&setting| setting.to_owned()).collect();
            NodeConfig::load(None, [], &set).map_err(|faults| faults.to_string())
        };
        assert!(
            settings(&["log.cleaner.threads=4", "log.cleaner.dedupe.buffer.size=4MiB"]).is_ok()
        );
        for (wrong, told) in [
            (&["log.cleaner.threads=0"][..], "log.cleaner.threads: 0 is too small"),
            (&["log.cleaner.backoff.ms=0"], "log.cleaner.backoff.ms: 0 is too small"),
            (
                &["log.cleaner.threads=5", "log.cleaner.dedupe.buffer.size=4MiB"],
                "log.cleaner.dedupe.buffer.size: 838860 for each",
            ),
            (&["log.cleaner.dedupe.buffer.size=4GiB"], "which use at most 2147483647"),
            (&["log.cleaner.io.max.bytes.per.second=1"], "at least 65536 are needed"),
        ] {
            let refused = settings(wrong).unwrap_err();
            assert!(refused.contains(told), "{refused}");
        }
    }

    #[test]
    fn directories_are_a_list_of_places_apart_and_log_dir_is_its_short_form() {
        let load = |settings: &[&str]| {
            let settings: Vec<_> = settings.iter().map(|&setting| setting.to_owned()).collect();
            NodeConfig::load(None, [], &settings).map_err(|faults| faults.to_string())
        };
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let config = load(&["log.dir=/a"]).unwrap();
        assert_eq!(config.log_directories(), paths(&["/a"]));
        let config = load(&["log.dir=/a", "log.dirs=/b, /c", "metadata.log.dir=/m"]).unwrap();
        assert_eq!(config.log_directories(), paths(&["/b", "/c"]), "as in Kafka");
        assert_eq!(config.metadata_log_dir, "/m");
        let file = NodeConfig::load(Some("log.dirs = [\"/b\", \"/c\"]\n"), [], &[]).unwrap();
        assert_eq!(file.log_directories(), paths(&["/b", "/c"]));
        for (wrong, told) in [
            ("log.dirs=/b,,/c", "empty path"),
            ("log.dirs=/b,/b", "/b twice"),
            ("log.dirs=/b,/b/c", "within another"),
            ("replica.alter.log.dirs.io.max.bytes.per.second=0", "too small"),
        ] {
            let refused = load(&[wrong]).unwrap_err();
            assert!(refused.contains(told), "{wrong}: {refused}");
        }
    }

    #[test]
    fn nothing_is_taken_from_producers_that_no_consumer_could_be_given() {
        let set = |value: &str| {
            let setting = format!("batch.unpacked.max.bytes={value}");
            NodeConfig::load(None, [], &[setting]).map_err(|faults| faults.to_string())
        };
        assert!(set("64MiB").is_ok());
        let refused = set("65MiB").unwrap_err();
        assert!(refused.contains("batch.unpacked.max.bytes: 68157440 is more than 67108864"));
    }
}
