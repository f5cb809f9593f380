//! What a log promises, through its public API.

mod batches;
mod opening;
mod reading;
mod rolling;
