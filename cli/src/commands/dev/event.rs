//! What happens to the nodes of one process, as the one who looks after them is told.

use crate::failure::Failure;
use serde_json::Value;
use troupe_broker::{Node, StartError};

/// What happens to the nodes.
pub enum Event {
    /// Somebody typed something.
    Line(String),
    /// What came of something that was typed, as JSON and as text; or why nothing did.
    Told(Result<(Value, String), Failure>),
    Started(i32, Box<Result<Node, StartError>>),
    Stopped(i32),
    /// It stopped, and nobody asked it to.
    Failed(i32),
}
