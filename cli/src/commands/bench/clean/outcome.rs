//! What was measured.

use super::keyed::Left;
use super::producing::Window;
use super::waiting::Cleaned;
use std::time::Duration;

/// One log that was cleaned.
pub struct Round {
    pub cleaned: Cleaned,
    /// The same bytes, read and written as they are.
    pub raw: Duration,
    pub alone: Window,
    pub beside: Window,
    pub left: Left,
}

/// Keys of the last log that were deleted.
pub struct Deletion {
    pub tombstones: u64,
    /// Until none of the tombstones was left, and none of the values.
    pub took: Duration,
}
