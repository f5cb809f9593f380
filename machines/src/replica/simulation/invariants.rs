//! What has to hold, one promise a file (reliability.md §8). Facts of the world in, a violation out.

mod acknowledged_is_durable;
mod committed_never_changes;
mod confirmed_reads_are_of_now;
mod equal_after_healing;
mod fenced_leaders_acknowledge_nothing;
mod in_sync_replicas_have_what_is_committed;
mod no_record_twice_and_in_order;
mod offsets_only_grow;
mod one_leader_per_epoch;
mod transactions_are_as_the_log_says;
mod transactions_stay_apart;

pub use acknowledged_is_durable::{acknowledged_is_committed, committed_is_durable};
pub use committed_never_changes::committed_never_changes;
pub use confirmed_reads_are_of_now::confirmed_reads_are_of_now;
pub use equal_after_healing::equal_after_healing;
pub use fenced_leaders_acknowledge_nothing::fenced_leaders_acknowledge_nothing;
pub use in_sync_replicas_have_what_is_committed::in_sync_replicas_have_what_is_committed;
pub use no_record_twice_and_in_order::no_record_twice_and_in_order;
pub use offsets_only_grow::{offsets_only_grow, truncation_stays_above};
pub use one_leader_per_epoch::one_leader_per_epoch;
pub use transactions_are_as_the_log_says::transactions_are_as_the_log_says;
pub use transactions_stay_apart::transactions_stay_apart;

use std::collections::BTreeMap;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Everything that was ever visible or promised.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Batches below some replica's high watermark, by base offset.
    pub committed: BTreeMap<Offset, BatchHeader>,
    /// Base offset and content of what was acknowledged with acks all.
    pub acknowledged: Vec<(Offset, u32)>,
    /// One more than the base offset of the last of them.
    pub acknowledged_end: Offset,
    pub leaders: BTreeMap<LeaderEpoch, usize>,
    pub sequences: BTreeMap<(ProducerId, ProducerEpoch), Sequence>,
    /// Of which transaction of its producer a batch is, or a marker; by content.
    pub parts: BTreeMap<u32, u32>,
    /// Whether a transaction was committed.
    pub decided: BTreeMap<(ProducerId, u32), bool>,
    /// The transaction that is open among what is committed, and the last that ended there.
    pub open: BTreeMap<ProducerId, u32>,
    pub ended: BTreeMap<ProducerId, u32>,
    /// Records below were deleted on request.
    pub deleted_before: Offset,
}

impl Ledger {
    pub fn end(&self) -> Offset {
        self.committed.last_key_value().map_or(Offset::ZERO, |(_, batch)| batch.end_offset())
    }
}
