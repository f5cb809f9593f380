//! gRPC frames by hand, for the calls that carry batches: a request is read as a rope that is never
//! joined, a response's payload goes out as it lies in memory. Everything else uses tonic's codec.

mod arrival;
mod as_of;
mod body;
mod chaos_service;
mod cluster_service;
mod connection;
mod demand;
mod handover;
mod health_service;
mod intake;
mod message;
mod metadata_service;
mod receipt;
mod topic_service;

pub use body::{Outgoing, ResponseBody, response};
pub use chaos_service::ChaosDoor;
pub use cluster_service::ClusterDoor;
pub use connection::{Connection, Watched};
pub use demand::{DemandBody, DemandSender, Gone};
pub use handover::Handover;
pub use health_service::HealthDoor;
pub use intake::{Intake, IntakeLayer};
pub use message::{
    Field, MessageReader, Requests, decode, encode, encode_all_with_payload, encode_with_payload,
    encode_with_pieces, fields, mistyped,
};
pub use metadata_service::MetadataDoor;
pub use receipt::{ReceiptBody, Unwritten};
pub use topic_service::TopicDoor;
