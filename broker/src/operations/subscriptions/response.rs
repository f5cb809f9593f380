//! What subscribers are answered beside records.

use crate::forward::SettleOutcome;
use crate::operations::delivery::Notice;

/// What became of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleResult {
    pub ack_id: String,
    pub outcome: SettleOutcome,
}

/// What a member reads from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// By topic, then by number.
    pub partitions: Vec<(String, i32)>,
    pub member_epoch: u32,
    pub member_id: String,
}

/// What a message of a stream says beside its records. Nothing at all: still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRest {
    pub settle_results: Vec<SettleResult>,
    pub assignment: Option<Assignment>,
    pub notice: Option<Notice>,
}

/// What the answer to a single call says beside its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullRest {
    pub notices: Vec<Notice>,
}
