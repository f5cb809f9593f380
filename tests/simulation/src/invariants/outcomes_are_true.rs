//! What a producer was told surely did not happen did not: neither is it there nor will it be.

use crate::violation::{Checked, ensure};

pub fn failed_is_not_there(value: u64, failed: bool, is_there: bool) -> Checked {
    ensure(!(failed && is_there), "what surely failed is not there", || format!("value {value} is"))
}
