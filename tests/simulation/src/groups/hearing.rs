//! What a member makes of what it hears.

use super::Place;
use super::member::Lane;
use super::streams::Down;
use crate::invariants;
use crate::violation::Checked;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::TopicId;
use troupe_proto::log::v1 as pb;

fn places_of(partitions: &[pb::TopicPartitions]) -> BTreeSet<Place> {
    let of_topic = |topic: &pb::TopicPartitions| {
        let id = TopicId::from_wire(&topic.topic_id).expect("a topic id has 16 bytes");
        let name = topic.topic.clone();
        let partitions = topic.partitions.clone().into_iter();
        partitions.map(move |it| Place { topic: name.clone(), id, partition: it as u32 })
    };
    partitions.iter().flat_map(of_topic).collect()
}

fn place_of(partition: Option<&pb::TopicPartition>) -> Option<Place> {
    let partition = partition?;
    Some(Place {
        topic: partition.topic.clone(),
        id: TopicId::from_wire(&partition.topic_id)?,
        partition: partition.partition as u32,
    })
}

impl World {
    pub fn at_member(&mut self, stream: u64, message: Down) -> Checked {
        let Some(known) = self.groups.streams.get(&stream) else { return Ok(()) };
        let me = known.member;
        if !known.open_below || self.groups.members[me].stream != Some(stream) {
            return Ok(());
        }
        match message {
            Down::Response(response) => self.told(me, response),
            Down::Ended(code) => {
                self.stream_ended(me, code);
                Ok(())
            }
        }
    }

    fn told(&mut self, me: usize, response: pb::RunMemberResponse) -> Checked {
        let until = self.now + self.whim.between(200, 2_500);
        let member = &mut self.groups.members[me];
        member.joined = true;
        member.id = response.member_id;
        member.epoch = response.member_epoch;
        let Some(assignment) = response.assignment else { return Ok(()) };
        let held = places_of(&assignment.partitions);
        for (place, lane) in &mut member.lanes {
            lane.ends = !held.contains(place);
        }
        member.outstanding = Some((assignment.number, until));
        let new: Vec<Place> =
            held.iter().filter(|place| !member.lanes.contains_key(*place)).cloned().collect();
        for place in new {
            self.given(me, place);
        }
        self.check_held(me)
    }

    fn given(&mut self, me: usize, place: Place) {
        let group = self.groups.members[me].group.clone();
        let key = self.group_key(&group);
        let known = self.groups.committed.get(&key);
        let floor = known.and_then(|known| known.offset(&group, &place)).unwrap_or(0);
        let serial = self.take_id();
        let facts = [me as u64, place.partition.into(), floor, serial];
        self.trace.note(self.now, "given", facts);
        let lane = Lane { serial, position: None, committed: floor, ends: false, floor };
        self.groups.members[me].lanes.insert(place, lane);
    }

    /// I13: as long as it is a member, it is known to hold whatever it takes for its own.
    fn check_held(&mut self, me: usize) -> Checked {
        let member = &self.groups.members[me];
        let key = self.group_key(&member.group);
        let Some(known) = self.groups.committed.get(&key) else { return Ok(()) };
        // expelled in the meantime, or replaced: it will hear
        let Some(holding) = known.holding(&member.group, &member.id) else { return Ok(()) };
        invariants::what_a_member_reads_it_holds(&member.id, member.lanes.keys(), holding)
    }

    fn stream_ended(&mut self, me: usize, code: ErrorCode) {
        self.trace.note(self.now, "stream ended", [me as u64, code as u64, 0, 0]);
        self.drop_stream(me);
        let member = &mut self.groups.members[me];
        match code {
            ErrorCode::UnknownMember | ErrorCode::FencedMemberEpoch => {
                member.forget_membership();
                self.group_counts.lost_memberships += 1;
            }
            // another process has its name: this one is done
            ErrorCode::FencedInstanceId => {
                member.forget_membership();
                member.stopped = true;
            }
            _ => {}
        }
    }

    /// This end hears that the stream is broken.
    pub fn member_lost_stream(&mut self, stream: u64) {
        let Some(known) = self.groups.streams.get_mut(&stream) else { return };
        known.open_below = false;
        let me = known.member;
        if self.groups.members[me].stream == Some(stream) {
            self.drop_stream(me);
        }
    }

    pub fn call_timeout(&mut self, me: usize, attempt: u64) {
        let member = &mut self.groups.members[me];
        member.commit.take_if(|sent| sent.attempt == attempt);
        member.fetch.take_if(|sent| sent.attempt == attempt);
    }

    pub fn commit_answered(
        &mut self,
        me: usize,
        attempt: u64,
        result: Result<pb::CommitOffsetsResponse, ErrorCode>,
    ) {
        let member = &mut self.groups.members[me];
        let Some(sent) = member.commit.take_if(|sent| sent.attempt == attempt) else { return };
        let Ok(response) = result else { return };
        for result in response.results {
            let Some(place) = place_of(result.partition.as_ref()) else { continue };
            let Some((serial, offset)) = sent.lanes.get(&place) else { continue };
            match result.error.map(|error| error.reason()) {
                None => {
                    let lane = member.lanes.get_mut(&place);
                    if let Some(lane) = lane.filter(|lane| lane.serial == *serial) {
                        lane.committed = lane.committed.max(*offset);
                    }
                    self.group_counts.commits += 1;
                }
                Some(ErrorCode::UnknownMember) => {
                    // its stream says so as well, when it has one
                    self.drop_stream(me);
                    self.groups.members[me].forget_membership();
                    self.group_counts.lost_memberships += 1;
                    return;
                }
                Some(_) => {}
            }
        }
    }

    pub fn fetch_answered(
        &mut self,
        me: usize,
        attempt: u64,
        result: Result<pb::FetchOffsetsResponse, ErrorCode>,
    ) -> Checked {
        let member = &mut self.groups.members[me];
        let Some(sent) = member.fetch.take_if(|sent| sent.attempt == attempt) else {
            return Ok(());
        };
        let Ok(response) = result else { return Ok(()) };
        let mut found = BTreeMap::new();
        for committed in response.offsets {
            let offset = committed.offset.map_or(0, |offset| offset.offset as u64);
            if let Some(place) = place_of(committed.partition.as_ref()) {
                found.insert(place, offset);
            }
        }
        let group = member.group.clone();
        let key = self.group_key(&group);
        let known = self.groups.committed.get(&key);
        let member = &mut self.groups.members[me];
        let holding = known.and_then(|known| known.holding(&group, &member.id));
        for (place, (serial, _)) in sent.lanes {
            let lane = member.lanes.get_mut(&place).filter(|lane| lane.serial == serial);
            let Some(lane) = lane.filter(|lane| lane.position.is_none()) else { continue };
            let offset = found.get(&place).copied().unwrap_or(0);
            // with a topic its offsets go
            let exists = self.truth.image().topic_by_id(place.id).is_some();
            if exists && holding.is_some_and(|holding| holding.since(&place).is_some()) {
                invariants::who_takes_over_begins_where_it_was(&place, lane.floor, offset)?;
            }
            lane.position = Some(offset);
            lane.committed = offset;
        }
        Ok(())
    }
}
