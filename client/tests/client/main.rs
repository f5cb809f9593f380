//! The client against nodes that fail on purpose. Only the public API is used.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions only")]

mod commits;
mod consumer;
mod failover;
mod fake;
mod fake_group;
mod fake_log;
mod fake_node;
mod fake_transactions;
mod followers;
mod gate;
mod interceptors;
mod membership;
mod next_offsets;
mod producer;
mod reader;
mod settings_page;
mod telemetry;
mod threads;
mod topics;
mod transactions;
