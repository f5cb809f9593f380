//! What differs from run to run: sizes, the topic's configuration, and which faults there are.

use crate::chance::Chance;
use crate::compaction::Compaction;
use crate::decay::Decay;
use crate::groups::{GroupHostBug, GroupSettings};
use crate::reassignment;
use crate::refill;
use crate::txn::{TxnHostBug, TxnSettings};
use std::collections::BTreeMap;
use troupe_log::LogConfig;
use troupe_machines::config::{FlushPolicy, TopicConfig};
use troupe_machines::group::planted::Bug as GroupBug;
use troupe_machines::replica::ReplicaConfig;
use troupe_machines::replica::planted::Bug as MachineBug;
use troupe_machines::txn::planted::Bug as TxnBug;

/// A classic bug that is put back, in the machine or in what carries out its decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    Machine(MachineBug),
    Host(HostBug),
    /// In the machine of groups, and in what carries that one out.
    Group(GroupBug),
    GroupHost(GroupHostBug),
    /// The same, of transactions.
    Txn(TxnBug),
    TxnHost(TxnHostBug),
}

/// Bugs of the one who carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostBug {
    /// §10, 1: a flush counts as done when it is asked for.
    AnswerBeforeFlush,
    /// §10, 1: a failed flush is tried again, and counts when it succeeds.
    RetryFailedFlush,
    /// §10, 6: after a truncation the producers stay as they were.
    KeepProducersAfterTruncation,
    /// §10, 8: a rebuilt replica leads on in the epoch in which it failed.
    LeadAgainInOldEpoch,
    /// §10, 8: a controller refuses at once, by what it has proposed and nobody has committed.
    RefuseByWhatIsProposed,
    /// §7, 32: what lasts is measured with a clock that jumps.
    MeasureByWallClock,
    /// §10, 9: reads up to the end of the log.
    ReadAboveHighWatermark,
    /// The same of a follower, whose high watermark is behind its leader's.
    FollowerReadsAboveHighWatermark,
    /// §10, 2: a follower that diverges says that it does not know the epoch of its last batch.
    ForgetLastEpoch,
    /// S23: a tombstone goes with the first pass that may take it.
    ForgetDeleteRetention,
    /// S23: a tombstone goes, whoever has not got it yet.
    ForgetWhoLacksTombstones,
    /// S24: nothing is kept for the sake of its producer.
    ForgetProducersInCleaning,
    /// R34: who is added counts as in sync before it has caught up.
    CountAddedAtOnce,
    /// R34: a cancellation drops who was added, however few are left in sync.
    DropAddedAtOnce,
    /// R15: whoever leads goes on in its epoch when another was found damaged, and with that one's stream.
    KeepStreamsOfDamaged,
    /// X13: what was aborted is noted by leaders only.
    FollowersForgetAborted,
    /// X13: with the end of a log goes what is known of aborted transactions in what is left.
    ForgetAbortedInTruncation,
    /// X12: who reads what is committed reads up to the high watermark.
    ReadAboveLastStable,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub bug: Option<Bug>,
    pub brokers: usize,
    /// Voters share the brokers' processes, or have their own.
    pub combined: bool,
    pub partitions: u32,
    pub min_insync_replicas: u32,
    pub flush_policy: FlushPolicy,
    pub log_append_time: bool,
    /// Elections may lose records: only then nothing is said about what was acknowledged.
    pub unclean: bool,
    pub segment_bytes: u64,
    pub index_interval_bytes: u32,
    pub lag_ms: u64,
    pub producers: usize,
    pub consumers: usize,
    /// When the faults end.
    pub safety_ms: u64,
    /// Time between two faults, on average.
    pub fault_interval_ms: u64,
    pub faults: Vec<Fault>,
    /// Who is not in sync gets little at a time, so that leaders change meanwhile.
    pub slow_fills: bool,
    /// The topic is compacted.
    pub compaction: Option<Compaction>,
    /// Disks go bad.
    pub decay: Option<Decay>,
    /// The runs with consumer groups.
    pub groups: Option<GroupSettings>,
    /// The runs with transactions.
    pub txn: Option<TxnSettings>,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    PowerLoss,
    PowerLossOfAll,
    CrashWithinIo,
    CleanStop,
    Wipe,
    Pause,
    ClockJump,
    KillReplica,
    FsyncError,
    WriteError,
    FullDisk,
    SlowDisk,
    Isolate,
    OneWay,
    Bridge,
    Loss,
    BreakStreams,
    SlowNetwork,
    ElectController,
    PreferredElection,
    UncleanElection,
    DeleteRecords,
    Retention,
    Reassign,
    CancelReassignment,
    Retire,
}

impl Fault {
    /// In the runs that have them, often.
    pub const OF_REASSIGNMENT: [Fault; 8] = [
        Fault::Reassign,
        Fault::Reassign,
        Fault::Reassign,
        Fault::Reassign,
        Fault::CancelReassignment,
        Fault::Retire,
        Fault::Retire,
        Fault::Retire,
    ];

    /// In the runs in which that takes long: leaders change.
    pub const WHILE_FILLING: [Fault; 8] = [
        Fault::KillReplica,
        Fault::KillReplica,
        Fault::KillReplica,
        Fault::KillReplica,
        Fault::PreferredElection,
        Fault::PreferredElection,
        Fault::Wipe,
        Fault::Wipe,
    ];

