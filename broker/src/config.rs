//! A node's configuration: file < environment (`TROUPE__SECTION__KEY`) < `--set`.
//!
//! Keys are Kafka's words with dots; here is what there is, `load` reads and checks it. Every fault of every source is
//! collected before anything starts.

mod addresses;
mod checks;
mod declaration;
mod dynamic;
mod faults;
mod file;
mod kafka_keys;
pub mod listeners;
pub mod load;
mod selector;
mod sources;
mod topic_settings;
mod value;

use declaration::settings;
pub use declaration::{NodeKey, UpdateMode};
pub use faults::ConfigFaults;
pub use kafka_keys::kafka_keys;
pub use selector::ReplicaSelector;
pub use sources::{ConfigFile, ConfigSources, FileFormat, Origin};
use std::net::SocketAddr;
use std::path::PathBuf;
use troupe_controller::{Voter, VotersError};
use troupe_machines::config::nearest;
pub use value::{Bytes, BytesLimit, Hours, KeptFor, Millis, Minutes, Seconds, Setting, Unset};

settings! {
    /// Number of this node in the cluster.
    node_id: i32 = 1, "node.id", Restart;
    /// `broker`, `controller` or both, separated by a comma. A single node is both.
    process_roles: String = "broker,controller".to_owned(), "process.roles", Restart;
    /// Name of the cluster; empty: as the data directory was formatted, or, for a node alone, drawn at random.
    cluster_id: String = String::new(), "cluster.id", Restart;
    /// All controllers of the cluster, as id@host:port with commas between them; the same on every node.
    /// Empty: this node alone.
    controller_voters: String = String::new(), "controller.quorum.voters", Restart;
    /// Address of the listener that the list of voters names for this node.
    controller_listener: SocketAddr = ([127, 0, 0, 1], 7072).into(), "controller.listener", Restart;
    /// Rack or zone of this node: replicas are spread over racks.
    rack: String = String::new(), "broker.rack", Restart;
    /// Whom readers are sent to by the leaders of this node: `leader`, nobody else; `rack-aware`, also
    /// `org.apache.kafka.common.replica.RackAwareReplicaSelector`: who says in which rack it is (client.rack) reads from an
    /// in-sync replica there, if there is one. The same on every node.
    replica_selector: ReplicaSelector = ReplicaSelector::Leader, "replica.selector.class", Restart;
    /// Address of the gRPC listener; port 0 takes a free one.
    listener: SocketAddr = ([127, 0, 0, 1], 7070).into(), "listener", Restart;
    /// host:port that clients and other nodes are told to use; empty: the listener's address.
    advertised_listener: String = String::new(), "advertised.listener", Restart;
    /// Address of the HTTP listener, for `/metrics`, `/live` and `/ready`.
    http_listener: SocketAddr = ([127, 0, 0, 1], 7071).into(), "http.listener", Restart;
    /// All listeners, as NAME://host:port with commas between them, in place of listener, http.listener and
    /// controller.listener, which are their short forms. No host: all addresses of this machine; port 0: a free one. With no HTTP
    /// listener among them, http.listener takes a free port unless it is set.
    listeners: String = String::new(), "listeners", Restart;
    /// What clients are told who come by each of them, as NAME://host:port with commas between them; of what is not
    /// named here, its address. Empty: advertised.listener.
    advertised_listeners: String = String::new(), "advertised.listeners", Restart;
    /// The protocol of each listener, as NAME:PROTOCOL with commas between them: GRPC or HTTP; PLAINTEXT is read as GRPC.
    /// A listener that is not named here has the protocol of its name.
    listener_protocols: String = String::new(), "listener.security.protocol.map", Restart;
    /// Which of listeners are for controllers and for brokers that turn to them.
    controller_listener_names: String = "CONTROLLER".to_owned(), "controller.listener.names", Restart;
    /// By which of listeners nodes reach each other; empty: the first for clients.
    inter_broker_listener: String = String::new(), "inter.broker.listener.name", Restart;
    /// Where everything is kept, if log.dirs is empty.
    log_dir: PathBuf = PathBuf::from("troupe-data"), "log.dir", Restart;
    /// Directories of the partitions, with commas between them, each best on a disk of its own: a new partition goes to
    /// the one with the fewest, and one that fails takes only its own partitions with it. Empty: log.dir alone.
    log_dirs: String = String::new(), "log.dirs", Restart;
    /// Where the metadata log and what else is the node's own is kept; empty: in the first directory of log.dirs. The
    /// node stops if this one fails.
    metadata_log_dir: String = String::new(), "metadata.log.dir", Restart;
    /// Bytes a second that replicas which move between this node's directories are copied with, all of them together.
    alter_log_dirs_rate: Bytes = Bytes(100 << 20), "replica.alter.log.dirs.io.max.bytes.per.second", Dynamic;
    /// Threads that serve connections and own partitions; 0: one for each processor.
    shards: usize = 0, "shards", Restart;
    /// Threads that wait for the disk.
    flush_threads: usize = 4, "flush.threads", Restart;
    /// Partitions of a topic that is created without a number.
    num_partitions: u32 = 1, "num.partitions", ClusterWide;
    /// Replicas of a topic that is created without a number.
    default_replication_factor: u32 = 1, "default.replication.factor", ClusterWide;
    /// min.insync.replicas of a topic that is created without it.
    min_insync_replicas: u32 = 1, "min.insync.replicas", ClusterWide;
    /// Whether topics that are created without unclean.leader.election.enable have it: a replica that is not in sync may
    /// lead when no other can. Loses records.
    unclean_leader_election: bool = false, "unclean.leader.election.enable", ClusterWide;
    /// Whether publishing to an unknown topic creates it, and, of clients that allow it, sending to it or subscribing to it.
    auto_create_topics: bool = false, "auto.create.topics.enable", Restart;
    /// Whether topics may be deleted.
    delete_topic: bool = true, "delete.topic.enable", ClusterWide;
    /// Most partitions that one request may create.
    max_partitions_per_request: u32 = 10_000, "max.partitions.per.request", ClusterWide;
    /// Most replicas on one node; about 5 KB of memory each. The same on every controller.
    max_partitions_per_node: u32 = 100_000, "max.partitions.per.node", ClusterWide;
    /// Most partitions in the cluster. The same on every controller.
    max_partitions_per_cluster: u32 = 1_000_000, "max.partitions.per.cluster", ClusterWide;
    /// max.message.bytes of topics that do not set it: the largest batch that is accepted.
    message_max_bytes: Bytes = Bytes(1_048_588), "message.max.bytes", Dynamic;
    /// cleanup.policy of topics that do not set it: delete, compact or both, with a comma.
    cleanup_policy: String = "delete".to_owned(), "log.cleanup.policy", Dynamic;
    /// compression.type of topics that do not set it: producer, and nothing else yet.
    compression_type: String = "producer".to_owned(), "compression.type", Restart;
    /// segment.bytes of topics that do not set it: the largest size of one segment file.
    segment_bytes: Bytes = Bytes(1 << 30), "log.segment.bytes", Dynamic;
    /// segment.ms of topics that do not set it: after so long another segment is begun.
    roll: Millis = Millis(604_800_000), "log.roll.ms", Dynamic;
    /// segment.jitter.ms of topics that do not set it.
    roll_jitter: Millis = Millis(0), "log.roll.jitter.ms", Dynamic;
    /// index.interval.bytes of topics that do not set it: bytes of records between two entries of an index.
    index_interval: Bytes = Bytes(4096), "log.index.interval.bytes", Dynamic;
    /// segment.index.bytes of topics that do not set it: the largest size of an index.
    index_size_max: Bytes = Bytes(10 << 20), "log.index.size.max.bytes", Dynamic;
    /// file.delete.delay.ms of topics that do not set it: how long the files of deleted segments are kept.
    segment_delete_delay: Millis = Millis(60_000), "log.segment.delete.delay.ms", Dynamic;
    /// flush.policy of topics that do not set it: commit (a record counts once it is on the disk) or os.
    flush_policy: String = "commit".to_owned(), "log.flush.policy", Dynamic;
    /// message.timestamp.type of topics that do not set it: CreateTime or LogAppendTime.
    timestamp_type: String = "CreateTime".to_owned(), "log.message.timestamp.type", Dynamic;
    /// message.timestamp.before.max.ms of topics that do not set it.
    timestamp_before_max: Millis = Millis(i64::MAX as u64), "log.message.timestamp.before.max.ms", Dynamic;
    /// message.timestamp.after.max.ms of topics that do not set it.
    timestamp_after_max: Millis = Millis(i64::MAX as u64), "log.message.timestamp.after.max.ms", Dynamic;
    /// retention.ms of topics that do not set it; a number alone is of hours, -1: for ever. What is said in minutes or
    /// milliseconds counts before it.
    retention_hours: KeptFor<Hours> = KeptFor::hours(168), "log.retention.hours", Dynamic;
    /// The same; a number alone is of minutes. Empty: not set.
    retention_minutes: Unset<KeptFor<Minutes>> = Unset(None), "log.retention.minutes", Dynamic;
    /// The same; a number alone is of milliseconds. Counts before the other two. Empty: not set.
    retention_ms: Unset<KeptFor<Millis>> = Unset(None), "log.retention.ms", Dynamic;
    /// retention.bytes of topics that do not set it: how large a partition may become; -1: any size.
    retention_bytes: BytesLimit = BytesLimit(None), "log.retention.bytes", Dynamic;
    /// How long after the start of the node segments are checked first; after a whole interval, if that is shorter.
    initial_task_delay: Millis = Millis(30_000), "log.initial.task.delay.ms", Restart;
    /// How often segments are checked for what need not be kept any more.
    retention_check_interval: Millis = Millis(300_000), "log.retention.check.interval.ms", Restart;
    /// Whether topics with cleanup.policy compact are compacted. Without it they grow, `__consumer_offsets` too, and
    /// coordinators take ever longer to load.
    cleaner_enable: bool = true, "log.cleaner.enable", Restart;
    /// Threads that compact, one log each at a time.
    cleaner_threads: usize = 1, "log.cleaner.threads", Dynamic;
    /// Memory in which all of these threads together note which record of a key is its last; 24 bytes a key. A log with
    /// more keys than that is cleaned in several passes.
    cleaner_dedupe_buffer: Bytes = Bytes(128 << 20), "log.cleaner.dedupe.buffer.size", Dynamic;
    /// How long a thread rests when no log has to be cleaned.
    cleaner_backoff: Millis = Millis(15_000), "log.cleaner.backoff.ms", Dynamic;
    /// Bytes that all of these threads together read and write in a second; without it, as fast as flushes beside them
    /// bear.
    cleaner_io_bytes: Bytes = Bytes(i64::MAX as u64), "log.cleaner.io.max.bytes.per.second", Dynamic;
    /// min.cleanable.dirty.ratio of topics that do not set it: how much of a log has to be new for it to be cleaned.
    cleaner_min_ratio: String = "0.5".to_owned(), "log.cleaner.min.cleanable.ratio", Dynamic;
    /// delete.retention.ms of topics that do not set it: how long tombstones are kept.
    cleaner_delete_retention: Millis = Millis(86_400_000), "log.cleaner.delete.retention.ms", Dynamic;
    /// min.compaction.lag.ms of topics that do not set it.
    cleaner_min_lag: Millis = Millis(0), "log.cleaner.min.compaction.lag.ms", Dynamic;
    /// max.compaction.lag.ms of topics that do not set it.
    cleaner_max_lag: Millis = Millis(i64::MAX as u64), "log.cleaner.max.compaction.lag.ms", Dynamic;
    /// How fast all replicas of the node are looked through for rot on the disk, on a thread of the lowest priority: bytes
    /// in a second; 0: not at all. What a reader is given is checked besides, always.
    scrub_bytes_per_second: Bytes = Bytes(10 << 20), "log.scrub.bytes.per.second", Dynamic;
    /// Soonest from the beginning of one such pass over all replicas to the beginning of the next.
    scrub_interval: Millis = Millis(86_400_000), "log.scrub.interval.ms", Dynamic;
    /// How often high watermarks and recovery points are written down.
    checkpoint_interval: Millis = Millis(5_000), "log.checkpoint.interval.ms", Restart;
    /// Largest gRPC message that is accepted.
    max_request_bytes: Bytes = Bytes(64 << 20), "socket.request.max.bytes", Restart;
    /// Largest size to which the records of a compressed batch may unpack; larger ones are refused. At most 64 MiB.
    max_unpacked_batch: Bytes = Bytes(16 << 20), "batch.unpacked.max.bytes", Restart;
    /// Memory in which the node unpacks compressed batches for its readers, all of them together; it always suffices
    /// for one batch.
    unpack_memory: Bytes = Bytes(128 << 20), "unpack.memory.bytes", Restart;
    /// Most connections of a listener; fewer, if the process may not open enough files: what the logs of the node's
    /// partitions need is reserved, and connections get what is left. An eighth of them (256 at most) are for the cluster's own
    /// nodes alone.
    max_connections: u32 = 10_000, "max.connections.per.node", Dynamic;
    /// Most connections of a listener from one address (of IPv6, from one network of 64 bits).
    max_connections_per_ip: u32 = 7_500, "max.connections.per.ip", Dynamic;
    /// How long a connection may take to say that it speaks HTTP/2, and a call's headers to come as a whole; and how long
    /// the request of a call that has but one may stand still on its way (streams may be silent).
    connection_setup_timeout: Millis = Millis(10_000), "socket.connection.setup.timeout.ms", Restart;
    /// A connection without a call is ended after this time.
    connections_max_idle: Millis = Millis(600_000), "connections.max.idle.ms", Restart;
    /// A call is ended whose client has an answer sent to it and takes nothing of it for so long; and its connection, if
    /// that is so of all its calls.
    stream_max_stall: Millis = Millis(1_800_000), "stream.max.stall.ms", Restart;
    /// Longest wait for connections (5 s at most) and then for partitions to finish at a stop.
    shutdown_timeout: Millis = Millis(30_000), "shutdown.timeout.ms", Restart;
    /// How often a broker tells the controller that it is alive.
    heartbeat_interval: Millis = Millis(300), "broker.heartbeat.interval.ms", Restart;
    /// After this silence a broker is fenced: others lead what it led.
    session_timeout: Millis = Millis(2_000), "broker.session.timeout.ms", Restart;
    /// A broker whose session breaks is fenced unless it comes back within this time.
    reconnect_grace: Millis = Millis(1_000), "broker.reconnect.grace.ms", Restart;
    /// Longest wait at a stop for others to take over what this node leads.
    controlled_shutdown_timeout: Millis = Millis(30_000), "controlled.shutdown.timeout.ms", Restart;
    /// Whether others take over what this node leads before it stops. Without it clients wait until the node is missed.
    controlled_shutdown: bool = true, "controlled.shutdown.enable", Restart;
    /// A follower that has not been at its leader's end for so long leaves the ISR.
    replica_lag_time_max: Millis = Millis(30_000), "replica.lag.time.max.ms", Restart;
    /// Bytes that a leader may push to a shard of a follower before it has taken them.
    replica_fetch_bytes: Bytes = Bytes(16 << 20), "replica.fetch.response.max.bytes", Restart;
    /// Bytes a second that a broker sends, all together, to the replicas that leader.replication.throttled.replicas of
    /// their topics name; followers that are in sync are never held back.
    leader_throttled_rate: Bytes = Bytes(i64::MAX as u64), "leader.replication.throttled.rate", Dynamic;
    /// Bytes a second that a broker takes, all together, for its replicas that follower.replication.throttled.replicas of
    /// their topics name, as long as they are not in sync.
    follower_throttled_rate: Bytes = Bytes(i64::MAX as u64), "follower.replication.throttled.rate", Dynamic;
    /// How long a partition remembers a producer that numbers its batches and has gone silent.
    producer_id_expiration: Millis = Millis(86_400_000), "producer.id.expiration.ms", Restart;
    /// Silence of the active controller after which, and up to three fifths of it more, others stand for election. Kafka waits
    /// longer; here the active one is heard ten times a second.
    quorum_election_timeout: Millis = Millis(500), "controller.quorum.election.timeout.ms", Restart;
    /// Whether leaderships go back, from time to time, to where they are preferred.
    leader_rebalance: bool = true, "auto.leader.rebalance.enable", ClusterWide;
    /// How often that is looked at; a number alone is of seconds.
    leader_imbalance_interval: Seconds = Seconds::of(300), "leader.imbalance.check.interval.seconds", ClusterWide;
    /// How many percent of the leaderships a broker is preferred for may be elsewhere.
    leader_imbalance_percentage: u32 = 10, "leader.imbalance.per.broker.percentage", ClusterWide;
    /// Partitions of `__consumer_offsets`, which is created with the first group: coordinators of groups.
    offsets_topic_partitions: u32 = 50, "offsets.topic.num.partitions", Restart;
    /// Replicas of `__consumer_offsets`; as many as there are brokers, if those are fewer when it is created.
    offsets_topic_replication_factor: u32 = 3, "offsets.topic.replication.factor", Restart;
    /// segment.bytes of `__consumer_offsets`.
    offsets_topic_segment_bytes: Bytes = Bytes(100 << 20), "offsets.topic.segment.bytes", Restart;
    /// How long committed offsets are kept that no group uses any more; a number alone is of minutes.
    offsets_retention: Minutes = Minutes(10_080), "offsets.retention.minutes", Dynamic;
    /// Largest metadata beside a committed offset.
    offset_metadata_max_bytes: Bytes = Bytes(4096), "offset.metadata.max.bytes", Dynamic;
    /// Most members of one group.
    group_max_size: u32 = 2_147_483_647, "group.max.size", Dynamic;
    /// How long the first member of a group waits for others before partitions are shared out.
    group_initial_rebalance_delay: Millis = Millis(0), "group.initial.rebalance.delay.ms", Dynamic;
    /// Shortest time after which a member that is away loses its partitions.
    group_min_session_timeout: Millis = Millis(100), "group.min.session.timeout.ms", Dynamic;
    /// Longest time after which a member that is away loses its partitions.
    group_max_session_timeout: Millis = Millis(1_800_000), "group.max.session.timeout.ms", Dynamic;
    /// Partitions of `__transaction_state`, which is created with the first transaction: coordinators of transactions.
    transaction_topic_partitions: u32 = 50, "transaction.state.log.num.partitions", Restart;
    /// Replicas of `__transaction_state`; as many as there are brokers, if those are fewer when it is created.
    transaction_topic_replication_factor: u32 = 3, "transaction.state.log.replication.factor", Restart;
    /// min.insync.replicas of `__transaction_state`; no more than it has replicas.
    transaction_topic_min_insync_replicas: u32 = 2, "transaction.state.log.min.isr", Restart;
    /// segment.bytes of `__transaction_state`.
    transaction_topic_segment_bytes: Bytes = Bytes(100 << 20), "transaction.state.log.segment.bytes", Restart;
    /// Longest time that a producer may ask for its transactions; what lasts longer is aborted.
    transaction_max_timeout: Millis = Millis(900_000), "transaction.max.timeout.ms", Dynamic;
    /// How long a transactional id is remembered that nobody uses any more.
    transactional_id_expiration: Millis = Millis(604_800_000), "transactional.id.expiration.ms", Dynamic;
    /// Whether the node and its actors may be made to fail through the chaos service.
    chaos_enable: bool = false, "chaos.enable", Restart;
}

