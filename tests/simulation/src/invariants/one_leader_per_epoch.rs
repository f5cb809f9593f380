//! I5: one replica, in one life, appends in a leader epoch; and a replica's epochs only grow.

use crate::violation::{Checked, ensure};
use std::collections::BTreeMap;
use troupe_proto::ids::LeaderEpoch;

/// `host` names one life of one replica.
pub fn one_leader_per_epoch(
    leaders: &mut BTreeMap<LeaderEpoch, u64>,
    epoch: LeaderEpoch,
    host: u64,
) -> Checked {
    let leader = *leaders.entry(epoch).or_insert(host);
    ensure(leader == host, "I5 one leader per epoch", || {
        format!("{host} appends in epoch {epoch}, and {leader} did")
    })
}

pub fn epochs_only_grow(before: Option<LeaderEpoch>, now: Option<LeaderEpoch>) -> Checked {
    ensure(now.is_none() || now >= before, "I5 leader epochs only grow", || {
        format!("leads in {now:?} after {before:?}")
    })
}
