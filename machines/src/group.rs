//! Consumer groups, as a machine that decides and replays: who is a member, who reads which partition, and
//! how far each group has read.
//!
//! Owns all groups of one partition of `__consumer_offsets`: what its records say ([`Groups::replay`] alone
//! changes it), and what lives only as long as a coordinator does: which stream a member is connected by,
//! what it was told and has not yet acknowledged, and when it has been away or slow for too long.
//!
//! ```text
//!            subscribe, join, leave, topics         told to give up        applied, nothing to wait for
//!  (target) ------------------------------> STABLE ----------------> UNREVOKED ------+
//!                                             ^                                      v
//!                                             +------ all are free ------- UNRELEASED_PARTITIONS
//! ```
//!
//! - [`assignor`]: which member shall get which partition.
//! - By subject: `records` (the log), `state` (what it comes to), `subscription`, `connections` (streams and
//!   deadlines), `rebalance` (from the target to what each member holds, G14–G20), `membership` (join, come
//!   back, leave), `offsets`, `pending` (those of open transactions, X15) and `producers` (whose they are), `overtaken` (the
//!   order of requests about them), `expiry` (what time does, G27), `describe`, `planted`.
//!
//! Promises: a partition is held by at most one member, where "held" lasts until the member has said that it
//! stopped, or is out of the group (I13); the same records give the same state; a refusal changes nothing;
//! one assignment is outstanding per member.
//! Never here: a clock, a stream, an append; whether a record is committed.

pub mod assignor;
mod connections;
mod describe;
mod error;
mod expiry;
mod membership;
mod offsets;
mod overtaken;
mod pace;
mod partition;
mod pending;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
#[cfg(feature = "planted-bugs")]
pub mod planted;
mod producers;
mod rebalance;
mod records;
mod state;
mod subscription;
#[cfg(test)]
mod tests;

pub use error::{GroupError, ReplayError};
pub use overtaken::Scope;
pub use pace::Pace;
pub use partition::GroupPartition;
pub use records::Change;

use crate::time::Time;
use connections::Connections;
use overtaken::Recent;
use planted::Bugs;
use producers::Producers;
use records::pending_of;
use state::Group;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use troupe_proto::ids::{PartitionId, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;

/// What the operator has settled for all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `group.max.size`: members of one group (G12).
    pub max_members: usize,
    /// `offsets.retention.minutes`, in milliseconds (G27).
    pub retention_ms: u64,
    /// `offset.metadata.max.bytes` (C16).
    pub metadata_max_bytes: usize,
    /// `producer.id.expiration.ms`: how long it is remembered of a producer which of its transactions have ended.
    pub producer_expiration_ms: u64,
    /// `group.min.session.timeout.ms` (G12).
    pub min_session_timeout_ms: u32,
    /// `group.max.session.timeout.ms` (G12).
    pub max_session_timeout_ms: u32,
    /// Of members that name none.
    pub default_session_timeout_ms: u32,
    /// Of static members that name none.
    pub default_static_session_timeout_ms: u32,
    /// Of members that name none.
    pub default_rebalance_timeout_ms: u32,
    /// `group.initial.rebalance.delay.ms`: how long the first member of a group waits for others, so that
    /// those that start together are given their partitions once (G6).
    pub initial_rebalance_delay_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_members: usize::MAX,
            retention_ms: 10_080 * 60_000,
            metadata_max_bytes: 4096,
            producer_expiration_ms: 86_400_000,
            min_session_timeout_ms: 1_000,
            max_session_timeout_ms: 1_800_000,
            default_session_timeout_ms: 5_000,
            default_static_session_timeout_ms: 45_000,
            default_rebalance_timeout_ms: 300_000,
            initial_rebalance_delay_ms: 0,
        }
    }
}

/// The topics that there are. It has to be at least as new as the news that made this node the coordinator:
/// offsets of topics that it does not have are deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    pub topics: BTreeMap<Arc<str>, CatalogTopic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogTopic {
    pub id: TopicId,
    pub partitions: u32,
    /// No pattern matches it.
    pub internal: bool,
}

/// Records to append and to replay at once; the rest is given out when they are committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision<T> {
    /// In this order. They may be appended as several batches: whatever prefix of them survives a crash, no
    /// partition is held twice.
    pub changes: Vec<Change>,
    pub answer: T,
    pub pushes: Vec<Push>,
    /// Streams that end, each with its reason. A push to one of them comes before.
    pub ended: Vec<(SessionId, GroupError)>,
}

/// One stream of a member, unique in the life of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a member is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    pub session: SessionId,
    pub member_id: Arc<str>,
    pub member_epoch: u32,
    /// Everything that the member shall hold, under the number that it acknowledges; `None`: unchanged.
    pub assignment: Option<(u64, Vec<pb::TopicPartitions>)>,
}

