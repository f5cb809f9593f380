//! Which member of a group reads which partition, by Kafka's four rules (semantics G22–G25).
//!
//! By subject: `range`, `round_robin`, `sticky` (equal subscriptions), `sticky_general` (different ones),
//! and what all of them start from: `subscriptions`.
//!
//! Promises: every partition of a topic that a member subscribes to goes to exactly one member, and to one
//! that subscribes to it. The same members and partitions give the same assignment, in whatever order the
//! members come.
//! Never here: who may hold a partition now; a target says only who shall.

mod range;
mod round_robin;
mod sticky;
mod sticky_general;
mod subscriptions;
#[cfg(test)]
mod tests;

use crate::group::GroupPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use subscriptions::Subscriptions;
use thiserror::Error;

/// What each member is given, by member id.
pub type Assignment = BTreeMap<Arc<str>, BTreeSet<GroupPartition>>;

/// A rule that shares out partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Per topic, contiguous ranges. The first members get one more (G22).
    Range,
    /// All partitions in order, one to each member in turn (G23).
    RoundRobin,
    /// Even counts first, then as few partitions as possible change hands (G24).
    Sticky,
    /// As sticky. The members give up partitions first and get new ones after (G25).
    CooperativeSticky,
}

/// A name that no assignor has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown assignor {0:?}: one of range, roundrobin, sticky, cooperative-sticky")]
pub struct UnknownAssignor(pub String);

impl Assignor {
    pub const ALL: [Assignor; 4] =
        [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky];

    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::Sticky => "sticky",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Assignor {
    type Err = UnknownAssignor;

    fn from_str(name: &str) -> Result<Assignor, UnknownAssignor> {
        let known = Assignor::ALL.into_iter().find(|assignor| assignor.name() == name);
        known.ok_or_else(|| UnknownAssignor(name.to_owned()))
    }
}

/// One member, as an assignor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignorMember {
    /// Unique in its group.
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    /// Topics that it subscribes to. Those that do not exist count for nothing.
    pub topics: BTreeSet<Arc<str>>,
    /// Its last target. What is gone or not subscribed to any more is ignored.
    pub owned: BTreeSet<GroupPartition>,
    /// Epoch of that target. Of two claims to one partition the newer wins.
    pub epoch: u32,
}

/// The target: `partitions` (number of partitions by topic) shared out among `members`. Every member is a
/// key, also one that gets nothing. Partitions of topics that nobody subscribes to are given to nobody.
pub fn assign(
    assignor: Assignor,
    members: &[AssignorMember],
    partitions: &BTreeMap<Arc<str>, u32>,
) -> Assignment {
    let mut members: Vec<&AssignorMember> = members.iter().collect();
    members.sort_by_key(|member| {
        (member.instance_id.is_none(), member.instance_id.as_ref(), &member.member_id)
    });
    let subscriptions = Subscriptions::new(&members, partitions);
    let given = match assignor {
        Assignor::Range => range::share_out(&subscriptions),
        Assignor::RoundRobin => round_robin::share_out(&subscriptions),
        Assignor::Sticky | Assignor::CooperativeSticky => sticky::share_out(&subscriptions),
    };
    subscriptions.assignment(given)
}

/// What may be given out of `target` now: without the partitions that another member still owns (G25).
/// Those come in a later round, when that member has given them up. Also an owner that is not in the target
/// counts.
pub fn cooperative(target: &Assignment, owned: &Assignment) -> Assignment {
    // The owner of each partition; none where there are several: then there is always another.
    let mut owners: BTreeMap<&GroupPartition, Option<&Arc<str>>> = BTreeMap::new();
    for (member_id, partitions) in owned {
        for partition in partitions {
            let owner = owners.entry(partition).or_insert(Some(member_id));
            if *owner != Some(member_id) {
                *owner = None;
            }
        }
    }
    let free = |member_id: &Arc<str>, partition: &GroupPartition| {
        owners.get(partition).is_none_or(|owner| *owner == Some(member_id))
    };
    let given = target.iter().map(|(member_id, partitions)| {
        let now = partitions.iter().filter(|partition| free(member_id, partition)).cloned();
        (member_id.clone(), now.collect())
    });
    given.collect()
}
