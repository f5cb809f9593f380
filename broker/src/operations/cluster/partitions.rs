//! The partitions of the cluster as the controller has committed them: who leads, who is in sync.

use crate::controller_channel::AsOf;
use crate::operations::page::Page;
use crate::operations::topic_lookup::unknown_topic;
use std::sync::Arc;
use troupe_machines::cluster::{ClusterImage, Partition, Topic};
use troupe_proto::error::Error;

/// Which partitions are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionFilter {
    All,
    /// Some replica is not in sync.
    UnderReplicated,
    /// Nobody leads.
    Offline,
    /// Fewer are in sync than acks=all asks for.
    UnderMinIsr,
    /// Somebody else leads than the first replica.
    NotPreferred,
}

/// One page of partitions.
pub struct ListedPartitions {
    pub partitions: Vec<PartitionState>,
    pub next_page_token: String,
    pub as_of: AsOf,
}

pub struct PartitionState {
    pub topic: Arc<Topic>,
    pub number: i32,
    pub partition: Partition,
}

/// All partitions of a topic with their numbers.
pub(super) fn numbered(topic: &Arc<Topic>) -> impl Iterator<Item = (&Arc<Topic>, i32, &Partition)> {
    (0..).zip(&topic.partitions).map(move |(number, partition)| (topic, number, partition))
}

/// Whether somebody else leads than the first replica.
pub(super) fn is_led_elsewhere(partition: &Partition) -> bool {
    partition.leader.as_ref() != partition.replicas.first()
}

/// One page of the partitions that are asked for, and the token of the next. `topic` is empty: of all topics.
pub(super) fn list(
    image: &ClusterImage,
    topic: &str,
    filter: PartitionFilter,
    page: &Page,
) -> Result<(Vec<PartitionState>, String), Error> {
    if !topic.is_empty() && image.topic(topic).is_none() {
        return Err(unknown_topic(topic));
    }
    let shown = image
        .topics()
        .filter(|known| topic.is_empty() || *known.name == *topic)
        .flat_map(numbered)
        .filter(|(topic, _, partition)| match filter {
            PartitionFilter::All => true,
            PartitionFilter::UnderReplicated => partition.is_under_replicated(),
            PartitionFilter::Offline => partition.leader.is_none(),
            PartitionFilter::UnderMinIsr => topic.is_under_min_isr(partition),
            PartitionFilter::NotPreferred => is_led_elsewhere(partition),
        });
    let (page, next_page_token) =
        page.cut(shown, |(topic, number, _)| format!("{}\u{0}{number:010}", topic.name));
    let partitions = page.into_iter().map(|(topic, number, partition)| PartitionState {
        topic: Arc::clone(topic),
        number,
        partition: partition.clone(),
    });
    Ok((partitions.collect(), next_page_token))
}
