//! I3: one (producer id, epoch, sequence) stands at one offset, and so does every value.

use crate::violation::{Checked, ensure};
use std::collections::BTreeSet;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;

pub fn value_stands_once(value: u64, before: Option<Offset>, base: Offset) -> Checked {
    ensure(before.is_none_or(|before| before == base), "I3 no record twice", || {
        format!("value {value} at {before:?} and at {base}")
    })
}

/// In what is left of a log.
pub fn each_stamp_once(headers: &[BatchHeader]) -> Checked {
    let mut seen = BTreeSet::new();
    for header in headers {
        // markers are told apart by nothing
        let Some(stamp) = header.producer.filter(|_| !header.attributes.is_control()) else {
            continue;
        };
        let first = seen.insert((stamp.id, stamp.epoch, stamp.base_sequence.0));
        ensure(first, "I3 no record twice", || format!("{header:?}"))?;
    }
    Ok(())
}
