//! A node: a controller, shards with their partitions and listeners, and the loop that keeps the
//! partitions here in step with the cluster's image.
//!
//! Owns the threads, the locks of its directories and the order of starting and stopping. Stopping drains:
//! long streams are ended, what was appended is flushed and answered, logs are closed cleanly.

mod advertised;
mod broker_session;
mod cluster_settings;
mod controllers;
mod duplicate_broker;
mod handles;
mod launch;
mod leftovers;
mod log_directories;
mod owner;
mod progress;
mod reconcile;
mod running;
mod sockets;
mod space;
mod start_error;
mod wiring;

pub use launch::Node;
pub use progress::ListenerAddress;
pub use start_error::StartError;
