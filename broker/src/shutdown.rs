//! What is told of a node that stops.

use troupe_proto::error::{Error, ErrorCode};

/// Streams that last are ended with it, and what waits is answered with it.
pub fn shutting_down() -> Error {
    Error::new(ErrorCode::ShuttingDown, "the node is stopping; connect to another or try again")
}
