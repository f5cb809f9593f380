//! G22: each topic by itself, in contiguous ranges.

use super::{Assignment, AssignorMember};
use crate::group::GroupPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use troupe_proto::ids::PartitionId;

/// `members` in their order.
pub fn assign(members: &[&AssignorMember], partitions: &BTreeMap<Arc<str>, u32>) -> Assignment {
    let mut assignment: Assignment =
        members.iter().map(|member| (member.member_id.clone(), BTreeSet::new())).collect();
    for (topic, count) in partitions {
        let subscribers: Vec<_> =
            members.iter().filter(|member| member.topics.contains(topic)).collect();
        let Some(each) = count.checked_div(subscribers.len() as u32) else { continue };
        let one_more = count % subscribers.len() as u32;
        let mut start = 0;
        for (member, place) in subscribers.into_iter().zip(0..) {
            let end = start + each + u32::from(place < one_more);
            let given = (start..end).map(|number| GroupPartition {
                topic: topic.clone(),
                partition: PartitionId(number),
            });
            assignment.entry(member.member_id.clone()).or_default().extend(given);
            start = end;
        }
    }
    assignment
}
