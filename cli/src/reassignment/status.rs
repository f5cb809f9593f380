//! What has become of a plan, by what one node knows of the cluster at one time.

use super::kept::{Kept, ids};
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
    /// Going back to the replicas from before, which are not those that were planned.
    Cancelled,
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
    /// Of one that was cancelled: what it keeps.
    #[serde(flatten)]
    pub kept: Option<Kept>,
}

/// Whether replicas of it come or go.
pub fn is_reassigning(known: &PartitionState) -> bool {
    !known.adding_replicas.is_empty() || !known.removing_replicas.is_empty()
}

impl PartitionStatus {
    fn new(planned: &PlannedPartition, known: Option<&PartitionState>) -> PartitionStatus {
        let replicas = known.map(|known| known.replicas.clone()).unwrap_or_default();
        let kept = known.and_then(|known| {
            let PartitionState { replicas, removing_replicas, .. } = known;
            Kept::of(replicas, removing_replicas, known.cancelled_until_in_sync)
        });
        let goes_elsewhere = |kept: &Kept| kept.others() != planned.replicas;
        let state = match known.is_some_and(is_reassigning) {
            true if kept.as_ref().is_some_and(goes_elsewhere) => State::Cancelled,
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
            kept,
        }
    }

    /// In the words of Kafka's tool.
    pub fn sentence(&self) -> String {
        let name = name(&self.topic, self.partition);
        match self.state {
            State::Cancelled => {
                let kept = self.kept.as_ref().map_or_else(String::new, Kept::to_string);
                format!("Reassignment of partition {name} was cancelled, and {kept}.")
            }
            State::Completed => format!("Reassignment of partition {name} is completed."),
            State::InProgress => format!("Reassignment of partition {name} is still in progress."),
            State::Different if self.replicas.is_empty() => {
                format!(
                    "There is no active reassignment of partition {name}, and no such partition."
                )
            }
            State::Different => format!(
                "There is no active reassignment of partition {name}, but replica set is {} rather than {}.",
                ids(&self.replicas),
                ids(&self.planned_replicas)
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

    #[test]
    fn what_was_cancelled_says_whom_it_keeps_and_how_long() {
        let waits =
            PartitionState { cancelled_until_in_sync: Some(2), ..known(&[1, 0, 3], &[], &[3]) };
        let told = |replicas: &[i32]| {
            let status = PartitionStatus::new(&planned(replicas), Some(&waits));
            (status.state, status.sentence())
        };
        let (state, sentence) = told(&[3, 0]);
        assert_eq!(state, State::Cancelled);
        assert_eq!(
            sentence,
            "Reassignment of partition first-0 was cancelled, and keeps 3 until 2 of 1,0 are in sync."
        );
        // The plan to go back with.
        assert_eq!(told(&[1, 0]).0, State::InProgress);
        let status = PartitionStatus::new(&planned(&[3, 0]), Some(&waits));
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(
            (&json["state"], &json["cancelledUntilInSync"]),
            (&"cancelled".into(), &2.into())
        );
    }
}
