//! Of which consumer the offsets are that a transaction commits (X16).

use crate::consumer::{Due, Offsets};
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::TopicId;

/// A consumer of a group as it was when this was asked for ([`crate::Consumer::group_metadata`]). Ask after the poll whose
/// records the offsets are of: if the group has gone on without the consumer since, the transaction has to be aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMetadata {
    pub(crate) group_id: String,
    /// Empty: it is no member, and none is checked.
    pub(crate) member_id: String,
    pub(crate) member_epoch: u32,
    pub(crate) instance_id: String,
    /// Of what it reads.
    pub(crate) topic_ids: BTreeMap<Arc<str>, TopicId>,
}

impl ConsumerGroupMetadata {
    /// Of no member: for partitions that are assigned by hand, of a group that has no members.
    pub fn new(group_id: impl Into<String>) -> Self {
        Self {
            group_id: group_id.into(),
            member_id: String::new(),
            member_epoch: 0,
            instance_id: String::new(),
            topic_ids: BTreeMap::new(),
        }
    }

    pub fn group_id(&self) -> &str {
        &self.group_id
    }

    /// None: it is no member.
    pub fn member_id(&self) -> Option<&str> {
        Some(self.member_id.as_str()).filter(|id| !id.is_empty())
    }

    pub fn member_epoch(&self) -> u32 {
        self.member_epoch
    }

    pub(super) fn due(&self, offsets: Offsets) -> Due {
        let named =
            self.topic_ids.iter().filter(|(topic, _)| offsets.keys().any(|at| at.topic == **topic));
        let topic_ids = named.map(|(topic, id)| (topic.clone(), *id)).collect();
        Due { offsets, topic_ids }
    }
}
