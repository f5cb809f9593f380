//! What a reassignment that was cancelled keeps, and until when.

use serde::Serialize;
use std::fmt;
use troupe_proto::admin::v1::PartitionState;

/// Replicas of a partition whose reassignment was cancelled: some are dropped only once enough of the others are in
/// sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    #[serde(rename = "removingReplicas")]
    nodes: Vec<i32>,
    #[serde(rename = "originalReplicas")]
    others: Vec<i32>,
    cancelled_until_in_sync: u32,
}

impl Kept {
    /// Of the replicas of a partition, and of those that go. `None`: nothing was cancelled.
    pub fn of(replicas: &[i32], removing: &[i32], until: Option<u32>) -> Option<Kept> {
        let stays = |node: &&i32| !removing.contains(node);
        let others = replicas.iter().filter(stays).copied().collect();
        let kept =
            |until| Kept { nodes: removing.to_vec(), others, cancelled_until_in_sync: until };
        until.map(kept)
    }

    /// The replicas that it goes back to.
    pub fn others(&self) -> &[i32] {
        &self.others
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kept { nodes, others, cancelled_until_in_sync: needed } = self;
        let verb = if *needed == 1 { "is" } else { "are" };
        write!(f, "keeps {} until {needed} of {} {verb} in sync", ids(nodes), ids(others))
    }
}

/// Who goes, for a table: with how many have to be in sync before, if the reassignment was cancelled.
pub fn removing(nodes: &[i32], cancelled_until_in_sync: Option<u32>) -> String {
    let until = cancelled_until_in_sync.map(|needed| format!(" once {needed} others are in sync"));
    ids(nodes) + &until.unwrap_or_default()
}

/// Whether it is on its way back to where it was.
pub fn is_cancelled(known: &PartitionState) -> bool {
    known.cancelled_until_in_sync.is_some()
}

/// Nodes, with commas between them.
pub(super) fn ids(nodes: &[i32]) -> String {
    nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
