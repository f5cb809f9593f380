//! A member's stream: what is sent on it keeps its order, and each end hears for itself that it is broken.

use super::GroupEvent;
use crate::world::{Event, World};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::PartitionKey;
use troupe_proto::log::v1 as pb;

#[derive(Clone, Debug)]
pub enum Up {
    Start(pb::MemberStart),
    Applied(u64),
    Subscribe(pb::Subscription),
    Leave,
}

#[derive(Clone, Debug)]
pub enum Down {
    Response(pb::RunMemberResponse),
    Ended(ErrorCode),
}

#[derive(Clone, Debug)]
pub struct MemberStream {
    pub member: usize,
    pub member_life: u64,
    pub broker: usize,
    pub broker_life: u64,
    pub key: PartitionKey,
    /// What each end knows.
    pub open_below: bool,
    pub open_above: bool,
    broken: bool,
    /// When the last message of each direction arrives.
    up_at: u64,
    down_at: u64,
}

impl World {
    pub fn open_member_stream(&mut self, member: usize, broker: usize, key: PartitionKey) -> u64 {
        let id = self.take_id();
        let stream = MemberStream {
            member,
            member_life: self.sites[self.groups.members[member].site].life,
            broker,
            broker_life: self.sites[broker].life,
            key,
            open_below: true,
            open_above: true,
            broken: false,
            up_at: 0,
            down_at: 0,
        };
        self.groups.streams.insert(id, stream);
        id
    }

    pub fn tell_coordinator(&mut self, id: u64, message: Up) {
        let delay = self.delay();
        let now = self.now;
        let Some(stream) = self.groups.streams.get_mut(&id) else { return };
        if stream.broken || !stream.open_below {
            return;
        }
        let (from, to) = (self.groups.members[stream.member].site, stream.broker);
        if self.network.is_cut(from, to) {
            self.break_member_stream(id, false);
            return;
        }
        stream.up_at = stream.up_at.max(now + delay);
        let (life, wait) = (stream.broker_life, stream.up_at - now);
        let event = Event::groups(GroupEvent::Up { stream: id, message });
        self.schedule_life(to, life, wait, event);
    }

    pub fn tell_member(&mut self, id: u64, message: Down) {
        let delay = self.delay();
        let now = self.now;
        let Some(stream) = self.groups.streams.get_mut(&id) else { return };
        if matches!(message, Down::Ended(_)) {
            stream.open_above = false;
        }
        if stream.broken {
            return;
        }
        let (from, to) = (stream.broker, self.groups.members[stream.member].site);
        if self.network.is_cut(from, to) {
            self.break_member_stream(id, false);
            return;
        }
        stream.down_at = stream.down_at.max(now + delay);
        let (life, wait) = (stream.member_life, stream.down_at - now);
        let event = Event::groups(GroupEvent::Down { stream: id, message });
        self.schedule_life(to, life, wait, event);
    }

    /// Nothing more gets through; what is under way may. A reset is heard of soon, silence after a while.
    pub fn break_member_stream(&mut self, id: u64, resets: bool) {
        let waits = [0, 1].map(|_| {
            if resets && self.net.one_in(2) {
                self.net.between(1, 10)
            } else {
                self.net.between(100, 1_500)
            }
        });
        let Some(stream) = self.groups.streams.get_mut(&id) else { return };
        if std::mem::replace(&mut stream.broken, true) {
            return;
        }
        self.group_counts.broken_streams += u64::from(stream.open_below && stream.open_above);
        let below = (self.groups.members[stream.member].site, stream.member_life);
        let above = (stream.broker, stream.broker_life);
        let (now, behind) = (self.now, (stream.down_at, stream.up_at));
        let wait = (
            waits[0].max(behind.0.saturating_sub(now)),
            waits[1].max(behind.1.saturating_sub(now)),
        );
        let heard_below = Event::groups(GroupEvent::BrokenBelow { stream: id });
        let heard_above = Event::groups(GroupEvent::BrokenAbove { stream: id });
        self.schedule_life(below.0, below.1, wait.0, heard_below);
        self.schedule_life(above.0, above.1, wait.1, heard_above);
    }

    /// All that end or begin on a site, whose process is gone.
    pub fn break_member_streams_of(&mut self, site: usize, resets: bool) {
        let concerned: Vec<u64> = self
            .groups
            .streams
            .iter()
            .filter(|(_, stream)| {
                stream.broker == site || self.groups.members[stream.member].site == site
            })
            .map(|(id, _)| *id)
            .collect();
        for id in concerned {
            self.break_member_stream(id, resets);
        }
        self.groups.streams.retain(|_, stream| stream.open_above || stream.open_below);
    }

    /// This end is done with it, and says so.
    pub fn close_below(&mut self, id: u64) {
        let Some(stream) = self.groups.streams.get_mut(&id) else { return };
        stream.open_below = false;
        self.break_member_stream(id, true);
    }

    pub fn close_above(&mut self, id: u64) {
        let Some(stream) = self.groups.streams.get_mut(&id) else { return };
        stream.open_above = false;
        let (broker, key) = (stream.broker, stream.key);
        if let Some(coordinator) = self.groups.coordinators.get_mut(&(broker, key)) {
            coordinator.sessions.remove(&id);
        }
        self.break_member_stream(id, true);
    }

    /// Streams over a path that is cut are found out, sooner or later.
    pub fn probe_member_stream(&mut self, id: u64) {
        let Some(stream) = self.groups.streams.get(&id) else { return };
        let (one, other) = (self.groups.members[stream.member].site, stream.broker);
        let cut = self.network.is_cut(one, other) || self.network.is_cut(other, one);
        let gone = self.sites[other].life != stream.broker_life;
        if gone || (cut && self.net.one_in(8)) {
            self.break_member_stream(id, false);
        }
    }
}
