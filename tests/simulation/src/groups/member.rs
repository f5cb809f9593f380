//! A member's process: it joins, reads what it is assigned, commits what it has processed, gives up what it
//! is told to, and comes back after a broken stream.

use super::calls::{CommitCall, FetchCall};
use super::settings::GroupSettings;
use super::streams::Up;
use super::{GroupEvent, Place};
use crate::chance::Chance;
use crate::violation::Checked;
use crate::world::{Event, World};
use std::collections::BTreeMap;
use troupe_proto::log::v1 as pb;

pub struct Member {
    pub site: usize,
    pub group: String,
    client_id: String,
    pub instance_id: String,
    assignor: &'static str,
    session_timeout_ms: u32,
    rebalance_timeout_ms: u32,
    pub subscription: pb::Subscription,
    /// What was said on the stream.
    said: pb::Subscription,
    /// Only there to take the place of another one.
    pub is_twin: bool,
    /// Not to run any more.
    pub stopped: bool,
    /// Does nothing but to keep its stream.
    pub slow_until: u64,
    /// Answers to its commits are lost.
    pub deaf_until: u64,
    // of this life of the process
    pub id: String,
    pub epoch: u32,
    pub stream: Option<u64>,
    /// The stream has answered.
    pub joined: bool,
    opened_at: u64,
    pub next_join: u64,
    pub lanes: BTreeMap<Place, Lane>,
    /// The assignment to acknowledge, and until when it waits for its last commit.
    pub outstanding: Option<(u64, u64)>,
    pub leaving: Option<u64>,
    pub commit: Option<Sent>,
    pub fetch: Option<Sent>,
    next_commit: u64,
}

/// What it reads of one partition.
#[derive(Clone, Debug)]
pub struct Lane {
    /// No two times that a partition is given have the same.
    pub serial: u64,
    /// The next record; `None`: where to begin is not known yet.
    pub position: Option<u64>,
    pub committed: u64,
    /// To be given up.
    pub ends: bool,
    /// What was committed when it was given.
    pub floor: u64,
}

/// A call that is under way: for which lanes, and what it says of each.
#[derive(Clone, Debug)]
pub struct Sent {
    pub attempt: u64,
    pub lanes: BTreeMap<Place, (u64, u64)>,
}

impl Member {
    pub fn draw(me: usize, site: usize, settings: &GroupSettings, whim: &mut Chance) -> Member {
        let twin_of = me.checked_sub(settings.members);
        let nature = twin_of.unwrap_or(me);
        let group = nature % settings.groups;
        // so that each twin has somebody to fence
        let is_static = nature < settings.twins || whim.one_in(4);
        Member {
            site,
            group: format!("g{group}"),
            client_id: format!("c{me}"),
            instance_id: if is_static { format!("i{nature}") } else { String::new() },
            assignor: settings.assignor,
            session_timeout_ms: whim.between(1_000, 3_000) as u32,
            rebalance_timeout_ms: whim.between(1_500, 4_000) as u32,
            subscription: draw_subscription(whim),
            said: pb::Subscription::default(),
            is_twin: twin_of.is_some(),
            stopped: twin_of.is_some(),
            slow_until: 0,
            deaf_until: 0,
            id: String::new(),
            epoch: 0,
            stream: None,
            joined: false,
            opened_at: 0,
            next_join: 0,
            lanes: BTreeMap::new(),
            outstanding: None,
            leaving: None,
            commit: None,
            fetch: None,
            next_commit: 0,
        }
    }

    /// A new process knows nothing.
    pub fn begin(&mut self) {
        self.forget_membership();
        self.stream = None;
        self.joined = false;
        self.leaving = None;
        self.commit = None;
        self.fetch = None;
    }

    /// What it holds may be somebody else's.
    pub fn forget_membership(&mut self) {
        self.id.clear();
        self.epoch = 0;
        self.lanes.clear();
        self.outstanding = None;
    }

