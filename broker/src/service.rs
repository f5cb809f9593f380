//! The gRPC services. They speak to partitions through handles and never see a log; errors become
//! `tonic::Status` in `troupe_proto::error` alone.

mod chaos;
mod cluster;
mod commits;
mod distress;
mod fetch;
mod groups;
mod health;
mod log;
mod metadata;
mod partitions;
mod produce;
mod replicas;

pub use chaos::Chaos;
pub use cluster::Cluster;
pub use commits::Commits;
pub use groups::Groups;
pub use health::{health, is_ready};
pub use log::LogService;
pub use metadata::{Metadata, active_controller};
