//! X12: readers of committed records stop at the first transaction that is open, and at the first whose marker is not
//! committed. What is deleted a replica may know, or not.

use crate::violation::{Checked, ensure};
use troupe_proto::ids::Offset;

pub fn stable_is_decided(
    stable: Offset,
    start: Offset,
    (least, most): (Offset, Offset),
) -> Checked {
    let fine = least.max(start) <= stable && stable <= most.max(start);
    ensure(fine, "X12 what is stable is decided", || {
        format!("{stable} is stable, the log says {least} to {most}, from {start}")
    })
}
