//! What each node has and would have: as JSON, and as a table.

use super::Proposal;
use crate::output::{Output, Table, number, text};
use crate::quantity::{plural, show_size};
use serde::Serialize;
use troupe_proto::admin::v1::{NodeShare, PlannedNode};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SharesView {
    pub replicas_to_copy: usize,
    pub bytes_to_copy: u64,
    /// Partitions in which only another replica is preferred as leader.
    pub partitions_to_reorder: usize,
    /// Partitions that remain in fewer racks than there are.
    pub partitions_not_in_all_racks: usize,
    pub nodes: Vec<NodeView>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    node_id: i32,
    rack: String,
    before: ShareView,
    after: ShareView,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShareView {
    leader_count: i64,
    replica_count: i64,
    size_bytes: i64,
}

impl From<Option<NodeShare>> for ShareView {
    fn from(share: Option<NodeShare>) -> Self {
        let NodeShare { leader_count, replica_count, size_bytes } = share.unwrap_or_default();
        ShareView { leader_count, replica_count, size_bytes }
    }
}

pub fn shares(proposal: &Proposal) -> SharesView {
    let node = |node: &PlannedNode| NodeView {
        node_id: node.node_id,
        rack: node.rack.clone(),
        before: node.before.into(),
        after: node.after.into(),
    };
    SharesView {
        replicas_to_copy: proposal.copies(),
        bytes_to_copy: proposal.copied_bytes(),
        partitions_to_reorder: proposal.reordered(),
        partitions_not_in_all_racks: proposal.in_one_rack(),
        nodes: proposal.nodes.iter().map(node).collect(),
    }
}

impl SharesView {
    /// A row for each node, and a line that says what it takes.
    pub fn render(&self, output: &Output) -> String {
        let mut table = Table::new(&[
            number("NODE"),
            text("RACK"),
            number("LEADS"),
            number("THEN"),
            number("REPLICAS"),
            number("THEN"),
            number("BYTES"),
            number("THEN"),
        ]);
        let size = |bytes: i64| show_size(bytes.max(0).unsigned_abs());
        for NodeView { node_id, rack, before, after } in &self.nodes {
            table.row(vec![
                node_id.to_string(),
                rack.clone(),
                before.leader_count.to_string(),
                after.leader_count.to_string(),
                before.replica_count.to_string(),
                after.replica_count.to_string(),
                size(before.size_bytes),
                size(after.size_bytes),
            ]);
        }
        output.table(&table) + &self.sentence() + "\n"
    }

    /// What it takes.
    pub fn sentence(&self) -> String {
        let mut sentence = match (self.replicas_to_copy, self.partitions_to_reorder) {
            (0, 0) => "nothing has to move".to_owned(),
            (0, orders) => {
                let verb = if orders == 1 { "gets" } else { "get" };
                format!(
                    "no data has to move: {} {verb} another leader",
                    plural(orders, "partition")
                )
            }
            (copies, orders) => {
                let verb = if copies == 1 { "has" } else { "have" };
                let copies = plural(copies, "replica");
                let copied = format!("{copies} {verb} to be copied, {}", self.size());
                match orders {
                    0 => copied,
                    1 => copied + ", and one more partition gets another leader",
                    orders => format!("{copied}, and {orders} more partitions get another leader"),
                }
            }
        };
        if self.partitions_not_in_all_racks > 0 {
            let count = self.partitions_not_in_all_racks;
            sentence += &format!(
                "; {} cannot be in as many racks as there are",
                plural(count, "partition")
            );
        }
        sentence
    }

    fn size(&self) -> String {
        show_size(self.bytes_to_copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::admin::v1::{PlanReassignmentResponse, PlannedPartition};

    fn proposal(replicas: &[(&[i32], &[i32], i64)]) -> Proposal {
        let partition =
            |(at, (current, proposed, size)): (usize, &(&[i32], &[i32], i64))| PlannedPartition {
                topic: "orders".to_owned(),
                partition: at as i32,
                current_replicas: current.to_vec(),
                proposed_replicas: proposed.to_vec(),
                size_bytes: *size,
                rack_aware: true,
            };
        Proposal::new(PlanReassignmentResponse {
            partitions: replicas.iter().enumerate().map(partition).collect(),
            ..PlanReassignmentResponse::default()
        })
    }

    #[test]
    fn what_a_plan_takes_is_told_in_copies_bytes_and_leaders() {
        let of = |replicas: &[(&[i32], &[i32], i64)]| shares(&proposal(replicas)).sentence();
        assert_eq!(of(&[(&[1, 2], &[1, 2], 5)]), "nothing has to move");
        let led = "no data has to move: 1 partition gets another leader";
        assert_eq!(of(&[(&[1, 2], &[2, 1], 5)]), led);
        let both = of(&[(&[1, 2], &[3, 4], 1024), (&[1, 2], &[2, 1], 7), (&[3], &[3], 9)]);
        assert!(both.starts_with("2 replicas have to be copied, 2"), "{both}");
        assert!(both.ends_with("and one more partition gets another leader"), "{both}");
    }

    #[test]
    fn only_what_changes_is_carried_out() {
        let proposal = proposal(&[(&[1, 2], &[1, 2], 0), (&[1, 2], &[1, 3], 0)]);
        assert_eq!(proposal.changes().partitions.len(), 1);
        assert_eq!(proposal.current().partitions.len(), 2);
        assert_eq!(proposal.proposed().partitions[1].replicas, [1, 3]);
        assert_eq!(proposal.proposed().partitions[1].log_dirs, ["any", "any"]);
    }
}
