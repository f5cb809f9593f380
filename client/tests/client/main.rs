//! The client against nodes that fail on purpose. Only the public API is used.

mod fake;
mod fake_log;
mod producer;
mod reader;
