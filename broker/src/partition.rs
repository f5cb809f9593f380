//! Partitions: one actor each, which owns the log of one replica; a life around each, which builds the actor from
//! disk, again and again; a supervisor per shard, which begins and ends lives; and the handles by which everyone else
//! speaks to the actors.
//!
//! ```text
//! supervisor ─► life ─► handle ─► actor ─► board, messages, what it asks of others
//! ```
//!
//! What a replica asks of other nodes it leaves with [`LeaderStreams`] and [`ControllerRequests`], and is answered by
//! message. Never here: how it gets there.

mod actor;
mod appending;
mod assignment;
mod beside;
mod board;
mod chain;
mod chaos;
mod cleaning;
mod cleaning_gate;
mod condition;
mod confirm;
mod controller_requests;
mod damage;
mod deletion;
mod failure;
mod finding;
mod flush_gate;
mod flusher;
mod follower_sink;
mod handle;
mod leader_streams;
mod leadership;
mod life;
mod marking;
mod messages;
mod move_state;
mod moving;
mod next_look;
mod opening;
mod pushing;
mod reading;
mod refusal;
mod replica_handle;
mod replication;
mod responder;
mod scrub;
mod shared;
mod soundness;
mod storage;
mod supervisor;
#[cfg(test)]
mod tests;
mod throttles;
mod transactions;
mod upkeep;
mod verifying;
mod volumes;

pub use assignment::PartitionSetup;
pub use beside::{Beside, Courteous};
pub use chain::Chain;
pub use chaos::drop_replies;
pub use cleaning_gate::CleaningTurn;
pub use condition::{Condition, How, LONG_MS, millis};
pub use controller_requests::{ControllerRequest, ControllerRequests};
pub use flusher::Flusher;
pub use follower_sink::{ChannelName, FollowerSink, Push, PushStream};
pub use handle::{
    AppendRequest, CROWD_PATIENCE, DeletionRequest, PartitionBoard, PartitionHandle,
    REBUILD_PATIENCE, ReadFrom,
};
pub use leader_streams::LeaderStreams;
pub use messages::{
    AbortedTransaction, Appended, CloseFollower, Copied, Credit, CreditSource, Description,
    DirectoryFailed, EndMove, Finding, FollowerReport, FoundOffset, FromLeader, Isolation,
    IsrAnswer, LeaderSays, LogLook, LossKnown, OffsetQuery, OpenFollower, Original, Piece,
    ReadAnswer, Retirement, Slice,
};
pub use replica_handle::ReplicaHandle;
pub use responder::Responder;
pub use scrub::{ScrubResult, scrub};
pub use shared::{ReplicaTimes, Shared, TransactionGate};
pub use supervisor::{RetirePartition, StartPartition, Supervisor, UpdatePartition};
pub use throttles::ReplicationThrottles;
pub use transactions::MarkerRequest;
pub use volumes::Volumes;
