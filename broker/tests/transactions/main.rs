//! What a coordinator of transactions promises, whatever becomes of its actor, its log and its node; seen from outside.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

mod atomic;
mod calls;
mod failures;
mod fixture;
mod offsets;
mod on_record;
mod operators;
mod readers;
mod records;
