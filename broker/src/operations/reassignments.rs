//! Reassigning the replicas of partitions (R34): what the active controller is to decide, and what is under way by this
//! node's image.

use super::cluster::NamedPartitions;
use super::page::Page;
use super::topic_lookup::unknown_topic;
use crate::controller_channel::AsOf;
use crate::forward::{ActiveController, Call, Decided, Relay};
use crate::metadata_cache::MetadataCache;
use std::sync::Arc;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{AlterPartitionReassignments, ClusterImage, Reassigned};
use troupe_proto::error::Error;

pub struct Reassignments {
    metadata: Arc<MetadataCache>,
    controller: Arc<ActiveController>,
}

/// What became of each partition of a request, in its order.
pub type ReassignmentResults = Vec<Result<Reassigned, Error>>;

/// One page of what is under way.
pub struct ListedReassignments {
    pub reassignments: Vec<Reassignment>,
    pub next_page_token: String,
    pub as_of: AsOf,
}

pub struct Reassignment {
    pub topic: Arc<str>,
    pub number: i32,
    pub reassigned: Reassigned,
}

impl Reassignments {
    pub fn new(metadata: Arc<MetadataCache>, controller: Arc<ActiveController>) -> Self {
        Self { metadata, controller }
    }

    /// Has reassignments begun, replaced or cancelled; each partition succeeds or fails for itself.
    ///
    /// # Errors
    /// `INVALID_REQUEST` while a node is of an earlier version, and others of the controller.
    pub async fn alter<R: Send>(
        &self,
        call: &Call,
        request: &AlterPartitionReassignments,
        relay: &impl Relay<R>,
    ) -> Result<Decided<ReassignmentResults, R>, Error> {
        let here = |controller: ControllerHandle| async move {
            let answers = controller.alter_partition_reassignments(request.clone()).await?;
            Ok(answers.into_iter().map(|answer| answer.map_err(Error::from)).collect())
        };
        self.controller.decide(call, here, relay).await
    }

    /// What is under way, of these partitions; of all if none is named.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`.
    pub fn list(
        &self,
        named: &[NamedPartitions],
        page: &Page,
    ) -> Result<ListedReassignments, Error> {
        let image = self.metadata.now();
        check_topics(&image, named)?;
        let is_named = |topic: &str, number: i32| {
            let names = |one: &NamedPartitions| {
                one.topic == topic
                    && (one.partitions.is_empty() || one.partitions.contains(&number))
            };
            named.is_empty() || named.iter().any(names)
        };
        let all = image.reassignments().filter_map(|(topic, at, partition)| {
            let number = i32::try_from(at.0).ok()?;
            is_named(&topic.name, number).then_some((topic, number, partition))
        });
        let (page, next_page_token) =
            page.cut(all, |(topic, number, _)| format!("{}\u{0}{number:010}", topic.name));
        let reassignments = page.into_iter().map(|(topic, number, partition)| {
            let cancelled_until_in_sync = topic.cancelled_until_in_sync(partition);
            let reassigned = Reassigned { partition: partition.clone(), cancelled_until_in_sync };
            Reassignment { topic: Arc::clone(&topic.name), number, reassigned }
        });
        Ok(ListedReassignments {
            reassignments: reassignments.collect(),
            next_page_token,
            as_of: self.controller.channel.as_of(&image),
        })
    }
}

fn check_topics(image: &ClusterImage, named: &[NamedPartitions]) -> Result<(), Error> {
    for NamedPartitions { topic, .. } in named {
        if image.topic(topic).is_none() {
            return Err(unknown_topic(topic));
        }
    }
    Ok(())
}
