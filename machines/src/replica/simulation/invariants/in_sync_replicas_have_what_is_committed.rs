//! I8: whatever any replica shows is on every in-sync replica's disk, and flushed there if the policy says so.

use super::super::chance::Violation;
use super::super::world::Node;
use crate::config::FlushPolicy;
use troupe_proto::ids::{NodeId, Offset};

pub fn in_sync_replicas_have_what_is_committed(
    visible: Offset,
    isr: &[NodeId],
    nodes: &[Node],
    policy: FlushPolicy,
) -> Result<(), Violation> {
    for node in nodes.iter().filter(|node| isr.contains(&node.id)) {
        let has = match policy {
            FlushPolicy::Commit => node.log.flushed,
            FlushPolicy::Os => node.log.end(),
        };
        if has < visible {
            let what = format!("{visible} is visible, {:?} is in sync and has {has}", node.id);
            return Err(Violation::new("I8 the ISR has what is committed", what));
        }
    }
    Ok(())
}
