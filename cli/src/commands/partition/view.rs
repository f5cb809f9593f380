//! A partition as it is printed; the keys are those of `troupe.admin.v1` in proto JSON.

use crate::node_view::ids;
use crate::output::{Column, Table, Tone, number, text};
use crate::quantity::plural;
use crate::reassignment::removing;
use serde::Serialize;
use troupe_proto::admin::v1::PartitionState;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionView {
    pub topic: String,
    pub partition: i32,
    /// None: no leader.
    leader_id: Option<i32>,
    leader_epoch: u32,
    partition_epoch: u32,
    replicas: Vec<i32>,
    in_sync_replicas: Vec<i32>,
    adding_replicas: Vec<i32>,
    removing_replicas: Vec<i32>,
    /// Of a reassignment that was cancelled: the removing replicas go once so many of the others are in sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_until_in_sync: Option<u32>,
    eligible_leader_replicas: Vec<i32>,
    min_in_sync_replicas: u32,
    /// Replicas whose actors are not well, as their nodes tell.
    pub distress: Vec<UnhealthyReplica>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnhealthyReplica {
    pub node_id: i32,
    /// `restarting`, `offline`, `paused`, `stalled`, `waiting`; `silent`: the node does not answer.
    pub condition: &'static str,
}

impl From<PartitionState> for PartitionView {
    fn from(state: PartitionState) -> Self {
        PartitionView {
            topic: state.topic,
            partition: state.partition,
            leader_id: state.leader_id,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            replicas: state.replicas,
            in_sync_replicas: state.in_sync_replicas,
            adding_replicas: state.adding_replicas,
            removing_replicas: state.removing_replicas,
            cancelled_until_in_sync: state.cancelled_until_in_sync,
            eligible_leader_replicas: state.eligible_leader_replicas,
            min_in_sync_replicas: state.min_in_sync_replicas,
            distress: Vec::new(),
        }
    }
}

const COLUMNS: [Column; 12] = [
    text("TOPIC"),
    number("PARTITION"),
    text("LEADER"),
    number("EPOCH"),
    text("REPLICAS"),
    text("IN SYNC"),
    text("ELIGIBLE").roomy(),
    text("ADDING").roomy(),
    text("REMOVING").roomy(),
    number("MIN IN SYNC").wide(),
    number("PARTITION EPOCH").wide(),
    text("DISTRESS"),
];

pub fn table(partitions: &[PartitionView]) -> Table {
    let mut table = Table::new(&COLUMNS);
    for partition in partitions {
        let (tone, cell) = match partition.leader_id {
            None => (Tone::Bad, 2),
            Some(_) if partition.is_under_replicated() => (Tone::Warning, 5),
            Some(_) => (Tone::Plain, 0),
        };
        table.toned_row(tone, cell, partition.cells());
    }
    table
}

impl PartitionView {
    /// Fewer are in sync than there are to be replicas.
    fn is_under_replicated(&self) -> bool {
        self.in_sync_replicas.len() < self.replicas.len() - self.removing_replicas.len()
    }

    /// Every node that has a replica.
    pub fn nodes(&self) -> &[i32] {
        &self.replicas
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partition.to_string(),
            self.leader_id.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            self.leader_epoch.to_string(),
            ids(&self.replicas),
            ids(&self.in_sync_replicas),
            ids(&self.eligible_leader_replicas),
            ids(&self.adding_replicas),
            removing(&self.removing_replicas, self.cancelled_until_in_sync),
            self.min_in_sync_replicas.to_string(),
            self.partition_epoch.to_string(),
            self.distress
                .iter()
                .map(|one| format!("{} {}", one.node_id, one.condition))
                .collect::<Vec<_>>()
                .join(","),
        ]
    }
}

/// What is well and what is not, in one line.
pub fn summary(partitions: &[PartitionView]) -> String {
    let offline = partitions.iter().filter(|p| p.leader_id.is_none()).count();
    let under_replicated = partitions.iter().filter(|p| p.is_under_replicated()).count();
    format!(
        "{}: {offline} offline, {under_replicated} under-replicated",
        plural(partitions.len(), "partition")
    )
}
