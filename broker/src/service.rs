//! The gRPC services. They speak to partitions through handles and never see a log; errors become
//! `tonic::Status` in `troupe_proto::error` alone.

mod chaos;
mod cluster;
mod delivery;
mod distress;
mod event_bus;
mod fetch;
mod health;
mod log;
mod metadata;
mod partitions;
mod produce;
mod publish;
mod replicas;
mod subscription;
mod tail;
mod thin;

pub use chaos::Chaos;
pub use cluster::Cluster;
pub use delivery::DeliveryPool;
pub use event_bus::EventBus;
pub use health::{health, is_ready};
pub use log::LogService;
pub use metadata::{Metadata, active_controller};
pub use subscription::Subscriptions;
pub use thin::ThinService;