    pub const ALL: [Fault; 24] = [
        Fault::Kill,
        Fault::PowerLoss,
        Fault::PowerLossOfAll,
        Fault::CrashWithinIo,
        Fault::CleanStop,
        Fault::Wipe,
        Fault::Pause,
        Fault::ClockJump,
        Fault::KillReplica,
        Fault::FsyncError,
        Fault::WriteError,
        Fault::FullDisk,
        Fault::SlowDisk,
        Fault::Isolate,
        Fault::OneWay,
        Fault::Bridge,
        Fault::Loss,
        Fault::BreakStreams,
        Fault::SlowNetwork,
        Fault::ElectController,
        Fault::PreferredElection,
        Fault::UncleanElection,
        Fault::DeleteRecords,
        Fault::Retention,
    ];
}

impl Settings {
    pub fn draw(seed: u64, chance: &mut Chance, bug: Option<Bug>) -> Settings {
        let flush_policy = if chance.one_in(5) { FlushPolicy::Os } else { FlushPolicy::Commit };
        let all_kinds = chance.one_in(3);
        let drawn = Fault::ALL.into_iter().filter(|_| all_kinds || chance.one_in(2));
        let mut faults: Vec<_> = drawn.collect();
        if bug == Some(Bug::Machine(MachineBug::DeleteAboveHighWatermark)) {
            faults.extend([Fault::DeleteRecords; 8]);
        }
        Settings {
            bug,
            brokers: if chance.one_in(4) { 4 } else { 3 },
            combined: chance.one_in(2),
            partitions: chance.between(1, 2) as u32,
            min_insync_replicas: if chance.one_in(3) { 1 } else { 2 },
            flush_policy,
            log_append_time: chance.one_in(4),
            unclean: chance.one_in(10) && bug.is_none(),
            segment_bytes: chance.between(600, 3_000),
            index_interval_bytes: chance.between(100, 500) as u32,
            lag_ms: chance.between(600, 2_000),
            producers: chance.between(2, 3) as usize,
            consumers: 1,
            safety_ms: chance.between(6_000, 14_000),
            fault_interval_ms: chance.between(100, 900),
            faults,
            slow_fills: false,
            compaction: Compaction::draw(seed, bug),
            decay: None,
            groups: None,
            txn: None,
        }
    }

    /// The same, and in some runs replicas are reassigned, with a broker more to have them.
    pub fn with_reassignment(mut self, seed: u64) -> Settings {
        if reassignment::draw(seed, self.bug) {
            self.brokers += 1;
            self.slow_fills = self.compaction.is_some() && refill::draw(seed, self.bug);
            if self.slow_fills {
                self.fill_slowly(seed);
            }
            self.faults.extend(Fault::OF_REASSIGNMENT);
            if self.has_host_bug(HostBug::DropAddedAtOnce) {
                self.faults.extend([Fault::CancelReassignment; 4]);
            }
        }
        self
    }

    /// Tombstones go soon; in some of the runs hardly anything else happens than that leaders change.
    fn fill_slowly(&mut self, seed: u64) {
        if self.bug.is_some() || seed.is_multiple_of(2) {
            self.faults.clear();
            self.fault_interval_ms = self.fault_interval_ms.min(300);
        }
        self.faults.extend(Fault::WHILE_FILLING);
        if let Some(compaction) = &mut self.compaction {
            compaction.delete_retention_ms = compaction.delete_retention_ms.min(500);
        }
    }

    /// The same, and in some runs disks go bad.
    pub fn with_decay(mut self, seed: u64) -> Settings {
        self.decay = Decay::draw(seed, &mut self);
        self
    }

    /// As an operator would write them.
    pub fn topic_overrides(&self) -> BTreeMap<String, String> {
        let policy = match self.flush_policy {
            FlushPolicy::Commit => "commit",
            FlushPolicy::Os => "os",
        };
        let cleanup = match &self.compaction {
            None => "delete",
            Some(Compaction { deletes: false, .. }) => "compact",
            Some(Compaction { deletes: true, .. }) => "compact,delete",
        };
        let time = if self.log_append_time { "LogAppendTime" } else { "CreateTime" };
        [
            ("min.insync.replicas", self.min_insync_replicas.to_string()),
            ("flush.policy", policy.to_owned()),
            ("cleanup.policy", cleanup.to_owned()),
            ("message.timestamp.type", time.to_owned()),
            ("unclean.leader.election.enable", self.unclean.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    pub fn replica_config(&self, topic: &TopicConfig) -> ReplicaConfig {
        let expiration = ReplicaConfig::PRODUCER_ID_EXPIRATION_MS;
        ReplicaConfig {
            replica_lag_time_max_ms: self.lag_ms,
            ..ReplicaConfig::from_topic(topic, expiration)
        }
    }

    /// Small segments, so that there are many.
    pub fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            index_interval_bytes: self.index_interval_bytes,
            ..LogConfig::default()
        }
    }

    /// Those that clients write to; the others are of a coordinator.
    pub fn written_partitions(&self) -> u32 {
        self.partitions - self.txn.as_ref().map_or(0, |txn| txn.coordinators)
    }

    pub fn has_host_bug(&self, bug: HostBug) -> bool {
        self.bug == Some(Bug::Host(bug))
    }
}
