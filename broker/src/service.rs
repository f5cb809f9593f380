//! The gRPC services. They speak to partitions through handles and never see a log; errors become
//! `tonic::Status` in `troupe_proto::error` alone.

mod chaos;
mod cluster;
mod commits;
mod delivery;
mod distress;
mod event_bus;
mod groups;
mod health;
mod metadata;
mod partitions;
mod publish;
mod replicas;
mod subscription;
mod tail;
mod thin;

pub use chaos::Chaos;
pub use cluster::Cluster;
pub use commits::Commits;
pub use delivery::DeliveryPool;
pub use event_bus::EventBus;
pub use groups::Groups;
pub use health::{health, is_ready};
pub use metadata::{Metadata, active_controller};
pub use subscription::Subscriptions;
pub use thin::ThinService;
