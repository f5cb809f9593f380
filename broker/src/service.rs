//! The gRPC services. They speak to partitions through handles and never see a log; errors become
//! `tonic::Status` in `troupe_proto::error` alone.

mod commits;
mod delivery;
mod event_bus;
mod groups;
mod publish;
mod subscription;
mod tail;
mod thin;

pub use commits::Commits;
pub use delivery::DeliveryPool;
pub use event_bus::EventBus;
pub use groups::Groups;
pub use subscription::Subscriptions;
pub use thin::ThinService;
