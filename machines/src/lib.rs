//! Everything that decides, nothing that waits.
//!
//! - [`replica`]: one replica of one partition. Facts in, effects out.
//! - [`cluster`]: topics, brokers, leaders, producer ids. Decide with `&self`, change in `replay`.
//! - [`group`]: members of consumer groups, who reads what, committed offsets.
//! - [`txn`]: transactions, what they wrote to, and whether that is committed.
//! - [`producer`]: who writes in transactions.
//! - [`admission`]: which batch may be worked on next, when there are more than the node can carry.
//! - [`cleaning`]: which log is compacted next.
//! - [`connection`]: who may connect, how long a connection may do nothing, whose turn it is.
//! - [`credit`]: how much of a stream may be under way to its reader.
//! - [`config`]: what a topic can be told, with defaults and documentation.
//! - [`throttle`]: how fast replicas that are added are filled.
//! - [`voter_recovery`]: when a controller that lost its log may vote again.
//! - [`log_directory`]: into which directory of its node a partition goes.
//! - [`time`]: time as an argument.
//!
//! Promise: the same calls in the same order give the same answers and the same state. Time and chance
//! are arguments and no order depends on a hash, so a whole cluster can be simulated from a seed.
//! Never here: a file, a socket, a clock, a thread, an actor.

pub mod admission;
pub mod cleaning;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod credit;
pub mod group;
mod latest;
pub mod log_directory;
#[cfg(test)]
mod on_record;
mod planted;
pub mod producer;
pub mod replica;
pub mod throttle;
pub mod time;
pub mod txn;
pub mod voter_recovery;
