//! The commands, one file or folder each, named as on the command line.
//!
//! Promises: no command knows another; what several of them need stands beside this folder.

pub mod actor;
pub mod bench;
pub mod chaos;
pub mod cluster;
pub mod config;
pub mod consume;
pub mod dev;
pub mod group;
pub mod log;
pub mod node;
pub mod partition;
pub mod produce;
pub mod reassign;
pub mod serve;
pub mod stop;
pub mod storage;
pub mod topic;
pub mod transaction;
