//! I12: a committed offset never regresses except by explicit reset, and survives the coordinator. Whoever
//! gets a partition begins where the one before has committed.
//!
//! One thing no coordinator can know: two commits of one member for a partition that it has had all the
//! time, of which the older one comes last. Such a commit counts, as in Kafka.

use crate::groups::{CommittedOffset, Place};
use crate::violation::{Checked, ensure};

/// True: it went back, but its owner itself asked for it, before it asked for the other.
pub fn committed_offsets_never_go_back(
    group: &str,
    place: &Place,
    before: &CommittedOffset,
    next: &CommittedOffset,
) -> Checked<bool> {
    let goes_back = next.offset < before.offset;
    let late = next.by.is_some() && next.by == before.by && next.sent_at < before.sent_at;
    ensure(!goes_back || late, "I12 committed offsets never go back", || {
        format!("{group} {place:?}: {next:?} after {before:?}")
    })?;
    Ok(goes_back)
}

pub fn who_takes_over_begins_where_it_was(place: &Place, committed: u64, begin: u64) -> Checked {
    ensure(begin >= committed, "I12 who takes over begins where it was committed", || {
        format!("{place:?}: {begin} where {committed} was committed")
    })
}

pub fn only_empty_groups_are_reset(group: &str, members: usize) -> Checked {
    ensure(members == 0, "I12 only empty groups are reset", || {
        format!("{group} with {members} members was")
    })
}
