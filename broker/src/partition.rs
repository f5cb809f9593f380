//! Partitions: one actor each, which owns the log of one replica; a supervisor per shard that builds
//! actors from disk, again and again; and the handles by which everyone else speaks to them.

mod actor;
mod beat;
mod board;
mod chain;
mod chaos;
mod condition;
mod confirm;
mod finding;
mod flush_gate;
mod flusher;
mod guard;
mod handle;
mod message;
mod opening;
mod replication;
mod responder;
mod supervisor;
#[cfg(test)]
mod tests;
mod upkeep;
mod waits;
mod want;

pub use beat::Beat;
pub use board::{ActorState, Board};
pub use chain::Chain;
pub use chaos::{Fault, FaultKind};
pub use condition::{How, LONG_MS};
pub use flusher::Flusher;
pub use handle::{AppendRequest, CROWD_PATIENCE, PartitionHandle, REBUILD_PATIENCE};
pub use message::{
    Appended, CloseFollower, Die, Finding, FollowerReport, FoundOffset, FromLeader, IsrAnswer,
    LeaderSays, LossKnown, OffsetQuery, OpenFollower, PushOn, ReadAnswer,
};
pub use opening::{now, wall_clock};
pub use responder::Responder;
pub use supervisor::{
    PartitionSetup, RetirePartition, Revive, Shared, StartPartition, Supervisor, UpdatePartition,
};
