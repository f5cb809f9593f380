//! Clients' connections: who may have one, how long it may do nothing, and how much it may do in its turn.
//!
//! - [`arrival`]: how long the only message of a call may take to come.
//! - [`places`]: limits on connections, of a node and of an address, and who makes room.
//! - [`frames`]: what HTTP/2 a peer has sent so far, as far as its frames begin and end.
//! - [`patience`]: how long which kind of silence is borne.
//! - [`turns`]: bytes and calls that a connection may have served before others have theirs.
//!
//! Never here: a socket, a clock, what a frame means.

pub mod arrival;
pub mod frames;
pub mod patience;
pub mod places;
pub mod turns;
