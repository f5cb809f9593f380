//! Which brokers are heard: sessions, and what the active controller makes of silence.
//!
//! ```text
//!  stream of a broker ──Open, Heard, Broke──► SessionActor ──asks──► ControllerHandle (fence, unfence, …)
//!         ▲                                   │   Roster decides
//!         └──── Verdict: fenced, may stop ────┘   probe: does anything listen there?
//! ```
//!
//! Owns the sessions with their deadlines, in memory only: an actor that was rebuilt, or a controller that has
//! just become active, gives everybody a fresh session.
//! Never here: a broker's records (those are the controller's), a stream ([`crate::endpoint`]).

mod actor;
mod keeper;
mod listening;
mod probe;
mod roster;
mod upkeep;

pub(crate) use actor::Verdict;
pub use keeper::SessionKeeper;
pub(crate) use keeper::gone;
pub(crate) use roster::{Heartbeat, SessionId};
