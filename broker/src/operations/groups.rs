//! Consumer groups, through any node: who coordinates them, who is a member, what they have committed.
//!
//! Never here: what a coordinator decides, and where it is.

mod administration;
mod coordinator;
mod listing;
mod offsets;
mod reset;

pub use coordinator::Groups;
pub use reset::{OffsetReset, ResetOffsets, ResetTo};
