//! What the coordinators of a node count of transactions.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub struct TransactionMetrics {
    /// Transactional ids that this node coordinates.
    pub ids: Gauge,
    /// Of those: begun, and not decided.
    pub open: Gauge,
    /// Partitions that were not yet heard to have the marker of what was decided.
    pub markers_waiting: Gauge,
    pub committed: Counter,
    pub aborted: Counter,
    /// Of those aborted: for lasting too long.
    pub timed_out: Counter,
    /// From a leadership of a partition of transactions until its coordinator serves.
    pub load_seconds: Histogram,
}

impl TransactionMetrics {
    pub(super) fn new(node: &str) -> Self {
        let label = || node.to_owned();
        let decided = |outcome: &'static str| {
            counter!(
                "troupe_transactions_decided_total", "node" => label(), "outcome" => outcome
            )
        };
        Self {
            ids: gauge!("troupe_transactional_ids", "node" => label()),
            open: gauge!("troupe_open_transactions", "node" => label()),
            markers_waiting: gauge!("troupe_transaction_markers_waiting", "node" => label()),
            committed: decided("commit"),
            aborted: decided("abort"),
            timed_out: counter!("troupe_transactions_timed_out_total", "node" => label()),
            load_seconds: histogram!("troupe_transaction_load_seconds", "node" => label()),
        }
    }
}
