//! Kafka's keys that are no keys here: other names of those that are, those without effect, and those that cannot be had.
//!
//! Promise: of a key that a Kafka node takes it is said what becomes of it, and what takes its place.
//! Never here: keys that this node has, or values.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is another name of this key.
    Alias {
        of: &'static str,
        /// What a number alone is a number of, if that is not what it would be there.
        unit: &'static str,
    },
    /// It is taken, and changes nothing: why.
    WithoutEffect(&'static str),
    /// It cannot be had: why, and what to do.
    Refused(&'static str),
}

use Fate::{Alias, Refused, WithoutEffect};

const fn alias(of: &'static str, unit: &'static str) -> Fate {
    Alias { of, unit }
}

const TRANSACTIONS: &str =
    "coordinators of transactions load, look after time-outs and verify partitions by themselves";
const NO_SHARE_GROUPS: &str = "there are no share groups";
const NO_ZOOKEEPER: &str =
    "there is no ZooKeeper; nodes decide among themselves, by controller.quorum.voters";
const LEADERS_PUSH: &str =
    "leaders push records to followers as they come; no follower asks for them";
const ONE_CLIENT_PROTOCOL: &str =
    "requests wait in no queue of the node; each connection's are bounded in bytes";
const RAFT_TIMES: &str =
    "the quorum has one time of this kind: controller.quorum.election.timeout.ms";
const METADATA_LOG: &str = "the metadata log is kept short by snapshots as it grows, of itself";
const METRICS: &str = "what is measured is at /metrics of http.listener";
const VERSIONS: &str = "nodes tell each other what they can take";
const TIERED: &str = "there is no tiered storage";
const NO_SECURITY: &str = "connections are neither encrypted nor authenticated yet, and nothing is authorized; take it \
                           out and let only who may come reach the listeners";

/// Single keys.
const KEYS: &[(&str, Fate)] = &[
    ("broker.id", alias("node.id", "")),
    ("leader.imbalance.check.interval.ms", alias("leader.imbalance.check.interval.seconds", "ms")),
    ("log.roll.hours", alias("log.roll.ms", "h")),
    ("log.roll.jitter.hours", alias("log.roll.jitter.ms", "h")),
    ("replica.high.watermark.checkpoint.interval.ms", alias("log.checkpoint.interval.ms", "")),
    ("max.connections", alias("max.connections.per.node", "")),
    (
        "num.network.threads",
        WithoutEffect("each shard has its own connections and partitions: set shards instead"),
    ),
    (
        "num.io.threads",
        WithoutEffect("requests are served by shards, and the disk is waited for by flush.threads"),
    ),
    (
        "num.replica.fetchers",
        WithoutEffect("leaders push to followers, by a stream for each shard: set shards instead"),
    ),
    (
        "num.recovery.threads.per.data.dir",
        WithoutEffect("four logs at a time are recovered, by the shards that own them"),
    ),
    (
        "num.replica.alter.log.dirs.threads",
        WithoutEffect("moves are bounded by replica.alter.log.dirs.io.max.bytes.per.second"),
    ),
    ("background.threads", WithoutEffect("there is no pool of threads for all kinds of work")),
    ("queued.max.requests", WithoutEffect(ONE_CLIENT_PROTOCOL)),
    ("queued.max.request.bytes", WithoutEffect(ONE_CLIENT_PROTOCOL)),
    (
        "socket.send.buffer.bytes",
        WithoutEffect(
            "the system sizes the buffers of connections, and HTTP/2 has windows of its own",
        ),
    ),
    (
        "socket.receive.buffer.bytes",
        WithoutEffect(
            "the system sizes the buffers of connections, and HTTP/2 has windows of its own",
        ),
    ),
    ("socket.listen.backlog.size", WithoutEffect("1,024 connections may wait to be accepted")),
    (
        "log.flush.interval.messages",
        WithoutEffect(
            "with log.flush.policy=commit every record is on the disk before it is acknowledged; with os the system \
             decides",
        ),
    ),
    (
        "log.flush.interval.ms",
        WithoutEffect(
            "with log.flush.policy=commit every record is on the disk before it is acknowledged; with os the system \
             decides",
        ),
    ),
    ("log.flush.scheduler.interval.ms", WithoutEffect("see log.flush.policy")),
    (
        "log.flush.offset.checkpoint.interval.ms",
        WithoutEffect(
            "recovery points are written with high watermarks: log.checkpoint.interval.ms",
        ),
    ),
    (
        "log.flush.start.offset.checkpoint.interval.ms",
        WithoutEffect("where a log begins is written when it changes"),
    ),
    ("log.preallocate", WithoutEffect("segment files grow as they are written")),
    ("log.cleaner.io.buffer.size", WithoutEffect("the cleaner reads what is in the page cache")),
    (
        "log.cleaner.io.buffer.load.factor",
        WithoutEffect("the map of keys is filled as far as it is fast"),
    ),
    ("fetch.max.bytes", WithoutEffect("how much an answer has is what the client takes")),
    ("request.timeout.ms", WithoutEffect("a call has the time that its client gives it")),
    ("replica.fetch.min.bytes", WithoutEffect(LEADERS_PUSH)),
    ("replica.fetch.max.bytes", WithoutEffect(LEADERS_PUSH)),
    ("replica.fetch.wait.max.ms", WithoutEffect(LEADERS_PUSH)),
    ("replica.fetch.backoff.ms", WithoutEffect(LEADERS_PUSH)),
    ("replica.socket.timeout.ms", WithoutEffect(LEADERS_PUSH)),
    ("replica.socket.receive.buffer.bytes", WithoutEffect(LEADERS_PUSH)),
    (
        "fetch.purgatory.purge.interval.requests",
        WithoutEffect("who waits is kept by each partition"),
    ),
    (
        "producer.purgatory.purge.interval.requests",
        WithoutEffect("who waits is kept by each partition"),
    ),
    (
        "max.incremental.fetch.session.cache.slots",
        WithoutEffect("a stream of records needs no session"),
    ),
    (
        "unclean.leader.election.interval.ms",
        WithoutEffect("a leader is elected as soon as there is one to elect"),
    ),
    (
        "controlled.shutdown.max.retries",
        WithoutEffect("a stop is asked for once, for controlled.shutdown.timeout.ms"),
    ),
    (
        "controlled.shutdown.retry.backoff.ms",
        WithoutEffect("a stop is asked for once, for controlled.shutdown.timeout.ms"),
    ),
    (
        "initial.broker.registration.timeout.ms",
        WithoutEffect("a broker waits for the controllers as long as it takes"),
    ),
    ("metadata.max.idle.interval.ms", WithoutEffect("voters are heard without records")),
    (
        "controller.quorum.bootstrap.servers",
        WithoutEffect("controller.quorum.voters says where the controllers are, and who they are"),
    ),
    ("controller.quorum.fetch.timeout.ms", WithoutEffect(RAFT_TIMES)),
    ("controller.quorum.election.backoff.max.ms", WithoutEffect(RAFT_TIMES)),
    ("controller.quorum.append.linger.ms", WithoutEffect(RAFT_TIMES)),
    ("controller.quorum.request.timeout.ms", WithoutEffect(RAFT_TIMES)),
    ("controller.quorum.retry.backoff.ms", WithoutEffect(RAFT_TIMES)),
    ("metadata.log.max.record.bytes.between.snapshots", WithoutEffect(METADATA_LOG)),
    ("metadata.log.max.snapshot.interval.ms", WithoutEffect(METADATA_LOG)),
    ("metadata.log.segment.bytes", WithoutEffect(METADATA_LOG)),
    ("metadata.log.segment.ms", WithoutEffect(METADATA_LOG)),
    ("metadata.max.retention.bytes", WithoutEffect(METADATA_LOG)),
    ("metadata.max.retention.ms", WithoutEffect(METADATA_LOG)),
    (
        "offsets.retention.check.interval.ms",
        WithoutEffect("how often is looked is settled; see offsets.retention.minutes"),
    ),
    ("offsets.commit.timeout.ms", WithoutEffect("a commit has the time that its client gives it")),
    (
        "offsets.commit.required.acks",
        WithoutEffect("a commit is answered when all in sync have it"),
    ),
    ("offsets.load.buffer.size", WithoutEffect("a coordinator reads its partition as it can")),
    ("offsets.topic.compression.codec", WithoutEffect("what coordinators write is small")),
    (
        "group.coordinator.rebalance.protocols",
        WithoutEffect(
            "members and coordinators have one protocol, by which the members that move pause alone",
        ),
    ),
    ("group.coordinator.threads", WithoutEffect("coordinators are served by shards")),
    (
        "producer.id.expiration.check.interval.ms",
        WithoutEffect("each partition looks every ten minutes"),
    ),
    ("inter.broker.protocol.version", WithoutEffect(VERSIONS)),
    ("log.message.format.version", WithoutEffect(VERSIONS)),
    ("log.message.downconversion.enable", WithoutEffect(VERSIONS)),
    (
        "log.message.timestamp.difference.max.ms",
        Refused("use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms"),
    ),
    ("auto.include.jmx.reporter", WithoutEffect(METRICS)),
    ("metric.reporters", WithoutEffect(METRICS)),
    ("host.name", Refused("use listeners=PLAINTEXT://HOST:PORT")),
    ("port", Refused("use listeners=PLAINTEXT://HOST:PORT")),
    ("advertised.host.name", Refused("use advertised.listeners=PLAINTEXT://HOST:PORT")),
    ("advertised.port", Refused("use advertised.listeners=PLAINTEXT://HOST:PORT")),
    ("authorizer.class.name", Refused(NO_SECURITY)),
    ("super.users", Refused(NO_SECURITY)),
    ("allow.everyone.if.no.acl.found", Refused(NO_SECURITY)),
    ("principal.builder.class", Refused(NO_SECURITY)),
];

/// All keys that begin so; the first that fits counts.
const FAMILIES: &[(&str, Fate)] = &[
    ("zookeeper.", WithoutEffect(NO_ZOOKEEPER)),
    ("transaction.", WithoutEffect(TRANSACTIONS)),
    ("add.partitions.to.txn.", WithoutEffect(TRANSACTIONS)),
    ("share.coordinator.", WithoutEffect(NO_SHARE_GROUPS)),
    ("group.share.", WithoutEffect(NO_SHARE_GROUPS)),
    (
        "group.consumer.",
        WithoutEffect("what members may ask for is bounded by the keys that begin with group."),
    ),
    ("remote.log.", WithoutEffect(TIERED)),
    ("remote.fetch.", WithoutEffect(TIERED)),
    ("metrics.", WithoutEffect(METRICS)),
    ("kafka.metrics.", WithoutEffect(METRICS)),
    ("confluent.", WithoutEffect("it is for Confluent's own server")),
    ("security.inter.broker.protocol", WithoutEffect("see inter.broker.listener.name")),
    ("ssl.", Refused(NO_SECURITY)),
    ("sasl.", Refused(NO_SECURITY)),
    ("security.", Refused(NO_SECURITY)),
    ("listener.name.", Refused(NO_SECURITY)),
    ("delegation.token.", Refused(NO_SECURITY)),
    ("password.encoder.", Refused(NO_SECURITY)),
    ("early.start.listeners", WithoutEffect("each listener serves as soon as it can")),
];

/// What becomes of a key that this node does not have; `None`: nobody knows it.
pub(super) fn fate(key: &str) -> Option<Fate> {
    let single = KEYS.iter().find(|(name, _)| *name == key);
    let fits =
        |(prefix, _): &&(&str, Fate)| key.starts_with(prefix) && key.len() > prefix.len() - 1;
    single.or_else(|| FAMILIES.iter().find(fits)).map(|(_, fate)| *fate)
}

/// What becomes of each of Kafka's keys that are none of this node: for documentation. Families end in a dot and a star.
pub fn kafka_keys() -> Vec<(String, String)> {
    let told = |fate: &Fate| match fate {
        Alias { of, unit: "" } => format!("another name of `{of}`"),
        Alias { of, unit } => format!("`{of}`, with a number alone of {unit}"),
        WithoutEffect(reason) => format!("without effect: {reason}"),
        Refused(reason) => format!("refused: {reason}"),
    };
    let single = KEYS.iter().map(|(name, fate)| ((*name).to_owned(), told(fate)));
    let family =
        |prefix: &str| if prefix.ends_with('.') { format!("{prefix}*") } else { prefix.to_owned() };
    let families = FAMILIES.iter().map(|(prefix, fate)| (family(prefix), told(fate)));
    single.chain(families).collect()
}

/// Names to suggest to who has misspelt one.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}

/// The value as the key itself would have it.
pub(super) fn in_unit(value: &str, unit: &str) -> String {
    match !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) {
        true => format!("{value}{unit}"),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_of_the_unit_that_its_key_has() {
        assert_eq!(in_unit("168", "h"), "168h");
        assert_eq!(in_unit("7d", "h"), "7d");
        assert_eq!(in_unit("", "h"), "");
        assert_eq!(in_unit("3", ""), "3");
    }

    #[test]
    fn families_end_where_their_names_do() {
        assert_eq!(fate("ssl.keystore.location"), Some(Refused(NO_SECURITY)));
        assert_eq!(fate("zookeeper.connect"), Some(WithoutEffect(NO_ZOOKEEPER)));
        assert_eq!(fate("sslx"), None);
        assert_eq!(fate("num.partitions"), None);
    }

    #[test]
    fn every_key_is_there_once() {
        let mut known: Vec<_> = names().collect();
        known.sort_unstable();
        let before = known.len();
        known.dedup();
        assert_eq!(known.len(), before);
    }
}
