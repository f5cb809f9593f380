//! One member of a group that delivers: its place in the group, what it reads, what it has delivered, and what of
//! that is committed. Who takes the deliveries, a stream or single calls, is not known here.
//!
//! Order: one event at a time; an event is taken and dealt with in one go, so that [`Session::work`] may be dropped
//! wherever it waits.
//! Promises: what is committed was acknowledged; a partition is given up when what was delivered of it is settled,
//! or was taken back.

mod assigning;
mod assignment;
mod commits;
mod committing;
mod confirmations;
mod confirming;
mod draw;
mod epochs;
mod pledging;
mod serve_draws;
mod state;
mod work;

#[cfg(test)]
pub use draw::RESULT_BYTES;
pub use state::Session;
