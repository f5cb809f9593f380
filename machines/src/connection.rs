//! Clients' connections: who may have one, how long it may do nothing, and how much it may do in its turn.
//!
//! - [`read_timeout`]: how long the only message of a call may take to come.
//! - [`slots`]: limits on connections, of a node and of an address, and who makes room.
//! - [`frames`]: what HTTP/2 a peer has sent so far, as far as its frames begin and end.
//! - [`timeouts`]: how long which kind of silence is borne.
//! - [`turns`]: bytes and calls that a connection may have served before others have theirs.
//!
//! Never here: a socket, a clock, what a frame means.

pub mod frames;
pub mod read_timeout;
pub mod slots;
pub mod timeouts;
pub mod turns;
