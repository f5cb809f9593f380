//! What the views of transactions have in common.

use crate::quantity::show_duration;
use crate::timestamp;
use clap::ValueEnum;
use serde::Serialize;
use std::time::Duration;
use troupe_proto::admin::v1::{TransactionListing, TransactionState};

/// A state as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArgument {
    /// Initialised, and nothing is open
    Empty,
    /// Something is open
    Ongoing,
    /// Committed; its partitions have yet to hear of it
    PrepareCommit,
    /// Aborted; its partitions have yet to hear of it
    PrepareAbort,
    /// The last one was committed
    CompleteCommit,
    /// The last one was aborted
    CompleteAbort,
}

impl From<StateArgument> for TransactionState {
    fn from(argument: StateArgument) -> Self {
        match argument {
            StateArgument::Empty => Self::Empty,
            StateArgument::Ongoing => Self::Ongoing,
            StateArgument::PrepareCommit => Self::PrepareCommit,
            StateArgument::PrepareAbort => Self::PrepareAbort,
            StateArgument::CompleteCommit => Self::CompleteCommit,
            StateArgument::CompleteAbort => Self::CompleteAbort,
        }
    }
}

/// In Kafka's words.
pub fn state_name(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Unspecified => "Unknown",
        TransactionState::Empty => "Empty",
        TransactionState::Ongoing => "Ongoing",
        TransactionState::PrepareCommit => "PrepareCommit",
        TransactionState::PrepareAbort => "PrepareAbort",
        TransactionState::CompleteCommit => "CompleteCommit",
        TransactionState::CompleteAbort => "CompleteAbort",
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListingView {
    pub transactional_id: String,
    pub producer_id: u64,
    pub producer_epoch: u32,
    pub state: &'static str,
    pub coordinator: i32,
}

impl From<TransactionListing> for ListingView {
    fn from(listing: TransactionListing) -> Self {
        ListingView {
            state: state_name(listing.state()),
            transactional_id: listing.transactional_id,
            producer_id: listing.producer_id,
            producer_epoch: listing.producer_epoch,
            coordinator: listing.coordinator,
        }
    }
}

/// A moment, and how long ago that was.
pub fn since(timestamp_ms: i64) -> String {
    let ago = u64::try_from(timestamp::now_ms() - timestamp_ms).unwrap_or(0);
    format!("{} ({} ago)", timestamp::show(timestamp_ms), show_duration(Duration::from_millis(ago)))
}
