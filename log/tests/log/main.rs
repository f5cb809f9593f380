//! What a log promises, through its public API.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions only")]

mod aborted;
mod aborted_crash;
mod aborted_files;
mod batches;
mod cleaned;
mod cleaning;
mod cleaning_crash;
mod cleaning_meanwhile;
mod cleaning_model;
mod cleaning_transactions;
mod crash;
mod crash_sweep;
mod damage;
mod deleted;
mod dumping;
mod faults;
mod model;
mod moving;
mod opening;
mod reading;
mod rolling;
mod rot;
mod shrinking;
mod tail;
mod tombstones_gone;
mod transactions;
mod transactions_on_record;
mod verifying;
mod want;
