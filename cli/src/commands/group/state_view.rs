//! Where a group is coordinated, and its state.

use super::view::{GroupView, state_name};
use crate::output::{Output, Table, number, text};
use serde::Serialize;
use troupe_proto::log::v1::DescribeGroupResponse;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    group_id: String,
    coordinator_id: i32,
    coordinator_endpoint: String,
    assignor: String,
    state: &'static str,
    group_epoch: u32,
    member_count: usize,
}

impl StateView {
    pub fn new(group: &DescribeGroupResponse) -> StateView {
        StateView {
            group_id: group.group_id.clone(),
            coordinator_id: group.coordinator_id,
            coordinator_endpoint: group.coordinator_endpoint.clone(),
            assignor: group.assignor.clone(),
            state: state_name(group.state()),
            group_epoch: group.group_epoch,
            member_count: group.members.len(),
        }
    }
}

impl GroupView for StateView {
    fn render(output: &Output, groups: &[Self]) -> String {
        let mut table = Table::new(&[
            text("GROUP"),
            text("COORDINATOR"),
            text("ASSIGNOR"),
            text("STATE"),
            number("EPOCH"),
            number("#MEMBERS"),
        ]);
        for group in groups {
            table.row(vec![
                group.group_id.clone(),
                format!("{} ({})", group.coordinator_endpoint, group.coordinator_id),
                group.assignor.clone(),
                group.state.to_owned(),
                group.group_epoch.to_string(),
                group.member_count.to_string(),
            ]);
        }
        output.table(&table)
    }
}
