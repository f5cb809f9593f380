//! I8: after the faults, the logs of all replicas of a partition are equal, byte for byte.

use crate::violation::{Checked, ensure};

pub fn replicas_are_equal(one: &[u8], other: &[u8]) -> Checked {
    ensure(one == other, "I8 replicas become equal", || {
        let differs = one.iter().zip(other.iter()).position(|(one, other)| one != other);
        format!("logs of {} and {} bytes differ from {differs:?} on", one.len(), other.len())
    })
}