impl NodeConfig {
    /// The controllers; none: this node alone.
    pub fn voters(&self) -> Result<Vec<Voter>, VotersError> {
        Voter::parse_list(&self.controller_voters)
    }

    /// The directories of its partitions; as in Kafka, `log.dir` counts only where there is no `log.dirs`.
    pub fn log_directories(&self) -> Vec<PathBuf> {
        if self.log_dirs.trim().is_empty() {
            return vec![self.log_dir.clone()];
        }
        self.log_dirs.split(',').map(|path| PathBuf::from(path.trim())).collect()
    }

    /// Where the metadata log and what else is the node's own is kept.
    pub fn metadata_directory(&self) -> PathBuf {
        match self.metadata_log_dir.trim() {
            "" => self.log_directories().swap_remove(0),
            path => path.into(),
        }
    }

    /// Whether this node has partitions.
    pub fn is_broker(&self) -> bool {
        self.process_roles.split(',').any(|role| role.trim() == "broker")
    }

    /// Whether this node has a part in the metadata quorum.
    pub fn is_controller(&self) -> bool {
        self.process_roles.split(',').any(|role| role.trim() == "controller")
    }

    /// The number of shards in force.
    pub fn shard_count(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        }
    }
}

fn unknown_key(key: &str) -> String {
    let keys = NodeConfig::keys();
    match nearest(key, keys.iter().map(|key| key.name)) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => "unknown key; `troupe serve --help-config` lists them all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_show_and_parse() {
        let mut config = NodeConfig::default();
        for NodeKey { name, default, documentation, update_mode } in NodeConfig::keys() {
            config.set(name, &default).unwrap();
            assert_eq!(config.get(name), Some(default), "{name}");
            assert_eq!(NodeConfig::update_mode(name), Some(update_mode), "{name}");
            assert!(!documentation.is_empty(), "{name}");
        }
        assert_eq!((config.get("no.key"), NodeConfig::update_mode("no.key")), (None, None));
    }
}
