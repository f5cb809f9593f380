//! The node: partitions as actors on shards, gRPC services in front of them, a controller beside them.
//!
//! ```text
//! connection ─► gRPC service ─► PartitionHandle ─► PartitionActor ─► Replica (decides), Log (remembers)
//!                     ▲                                   │
//!                 Registry ◄── node: reconciles with the cluster's image ◄── controller
//! ```
//!
//! - A *shard* is an arbiter: one thread with its own listener, its connections and its partitions.
//! - Services never see a log; actors never see tonic. Handles stand between, bounded in bytes.
//! - [`Node`] is the way in: [`Node::start`] with a [`NodeConfig`], then addresses, then [`Node::stop`].

mod abort;
mod admission;
mod allocator;
mod clock;
mod config;
mod connections;
mod controller_channel;
mod coordinator;
mod descriptors;
mod forward;
mod group;
mod grpc;
mod http;
pub mod lines;
mod metadata_cache;
mod metrics;
mod node;
mod operations;
mod page_cache;
mod partition;
mod peers;
mod process;
mod registry;
mod replication;
mod server;
mod shutdown;
mod unpacker;

pub use allocator::tune_allocator;
pub use config::{ConfigFaults, NodeConfig};
pub use node::{Node, StartError};
