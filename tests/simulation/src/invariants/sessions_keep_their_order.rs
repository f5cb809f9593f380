//! I4: offsets are given once, without gaps, and a producer's batches stand in the order they were sent.

use crate::violation::{Checked, ensure};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, Sequence};

pub fn no_gap(end: Offset, header: &BatchHeader) -> Checked {
    ensure(header.base_offset == end, "I4 no gaps", || {
        format!("{} is committed where {end} was next", header.base_offset)
    })
}

pub fn sequence_goes_on(expected: Sequence, actual: Sequence, header: &BatchHeader) -> Checked {
    ensure(expected == actual, "I3, I4 each batch once and in order", || {
        format!("sequence {actual} where {expected} was next: {header:?}")
    })
}
