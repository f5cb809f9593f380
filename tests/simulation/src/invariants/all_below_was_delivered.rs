//! I14, at least once: every record below a committed offset was processed by some member of the group.

use crate::groups::Place;
use crate::violation::{Checked, ensure};

pub fn all_below_was_delivered(group: &str, place: &Place, offset: u64, read: u64) -> Checked {
    ensure(offset <= read, "I14 all below a committed offset was delivered", || {
        format!("{group} {place:?}: {offset} is committed, all below {read} was processed")
    })
}
