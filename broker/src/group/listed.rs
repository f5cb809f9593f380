//! The groups that a node coordinates.

use super::aliases::{GroupHandle, GroupRoute};
use crate::coordinator::{Answered, coordinated};
use crate::forward::forwarding;
use crate::metadata_cache::LeaderAt;
use crate::peers::{Purpose, failure};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

/// Groups of one answer between nodes.
const PAGE: i32 = 10_000;

/// Groups by name, and the partitions whose groups these are.
pub type Listed = Answered<pb::GroupListing>;

/// Those of one coordinator of this node.
pub async fn list_here(
    handle: Arc<GroupHandle>,
) -> Result<BTreeMap<String, pb::GroupListing>, Error> {
    let groups = handle.list().await?.into_iter();
    Ok(groups.map(|group| (group.group_id.clone(), group)).collect())
}

/// Those that another node coordinates.
pub async fn list_there(
    route: &GroupRoute,
    leader: LeaderAt,
    deadline: Instant,
) -> Result<Listed, Error> {
    let channel = route.calls.peers.channel(&leader.endpoint, Purpose::Control)?;
    let mut client = route.client(channel);
    let mut listed: Option<Listed> = None;
    let mut page_token = String::new();
    loop {
        let request = pb::ListGroupsRequest { page_size: PAGE, page_token, ..Default::default() };
        let answer = client.list_groups(forwarding(request, deadline)).await;
        let answer =
            answer.map_err(|status| failure(status, ErrorCode::CoordinatorNotAvailable))?;
        let partitions = coordinated(answer.metadata());
        let answer = answer.into_inner();
        let listed = listed
            .get_or_insert_with(|| Listed { partitions: partitions.clone(), ..Default::default() });
        // What moved away between two pages is in neither as a whole.
        listed.partitions = &listed.partitions & &partitions;
        let groups = answer.groups.into_iter().map(|group| (group.group_id.clone(), group));
        listed.items.extend(groups);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(std::mem::take(listed));
        }
    }
}
