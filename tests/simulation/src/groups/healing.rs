//! After the faults every group becomes stable, every partition has one reader, and everything is read.

use super::Place;
use super::committed::Committed;
use super::member::Member;
use crate::storage::End;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::log::v1 as pb;

impl World {
    /// Second processes go for good; everybody else comes back.
    pub fn heal_groups(&mut self) {
        for me in 0..self.groups.members.len() {
            let site = self.groups.members[me].site;
            let member = &mut self.groups.members[me];
            (member.slow_until, member.deaf_until) = (0, 0);
            let was_stopped = std::mem::replace(&mut member.stopped, member.is_twin);
            if member.is_twin {
                self.bury(site, End::Killed);
            } else if was_stopped && self.sites[site].up {
                // whoever supervises it starts it again
                self.bury(site, End::Killed);
            }
        }
    }

    /// What is not well yet.
    pub fn groups_are_well(&self) -> Result<(), String> {
        let Some(settings) = &self.settings.groups else { return Ok(()) };
        (0..settings.groups).try_for_each(|group| self.is_group_well(&format!("g{group}")))
    }

    fn is_group_well(&self, group: &str) -> Result<(), String> {
        let key = self.group_key(group);
        let Some(known) = self.groups.committed.get(&key) else { return Ok(()) };
        let running = self.groups.members.iter().filter(|member| {
            !member.stopped && member.group == group && self.sites[member.site].up
        });
        let running: Vec<&Member> = running.collect();
        let ids: BTreeSet<&String> = running.iter().map(|member| &member.id).collect();
        let members: BTreeSet<&String> = known.members_of(group).collect();
        if ids != members {
            return Err(format!("{group} has members {members:?}, and {ids:?} run"));
        }
        let mut owners: BTreeMap<Place, &str> = BTreeMap::new();
        for member in &running {
            is_member_well(known, member)?;
            for place in member.lanes.keys() {
                if let Some(other) = owners.insert(place.clone(), &member.id) {
                    return Err(format!("{other} and {} read {place:?}", member.id));
                }
            }
        }
        self.is_everything_read(group, known, &running, &owners)?;
        let state = self.state_of(group);
        let stable = if running.is_empty() {
            matches!(state, None | Some(pb::GroupState::Empty))
        } else {
            state == Some(pb::GroupState::Stable)
        };
        if stable { Ok(()) } else { Err(format!("{group} is {state:?}")) }
    }

    fn is_everything_read(
        &self,
        group: &str,
        known: &Committed,
        running: &[&Member],
        owners: &BTreeMap<Place, &str>,
    ) -> Result<(), String> {
        for place in self.places() {
            let wanted =
                running.iter().any(|member| subscribes(&member.subscription, &place.topic));
            if wanted != owners.contains_key(&place) {
                return Err(format!("{group}: {place:?} is read by {:?}", owners.get(&place)));
            }
            let (end, committed) = (self.groups.reading.end(&place), known.offset(group, &place));
            if wanted && committed.unwrap_or(0) != end {
                return Err(format!(
                    "{group}: {place:?} ends at {end}, {committed:?} is committed"
                ));
            }
        }
        Ok(())
    }

    /// As its coordinator tells it.
    fn state_of(&self, group: &str) -> Option<pb::GroupState> {
        let key = self.group_key(group);
        let coordinators = self.groups.coordinators.iter().filter(|(at, _)| at.1 == key);
        let mut machines = coordinators.filter_map(|(_, known)| known.groups.as_ref());
        let described = machines.next()?.describe(group).ok()?;
        Some(described.state())
    }
}

fn is_member_well(known: &Committed, member: &Member) -> Result<(), String> {
    let holding = known.holding(&member.group, &member.id);
    let Some(holding) = holding else { return Err(format!("{} holds nothing", member.id)) };
    let assigned: BTreeSet<&Place> = holding.assigned.keys().collect();
    let lanes: BTreeSet<&Place> = member.lanes.keys().collect();
    if assigned != lanes || !holding.revoking.is_empty() || member.outstanding.is_some() {
        return Err(format!("{} reads {lanes:?} and holds {holding:?}", member.id));
    }
    if member.epoch != holding.epoch || !member.joined {
        return Err(format!("{} is in epoch {}, not {}", member.id, holding.epoch, member.epoch));
    }
    Ok(())
}

/// The patterns that there are, by hand: the topics are called a0, a2, b1, b3.
fn subscribes(subscription: &pb::Subscription, topic: &str) -> bool {
    let matches = match subscription.pattern.as_str() {
        "" => false,
        ".*" => true,
        _ => topic.starts_with('a'),
    };
    matches || subscription.topics.iter().any(|name| name == topic)
}
