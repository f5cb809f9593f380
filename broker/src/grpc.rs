//! gRPC frames by hand, for the calls that carry batches: a request is read as a rope that is never
//! joined, a response's payload goes out as it lies in memory. Everything else uses tonic's codec.

mod acks;
mod arrival;
mod as_of;
mod body;
mod chaos_service;
mod cluster_service;
mod commit_service;
mod demand;
mod group_service;
mod handover;
mod health_service;
mod intake;
mod log_service;
mod message;
mod metadata_service;
mod receipt;
mod replication_service;
mod topic_service;

pub use acks::parse_acks;
pub use body::response;
pub use chaos_service::ChaosDoor;
pub use cluster_service::ClusterDoor;
pub use commit_service::CommitDoor;
pub use demand::{DemandBody, DemandSender, Gone};
pub use group_service::GroupDoor;
pub use handover::Handover;
pub use health_service::HealthDoor;
pub use intake::{Intake, IntakeLayer};
pub use log_service::LogDoor;
pub use message::{MessageReader, Requests, decode};
pub use metadata_service::MetadataDoor;
pub use receipt::{ReceiptBody, Unwritten};
pub use replication_service::ReplicationDoor;
pub use topic_service::TopicDoor;