/// The partition of `__consumer_offsets` that holds a group: its leader is the group's coordinator (G1).
/// Java's `String.hashCode`, over UTF-16; `partitions` is at least 1.
pub fn coordinator_partition(group: &str, partitions: u32) -> PartitionId {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's abs: that of the smallest number is 0, not itself.
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    PartitionId(positive % partitions.max(1))
}

/// What a group may be called.
///
/// # Errors
/// [`GroupError::InvalidGroupId`].
pub fn check_group_id(group: &str) -> Result<(), GroupError> {
    let refuse = |reason| Err(GroupError::InvalidGroupId { group: group.to_owned(), reason });
    if group.is_empty() {
        refuse("it is empty")
    } else if group.chars().count() > 255 {
        refuse("it is too long")
    } else if group.chars().any(char::is_control) {
        refuse("it has a control character")
    } else {
        Ok(())
    }
}

/// All groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug)]
pub struct Groups {
    settings: Settings,
    /// `None`: not told yet.
    catalog: Option<Arc<Catalog>>,
    groups: BTreeMap<Arc<str>, Group>,
    producers: Producers,
    connections: Connections,
    /// Groups whose first members have just come: until when more are waited for.
    forming: BTreeMap<Arc<str>, Time>,
    /// Topics that have changed since targets were computed; `None`: any may have.
    changed_topics: Option<BTreeSet<Arc<str>>>,
    /// The log has been replayed: from here on a record that breaks a promise is refused.
    live: bool,
    /// When expired offsets are looked for next.
    next_sweep: Option<Time>,
    recent: Recent,
    bugs: Bugs,
}

impl Groups {
    /// What follows is decided by these; what was decided stays.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub fn new(settings: Settings) -> Groups {
        Groups {
            settings,
            catalog: None,
            groups: BTreeMap::new(),
            producers: Producers::default(),
            connections: Connections::default(),
            forming: BTreeMap::new(),
            changed_topics: None,
            live: false,
            next_sweep: None,
            recent: Recent::default(),
            bugs: Bugs::NONE,
        }
    }

    /// Applies the next record of the log: the only way in which hard state changes, live or after a crash.
    /// After an error this state is of no use.
    pub fn replay(&mut self, change: &Change) -> Result<(), ReplayError> {
        let strict = self.is_strict();
        if !self.live {
            self.recent.replay(change);
        }
        if let Some(Key::Producer(key)) = &change.key.of {
            return self.producers.replay(key, change.value.as_ref());
        }
        let name = change.key.group_id.as_str();
        let group = match self.groups.get_mut(name) {
            Some(group) => group,
            None if change.value.is_none() => return Ok(()),
            None => self.groups.entry(name.into()).or_default(),
        };
        group.replay(change, strict)?;
        let is_nothing = group.is_nothing();
        if let Some((id, partition)) = pending_of(change)? {
            let epoch = group.pending_epoch(&partition, id);
            self.producers.note(id, (name.into(), partition), epoch);
        }
        if is_nothing {
            self.groups.remove(name);
        }
        Ok(())
    }

    /// The log has been replayed: every member counts as disconnected since now. Then
    /// [`Groups::catalog_changed`] does what a failed coordinator did not come to.
    pub fn loaded(&mut self, now: Time) {
        self.live = true;
        self.connections = Connections::starting_at(now);
        for (name, group) in &self.groups {
            for (member_id, member) in &group.membership.members {
                self.connections.disconnect(name, member_id, now.plus(member.session_timeout()));
            }
        }
        self.next_sweep = Some(now.plus(expiry::SWEEP_INTERVAL_MS));
        self.recent.loaded(now);
    }

    /// What topics there are from now on; [`Groups::catalog_changed`] decides what follows. Due once before
    /// the first member joins.
    pub fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        if let (Some(changed), Some(before)) = (&mut self.changed_topics, &self.catalog) {
            let differs = |a: &Catalog, b: &Catalog| {
                let other = |(name, topic): &(&Arc<str>, &CatalogTopic)| {
                    b.topics.get(*name) != Some(*topic)
                };
                a.topics.iter().filter(other).map(|(name, _)| Arc::clone(name)).collect::<Vec<_>>()
            };
            changed.extend(differs(before, &catalog));
            changed.extend(differs(&catalog, before));
        }
        self.catalog = Some(catalog);
    }

    /// Whether a partition that is held twice, or by nobody known, is an error. In a log that compaction has gone
    /// through, one record may be missing that gave it up, and the member's own may come later; at the end of it all
    /// is as it should be.
    fn is_strict(&self) -> bool {
        self.live && !self.bugs.has(planted::Bug::GrantBeforeRelease)
    }

    fn group(&self, name: &str) -> Option<(&Arc<str>, &Group)> {
        self.groups.get_key_value(name)
    }
}
