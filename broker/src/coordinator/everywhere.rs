//! What all coordinators of the cluster are asked together.
//!
//! Promise: the answers of all of them, or an error that says whose are missing; never a silent gap.

use super::handle::CoordinatorHandle;
use super::machine::Machine;
use super::refusal::is_elsewhere_for_now;
use super::route::Route;
use crate::forward::Backoff;
use crate::metadata_cache::LeaderAt;
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{MetadataMap, MetadataValue};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;

/// How long one node is waited for before the cluster is looked at again.
const PATIENCE: Duration = Duration::from_secs(5);
/// In the answer to a forwarded listing: the partitions of the internal topic whose coordinators' answers it holds.
const COORDINATED: &str = "troupe-coordinated";

/// What coordinators answered, by key, and of which partitions they are.
pub struct Answered<T> {
    pub items: BTreeMap<String, T>,
    pub partitions: BTreeSet<PartitionId>,
}

impl<T> Default for Answered<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), partitions: BTreeSet::new() }
    }
}

/// What [`coordinated`] reads.
pub fn tell_coordinated(partitions: &BTreeSet<PartitionId>, metadata: &mut MetadataMap) {
    let numbers: Vec<_> = partitions.iter().map(|partition| partition.0.to_string()).collect();
    if let Ok(value) = MetadataValue::try_from(numbers.join(",")) {
        metadata.insert(COORDINATED, value);
    }
}

pub fn coordinated(metadata: &MetadataMap) -> BTreeSet<PartitionId> {
    let value = metadata.get(COORDINATED).and_then(|value| value.to_str().ok());
    let numbers = value.unwrap_or_default().split(',').filter_map(|number| number.parse().ok());
    numbers.map(PartitionId).collect()
}

impl<M: Machine> Route<M> {
    /// Asks all coordinators: those of this node by `here`, those of each other node together by `there`, until then;
    /// asks on while some are moving or loading.
    ///
    /// # Errors
    /// `COORDINATOR_LOADING`, `COORDINATOR_NOT_AVAILABLE`: which broker or partition is missing is in the message.
    pub async fn ask_all<T, Here, There>(
        &self,
        deadline: Instant,
        here: impl Fn(Arc<CoordinatorHandle<M>>) -> Here,
        there: impl Fn(LeaderAt, Instant) -> There,
    ) -> Result<Answered<T>, Error>
    where
        Here: Future<Output = Result<BTreeMap<String, T>, Error>>,
        There: Future<Output = Result<Answered<T>, Error>>,
    {
        if !self.is_in_use().await {
            return Ok(Answered::default());
        }
        let mut changes = self.coordinators.changes();
        let mut images = self.metadata.image.clone();
        let mut backoff = Backoff::new();
        loop {
            changes.borrow_and_update();
            images.borrow_and_update();
            let error = match self.ask_all_once(deadline, &here, &there).await {
                Err(error) if is_elsewhere_for_now(&error) => error,
                outcome => return outcome,
            };
            let next = Instant::now() + backoff.next();
            if next >= deadline || self.metadata.shutdown.is_cancelled() {
                return Err(error);
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                Ok(()) = changes.changed() => {}
                Ok(()) = images.changed() => {}
            }
        }
    }

    async fn ask_all_once<T, Here, There>(
        &self,
        deadline: Instant,
        here: &impl Fn(Arc<CoordinatorHandle<M>>) -> Here,
        there: &impl Fn(LeaderAt, Instant) -> There,
    ) -> Result<Answered<T>, Error>
    where
        Here: Future<Output = Result<BTreeMap<String, T>, Error>>,
        There: Future<Output = Result<Answered<T>, Error>>,
    {
        let image = self.metadata.now();
        let Some(topic) = image.topic(M::TOPIC) else { return Ok(Answered::default()) };
        let mut leaders = BTreeMap::new();
        let mut missing: BTreeSet<PartitionId> =
            (0..).map(PartitionId).take(topic.partitions.len()).collect();
        for partition in &missing {
            let leader = self.metadata.leader_of(&topic.key(*partition)).ok_or_else(|| {
                let message =
                    format!("nobody leads partition {partition} of `{}`; try again", M::TOPIC);
                Error::new(ErrorCode::CoordinatorNotAvailable, message).with("partition", partition)
            })?;
            leaders.insert(leader.node_id, leader);
        }
        let patience = deadline.min(Instant::now() + PATIENCE);
        let answers = try_join_all(leaders.into_values().map(|leader| async move {
            if leader.node_id == self.metadata.node_id {
                return self.ask_here(here).await;
            }
            timeout_at(patience, there(leader.clone(), patience))
                .await
                .unwrap_or_else(|_| {
                    let message = "it did not answer in time";
                    Err(Error::new(ErrorCode::CoordinatorNotAvailable, message))
                })
                .map_err(|error| named::<M>(error, &leader))
        }));
        let mut answered = Answered::default();
        for mut answer in answers.await? {
            missing = &missing - &answer.partitions;
            answered.partitions.append(&mut answer.partitions);
            answered.items.append(&mut answer.items);
        }
        match missing.first() {
            None => Ok(answered),
            Some(partition) => {
                let message = format!(
                    "the coordinator of partition {partition} of `{}` is moving; try again",
                    M::TOPIC
                );
                Err(Error::new(ErrorCode::CoordinatorNotAvailable, message)
                    .with("partition", partition))
            }
        }
    }

    /// Asks the coordinators of this node.
    ///
    /// # Errors
    /// `COORDINATOR_LOADING` if one of them does not serve yet.
    pub async fn ask_here<T, Here>(
        &self,
        here: impl Fn(Arc<CoordinatorHandle<M>>) -> Here,
    ) -> Result<Answered<T>, Error>
    where
        Here: Future<Output = Result<BTreeMap<String, T>, Error>>,
    {
        let image = self.metadata.now();
        let Some(topic) = image.topic(M::TOPIC) else { return Ok(Answered::default()) };
        let mut answered = Answered::default();
        for (number, partition) in (0..).zip(&topic.partitions) {
            if partition.leader != Some(self.metadata.node_id) {
                continue;
            }
            let partition = PartitionId(number);
            let mut items = here(self.coordinators.find(partition)?).await?;
            answered.items.append(&mut items);
            answered.partitions.insert(partition);
        }
        Ok(answered)
    }
}

/// The same error, with the broker whose answers are missing.
fn named<M: Machine>(error: Error, leader: &LeaderAt) -> Error {
    let message = format!(
        "the {}s of broker {} at {} cannot be listed: {}",
        M::SUBJECT,
        leader.node_id,
        leader.endpoint,
        error.message
    );
    Error { message, ..error }.with("broker", leader.node_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_whose_it_is() {
        let mut metadata = MetadataMap::new();
        assert!(coordinated(&metadata).is_empty());
        for partitions in [BTreeSet::new(), [0, 7, 49].map(PartitionId).into()] {
            tell_coordinated(&partitions, &mut metadata);
            assert_eq!(coordinated(&metadata), partitions);
        }
    }
}
