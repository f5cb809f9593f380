//! The connections of a listener: who is let in, how long they may do nothing, whose turn it is.
//!
//! ```text
//!  listener ─► accept ─► Guest (a place) ─► http2: GuestIo ─► hyper ─► Front ─► services
//!                 └────► refusal                 └ Frames, Turns ┘   └ Trial, Calls ┘
//! ```
//!
//! Promises: there are never more connections than the limits, nor than the logs leave descriptors for; a refused one is
//! told why; the cluster's own nodes have places that no client takes; one that does nothing ends; one that does much
//! has its turn as everybody else has.
//! Never here: what a call asks for, or a door: both stand above. The limits and times are judged by
//! [`troupe_machines::connection`].

mod accept;
mod calls;
mod connection;
mod guest;
mod http1;
mod http2;
mod io;
mod places;
mod refusal;
mod timeouts;
mod trial;

pub use accept::accept;
pub use connection::Connection;
pub use http1::serve as serve_http1;
pub use http2::serve as serve_http2;
pub use places::Connections;
pub use refusal::Protocol;
