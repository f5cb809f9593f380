//! gRPC frames by hand, for the calls that carry batches: a request is read as a rope that is never
//! joined, a response's payload goes out as it lies in memory. Everything else uses tonic's codec.

mod acks;
mod answer_writer;
mod answers;
mod arrival;
mod as_of;
mod body;
mod connection;
mod delivery_service;
mod demand;
mod event_bus_messages;
mod event_bus_service;
mod handover;
mod intake;
mod message;
mod receipt;
mod topic_service;

pub use answer_writer::AnswerWriter;
pub use body::{Outgoing, ResponseBody, response};
pub use connection::{Connection, Watched};
pub use delivery_service::DeliveryDoor;
pub use event_bus_service::EventBusDoor;
pub use handover::Handover;
pub use intake::{Intake, IntakeLayer};
pub use message::{
    Field, MessageReader, Requests, decode, encode, encode_all_with_payload, encode_with_payload,
    encode_with_pieces, fields, mistyped,
};
pub use topic_service::TopicDoor;
