//! Which brokers are heard: sessions, and what the active controller makes of silence.
//!
//! ```text
//!  stream of a broker ──Open, Heard, Broke──► SessionActor ──asks──► ControllerHandle (fence, unfence, …)
//!         ▲                                   │   BrokerHeartbeats decide
//!         └── SessionState: fenced, may stop ─┘   probe: does anything listen there?
//! ```
//!
//! Owns the sessions with their deadlines, in memory only: an actor that was rebuilt, or a controller that has
//! just become active, gives everybody a fresh session.
//! Never here: a broker's records (those are the controller's), a stream ([`crate::endpoint`]).

mod actor;
mod handle;
mod heartbeats;
mod stalls;
mod upkeep;

pub(crate) use actor::SessionState;
pub use handle::BrokerSessions;
pub(crate) use handle::gone;
pub(crate) use heartbeats::{Heartbeat, SessionId};
