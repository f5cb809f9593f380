//! The topics that groups read, as logs that only grow; and what was given to some member of which group.

use super::{GroupEvent, Place};
use crate::violation::Checked;
use crate::world::{Event, World};
use std::collections::BTreeMap;

const GROW_EVERY_MS: u64 = 50;

#[derive(Default)]
pub struct Reading {
    ends: BTreeMap<Place, u64>,
    /// By group and partition: from and up to, whatever some member has processed; nothing overlaps or touches.
    processed: BTreeMap<(String, Place), BTreeMap<u64, u64>>,
}

impl Reading {
    pub fn end(&self, place: &Place) -> u64 {
        self.ends.get(place).copied().unwrap_or(0)
    }

    pub fn process(&mut self, group: &str, place: &Place, from: u64, end: u64) {
        let ranges = self.processed.entry((group.to_owned(), place.clone())).or_default();
        let (mut from, mut end) = (from, end);
        let touching: Vec<u64> = ranges
            .range(..=end)
            .filter(|(_, upto)| **upto >= from)
            .map(|(start, _)| *start)
            .collect();
        for start in touching {
            let upto = ranges.remove(&start).unwrap_or(start);
            (from, end) = (from.min(start), end.max(upto));
        }
        ranges.insert(from, end);
    }

    /// All below was processed by some member.
    pub fn read_below(&self, group: &str, place: &Place) -> u64 {
        let ranges = self.processed.get(&(group.to_owned(), place.clone()));
        ranges.and_then(|ranges| ranges.get(&0)).copied().unwrap_or(0)
    }
}

impl World {
    /// Partitions of all topics that are read, as the metadata has them.
    pub fn places(&self) -> Vec<Place> {
        let topics = self.truth.image().topics();
        let read = topics.filter(|topic| *topic.name != *crate::world::TOPIC);
        read.flat_map(|topic| {
            (0..topic.partitions.len() as u32).map(|partition| Place {
                topic: topic.name.to_string(),
                id: topic.id,
                partition,
            })
        })
        .collect()
    }

    pub fn grow_topics(&mut self) -> Checked {
        if self.healing {
            return Ok(());
        }
        self.schedule_free(GROW_EVERY_MS, Event::groups(GroupEvent::Grow));
        for place in self.places() {
            let more = self.whim.below(6);
            *self.groups.reading.ends.entry(place).or_default() += more;
        }
        self.make_first_topics()
    }
}
