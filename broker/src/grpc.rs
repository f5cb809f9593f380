//! gRPC frames by hand, for the calls that carry batches: a request is read as a rope that is never
//! joined, a response's payload goes out as it lies in memory. Everything else uses tonic's codec.

mod arrival;
mod as_of;
mod body;
mod commit_service;
mod connection;
mod demand;
mod group_service;
mod handover;
mod intake;
mod message;
mod receipt;
mod topic_service;

pub use body::{Outgoing, ResponseBody, response};
pub use commit_service::CommitDoor;
pub use connection::{Connection, Watched};
pub use demand::{DemandBody, DemandSender, Gone};
pub use group_service::GroupDoor;
pub use handover::Handover;
pub use intake::{Intake, IntakeLayer};
pub use message::{
    Field, MessageReader, Requests, decode, encode, encode_all_with_payload, encode_with_payload,
    encode_with_pieces, fields, mistyped,
};
pub use receipt::{ReceiptBody, Unwritten};
pub use topic_service::TopicDoor;
