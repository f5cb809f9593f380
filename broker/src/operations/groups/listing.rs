//! The groups of all coordinators.
//!
//! Promise: all of them, or an error that says whose are missing; never a silent gap.

use super::super::page::Page;
use super::coordination::Groups;
use crate::coordinator::is_elsewhere_for_now;
use crate::forward::{Backoff, Call};
use crate::group::{Listed, OFFSETS_TOPIC, list_there};
use crate::metadata_cache::LeaderAt;
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// How long one node is waited for before the cluster is looked at again.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let Listed { groups, partitions } = match call.forwarded {
            true => self.list_here().await?,
            false => self.list_all(call.deadline).await?,
        };
        let wanted = |group: &pb::GroupListing| states.is_empty() || states.contains(&group.state);
        let groups = groups.into_values().filter(wanted);
        let (groups, next_page_token) = page.cut(groups, |group| group.group_id.clone());
        Ok(ListedGroups { groups, next_page_token, partitions })
    }

    /// The groups of all coordinators; asks on while some are moving or loading.
    ///
    /// # Errors
    /// `COORDINATOR_LOADING`, `COORDINATOR_NOT_AVAILABLE`: which broker or partition is missing is in the message.
    async fn list_all(&self, deadline: Instant) -> Result<Listed, Error> {
        if !self.route.is_in_use().await {
            return Ok(Listed::default());
        }
        let mut changes = self.route.coordinators.changes();
        let mut images = self.route.metadata.image.clone();
        let mut backoff = Backoff::new();
        loop {
            changes.borrow_and_update();
            images.borrow_and_update();
            let error = match self.all(deadline).await {
                Err(error) if is_elsewhere_for_now(&error) => error,
                outcome => return outcome,
            };
            let next = Instant::now() + backoff.next();
            if next >= deadline || self.route.metadata.shutdown.is_cancelled() {
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
    async fn all(&self, deadline: Instant) -> Result<Listed, Error> {
        let image = self.route.metadata.now();
        let Some(topic) = image.topic(OFFSETS_TOPIC) else { return Ok(Listed::default()) };
        let mut leaders = BTreeMap::new();
        let mut missing: BTreeSet<PartitionId> =
            (0..).map(PartitionId).take(topic.partitions.len()).collect();
        for partition in &missing {
            let leader =
                self.route.metadata.leader_of(&topic.key(*partition)).ok_or_else(|| {
                    let message = format!(
                        "nobody leads partition {partition} of `{OFFSETS_TOPIC}`; try again"
                    );
                    Error::new(ErrorCode::CoordinatorNotAvailable, message)
                        .with("partition", partition)
                })?;
            leaders.insert(leader.node_id, leader);
        }
        let patience = deadline.min(Instant::now() + PATIENCE);
        let answers = try_join_all(leaders.values().map(|leader| async move {
            if leader.node_id == self.route.metadata.node_id {
                return self.list_here().await;
            }
            timeout_at(patience, list_there(&self.route, leader, patience))
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

    /// The groups that this node coordinates.
    ///
    /// # Errors
    /// `COORDINATOR_LOADING` if some of them are not known yet.
    async fn list_here(&self) -> Result<Listed, Error> {
        let image = self.route.metadata.now();
        let Some(topic) = image.topic(OFFSETS_TOPIC) else { return Ok(Listed::default()) };
        let mut listed = Listed::default();
        for (number, partition) in (0..).zip(&topic.partitions) {
            if partition.leader != Some(self.route.metadata.node_id) {
                continue;
            }
            let partition = PartitionId(number);
            for group in self.route.coordinators.find(partition)?.list().await? {
                listed.groups.insert(group.group_id.clone(), group);
            }
            listed.partitions.insert(partition);
        }
        Ok(listed)
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
