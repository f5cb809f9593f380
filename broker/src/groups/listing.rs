//! The groups of all coordinators.
//!
//! Promise: all of them, or an error that says whose are missing; never a silent gap.

use super::coordinators::OFFSETS_TOPIC;
use super::route::{are_there_groups, client, is_elsewhere_for_now};
use crate::context::Context;
use crate::forward::{Backoff, forwarding};
use crate::metadata_cache::LeaderAt;
use crate::peers::failure;
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{MetadataMap, MetadataValue};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// In the answer to a forwarded listing: the partitions of `__consumer_offsets` whose groups it holds.
const COORDINATED: &str = "troupe-coordinated";
/// Groups of one answer between nodes.
const PAGE: i32 = 10_000;
/// How long one node is waited for before the cluster is looked at again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Groups by name, and the partitions whose groups these are.
#[derive(Default)]
pub struct Listed {
    pub groups: BTreeMap<String, pb::GroupListing>,
    pub partitions: BTreeSet<PartitionId>,
}

impl Listed {
    /// What [`Listed::coordinated`] reads.
    pub fn tell(&self, metadata: &mut MetadataMap) {
        let numbers: Vec<_> =
            self.partitions.iter().map(|partition| partition.0.to_string()).collect();
        if let Ok(value) = MetadataValue::try_from(numbers.join(",")) {
            metadata.insert(COORDINATED, value);
        }
    }

    fn coordinated(metadata: &MetadataMap) -> BTreeSet<PartitionId> {
        let value = metadata.get(COORDINATED).and_then(|value| value.to_str().ok());
        let numbers = value.unwrap_or_default().split(',').filter_map(|number| number.parse().ok());
        numbers.map(PartitionId).collect()
    }
}

/// The groups of all coordinators; asks on while some are moving or loading.
///
/// # Errors
/// `COORDINATOR_LOADING`, `COORDINATOR_NOT_AVAILABLE`: which broker or partition is missing is in the message.
pub async fn list(context: &Context, deadline: Instant) -> Result<Listed, Error> {
    if !are_there_groups(context).await {
        return Ok(Listed::default());
    }
    let mut changes = context.groups.changes();
    let mut images = context.metadata.image.clone();
    let mut backoff = Backoff::new();
    loop {
        changes.borrow_and_update();
        images.borrow_and_update();
        let error = match all(context, deadline).await {
            Err(error) if is_elsewhere_for_now(&error) => error,
            outcome => return outcome,
        };
        let next = Instant::now() + backoff.next();
        if next >= deadline || context.shutdown.is_cancelled() {
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            Ok(()) = changes.changed() => {}
            Ok(()) = images.changed() => {}
        }
    }
}

/// Asks every coordinator once.
async fn all(context: &Context, deadline: Instant) -> Result<Listed, Error> {
    let image = context.metadata.now();
    let Some(topic) = image.topic(OFFSETS_TOPIC) else { return Ok(Listed::default()) };
    let mut leaders = BTreeMap::new();
    let mut missing: BTreeSet<PartitionId> =
        (0..).map(PartitionId).take(topic.partitions.len()).collect();
    for partition in &missing {
        let leader = context.metadata.leader_of(&topic.key(*partition)).ok_or_else(|| {
            let message =
                format!("nobody leads partition {partition} of `{OFFSETS_TOPIC}`; try again");
            Error::new(ErrorCode::CoordinatorNotAvailable, message).with("partition", partition)
        })?;
        leaders.insert(leader.node_id, leader);
    }
    let patience = deadline.min(Instant::now() + PATIENCE);
    let answers = try_join_all(leaders.values().map(|leader| async move {
        if leader.node_id == context.node_id {
            return here(context).await;
        }
        timeout_at(patience, there(context, leader, patience))
            .await
            .unwrap_or_else(|_| {
                let message = "it did not answer in time";
                Err(Error::new(ErrorCode::CoordinatorNotAvailable, message))
            })
            .map_err(|error| named(error, leader))
    }));
    let mut listed = Listed::default();
    for mut answer in answers.await? {
        missing = &missing - &answer.partitions;
        listed.partitions.append(&mut answer.partitions);
        listed.groups.append(&mut answer.groups);
    }
    match missing.first() {
        None => Ok(listed),
        Some(partition) => {
            let message = format!(
                "the coordinator of partition {partition} of `{OFFSETS_TOPIC}` is moving; try again"
            );
            Err(Error::new(ErrorCode::CoordinatorNotAvailable, message)
                .with("partition", partition))
        }
    }
}

/// The same error, with the broker whose groups are missing.
fn named(error: Error, leader: &LeaderAt) -> Error {
    let message = format!(
        "the groups of broker {} at {} cannot be listed: {}",
        leader.node_id, leader.endpoint, error.message
    );
    Error { message, ..error }.with("broker", leader.node_id)
}

/// The groups that this node coordinates.
///
/// # Errors
/// `COORDINATOR_LOADING` if some of them are not known yet.
pub async fn here(context: &Context) -> Result<Listed, Error> {
    let image = context.metadata.now();
    let Some(topic) = image.topic(OFFSETS_TOPIC) else { return Ok(Listed::default()) };
    let mut listed = Listed::default();
    for (number, partition) in (0..).zip(&topic.partitions) {
        if partition.leader != Some(context.node_id) {
            continue;
        }
        let partition = PartitionId(number);
        for group in context.groups.find(partition)?.list().await? {
            let group = pb::GroupListing { coordinator_id: context.node_id.0, ..group };
            listed.groups.insert(group.group_id.clone(), group);
        }
        listed.partitions.insert(partition);
    }
    Ok(listed)
}

/// Those that another node coordinates.
async fn there(context: &Context, leader: &LeaderAt, deadline: Instant) -> Result<Listed, Error> {
    let mut client = client(context, leader)?;
    let mut listed: Option<Listed> = None;
    let mut page_token = String::new();
    loop {
        let request = pb::ListGroupsRequest { page_size: PAGE, page_token, ..Default::default() };
        let answer = client.list_groups(forwarding(request, deadline)).await;
        let answer =
            answer.map_err(|status| failure(status, ErrorCode::CoordinatorNotAvailable))?;
        let partitions = Listed::coordinated(answer.metadata());
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
        assert!(Listed::coordinated(&metadata).is_empty());
        for partitions in [BTreeSet::new(), [0, 7, 49].map(PartitionId).into()] {
            let listed = Listed { partitions, ..Default::default() };
            listed.tell(&mut metadata);
            assert_eq!(Listed::coordinated(&metadata), listed.partitions);
        }
    }
}
