//! I7: who begins anew, with less than it had, is neither in sync nor eligible to lead.

use crate::violation::{Checked, ensure};
use troupe_proto::ids::NodeId;

pub fn nobody_drops_what_counts(node: NodeId, isr: &[NodeId], eligible: &[NodeId]) -> Checked {
    ensure(!isr.contains(&node) && !eligible.contains(&node), "I7 what counts stays", || {
        format!("node {node} begins anew: in sync are {isr:?}, eligible {eligible:?}")
    })
}