    fn start(&self) -> pb::MemberStart {
        let mut owned: Vec<pb::TopicPartitions> = Vec::new();
        for place in self.lanes.keys() {
            match owned.last_mut() {
                Some(last) if last.topic == place.topic => {
                    last.partitions.push(place.partition as i32);
                }
                _ => owned.push(pb::TopicPartitions {
                    topic: place.topic.clone(),
                    topic_id: place.id.to_wire(),
                    partitions: vec![place.partition as i32],
                }),
            }
        }
        pb::MemberStart {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            owned,
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            subscription: Some(self.subscription.clone()),
            assignor: self.assignor.to_owned(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
        }
    }
}

/// Topics are called a0, a1, b2, …
pub fn draw_subscription(whim: &mut Chance) -> pb::Subscription {
    let topics = |topics: &[&str]| topics.iter().map(|topic| (*topic).to_owned()).collect();
    let (topics, pattern) = match whim.below(6) {
        0 => (topics(&["a0"]), String::new()),
        1 => (topics(&["a0", "b1", "a2"]), String::new()),
        2 => (Vec::new(), "a[0-9]+".to_owned()),
        3 => (topics(&["b1"]), "a.*".to_owned()),
        _ => (Vec::new(), ".*".to_owned()),
    };
    pb::Subscription { topics, pattern }
}

impl World {
    pub fn member_tick(&mut self, me: usize) -> Checked {
        let wait = self.whim.between(20, 80);
        let site = self.groups.members[me].site;
        if self.groups.members[me].stopped {
            return Ok(());
        }
        self.schedule(site, wait, Event::groups(GroupEvent::MemberTick { member: me }));
        self.keep_stream(me);
        self.say_subscription(me);
        if self.now < self.groups.members[me].slow_until {
            return Ok(());
        }
        self.process(me);
        self.fetch_positions(me);
        self.commit_if_due(me);
        self.acknowledge_assignment(me);
        self.leave_if_done(me);
        Ok(())
    }

    fn keep_stream(&mut self, me: usize) {
        let member = &self.groups.members[me];
        if let Some(stream) = member.stream {
            let impatient = !member.joined && self.now > member.opened_at + 1_500;
            self.probe_member_stream(stream);
            if impatient {
                self.drop_stream(me);
            }
            return;
        }
        if self.now < member.next_join || member.leaving.is_some() {
            return;
        }
        let (site, group) = (member.site, member.group.clone());
        let key = self.group_key(&group);
        let broker = self.guess_leader(site, &key);
        let stream = self.open_member_stream(me, broker, key);
        let now = self.now;
        let member = &mut self.groups.members[me];
        member.stream = Some(stream);
        member.joined = false;
        member.opened_at = now;
        let start = member.start();
        member.said = member.subscription.clone();
        self.tell_coordinator(stream, Up::Start(start));
    }

    fn say_subscription(&mut self, me: usize) {
        let member = &mut self.groups.members[me];
        let Some(stream) = member.stream.filter(|_| member.joined) else { return };
        if member.said != member.subscription {
            member.said = member.subscription.clone();
            self.group_counts.subscription_changes += 1;
            let subscription = self.groups.members[me].subscription.clone();
            self.tell_coordinator(stream, Up::Subscribe(subscription));
        }
    }

    /// It does not wait for this stream any longer.
    pub fn drop_stream(&mut self, me: usize) {
        let wait = self.whim.between(10, 300);
        let member = &mut self.groups.members[me];
        member.joined = false;
        member.next_join = self.now + wait;
        if let Some(stream) = member.stream.take() {
            self.close_below(stream);
        }
    }

    fn process(&mut self, me: usize) {
        let member = &mut self.groups.members[me];
        if member.leaving.is_some() {
            return;
        }
        let reading = &mut self.groups.reading;
        for (place, lane) in &mut member.lanes {
            let Some(position) = lane.position.filter(|_| !lane.ends) else { continue };
            let end = reading.end(place).min(position + self.whim.between(1, 30));
            if end > position {
                reading.process(&member.group, place, position, end);
                lane.position = Some(end);
            }
        }
    }

    fn fetch_positions(&mut self, me: usize) {
        let member = &self.groups.members[me];
        let unknown = |(_, lane): &(&Place, &Lane)| lane.position.is_none() && !lane.ends;
        if member.fetch.is_some() || !member.lanes.iter().any(|entry| unknown(&entry)) {
            return;
        }
        let lanes: BTreeMap<Place, (u64, u64)> = member
            .lanes
            .iter()
            .filter(unknown)
            .map(|(place, lane)| (place.clone(), (lane.serial, 0)))
            .collect();
        let partitions = lanes.keys().map(|place| pb::TopicPartitions {
            topic: place.topic.clone(),
            topic_id: place.id.to_wire(),
            partitions: vec![place.partition as i32],
        });
        let request = pb::FetchOffsetsRequest {
            require_stable: Default::default(),
            group_id: member.group.clone(),
            member_id: member.id.clone(),
            member_epoch: member.epoch,
            partitions: partitions.collect(),
        };
        let site = member.site;
        let attempt = self.take_id();
        self.groups.members[me].fetch = Some(Sent { attempt, lanes });
        let to = self.coordinator_of(me);
        let call = Box::new(FetchCall { member: me, attempt, request });
        self.send(site, to, Event::groups(GroupEvent::Fetch(call)));
        let patience = self.whim.between(300, 1_200);
        let timeout = GroupEvent::CallTimeout { member: me, attempt };
        self.schedule(site, patience, Event::groups(timeout));
    }

