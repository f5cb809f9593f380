//! gRPC frames by hand, for the calls that carry batches: a request is read as a rope that is never
//! joined, a response's payload goes out as it lies in memory. Everything else uses tonic's codec.

mod arrival;
mod as_of;
mod body;
mod connection;
mod demand;
mod handover;
mod intake;
mod message;
mod receipt;
mod replication_service;
mod topic_service;

pub use body::{Outgoing, ResponseBody, response};
pub use connection::{Connection, Watched};
pub use demand::{DemandBody, DemandSender, Gone};
pub use handover::Handover;
pub use intake::{Intake, IntakeLayer};
pub use message::{
    Field, MessageReader, Requests, decode, encode, encode_all_with_payload, encode_with_payload,
    fields, mistyped,
};
pub use receipt::{ReceiptBody, Unwritten};
pub use replication_service::ReplicationDoor;
pub use topic_service::TopicDoor;
