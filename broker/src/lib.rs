//! The node: partitions as actors on shards, gRPC services in front of them, a controller beside them.
//!
//! ```text
//!  connections ─► grpc, http (doors) ─► operations ─► PartitionHandle ─► PartitionActor ─► Replica (decides)
//!                                           │                                    └──────► Log (remembers)
//!                                           ├──► forward: the leader of a partition, the active controller
//!                                           └──► group, txn over coordinator: an internal topic's partition, and a machine
//! ```
//!
//! - A *shard* is an arbiter: one thread with its own listener, its connections and its partitions.
//! - A door decodes, calls an operation and encodes. Operations never see a frame, actors never see tonic. Handles stand
//!   between, bounded in bytes.
//! - Whoever names something stands above it: `tests/tests/tidy/floors.rs` has the floors. `node` alone wires.
//! - [`Node`] is the way in: [`Node::start`] with a [`NodeConfig`], then addresses, then [`Node::stop`].

mod abort;
mod address_book;
mod admission;
mod allocator;
mod cleaner;
mod clock;
mod config;
mod connections;
mod controller_channel;
mod coordinator;
mod descriptors;
mod faults;
mod forward;
mod group;
mod grpc;
mod http;
pub mod lines;
mod log_directories;
mod metadata_cache;
mod methods;
mod metrics;
mod network;
mod node;
mod node_keys;
mod node_settings;
mod operations;
mod page_cache;
mod partition;
mod peers;
mod process;
mod registry;
mod replication;
mod server;
mod shutdown;
mod topic_defaults;
mod txn;
mod unpacker;

pub use allocator::tune_allocator;
pub use config::listeners::{Listener, ListenerProtocol, Listeners};
pub use config::load::{Configuration, Note};
pub use config::{
    ConfigFaults, ConfigFile, ConfigSources, FileFormat, NodeConfig, NodeKey, Origin, UpdateMode,
    kafka_keys,
};
pub use node::{ListenerAddress, Node, StartError};