    /// Where its stream leads to, or whoever seems to lead: that may be one who led long ago.
    pub fn coordinator_of(&mut self, me: usize) -> usize {
        let elsewhere = self.whim.one_in(4);
        let member = &self.groups.members[me];
        let stream = member.stream.and_then(|stream| self.groups.streams.get(&stream));
        if let Some(stream) = stream.filter(|_| member.joined && !elsewhere) {
            return stream.broker;
        }
        let (site, group) = (member.site, member.group.clone());
        let key = self.group_key(&group);
        self.guess_leader(site, &key)
    }

    fn commit_if_due(&mut self, me: usize) {
        let interval = self.whim.between(100, 500);
        // also what it takes for committed: an older commit may have come late
        let all = self.whim.one_in(4);
        let now = self.now;
        let member = &mut self.groups.members[me];
        let hurries = member.outstanding.is_some() || member.leaving.is_some();
        if member.commit.is_some() || member.id.is_empty() || (now < member.next_commit && !hurries)
        {
            return;
        }
        member.next_commit = now + interval;
        let lanes: BTreeMap<Place, (u64, u64)> = member
            .lanes
            .iter()
            .filter_map(|(place, lane)| Some((place.clone(), (lane.serial, lane.position?))))
            .filter(|(place, (_, position))| all || *position > member.lanes[place].committed)
            .collect();
        if lanes.is_empty() {
            return;
        }
        let commits = lanes.iter().map(|(place, (_, position))| commit_of(place, *position));
        let request = pb::CommitOffsetsRequest {
            group_id: member.group.clone(),
            member_id: member.id.clone(),
            member_epoch: member.epoch,
            commits: commits.collect(),
            ..Default::default()
        };
        let attempt = self.take_id();
        self.groups.members[me].commit = Some(Sent { attempt, lanes });
        self.send_commit(me, attempt, request);
    }

    pub fn send_commit(&mut self, me: usize, attempt: u64, request: pb::CommitOffsetsRequest) {
        let to = self.coordinator_of(me);
        let site = self.groups.members[me].site;
        let call = Box::new(CommitCall { member: me, attempt, sent_at: self.now, request });
        if self.net.one_in(30) {
            // an older connection still has it
            self.group_counts.commits_that_come_late += 1;
            let wait = self.net.between(1, 4_000);
            let late = GroupEvent::Commit(call.clone());
            self.schedule(to, wait, Event::groups(late));
        }
        self.send(site, to, Event::groups(GroupEvent::Commit(call)));
        let patience = self.whim.between(300, 1_500);
        let timeout = GroupEvent::CallTimeout { member: me, attempt };
        self.schedule(site, patience, Event::groups(timeout));
    }

    /// Says that it holds what it was told to, once it has committed what it gives up, or tried to.
    fn acknowledge_assignment(&mut self, me: usize) {
        let now = self.now;
        let member = &mut self.groups.members[me];
        let Some((number, until)) = member.outstanding else { return };
        let owes = |lane: &Lane| {
            lane.ends && lane.position.is_some_and(|position| position > lane.committed)
        };
        if member.lanes.values().any(owes) && now < until {
            return;
        }
        let Some(stream) = member.stream.filter(|_| member.joined) else { return };
        member.outstanding = None;
        member.lanes.retain(|_, lane| !lane.ends);
        self.tell_coordinator(stream, Up::Applied(number));
    }

    /// A member that goes commits first, or tries to.
    fn leave_if_done(&mut self, me: usize) {
        let member = &self.groups.members[me];
        let Some(until) = member.leaving else { return };
        let owes = |lane: &Lane| lane.position.is_some_and(|position| position > lane.committed);
        if member.lanes.values().any(owes) && self.now < until {
            return;
        }
        let away = self.whim.between(10, 2_000);
        if let Some(stream) = member.stream {
            self.tell_coordinator(stream, Up::Leave);
        }
        self.drop_stream(me);
        let now = self.now;
        let member = &mut self.groups.members[me];
        member.forget_membership();
        member.leaving = None;
        member.next_join = now + away;
    }
}

pub fn commit_of(place: &Place, offset: u64) -> pb::PartitionCommit {
    let partition = pb::TopicPartition {
        topic: place.topic.clone(),
        topic_id: place.id.to_wire(),
        partition: place.partition as i32,
    };
    let offset = pb::OffsetAndMetadata {
        offset: offset as i64,
        leader_epoch: None,
        metadata: String::new(),
    };
    pb::PartitionCommit { partition: Some(partition), offset: Some(offset) }
}
