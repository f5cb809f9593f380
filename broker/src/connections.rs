//! The connections of a listener: who is let in, how long they may do nothing, whose turn it is.
//!
//! ```text
//!  listener ─► accept ─► SlotGuard ─► http2: ConnectionIo ─► hyper ─► Front ─► services
//!                 └────► refusal                 └ Frames, Turns ┘   └ Trial, Calls ┘
//! ```
//!
//! Promises: there are never more connections than the limits, nor than the logs leave descriptors for; a refused one is
//! told why; the cluster's own nodes have slots that no client takes; one that does nothing ends; one that does much
//! has its turn as everybody else has.
//! Never here: what a call asks for, or a door: both stand above. The limits and times are judged by
//! [`troupe_machines::connection`].

mod accept;
mod calls;
mod connection;
mod http1;
mod http2;
mod io;
mod refusal;
mod slot_guard;
mod slots;
mod timeouts;
mod trial;

pub use accept::accept;
pub use connection::Connection;
pub use http1::serve as serve_http1;
pub use http2::serve as serve_http2;
pub use refusal::Protocol;
pub use slots::Connections;
