//! Consumer groups, through any node: who coordinates them, who is a member, what they have committed.
//!
//! Never here: what a coordinator decides, and where it is.

mod administration;
mod coordination;
mod listing;
mod offsets;
mod reset;

pub use coordination::Groups;
pub(super) use offsets::{put_back, take_impossible};
pub use reset::{OffsetReset, ResetOffsets, ResetTo};
