//! The harness of the tests that see Troupe as a whole.
//!
//! - [`Server`]: what conformance tests talk to: `TROUPE_TEST_SERVER`, or a node in this process.
//! - [`LocalNode`]: a node in this process, on a directory of its own.
//! - [`Process`]: the built binary, to be killed and started again.
//! - [`Cluster`]: several of them that form one.
//! - [`Network`]: one for such a cluster, in which links can be cut and slowed down.
//! - [`Mount`]: a file system of its own, which is full, read-only or broken when a test wants it.
//! - [`History`], [`PartitionHistory`]: what producers were told and readers saw; judge what a log holds in
//!   the end.
//! - [`ReplicaLog`]: what a replica has on disk, to be compared byte by byte.
//! - [`troupe`], [`http_get`]: what people and scripts ask a node with.
//! - [`eventually`]: waits for a condition, never for time to pass.
//! - [`workspace`]: the source tree, for the tests that keep it tidy.

mod cluster;
mod command;
mod directory;
mod history;
mod idempotent;
mod local_node;
mod mount;
mod network;
mod patience;
mod process;
mod replicas;
mod sample;
mod server;
mod skip;
pub mod workspace;

pub use cluster::{Cluster, Picture};
pub use command::{http_get, troupe, troupe_until};
pub use directory::temporary_directory;
pub use history::{
    Anomalies, History, Outcome, PartitionAnomalies, PartitionHistory, Promise, Stored,
};
pub use idempotent::IdempotentProducer;
pub use local_node::LocalNode;
pub use mount::Mount;
pub use network::{Link, Network, Place, in_a_namespace};
pub use patience::{PATIENCE, eventually, eventually_or_why};
pub use process::{Exit, Process, Serve, binary, clients_directory, example};
pub use replicas::ReplicaLog;
pub use sample::{Sample, samples, seed};
pub use server::{Server, batch_of, partition_of, reason_of};
pub use skip::{in_ci, skip};
pub use troupe_testkit::free_ports;
