//! Any node answers: what this node cannot do itself goes to the one that can.
//!
//! ```text
//!  Publish ─► PartitionSender (order, new tries) ─┬─► PartitionHandle    the partition is led here
//!                                                 └─► ProduceStreams     … or by a peer
//!  Tail ◄─ TopicReader ◄──────────────────────────┬── PartitionHandle
//!                                                 └── FetchStream of a peer
//!  DeleteRecords ─────────────────────────────────┬─► PartitionHandle
//!                                                 └─► the same call to the leader
//!  CreateTopic, … ─► ActiveController::decide ────┬─► ControllerHandle   the controller is active here
//!                                                 └─► the same call to the active one
//! ```
//!
//! Promises: who asks sees a change of leader or controller as latency, and never as an error, within the
//! time that the request has; the records of one sender keep their order; what may have been done is not tried
//! again; what is forwarded is carried out in its time, or refused by who would carry it out (`request_time`).
//! Never here: a call that another node forwarded, or one of `LogService`. Both are answered where they arrive.

mod ask_leader;
mod backoff;
mod batch;
mod call;
mod caller;
mod create_topic;
mod decision;
mod deletion;
mod divergence;
mod leaders;
mod lookup;
mod mark;
mod offsets;
mod partition_sender;
mod peer_stream;
mod produce_streams;
mod question;
mod reader;
mod relay;
mod request_time;
mod route;
mod settlements;
mod time;

pub use ask_leader::ask_leader;
pub use backoff::Backoff;
pub use batch::Batch;
pub use call::Call;
pub use caller::Caller;
pub use decision::{ActiveController, Decided, until_active};
pub use deletion::delete_records;
pub use divergence::find_divergence;
pub use leaders::Leaders;
pub use lookup::{find_here, find_here_now};
pub use mark::{FORWARDED, forwarding, is_forwarded};
pub use offsets::{find_offset, find_offset_for, find_offset_now};
pub use partition_sender::{Entry, PartitionSender};
pub use question::ask_broker;
pub use reader::{Failed, Slice, Start, TopicReader};
pub use relay::Relay;
pub use request_time::{
    Clocks, Punctual, is_stale_stamp, meant_epoch, set_meant_epoch, told_in_order,
};
pub use route::{Led, Target, hears};
pub use settlements::{SettleAction, SettleOutcome, settle_there};
pub use time::{Allotted, deadline_in, deadline_of, timeout_of};
