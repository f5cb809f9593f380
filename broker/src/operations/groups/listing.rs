//! The groups of all coordinators.

use super::super::page::Page;
use super::coordination::Groups;
use crate::forward::Call;
use crate::group::{list_here, list_there};
use std::collections::BTreeSet;
use troupe_proto::error::Error;
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// One page of groups.
pub struct ListedGroups {
    pub groups: Vec<pb::GroupListing>,
    pub next_page_token: String,
    /// The partitions of `__consumer_offsets` whose groups these are.
    pub partitions: BTreeSet<PartitionId>,
}

impl Groups {
    /// Groups by name: of all coordinators, or of those of this node if it is another that asks. Those in one of the
    /// `states`, if any is named.
    ///
    /// # Errors
    /// `COORDINATOR_LOADING`, `COORDINATOR_NOT_AVAILABLE`.
    pub async fn list(
        &self,
        states: &[i32],
        page: &Page,
        call: Call,
    ) -> Result<ListedGroups, Error> {
        let there = |leader, until| list_there(&self.route, leader, until);
        let listed = match call.forwarded {
            true => self.route.ask_here(list_here).await?,
            false => self.route.ask_all(call.deadline, list_here, there).await?,
        };
        let wanted = |group: &pb::GroupListing| states.is_empty() || states.contains(&group.state);
        let groups = listed.items.into_values().filter(wanted);
        let (groups, next_page_token) = page.cut(groups, |group| group.group_id.clone());
        Ok(ListedGroups { groups, next_page_token, partitions: listed.partitions })
    }
}
