//! The gRPC services. They speak to partitions through handles and never see a log; errors become
//! `tonic::Status` in `troupe_proto::error` alone.

mod delivery;
mod event_bus;
mod publish;
mod subscription;
mod tail;
mod thin;

pub use delivery::DeliveryPool;
pub use event_bus::EventBus;
pub use subscription::Subscriptions;
pub use thin::ThinService;
