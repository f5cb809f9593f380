//! The partitions of the cluster as the controller has committed them: who leads, who is in sync, elections.

use crate::operations::Page;
use std::sync::Arc;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{ClusterImage, Election, Partition, Topic, check_topic_name};
use troupe_proto::admin::v1 as pb;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, PartitionId, PartitionKey};
use troupe_proto::v1::ErrorDetail;

fn unknown_topic(name: &str) -> Error {
    if let Err(error) = check_topic_name(name) {
        return error.into();
    }
    let message = format!("topic `{name}` does not exist; `troupe topic list` shows all");
    Error::new(ErrorCode::UnknownTopic, message).with("topic", name)
}

/// All partitions of a topic with their numbers.
fn numbered(topic: &Arc<Topic>) -> impl Iterator<Item = (&Arc<Topic>, i32, &Partition)> {
    (0..).zip(&topic.partitions).map(move |(number, partition)| (topic, number, partition))
}

/// One page of the partitions that were asked for.
pub(super) fn list(
    image: &ClusterImage,
    request: &pb::ListPartitionsRequest,
) -> Result<pb::ListPartitionsResponse, Error> {
    let page = Page::new(request.page_size, request.page_token.clone())?;
    if !request.topic.is_empty() && image.topic(&request.topic).is_none() {
        return Err(unknown_topic(&request.topic));
    }
    let shown = image
        .topics()
        .filter(|topic| request.topic.is_empty() || *topic.name == *request.topic)
        .flat_map(numbered)
        .filter(|(topic, _, partition)| match request.filter() {
            pb::PartitionFilter::Unspecified => true,
            pb::PartitionFilter::UnderReplicated => partition.is_under_replicated(),
            pb::PartitionFilter::Offline => partition.leader.is_none(),
            pb::PartitionFilter::UnderMinIsr => topic.is_under_min_isr(partition),
            pb::PartitionFilter::NotPreferred => is_led_elsewhere(partition),
        });
    let (page, next_page_token) =
        page.cut(shown, |(topic, number, _)| format!("{}\u{0}{number:010}", topic.name));
    let partitions =
        page.into_iter().map(|(topic, number, partition)| state(topic, number, partition));
    Ok(pb::ListPartitionsResponse {
        partitions: partitions.collect(),
        next_page_token,
        as_of: None,
    })
}

/// Whether somebody else leads than the first replica.
fn is_led_elsewhere(partition: &Partition) -> bool {
    partition.leader.as_ref() != partition.replicas.first()
}

fn state(topic: &Topic, number: i32, partition: &Partition) -> pb::PartitionState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    pb::PartitionState {
        topic: topic.name.to_string(),
        partition: number,
        leader_id: partition.leader.map(|leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch.0,
        replicas: ids(&partition.replicas),
        in_sync_replicas: ids(&partition.isr),
        eligible_leader_replicas: ids(&partition.elr),
        min_in_sync_replicas: topic.config.min_insync_replicas,
    }
}

/// A partition for which an election is asked.
struct Candidate {
    topic: String,
    partition: i32,
    key: PartitionKey,
}

/// Takes out partitions of topics that nothing can be, with their refusals: no controller is waited for.
pub(super) fn take_impossible(named: &mut Vec<pb::TopicPartitions>) -> Vec<pb::ElectionResult> {
    let is_impossible = |named: &mut pb::TopicPartitions| check_topic_name(&named.topic).is_err();
    named.extract_if(.., is_impossible).flat_map(refusals).collect()
}

/// What is said of each of the partitions of a topic that is not there.
fn refusals(named: pb::TopicPartitions) -> Vec<pb::ElectionResult> {
    let pb::TopicPartitions { topic, partitions } = named;
    let error: ErrorDetail = unknown_topic(&topic).into();
    let numbers = if partitions.is_empty() { vec![-1] } else { partitions };
    let refused = numbers.into_iter().map(|partition| pb::ElectionResult {
        topic: topic.clone(),
        partition,
        error: Some(error.clone()),
        ..Default::default()
    });
    refused.collect()
}

/// Has leaders elected; each partition succeeds or fails for itself.
pub(super) async fn elect(
    controller: &ControllerHandle,
    request: pb::ElectLeadersRequest,
) -> Result<pb::ElectLeadersResponse, Error> {
    let election = match request.r#type() {
        pb::ElectionType::Unspecified | pb::ElectionType::Preferred => Election::Preferred,
        pb::ElectionType::Unclean => Election::Unclean,
    };
    let image = controller.image().borrow().clone();
    let (candidates, mut results) = if request.partitions.is_empty() {
        (concerned(&image, election), Vec::new())
    } else {
        named(&image, request.partitions)
    };
    let keys = candidates.iter().map(|candidate| candidate.key).collect();
    let answers = controller.elect_leaders(keys, election).await?;
    results.extend(candidates.into_iter().zip(answers).map(|(candidate, answer)| {
        let Candidate { topic, partition, .. } = candidate;
        let result = pb::ElectionResult { topic, partition, ..Default::default() };
        match answer {
            Ok(after) => pb::ElectionResult {
                leader_id: after.leader.map(|leader| leader.0),
                leader_epoch: after.leader_epoch.0,
                ..result
            },
            Err(error) => pb::ElectionResult { error: Some(Error::from(error).into()), ..result },
        }
    }));
    Ok(pb::ElectLeadersResponse { results })
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
fn named(
    image: &ClusterImage,
    partitions: Vec<pb::TopicPartitions>,
) -> (Vec<Candidate>, Vec<pb::ElectionResult>) {
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    for named in partitions {
        let Some(topic) = image.topic(&named.topic) else {
            refused.extend(refusals(named));
            continue;
        };
        if named.partitions.is_empty() {
            candidates.extend(numbered(topic).map(|(topic, number, _)| candidate(topic, number)));
        }
        candidates.extend(named.partitions.into_iter().map(|number| candidate(topic, number)));
    }
    (candidates, refused)
}

/// A number that no partition can have stands for one that is not there.
fn candidate(topic: &Topic, number: i32) -> Candidate {
    let partition = PartitionId(u32::try_from(number).unwrap_or(u32::MAX));
    Candidate { topic: topic.name.to_string(), partition: number, key: topic.key(partition) }
}
