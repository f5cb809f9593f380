//! What has become of a plan, by what one node knows of the cluster at one time.

use super::plan::{Plan, PlannedPartition, name};
use serde::Serialize;
use std::collections::BTreeMap;
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::{PartitionFilter, PartitionState};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Completed,
    InProgress,
    /// Nothing is under way, and the replicas are others than planned.
    Different,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    pub topic: String,
    pub partition: i32,
    pub state: State,
    /// Empty: there is no such partition.
    pub replicas: Vec<i32>,
    pub planned_replicas: Vec<i32>,
}

/// Whether replicas of it come or go.
pub fn is_reassigning(known: &PartitionState) -> bool {
    !known.adding_replicas.is_empty() || !known.removing_replicas.is_empty()
}

impl PartitionStatus {
    fn new(planned: &PlannedPartition, known: Option<&PartitionState>) -> PartitionStatus {
        let replicas = known.map(|known| known.replicas.clone()).unwrap_or_default();
        let state = match known.is_some_and(is_reassigning) {
            true => State::InProgress,
            false if replicas == planned.replicas => State::Completed,
            false => State::Different,
        };
        PartitionStatus {
            topic: planned.topic.clone(),
            partition: planned.partition,
            state,
            replicas,
            planned_replicas: planned.replicas.clone(),
        }
    }

    /// In the words of Kafka's tool.
    pub fn sentence(&self) -> String {
        let name = name(&self.topic, self.partition);
        let list = |nodes: &[i32]| nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        match self.state {
            State::Completed => format!("Reassignment of partition {name} is completed."),
            State::InProgress => format!("Reassignment of partition {name} is still in progress."),
            State::Different if self.replicas.is_empty() => {
                format!(
                    "There is no active reassignment of partition {name}, and no such partition."
                )
            }
            State::Different => format!(
                "There is no active reassignment of partition {name}, but replica set is {} rather than {}.",
                list(&self.replicas),
                list(&self.planned_replicas)
            ),
        }
    }
}

/// The partitions of a plan as they are now, by topic and number.
pub async fn states(
    client: &Client,
    plan: &Plan,
) -> Result<(Vec<PartitionStatus>, BTreeMap<(String, i32), PartitionState>), ClientError> {
    let listed = client.admin().list_partitions(None, PartitionFilter::Unspecified).await?;
    let known: BTreeMap<_, _> =
        listed.into_iter().map(|state| ((state.topic.clone(), state.partition), state)).collect();
    let status = plan.partitions.iter().map(|planned| {
        PartitionStatus::new(planned, known.get(&(planned.topic.clone(), planned.partition)))
    });
    Ok((status.collect(), known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(replicas: &[i32]) -> PlannedPartition {
        let (topic, replicas) = ("first".to_owned(), replicas.to_vec());
        PlannedPartition { topic, partition: 0, replicas, log_dirs: Vec::new() }
    }

    fn known(replicas: &[i32], adding: &[i32], removing: &[i32]) -> PartitionState {
        PartitionState {
            topic: "first".to_owned(),
            replicas: replicas.to_vec(),
            adding_replicas: adding.to_vec(),
            removing_replicas: removing.to_vec(),
            ..PartitionState::default()
        }
    }

    /// A12.
    #[test]
    fn a_status_is_told_in_kafkas_words() {
        let says = |known: Option<&PartitionState>| {
            PartitionStatus::new(&planned(&[2, 3, 0]), known).sentence()
        };
        assert_eq!(
            says(Some(&known(&[2, 3, 0], &[], &[]))),
            "Reassignment of partition first-0 is completed."
        );
        assert_eq!(
            says(Some(&known(&[2, 3, 0, 1], &[2, 3], &[1]))),
            "Reassignment of partition first-0 is still in progress."
        );
        assert_eq!(
            says(Some(&known(&[0, 1], &[], &[]))),
            "There is no active reassignment of partition first-0, but replica set is 0,1 rather than 2,3,0."
        );
        assert!(says(None).ends_with("and no such partition."));
    }
}
