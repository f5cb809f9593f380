//! I13: one owner per partition and generation; only who holds a partition commits for it, in an epoch of
//! the time that it has held it. Judged by the log of groups alone.

use crate::groups::{Committer, Holding, Place};
use crate::violation::{Checked, ensure};
use std::collections::BTreeMap;

const I13: &str = "I13 one owner per partition";

pub fn one_owner_per_partition<'a>(
    holdings: impl Iterator<Item = (&'a String, &'a Holding)>,
) -> Checked {
    let mut owners: BTreeMap<(&str, u32), &str> = BTreeMap::new();
    for (member, holding) in holdings {
        for place in holding.assigned.keys().chain(holding.revoking.keys()) {
            let other = owners.insert((&place.topic, place.partition), member);
            ensure(other.is_none(), I13, || format!("{other:?} and {member:?} hold {place:?}"))?;
        }
    }
    Ok(())
}

pub fn member_epochs_only_grow(member: &str, before: Option<u32>, after: Option<u32>) -> Checked {
    ensure(before <= after, "I13 member epochs only grow", || {
        format!("{member}: {after:?} after {before:?}")
    })
}

/// The epoch in which the committer got the partition.
pub fn only_owners_commit(
    place: &Place,
    committer: &Committer,
    holding: Option<&Holding>,
) -> Checked<u32> {
    let since = holding.and_then(|holding| holding.since(place));
    let newest = holding.map_or(0, |holding| holding.epoch);
    let within = since.is_some_and(|since| since <= committer.epoch && committer.epoch <= newest);
    ensure(within, "I13 only the current generation commits", || {
        format!("{place:?} was committed by {committer:?}, who has {holding:?}")
    })?;
    Ok(since.unwrap_or(0))
}

/// What a member takes for its own, while it is a member.
pub fn what_a_member_reads_it_holds<'a>(
    member: &str,
    mut reads: impl Iterator<Item = &'a Place>,
    holding: &Holding,
) -> Checked {
    let not_held = reads.find(|place| holding.since(place).is_none());
    ensure(not_held.is_none(), I13, || format!("{member} reads {not_held:?}, holds {holding:?}"))
}
