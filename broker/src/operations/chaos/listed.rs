//! What somebody suffers, as it is listed.

use crate::faults::NodeFault;
use troupe_actor::FaultKind;

/// A fault that lasts.
pub struct ListedFault {
    pub id: String,
    pub address: String,
    pub suffered: Suffered,
    pub left_ms: u64,
    pub hits: u64,
}

pub enum Suffered {
    ByNode(NodeFault),
    ByActor(FaultKind),
}
