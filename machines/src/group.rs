//! Consumer groups: who is a member, who reads which partition, and how far each group has read.
//!
//! - [`assignor`]: which member gets which partition.

pub mod assignor;
mod partition;

pub use partition::GroupPartition;
