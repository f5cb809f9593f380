//! Who subscribes to what, with members and topics by their place in order instead of by name.

use super::{Assignment, AssignorMember};
use crate::group::GroupPartition;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::PartitionId;

/// One partition, by the place of its topic. In order of topic, then partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub topic: usize,
    pub number: u32,
}

/// A topic that has a partition and a subscriber.
#[derive(Debug)]
pub struct Topic<'a> {
    pub name: &'a Arc<str>,
    pub partitions: u32,
    /// Places of members, in order. Never empty.
    pub subscribers: Vec<usize>,
}

/// The members in their order and the topics by name.
#[derive(Debug)]
pub struct Subscriptions<'a> {
    members: &'a [&'a AssignorMember],
    pub topics: Vec<Topic<'a>>,
}

/// The newest claim to a partition so far.
#[derive(Clone, Copy)]
struct Claim {
    epoch: u32,
    /// Place of the member; none if two of this epoch claim it.
    member: Option<usize>,
}

impl<'a> Subscriptions<'a> {
    pub fn new(
        members: &'a [&'a AssignorMember],
        partitions: &'a BTreeMap<Arc<str>, u32>,
    ) -> Subscriptions<'a> {
        let exist = partitions.iter().filter(|(_, count)| **count > 0);
        let mut topics: Vec<Topic<'a>> = exist
            .map(|(name, count)| Topic { name, partitions: *count, subscribers: Vec::new() })
            .collect();
        for (place, member) in members.iter().enumerate() {
            // Both go by name: the next one is the next here too where a member reads everything.
            let mut next = 0;
            for name in &member.topics {
                if topics.get(next).is_some_and(|topic| topic.name < name) {
                    next += topics[next..].partition_point(|topic| topic.name < name);
                }
                if let Some(topic) = topics.get_mut(next).filter(|topic| topic.name == name) {
                    topic.subscribers.push(place);
                    next += 1;
                }
            }
        }
        topics.retain(|topic| !topic.subscribers.is_empty());
        Subscriptions { members, topics }
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Whether every member subscribes to every one of the topics.
    pub fn equal(&self) -> bool {
        self.topics.iter().all(|topic| topic.subscribers.len() == self.members.len())
    }

    /// Every partition, in order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.topics
            .iter()
            .enumerate()
            .flat_map(|(topic, of)| (0..of.partitions).map(move |number| Slot { topic, number }))
    }

    /// What each member has owned and may keep, in order. Of two claims the newer wins; a partition claimed
    /// twice in one epoch is taken from all. What is gone or not subscribed to any more is no claim.
    pub fn claims(&self) -> Vec<Vec<Slot>> {
        let places: BTreeMap<&str, usize> =
            self.topics.iter().enumerate().map(|(place, topic)| (&**topic.name, place)).collect();
        let mut newest: Vec<Vec<Option<Claim>>> =
            self.topics.iter().map(|topic| vec![None; topic.partitions as usize]).collect();
        for (place, member) in self.members.iter().enumerate() {
            for GroupPartition { topic, partition } in &member.owned {
                let Some(at) = places.get(&**topic) else { continue };
                let Some(claim) = newest[*at].get_mut(partition.0 as usize) else { continue };
                if !member.topics.contains(topic) {
                    continue;
                }
                let mine = Claim { epoch: member.epoch, member: Some(place) };
                match claim.map_or(Ordering::Greater, |other| mine.epoch.cmp(&other.epoch)) {
                    Ordering::Greater => *claim = Some(mine),
                    Ordering::Equal => *claim = Some(Claim { member: None, ..mine }),
                    Ordering::Less => {}
                }
            }
        }
        let mut claims = vec![Vec::new(); self.members.len()];
        for slot in self.slots() {
            let claim = newest[slot.topic][slot.number as usize];
            if let Some(member) = claim.and_then(|claim| claim.member) {
                claims[member].push(slot);
            }
        }
        claims
    }

    /// The partitions that are in none of `kept`, in order.
    pub fn missing_from(&self, kept: &[Vec<Slot>]) -> Vec<Slot> {
        let mut taken: Vec<Vec<bool>> =
            self.topics.iter().map(|topic| vec![false; topic.partitions as usize]).collect();
        for slot in kept.iter().flatten() {
            taken[slot.topic][slot.number as usize] = true;
        }
        self.slots().filter(|slot| !taken[slot.topic][slot.number as usize]).collect()
    }

    /// By name again. `given` is by place of the member.
    pub fn assignment(&self, given: Vec<Vec<Slot>>) -> Assignment {
        let named = |slot: Slot| GroupPartition {
            topic: self.topics[slot.topic].name.clone(),
            partition: PartitionId(slot.number),
        };
        let of_members = self.members.iter().zip(given);
        of_members
            .map(|(member, mut slots)| {
                slots.sort_unstable();
                (member.member_id.clone(), slots.into_iter().map(named).collect())
            })
            .collect()
    }
}
