//! A node as it is printed, and several where only their numbers are; the keys are those of `troupe.admin.v1` in proto
//! JSON.

use crate::output::{Table, Tone, number, text};
use serde::Serialize;
use troupe_proto::admin::v1::ClusterNode;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub node_id: i32,
    pub endpoint: String,
    http_endpoint: String,
    rack: String,
    pub fenced: bool,
    shutting_down: bool,
    retiring: bool,
    /// It is the active controller.
    controller: bool,
    pub leader_count: i32,
    pub replica_count: i32,
    in_sync_count: i32,
    broker_epoch: i64,
}

impl NodeView {
    pub fn new(node: &ClusterNode, controller_id: i32) -> NodeView {
        NodeView {
            node_id: node.node_id,
            endpoint: node.endpoint.clone(),
            http_endpoint: node.http_endpoint.clone(),
            rack: node.rack.clone(),
            fenced: node.fenced,
            shutting_down: node.shutting_down,
            retiring: node.retiring,
            controller: node.node_id == controller_id,
            leader_count: node.leader_count,
            replica_count: node.replica_count,
            in_sync_count: node.in_sync_count,
            broker_epoch: node.broker_epoch,
        }
    }

    /// `active`; `draining`: alive, but leads nothing; `retiring`: alive, and nothing is placed on it; `fenced`: not
    /// there, as far as the cluster knows.
    pub fn state(&self) -> &'static str {
        if self.fenced {
            "fenced"
        } else if self.shutting_down {
            "draining"
        } else if self.retiring {
            "retiring"
        } else {
            "active"
        }
    }
}

pub fn table(nodes: &[NodeView]) -> Table {
    let mut table = Table::new(&[
        number("NODE"),
        text("ENDPOINT"),
        text("HTTP").roomy(),
        text("STATE"),
        text("CONTROLLER"),
        number("LEADS"),
        number("REPLICAS"),
        number("IN SYNC"),
        text("RACK").wide(),
        number("EPOCH").wide(),
    ]);
    for node in nodes {
        let tone = match node.state() {
            "active" => Tone::Plain,
            "fenced" => Tone::Bad,
            _ => Tone::Warning,
        };
        table.toned_row(
            tone,
            3,
            vec![
                node.node_id.to_string(),
                node.endpoint.clone(),
                node.http_endpoint.clone(),
                node.state().to_owned(),
                if node.controller { "active" } else { "" }.to_owned(),
                node.leader_count.to_string(),
                node.replica_count.to_string(),
                node.in_sync_count.to_string(),
                node.rack.clone(),
                node.broker_epoch.to_string(),
            ],
        );
    }
    table
}

/// Nodes, with commas between them.
pub fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
