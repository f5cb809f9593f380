//! Partitions: one actor each, which owns the log of one replica; a life around each, which builds the actor from
//! disk, again and again; a supervisor per shard, which begins and ends lives; and the handles by which everyone else
//! speaks to the actors.

mod actor;
mod board;
mod chain;
mod chaos;
mod condition;
mod confirm;
mod finding;
mod flush_gate;
mod flusher;
mod handle;
mod life;
mod message;
mod opening;
mod replication;
mod responder;
mod supervisor;
#[cfg(test)]
mod tests;
mod upkeep;
mod want;

pub use board::Board;
pub use chain::Chain;
pub use chaos::drop_replies;
pub use condition::{Condition, How, LONG_MS, millis};
pub use flusher::Flusher;
pub use handle::{AppendRequest, CROWD_PATIENCE, PartitionHandle, REBUILD_PATIENCE};
pub use message::{
    Appended, CloseFollower, Description, Finding, FollowerReport, FoundOffset, FromLeader,
    IsrAnswer, LeaderSays, LossKnown, OffsetQuery, OpenFollower, PushOn, ReadAnswer,
};
pub use opening::{now, wall_clock};
pub use responder::Responder;
pub use supervisor::{
    PartitionSetup, RetirePartition, Shared, StartPartition, Supervisor, UpdatePartition,
};
