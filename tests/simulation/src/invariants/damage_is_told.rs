//! S6: what was flushed and is not what was written is told from all else, is never given out, and is filled again or
//! given up as a whole batch, with nothing that is whole.

use crate::violation::{Checked, ensure};
use std::ops::Range;
use troupe_proto::ids::{Offset, PartitionKey};

pub fn only_what_decayed_is_damaged(expected: bool, site: usize, cause: &str) -> Checked {
    ensure(expected, "S6 what is sound is not taken for damaged", || {
        format!("{cause}, on site {site}")
    })
}

pub fn what_was_flushed_is_missed(durable: Offset, end: Offset, is_told: bool) -> Checked {
    ensure(end >= durable || is_told, "S6 damage is told", || {
        format!("the log ends at {end}, was flushed up to {durable}, and nobody says so")
    })
}

pub fn who_was_filled_is_whole(key: &PartitionKey, is_whole: bool) -> Checked {
    ensure(is_whole, "S6 who was filled again is whole", || {
        format!("{key} says that it was filled again, and there is a gap in it")
    })
}

pub fn nothing_whole_is_given_up(
    lost: &Range<Offset>,
    start: Offset,
    whole: &[Range<Offset>],
) -> Checked {
    let overlaps = |batch: &&Range<Offset>| {
        batch.end > start && batch.start < lost.end && lost.start < batch.end
    };
    let given_up = whole.iter().find(overlaps);
    ensure(given_up.is_none(), "S6 nothing whole is given up", || {
        format!("{lost:?} was given up, and {given_up:?} is whole")
    })
}
