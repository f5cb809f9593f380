//! The harness of the tests that see Troupe as a whole.
//!
//! - [`Server`]: what conformance tests talk to: `TROUPE_TEST_SERVER`, or a node in this process.
//! - [`LocalNode`]: a node in this process, on a directory of its own.
//! - [`Process`]: the built binary, to be killed and started again.
//! - [`History`]: what producers were told; judges what a log holds in the end.
//! - [`eventually`]: waits for a condition, never for time to pass.
//! - [`workspace`]: the source tree, for the tests that keep it tidy.

mod directory;
mod history;
mod local_node;
mod patience;
mod process;
mod sample;
mod server;
mod skip;
pub mod workspace;

pub use directory::temporary_directory;
pub use history::{Anomalies, History, Outcome, Stored};
pub use local_node::LocalNode;
pub use patience::{PATIENCE, eventually};
pub use process::{Exit, Process, Serve, binary, clients_directory};
pub use sample::{Sample, samples, seed};
pub use server::{Server, batch_of, reason_of};
pub use skip::{in_ci, skip};
