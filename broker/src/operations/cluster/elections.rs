//! Elections of leaders: for which partitions, and what became of each.

use super::partitions::{is_led_elsewhere, numbered};
use crate::operations::topic_lookup::unknown_topic;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{ClusterImage, Election, Partition, Topic, check_topic_name};
use troupe_proto::error::Error;
use troupe_proto::ids::{PartitionId, PartitionKey};

/// Elections of one kind.
pub struct Elections {
    kind: Election,
    /// Empty: all that the election is for.
    named: Vec<NamedPartitions>,
}

/// Partitions of one topic. Without numbers: all of them.
#[derive(Clone, Debug)]
pub struct NamedPartitions {
    pub topic: String,
    pub partitions: Vec<i32>,
}

/// What became of one partition, or, with -1, of a topic.
pub struct ElectionResult {
    pub topic: String,
    pub partition: i32,
    /// The partition after the election.
    pub outcome: Result<Partition, Error>,
}

/// A partition for which an election is asked.
struct Candidate {
    topic: String,
    partition: i32,
    key: PartitionKey,
}

impl Elections {
    /// Those of partitions that may be, if there are any to hold, and the refusals of those whose topic nothing can be:
    /// for them no controller is waited for. Nothing is named: all that the election is for.
    pub fn of(
        kind: Election,
        mut named: Vec<NamedPartitions>,
    ) -> (Option<Self>, Vec<ElectionResult>) {
        let is_impossible = |named: &mut NamedPartitions| check_topic_name(&named.topic).is_err();
        let refused: Vec<_> = named.extract_if(.., is_impossible).flat_map(refusals).collect();
        let any = !named.is_empty() || refused.is_empty();
        (any.then_some(Self { kind, named }), refused)
    }

    pub fn named(&self) -> &[NamedPartitions] {
        &self.named
    }

    pub(super) async fn hold(
        &self,
        controller: &ControllerHandle,
    ) -> Result<Vec<ElectionResult>, Error> {
        let image = controller.image().borrow().clone();
        let (candidates, mut results) = if self.named.is_empty() {
            (concerned(&image, self.kind), Vec::new())
        } else {
            known(&image, &self.named)
        };
        let keys = candidates.iter().map(|candidate| candidate.key).collect();
        let answers = controller.elect_leaders(keys, self.kind).await?;
        results.extend(candidates.into_iter().zip(answers).map(|(candidate, answer)| {
            let Candidate { topic, partition, .. } = candidate;
            ElectionResult { topic, partition, outcome: answer.map_err(Error::from) }
        }));
        Ok(results)
    }
}

/// What is said of each of the partitions of a topic that is not there.
fn refusals(named: NamedPartitions) -> Vec<ElectionResult> {
    let NamedPartitions { topic, partitions } = named;
    let error = unknown_topic(&topic);
    let numbers = if partitions.is_empty() { vec![-1] } else { partitions };
    let refused = numbers.into_iter().map(|partition| ElectionResult {
        topic: topic.clone(),
        partition,
        outcome: Err(error.clone()),
    });
    refused.collect()
}

/// All that the election is for.
fn concerned(image: &ClusterImage, election: Election) -> Vec<Candidate> {
    let partitions = image.topics().flat_map(numbered);
    let concerned = partitions.filter(|(_, _, partition)| match election {
        Election::Preferred => is_led_elsewhere(partition),
        Election::Unclean => partition.leader.is_none(),
    });
    concerned.map(|(topic, number, _)| candidate(topic, number)).collect()
}

/// Those that were named, and the refusals of those whose topic is not there.
fn known(
    image: &ClusterImage,
    partitions: &[NamedPartitions],
) -> (Vec<Candidate>, Vec<ElectionResult>) {
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    for named in partitions {
        let Some(topic) = image.topic(&named.topic) else {
            refused.extend(refusals(named.clone()));
            continue;
        };
        if named.partitions.is_empty() {
            candidates.extend(numbered(topic).map(|(topic, number, _)| candidate(topic, number)));
        }
        candidates.extend(named.partitions.iter().map(|number| candidate(topic, *number)));
    }
    (candidates, refused)
}

/// A number that no partition can have stands for one that is not there.
fn candidate(topic: &Topic, number: i32) -> Candidate {
    let partition = PartitionId(u32::try_from(number).unwrap_or(u32::MAX));
    Candidate { topic: topic.name.to_string(), partition: number, key: topic.key(partition) }
}
