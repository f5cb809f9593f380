//! The cluster's single decider: [`troupe_machines::cluster`] over a replicated log.
//!
//! ```text
//!  ControllerHandle ──request──► ControllerActor ──batch──► MetadataLog ──committed──► ClusterImage
//!        ▲                            │ decides on what it          (Raft, sled)             │
//!        └────────────answer──────────┘ has proposed already                 image() ◄───────┘
//! ```
//!
//! - [`Controller::start`] opens the log, starts Raft on an arbiter and the actor on another.
//!   [`Controller::join`] does so among several voters, who reach each other through [`RaftEndpoint`].
//! - [`ControllerHandle`] is how everybody else speaks to it; [`ControllerHandle::image`] is what it decided.
//! - [`ControllerEndpoint`] is the same for brokers elsewhere, by gRPC. It keeps their sessions, and from then
//!   on brokers that are not heard are fenced ([`BrokerSessions`]).
//! - [`priority`]: its threads run before those that carry data.
//! - [`metadata_log`] is the seam: the simulator puts its own log there.
//!
//! Promises: an answer is given after what it says is committed, on disk; a decision is applied whole or not
//! at all; a controller that is killed, or started again, knows everything it ever answered.
//! Never here: what a request means; that is the machine's.

mod actor;
mod api;
mod config;
mod endpoint;
mod handle;
pub mod metadata_log;
pub mod priority;
mod probe;
mod raft;
mod request;
mod sessions;
mod settings;
mod start;
mod supervision;
#[cfg(test)]
mod tests;
mod voters;

pub use api::ControllerApi;
pub use config::{
    BeforeFlush, Connector, ControllerConfig, ControllerStartError, QuorumTimings, SessionTimings,
    Upkeep,
};
pub use endpoint::{ControllerEndpoint, MAX_MESSAGE_BYTES};
pub use handle::ControllerHandle;
pub use raft::{
    MetadataEntry, MetadataLogContent, MetadataPayload, MetadataPosition, MetadataQuorum,
    MetadataReadError, MetadataSnapshot, MetadataVote, RaftEndpoint,
};
pub use sessions::BrokerSessions;
pub use settings::{ClusterSettings, Settings};
pub use start::{Controller, QuorumMember};
pub use voters::{Voter, VotersError};
