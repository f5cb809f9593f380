//! Replication between nodes: a leader pushes what it appends to its followers (DESIGN.md section 3).
//!
//! ```text
//!  leader's PartitionActor ─► FollowerSink ─► stream ═══ network ═══► LeaderStream ─► follower's PartitionActor
//!          ▲                                                                                    │
//!          └──────────── FollowerReport ◄─── stream ◄══════════ ends, credit ◄──────────────────┘
//! ```
//!
//! - [`Leading`] is the leader's end of a stream, [`Replicator`] a shard's followers' end.
//! - One stream for each pair of a leading node and a follower's shard, and one more for those replicas of it that are
//!   filled at a rate (A13): credit is a stream's, and who is in sync does not wait for theirs. A channel for each
//!   partition.
//! - [`ControllerRequestSender`] has the controller decide who is in sync, and reports failed leaders and lost data.
//!
//! Promises: what is pushed and not yet taken by the follower is bounded in bytes; a stream that ends closes
//! all its channels on both sides, and the actors hear of it.
//! Never here: what a follower may have, which `troupe_machines::replica` decides; the frames that a stream is served
//! in.

mod controller_request_sender;
mod credit_pool;
mod following;
mod leading;

pub use controller_request_sender::ControllerRequestSender;
pub use following::Replicator;
pub use leading::Leading;
