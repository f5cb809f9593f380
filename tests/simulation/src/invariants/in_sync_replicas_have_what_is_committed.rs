//! I8: the high watermark is at most the end of every in-sync replica, as the flush policy counts ends.

use crate::violation::{Checked, ensure};
use troupe_proto::ids::{NodeId, Offset};

pub fn in_sync_replica_has(high_watermark: Offset, node: NodeId, end: Offset) -> Checked {
    ensure(high_watermark <= end, "I8 in-sync replicas have what is committed", || {
        format!("high watermark {high_watermark}, but node {node} is in sync and ends at {end}")
    })
}
