//! The groups that a node coordinates, and of whose partitions: also in what one node tells another.

use super::aliases::GroupRoute;
use crate::forward::forwarding;
use crate::metadata_cache::LeaderAt;
use crate::peers::{Purpose, failure};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// In the answer to a forwarded listing: the partitions of `__consumer_offsets` whose groups it holds.
const COORDINATED: &str = "troupe-coordinated";
/// Groups of one answer between nodes.
const PAGE: i32 = 10_000;

/// Groups by name, and the partitions whose groups these are.
#[derive(Default)]
pub struct Listed {
    pub groups: BTreeMap<String, pb::GroupListing>,
    pub partitions: BTreeSet<PartitionId>,
}

/// What [`coordinated`] reads.
pub fn tell_coordinated(partitions: &BTreeSet<PartitionId>, metadata: &mut MetadataMap) {
    let numbers: Vec<_> = partitions.iter().map(|partition| partition.0.to_string()).collect();
    if let Ok(value) = MetadataValue::try_from(numbers.join(",")) {
        metadata.insert(COORDINATED, value);
    }
}

fn coordinated(metadata: &MetadataMap) -> BTreeSet<PartitionId> {
    let value = metadata.get(COORDINATED).and_then(|value| value.to_str().ok());
    let numbers = value.unwrap_or_default().split(',').filter_map(|number| number.parse().ok());
    numbers.map(PartitionId).collect()
}

/// Those that another node coordinates.
pub async fn list_there(
    route: &GroupRoute,
    leader: &LeaderAt,
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
        listed.groups.extend(groups);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(std::mem::take(listed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_whose_groups_it_holds() {
        let mut metadata = MetadataMap::new();
        assert!(coordinated(&metadata).is_empty());
        for partitions in [BTreeSet::new(), [0, 7, 49].map(PartitionId).into()] {
            tell_coordinated(&partitions, &mut metadata);
            assert_eq!(coordinated(&metadata), partitions);
        }
    }
}
